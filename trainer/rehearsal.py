"""A few updates, measured on the workers of a training before it begins. Nothing is learned, and nothing kept."""

import time
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import torch
import torch.distributed as dist
from pydantic import TypeAdapter

from shared.errors import UserError
from trainer.config import Recipe
from trainer.cost import Cost
from trainer.data import DataSet, open_data, train_batches
from trainer.data.loader import Batch
from trainer.ema import Networks
from trainer.hardware import device_name
from trainer.loop import build_model, make_plan
from trainer.memory import total_gb, watch_peak
from trainer.meters import Meter
from trainer.optim import make_optimizer
from trainer.precision import choose_precision
from trainer.rollcall import all_or_none
from trainer.step import TrainStep
from trainer.surroundings import World
from trainer.transfer import freeze

MEASURED_S = 5.0
MIN_UPDATES, MAX_UPDATES = 3, 50


def rehearse(world: World, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """One worker's part of a dry run; what `measure` says of each recipe."""
    return [measure(TypeAdapter(Recipe).validate_python(recipe), world) for recipe in arguments["recipes"]]


def measure(recipe: Recipe, world: World) -> dict[str, Any]:
    """Make the training's last batch, and updates with it: crops that grow while training are largest there.

    Returns:
        devices (of all workers), precision, image_size in pixels, first_batch_s, updates, step_time_s, images_per_s,
        images_per_s_per_worker, mfu_pct (None where the device's peak is not known), and of the worker that needs
        most: memory_gb and memory_total_gb.

    Raises:
        UserError: the memory of the device, or the shared memory of the machine, is too small.
        TrainingError: the data cannot be read.
    """
    data = open_data(recipe.data)
    began = time.perf_counter()
    batch = _last_batch(recipe, world, data)
    first_batch_s = time.perf_counter() - began
    try:
        figures = _updates(recipe, world, data, batch)
    except (RuntimeError, MemoryError) as error:
        if _is_out_of_memory(error):
            raise UserError(_too_large(recipe, world, batch)) from error
        raise
    everyone = [figures] * world.size
    if dist.is_initialized():
        dist.all_gather_object(everyone, figures)
    return figures | {
        "devices": [worker.pop("device") for worker in everyone],
        "first_batch_s": first_batch_s,
        "memory_gb": max(worker["memory_gb"] for worker in everyone),
    }


def _last_batch(recipe: Recipe, world: World, data: DataSet) -> Batch:
    last = make_plan(recipe, data).total_steps
    batches = train_batches(
        data.train,
        recipe,
        rank=world.rank,
        world_size=world.size,
        first_step=last - 1,
        last_step=last,
        pin=world.device.type == "cuda",
    )
    return all_or_none(lambda: next(batches))


def _updates(recipe: Recipe, world: World, data: DataSet, batch: Batch) -> dict[str, Any]:
    precision = choose_precision(recipe.run.precision, world.device)
    peak_gb = watch_peak(world.device)
    torch.manual_seed(recipe.run.seed)
    model = build_model(recipe, data, pretrained=False)
    model = model.to(world.device).to(memory_format=precision.memory_format).train()
    for module in freeze(model, recipe.model.freeze_stages):
        module.eval()
    train_step = TrainStep(model, make_optimizer(model, recipe), recipe, precision, world.rank, world.size)
    networks = Networks(model, recipe.optimizer.ema_decay)
    if recipe.run.compile != "off":
        train_step.warm_up(batch.images.shape[-1], batch.images.shape[1])
    meter = Meter(recipe.run.global_batch_size, world.device, cost=Cost.of(recipe, len(data.train.classes), precision))

    def update(batches: Iterator[Batch]) -> dict[str, float]:
        for step, same in enumerate(meter.timed(batches)):
            # a rate of zero costs as much as any, and the loss stays finite
            meter.add(train_step(same, step=step, learning_rate=0.0))
            networks.update_average(step + 1)
        return meter.read(0)

    update(repeat(batch, 1))  # the first one chooses algorithms and makes the optimizer's state
    updates = _agreed(MEASURED_S / update(repeat(batch, 1))["perf/step_time_s"], world)
    metrics = update(repeat(batch, updates))
    return {
        "device": device_name(world.device),
        "precision": precision.name,
        "image_size": batch.images.shape[-1],
        "updates": updates,
        "step_time_s": metrics["perf/step_time_s"],
        "images_per_s": metrics["perf/images_per_s"],
        "images_per_s_per_worker": metrics["perf/images_per_s_per_worker"],
        "mfu_pct": metrics.get("perf/mfu_pct"),
        "memory_gb": max(peak_gb(), metrics.get("perf/gpu_memory_gb", 0.0)),
        "memory_total_gb": total_gb(world.device),
    }


def _agreed(updates: float, world: World) -> int:
    """The fewest that any worker proposes: all have to make equally many."""
    proposed = torch.tensor([updates], device=world.device)
    if dist.is_initialized():
        dist.all_reduce(proposed, dist.ReduceOp.MIN)
    return min(max(int(proposed), MIN_UPDATES), MAX_UPDATES)


def _is_out_of_memory(error: Exception) -> bool:
    # torch has a type for it on GPUs alone
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def _too_large(recipe: Recipe, world: World, batch: Batch) -> str:
    share = len(batch.images)
    at_once = share // recipe.run.parts(share)
    half = next((size for size in range(at_once // 2, 0, -1) if share % size == 0), 1)
    bf16 = "" if recipe.run.precision in ("auto", "bf16", "fp16") else ", or run.precision=bf16"
    return (
        f"{at_once} pictures of {batch.images.shape[-1]} px at once (run.global_batch_size="
        f"{recipe.run.global_batch_size} over {world.size} workers) do not fit into the "
        f"{total_gb(world.device):.0f} GB of {device_name(world.device)}; "
        f"try run.per_device_batch_size={half}, more workers{bf16}"
    )
