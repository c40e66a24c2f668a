"""`bench step`: images a second of this project's training loop beside a bare one, with its loader, and beside timm's.

Every round lets every contender take some steps, and a ratio is the median of the rounds' own ratios. On a CPU each
process computes on one core of its own, as a worker of a training does.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch

from shared.errors import UserError
from shared.models import check_input, check_name
from trainer.bench import index_cost, machine, networks, pictures, scaling
from trainer.bench.fresh import in_fresh_process
from trainer.bench.pace import Length, Round, StepContender, images_per_cpu_s, images_per_s, run_rounds
from trainer.bench.pictures import PictureSets
from trainer.bench.step_hooks import LOGGING, create_store, has_mlflow
from trainer.bench.step_loops import Place, Setup, bare, real, timms, training_recipe

MODELS = {
    "cpu": ("resnet18", "drn_c_26"),
    "cuda": ("resnet50", "resnet18", "drn_a_50", "drn_c_26", "drn_c_42"),
}
BATCH_SIZES = {"cpu": 16, "cuda": 128}
LENGTHS = {"cpu": Length(warm_up=1, timed=3), "cuda": Length(warm_up=20, timed=50)}
IMAGE_SIZE = 224

RATIOS = {
    "loop_ratio": ("real", "bare", 1),
    "loop_ratio_2": ("real_2", "bare_2", 1),
    "loader_ratio": ("loaded", "real", 1),
    "timm_ratio": ("real", "timm", 1),
    "scaling_2": ("real_2", "real", 2),
    "scaling_2_unconnected": ("real_2", "real_2_unconnected", 1),
}
"""Whose speed, by how many times whose."""

OF_PROCESSOR_TIME = ("loop_ratio", "loop_ratio_2", "timm_ratio")
"""Ratios that can be had from it, too: nobody waits for anybody."""


def bench(
    models: Sequence[str],
    images: Path | None,
    num_rounds: int,
    say: Callable[[str], None],
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Measure; returns what goes into JSON.

    Args:
        models: networks; the loops are compared on the first one. If there are none: some for the device.
        images: class folders of JPEGs, or a tar of them; None makes some of the embedded photographs.
        say: shows a line of progress.
        batch_size: per process; None: one for the device.

    Raises:
        UserError: an unknown network, no pictures, or numbers out of range.
        TrainingError: a process failed.
    """
    which = _device(device)
    models = models or MODELS[which]
    _check(models, num_rounds, batch_size)
    pictures.check_source(images)
    with tempfile.TemporaryDirectory(prefix="degrid-bench-") as name:
        folder = Path(name)
        say("preparing the pictures")
        sets = pictures.prepare(images, folder / "pictures")
        setup = _setup(models[0], sets, folder, which, batch_size or BATCH_SIZES[which])
        if setup.mlflow:
            in_fresh_process(partial(create_store, training_recipe(setup), folder))
        say(f"{num_rounds} rounds with {setup.network}")
        compared = contenders(setup)
        rounds = run_rounds(compared, num_rounds, lambda done: say(_line(compared, done, setup.length)))
        found = networks.measure(setup, models, num_rounds, say)
    return {
        **_figures(compared, rounds, setup.length),
        **found,
        "scaling_on_paper": scaling.from_measured(found["models"], setup.batch_size) if which == "cuda" else [],
        "network": setup.network,
        "device": which,
        "image_size": setup.image_size,
        "batch_size": setup.batch_size,
        "steps_per_turn": setup.length.timed,
        "rounds": num_rounds,
        "loader_processes": setup.loader_processes,
        "logging": LOGGING[setup.mlflow],
        "pictures": sets.description,
        "hardware": machine.hardware(),
        "versions": machine.versions(),
    }


def contenders(setup: Setup) -> dict[str, StepContender]:
    """By name, in the order in which they are measured. Those with two processes need two cores, or two GPUs."""
    cores: Sequence[int | None] = setup.cores if setup.device == "cpu" else [None] * torch.cuda.device_count()

    def one(loop: Callable[..., None]) -> StepContender:
        return StepContender(works=[partial(loop, setup, Place(core=cores[0]))], images_per_step=setup.batch_size)

    def two(loop: Callable[..., None], *, connected: bool = True) -> StepContender:
        meeting_point = setup.logs / f"meeting point of {loop.__name__}"
        places = [
            Place(rank=rank, size=2, meeting_point=meeting_point, core=core) if connected else Place(core=core)
            for rank, core in enumerate(cores[:2])
        ]
        return StepContender(works=[partial(loop, setup, p) for p in places], images_per_step=setup.batch_size)

    alone = {"loaded": one(partial(real, loads=True)), "real": one(real), "bare": one(bare), "timm": one(timms)}
    if len(cores) < 2:
        return alone
    pairs = {"real_2": two(real), "bare_2": two(bare)}
    if setup.device == "cpu":
        pairs["real_2_unconnected"] = two(real, connected=False)
    return alone | pairs


def _setup(network: str, sets: PictureSets, folder: Path, device: Literal["cpu", "cuda"], batch_size: int) -> Setup:
    cores = tuple(machine.cores())
    return Setup(
        network=network,
        batch_size=batch_size,
        image_size=IMAGE_SIZE,
        device=device,
        length=LENGTHS[device],
        packed=_as_large_as_imagenet(sets.packed, folder / "packed"),
        num_classes=len(list((sets.raw / "train").iterdir())),
        logs=folder,
        mlflow=has_mlflow(),
        loader_processes=max(1, len(cores) - 1),
        cores=cores,
    )


def _device(wanted: str) -> Literal["cpu", "cuda"]:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here; leave it out to measure the CPU")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def _check(models: Sequence[str], num_rounds: int, batch_size: int | None) -> None:
    for name, number in (("--rounds", num_rounds), ("--batch-size", batch_size)):
        if number is not None and number < 1:
            raise UserError(f"{name} {number} is not positive")
    for model in models:
        check_name(model)
        check_input(model, IMAGE_SIZE)


def _as_large_as_imagenet(packed: Path, target: Path) -> Path:
    """The few pictures again and again, so that no epoch ends while the loops are timed."""
    index_cost.write_packed(packed, target, index_cost.ENTRIES)
    shutil.copytree(packed / "train", target / "val")
    return target


def _line(compared: Mapping[str, StepContender], done: Round, length: Length) -> str:
    speeds = (f"{name} {images_per_s(compared[name], done[name], length):.4g}" for name in compared)
    return f"images/s: {', '.join(speeds)}"


def _figures(compared: Mapping[str, StepContender], rounds: Sequence[Round], length: Length) -> dict[str, Any]:
    """Ratios, their spread over the rounds, and speeds; None for what this machine has too few cores or GPUs for."""
    clock = [{name: images_per_s(compared[name], r[name], length) for name in compared} for r in rounds]
    processor = [{name: images_per_cpu_s(compared[name], r[name], length) for name in compared} for r in rounds]
    ratios = {name: values for name in RATIOS if (values := _ratios(clock, name))}
    return {
        **{name: median(ratios[name]) if name in ratios else None for name in RATIOS},
        "spread": {name: {"min": min(values), "max": max(values)} for name, values in ratios.items()},
        "by_processor_time": {
            name: median(values) for name in OF_PROCESSOR_TIME if (values := _ratios(processor, name))
        },
        "images_per_s": {name: median(speeds[name] for speeds in clock) for name in compared},
    }


def _ratios(speeds: Sequence[Mapping[str, float]], name: str) -> list[float]:
    ours, reference, times = RATIOS[name]
    return [s[ours] / s[reference] / times for s in speeds if ours in s and reference in s]
