"""Speed of whole networks in the real loop, in the ways in which they can be run, and of dilated stages on phases."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import torch
from torch import nn

from shared.models import create_model, describe
from shared.models.phases import PhasedStage, dilated_stages
from trainer.bench.fresh import in_fresh_process
from trainer.bench.pace import Length, StepContender, run_rounds
from trainer.bench.step_loops import Place, Setup, product_tflop, products, real
from trainer.hardware import peak_tflops
from trainer.precision import choose_precision

WIN = 1.05
"""A stage is worth folding where it is faster by this factor in every round."""

ROUNDS = 3
CPU_LENGTH = Length(warm_up=1, timed=1)
"""Of each network in each way: some need half a minute for a step on a CPU, and no ratio hangs on them."""

STAGE_STEPS = {"cpu": 2, "cuda": 20}

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """Of running a network."""

    precision: str = "auto"
    compiled: bool = False
    folded: tuple[str, ...] = ()

    @property
    def overrides(self) -> tuple[str, ...]:
        stages = ", ".join(f'"{name}"' for name in self.folded)
        compiles = ("run.compile=default",) if self.compiled else ()
        return f"run.precision={self.precision}", f"model.phase_folded_stages=[{stages}]", *compiles


def measure(setup: Setup, names: Sequence[str], num_rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The parts of the result that are about each network by itself."""
    place = Place(core=setup.cores[0] if setup.device == "cpu" else None)
    peaks = {name: _peak_tflops(name, setup, place, num_rounds) for name in DTYPES}
    models: list[dict[str, Any]] = []
    stages: list[dict[str, Any]] = []
    for name in names:
        own = replace(setup, network=name)
        brief = replace(own, length=CPU_LENGTH) if setup.device == "cpu" else own
        for way in _ways(name, setup.device):
            models.append(_row(brief, place, way, min(num_rounds, ROUNDS), peaks))
            say(row_line(models[-1]))
        stages += in_fresh_process(partial(_stages, own, place, num_rounds))
    winners = {name: [s["stage"] for s in stages if s["model"] == name and s["wins"]] for name in names}
    return {"models": models, "stages": stages, "phase_folded_stages": winners, "peak_tflops": peaks}


def row_line(row: Mapping[str, Any]) -> str:
    how = [row["precision"], row["memory_format"], *(["compiled"] if row["compiled"] else [])]
    how += [f"{', '.join(row['folded'])} folded"] if row["folded"] else []
    return f"{row['name']} ({', '.join(how)}): {row['images_per_s']:.4g} images/s"


def _ways(name: str, device: str) -> Iterator[Way]:
    """As trained by default first; then fp32; then what else may be faster. A CPU takes minutes to compile."""
    with torch.device("meta"):
        stages = tuple(dilated_stages(create_model(name)))
    yield Way()
    yield Way(precision="fp32")
    for compiled in (False, True) if device == "cuda" else (False,):
        for folded in dict.fromkeys([(), stages]):
            if compiled or folded:
                yield Way(compiled=compiled, folded=folded)


def _row(setup: Setup, place: Place, way: Way, num_rounds: int, peaks: Mapping[str, float]) -> dict[str, Any]:
    contender = StepContender(
        works=[partial(real, setup, place, overrides=way.overrides)], images_per_step=setup.batch_size
    )
    took = [r["it"][0] for r in run_rounds({"it": contender}, num_rounds)]
    step_time_s = median(t.elapsed_s for t in took) / setup.length.timed
    precision = choose_precision(way.precision, torch.device(setup.device))
    images_per_s = setup.batch_size / step_time_s
    # a multiply-accumulate is two operations, and the backward pass costs two forward passes
    gmacs = describe(setup.network, num_classes=setup.num_classes, image_size=setup.image_size).gmacs
    return {
        "name": setup.network,
        "images_per_s": images_per_s,
        "step_time_s": step_time_s,
        "spread": {"min": min(t.elapsed_s for t in took), "max": max(t.elapsed_s for t in took)},
        "share_of_peak": 6 * gmacs / 1e3 * images_per_s / peaks[precision.name],
        "memory_gb": max(t.memory_gb for t in took),
        "precision": precision.name,
        "memory_format": str(precision.memory_format).removeprefix("torch."),
        "compiled": way.compiled,
        "folded": list(way.folded),
    }


def _peak_tflops(precision: str, setup: Setup, place: Place, num_rounds: int) -> float:
    """What the device reaches at all: its maker's figure; measured where there is none, as for CPUs."""
    if known := peak_tflops(torch.device(setup.device), precision):
        return known
    contender = StepContender(works=[partial(products, DTYPES[precision], setup, place)], images_per_step=1)
    took = [r["it"][0] for r in run_rounds({"it": contender}, num_rounds)]
    return product_tflop(setup.device) * setup.length.timed / min(t.elapsed_s for t in took)


def _stages(setup: Setup, place: Place, num_rounds: int, _: Connection) -> list[dict[str, Any]]:
    """Every dilated stage of the network both ways, forward and backward, on the same inputs."""
    place.join(setup.device)
    shapes = _stage_inputs(setup)
    model = create_model(setup.network, num_classes=setup.num_classes)
    rows = []
    for name, dilation in dilated_stages(model).items():
        ratios = _ratios(getattr(model, name), shapes[name], setup, num_rounds)
        row = {"model": setup.network, "stage": name, "dilation": dilation, "ratio": median(ratios)}
        rows.append(row | {"spread": {"min": min(ratios), "max": max(ratios)}, "wins": min(ratios) > WIN})
    return rows


def _stage_inputs(setup: Setup) -> dict[str, torch.Size]:
    """Name of every dilated stage -> the shape of the map that it gets."""
    shapes: dict[str, torch.Size] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda _, arguments: shapes.update({name: arguments[0].shape})

    with torch.device("meta"):
        model = create_model(setup.network)
        for name in dilated_stages(model):
            getattr(model, name).register_forward_pre_hook(note(name))
        model(torch.empty(setup.batch_size, 3, setup.image_size, setup.image_size))
    return shapes


def _ratios(stage: nn.Sequential, shape: torch.Size, setup: Setup, num_rounds: int) -> list[float]:
    """Of each round: the time as it is, by the time on phases."""
    precision = choose_precision("auto", torch.device(setup.device))
    inputs = torch.randn(shape, device=setup.device, dtype=precision.dtype)
    inputs = inputs.contiguous(memory_format=precision.memory_format).requires_grad_()
    ways = [m.to(setup.device).to(memory_format=precision.memory_format) for m in (stage, PhasedStage(deepcopy(stage)))]

    def seconds(way: nn.Module, steps: int) -> float:
        if setup.device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(steps):
            with precision.autocast():
                outputs = way(inputs)
            outputs.backward(outputs.detach())
        if setup.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    for way in ways:
        seconds(way, 1)
    steps = STAGE_STEPS[setup.device]
    return [seconds(ways[0], steps) / seconds(ways[1], steps) for _ in range(num_rounds)]
