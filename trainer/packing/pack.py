"""Pack a set into shards; go on where an earlier attempt was killed; leave a finished one alone."""

import fcntl
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from shared.errors import UserError
from trainer.data.decode import DAMAGED
from trainer.data.sampling import hash64, permuted
from trainer.packing import index
from trainer.packing.layout import FORMAT, read_json, remove_leftovers, shard_name, write_json
from trainer.packing.pictures import stored
from trainer.packing.processes import in_parallel
from trainer.packing.shard import Job, pack_shard, read_item
from trainer.packing.source import SourcePart, open_source

log = logging.getLogger(__name__)

_TRIED = 64
"""Pictures whose size in the shard is measured before a shard's number of pictures is fixed."""

_TAR_BYTES = 2048
"""Two headers, the class, and what fills up the blocks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    shorter_side: int = 0
    """Larger pictures are scaled down to it, in pixels; 0 keeps all as they are."""

    quality: int = 90
    """Of JPEGs that are encoded anew."""

    shard_mb: int = 150

    def __post_init__(self) -> None:
        for name, low, high in (("shorter_side", 0, 10_000), ("quality", 1, 95), ("shard_mb", 1, 100_000)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UserError(f"--{name.replace('_', '-')} {value} is not between {low} and {high}")


def pack(source: Path, target: Path, settings: Settings, num_processes: int) -> str:
    """Pack `source` into `target`, or what an earlier attempt left to do; returns a sentence on what there is now.

    The result does not depend on the number of processes nor on how often packing was interrupted.

    Raises:
        UserError: nothing to pack, or `target` holds something else.
        TrainingError: a file cannot be read or written; what is finished stays.
    """
    parts = open_source(source)
    with _alone(target):
        remove_leftovers(target)
        plan = _plan(parts, target, settings)
        for part in parts:
            (target / part / "parts").mkdir(parents=True, exist_ok=True)
        jobs = {part: _missing(target / part, plan["shards"][part]) for part in parts}
        if not any(jobs.values()) and index.is_complete(target):
            index.remove_parts(target)
            return f"{target} is complete, nothing to do: {index.summary(target)}; --verify reads all of it"
        _run(parts, jobs, plan, target, settings, num_processes)
        if index.is_complete(target):
            index.check_restored(target, jobs)
        else:
            index.write(target, plan, {part: source.classes for part, source in parts.items()})
        index.remove_parts(target)
        remove_leftovers(target)
    return f"{target}: {index.summary(target)}"


def members(part: str, number: int, shards: int, pictures: int) -> list[int]:
    """The pictures of shard `number`, by their number in the source, in the order in which they lie in it.

    Training pictures are dealt out at random: tools that read shards from beginning to end get them shuffled. For
    reading by index, as here, the place does not matter. Validation pictures stay in order, as evaluation reads them.
    """
    first, last = number * pictures // shards, (number + 1) * pictures // shards
    if part == "val":
        return list(range(first, last))
    places = np.arange(first, last)
    return permuted(places, pictures, np.full(len(places), hash64(pictures))).tolist()


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    if "://" in str(target) or ":/" in str(target):
        raise UserError(f"TARGET {target} is an address; pack into a folder and upload that")
    try:
        target.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{target} cannot be written ({error.strerror}); choose another TARGET") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise UserError(f"another process is packing into {target}; wait for it") from error
    finally:
        os.close(descriptor)


def _plan(parts: Mapping[str, SourcePart], target: Path, settings: Settings) -> dict[str, Any]:
    """What is packed and how; what lies in `target` must be of the same plan.

    Raises:
        UserError: it is not.
    """
    wanted = {
        "format": FORMAT,
        "settings": asdict(settings),
        "source": {part: source.digest for part, source in parts.items()},
        "pictures": {part: len(source) for part, source in parts.items()},
    }
    path = target / "pack.json"
    found = read_json(path)
    if found is None:
        if others := sorted(entry.name for entry in target.iterdir()):
            raise UserError(f"{target} holds other files ({', '.join(others[:3])}); choose an empty TARGET")
        wanted["shards"] = {part: _number_of_shards(source, settings) for part, source in parts.items()}
        write_json(path, wanted)
        return wanted
    differing = [key for key in wanted if found.get(key) != wanted[key]]
    if differing:
        was = ", ".join(f"{key}={found.get(key)}" for key in differing if key != "source")
        raise UserError(
            f"{target} was packed from other files or with other settings ({was or 'other pictures'}); choose another "
            "TARGET, or remove it"
        )
    return found


def _number_of_shards(source: SourcePart, settings: Settings) -> int:
    """So many that a shard has about the size asked for, judged by a few pictures."""
    sizes = []
    for number in np.linspace(0, len(source), num=min(_TRIED, len(source)), endpoint=False, dtype=int):
        item = source.item(int(number))
        try:
            sizes.append(len(stored(read_item(item), item.name, settings.shorter_side, settings.quality).data))
        except DAMAGED:
            continue
    expected = len(source) * (float(np.mean(sizes or [0])) + _TAR_BYTES)
    return min(len(source), max(1, round(expected / (settings.shard_mb * 1e6))))


def _missing(folder: Path, shards: int) -> list[int]:
    """The shards to write: in a finished part those that are gone, else all (finished ones are left alone)."""
    finished = read_json(folder / "index.json")
    if finished is None:
        return list(range(shards))
    paths = [folder / shard_name(number) for number in range(shards)]
    return [
        number
        for number, (path, shard) in enumerate(zip(paths, finished["shards"], strict=True))
        if not path.is_file() or path.stat().st_size != shard["bytes"]
    ]


def _run(
    parts: Mapping[str, SourcePart],
    missing: Mapping[str, list[int]],
    plan: Mapping[str, Any],
    target: Path,
    settings: Settings,
    num_processes: int,
) -> None:
    def jobs() -> Iterator[Job]:
        for part, source in parts.items():
            shards = plan["shards"][part]
            for number in missing[part]:
                items = tuple(source.item(i) for i in members(part, number, shards, len(source)))
                folder = str((target / part).absolute())
                yield Job(folder, number, items, settings.shorter_side, settings.quality)

    total = sum(len(numbers) * len(parts[part]) // plan["shards"][part] for part, numbers in missing.items() if numbers)
    with tqdm(total=total, unit="img", desc="packing") as bar:
        for pictures in in_parallel(pack_shard, jobs(), num_processes):
            bar.update(pictures)
