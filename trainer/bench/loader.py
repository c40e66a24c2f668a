"""`bench loader`: training data at what share of the decoder's speed, and at how many times torchvision's.

Every round measures every contender for some seconds, and a ratio is the median of the rounds' own ratios: what else
the machine does changes from minute to minute, and touches both sides of a ratio. Speeds are per core-second (see
`turns.Speed`); those on the clock are shown beside them.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

from shared.errors import UserError
from trainer.bench import index_cost, machine, pictures, streams, turns
from trainer.bench.pictures import PictureSets
from trainer.bench.turns import Contender, Speed

RATIOS = {
    "raw_ratio": ("raw", "reference_raw"),
    "packed_ratio": ("packed", "reference_raw"),
    "reference_packed_ratio": ("reference_packed", "reference_raw"),
    "ceiling_share": ("raw", "decoder_raw"),
    "packed_ceiling_share": ("packed", "decoder_packed"),
    "scaling_2": ("raw_2", "raw_2_unconnected"),
    "scaling_2_alone": ("raw_2", "raw_alone"),
}
"""Whose speed by whose."""

INDEX_PROCESSES = 8
"""Loader processes whose memory is counted."""

Round = Mapping[str, Speed]
Measure = Literal["images_per_core_s", "images_per_s"]


def bench(images: Path | None, num_processes: int, num_rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure; returns what goes into JSON.

    Args:
        images: class folders of JPEGs, or a tar of them; None makes some of the embedded photographs.
        say: shows a line of progress.

    Raises:
        UserError: no pictures, or numbers out of range.
        TrainingError: a process failed.
    """
    cores = machine.cores()
    if not 1 <= num_processes <= len(cores):
        raise UserError(f"--processes {num_processes} is not between 1 and the {len(cores)} cores of this machine")
    if num_rounds < 1:
        raise UserError(f"--rounds {num_rounds} is not positive")
    pictures.check_source(images)
    with tempfile.TemporaryDirectory(prefix="degrid-bench-") as name:
        folder = Path(name)
        say("preparing the pictures")
        sets = pictures.prepare(images, folder / "pictures")
        compared = contenders(sets, num_processes, cores[:2])
        seconds = len(compared) * (turns.WARM_UP_S + turns.TURN_S)
        say(f"{num_rounds} rounds of {seconds:.0f} s and a little more")
        rounds = _rounds(compared, num_rounds, say)
        say(f"measuring an index of {index_cost.ENTRIES:,} entries")
        index = index_cost.index_costs(folder / "index", index_cost.ENTRIES, INDEX_PROCESSES)
    return {
        **_figures(rounds),
        "index_open_s": max(cost.open_s for cost in index.values()),
        "index_memory_mb": max(cost.memory_mb for cost in index.values()),
        "index": {"entries": index_cost.ENTRIES, "processes": INDEX_PROCESSES}
        | {source: asdict(cost) for source, cost in index.items()},
        "rounds": num_rounds,
        "processes": num_processes,
        "batch_size": streams.BATCH_SIZE,
        "pictures": sets.description,
        "hardware": machine.hardware(),
        "versions": machine.versions(),
    }


def contenders(sets: PictureSets, num_processes: int, two_cores: Sequence[int]) -> dict[str, Contender]:
    """By name, in the order in which they are measured; neighbours are compared with each other."""

    def one(stream: Callable[..., Any], *arguments: Any) -> Contender:
        return Contender(streams=[partial(stream, *arguments, num_processes)], num_processes=num_processes)

    def decoding(root: Path) -> Contender:
        parts = [partial(streams.decoder, root, part, num_processes) for part in range(num_processes)]
        return Contender(streams=parts, num_processes=num_processes)

    raw = partial(streams.ours, "folder", sets.raw)
    return {
        "decoder_raw": decoding(sets.raw),
        "raw": one(streams.ours, "folder", sets.raw),
        "reference_raw": one(streams.reference, sets.raw / "train"),
        "packed": one(streams.ours, "shards", sets.packed),
        "decoder_packed": decoding(sets.unpacked),
        "reference_packed": one(streams.reference, sets.unpacked / "train"),
        "raw_2_unconnected": Contender(streams=[partial(raw, 1)] * 2, num_processes=2, cores=two_cores),
        "raw_2": Contender(streams=[partial(raw, 2)], num_processes=2, cores=two_cores),
        "raw_alone": Contender(streams=[partial(raw, 1)], num_processes=1, cores=two_cores),
    }


def _rounds(contenders: Mapping[str, Contender], num_rounds: int, say: Callable[[str], None]) -> list[Round]:
    rounds: list[Round] = []
    for number in range(num_rounds):
        order = list(contenders)[:: -1 if number % 2 else 1]  # a machine that slows down favours neither side
        rounds.append({name: turns.measure(contenders[name]) for name in order})
        found = _figures(rounds[-1:])
        say(
            f"round {number + 1} of {num_rounds}: raw {found['raw_ratio']:.2f} x and packed {found['packed_ratio']:.2f}"
            f" x the reference, {found['ceiling_share']:.0%} of the decoder, scaling {found['scaling_2']:.0%}"
        )
    return rounds


def _figures(rounds: Sequence[Round]) -> dict[str, Any]:
    found = {name: _ratios(rounds, *pair, "images_per_core_s") for name, pair in RATIOS.items()}
    on_the_clock = {name: _ratios(rounds, *pair, "images_per_s") for name, pair in RATIOS.items()}
    measures: list[Measure] = ["images_per_core_s", "images_per_s"]
    return {
        **{name: median(values) for name, values in found.items()},
        "spread": {name: {"min": min(values), "max": max(values)} for name, values in found.items()},
        "on_the_clock": {name: median(values) for name, values in on_the_clock.items()},
        **{m: {name: median(getattr(r[name], m) for r in rounds) for name in rounds[0]} for m in measures},
        "waited_share": median(speed.waited_share for r in rounds for speed in r.values()),
    }


def _ratios(rounds: Sequence[Round], name: str, reference: str, measure: Measure) -> list[float]:
    return [getattr(r[name], measure) / getattr(r[reference], measure) for r in rounds]
