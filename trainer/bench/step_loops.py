"""The training loops that `bench step` compares, each for one process: a bare one, this project's, timm's.

All of them train the same network in the same precision and memory format on the same device.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, repeat
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import timm
import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.data.loader import PrefetchLoader
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import AverageMeter
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from shared.models import create_model
from trainer import loop
from trainer.bench.pace import Length, Pace
from trainer.bench.step_hooks import open_hooks
from trainer.bench.streams import loading_recipe
from trainer.config import Recipe
from trainer.data import Samples, train_batches
from trainer.data.loader import Batch
from trainer.precision import choose_precision
from trainer.surroundings import World

LR = 1e-3
_PEAK_SIDE = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What the contenders have in common."""

    network: str
    batch_size: int
    """Per process."""

    image_size: int
    device: Literal["cpu", "cuda"]
    length: Length
    packed: Path
    """A packed set: the real loop opens it, and reads it where the loader is compared."""

    num_classes: int
    """Of that set."""

    logs: Path
    mlflow: bool
    """Whether it is there to log to."""

    loader_processes: int
    cores: tuple[int, ...]
    """All that may be used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A process among those that train together, and its core or its GPU."""

    rank: int = 0
    size: int = 1
    meeting_point: Path = Path()
    core: int | None = None
    """The only one that it computes on; None: any."""

    def join(self, device: str) -> World:
        if self.core is not None:
            os.sched_setaffinity(0, [self.core])
            torch.set_num_threads(1)
        if device == "cuda":
            torch.cuda.set_device(self.rank)
        if self.size > 1:
            dist.init_process_group(
                "nccl" if device == "cuda" else "gloo",
                init_method=f"file://{self.meeting_point}",
                rank=self.rank,
                world_size=self.size,
            )
        which = torch.device(device, self.rank) if device == "cuda" else torch.device(device)
        return World(rank=self.rank, size=self.size, device=which)


def bare(setup: Setup, place: Place, connection: Connection) -> None:
    """What anybody would write: no metrics, no logging, a batch that never leaves the device."""
    world = place.join(setup.device)
    precision = choose_precision("auto", world.device)
    model: nn.Module = create_model(setup.network, num_classes=setup.num_classes)
    model = model.to(world.device).to(memory_format=precision.memory_format)
    if world.size > 1:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), LR, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(setup.batch_size, 3, setup.image_size, setup.image_size, device=world.device)
    images = images.contiguous(memory_format=precision.memory_format)
    labels = torch.randint(setup.num_classes, (setup.batch_size,), device=world.device)
    for _ in Pace(connection=connection, device=world.device, length=setup.length).batches(repeat(None)):
        optimizer.zero_grad()
        with precision.autocast():
            loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()


def real(
    setup: Setup, place: Place, connection: Connection, *, overrides: tuple[str, ...] = (), loads: bool = False
) -> None:
    """This project's loop, with its metrics and its logging.

    Args:
        overrides: of the recipe.
        loads: reads batches with the loader; else the same one lies ready in memory.
    """
    world = place.join(setup.device)
    recipe = training_recipe(setup, world.size, overrides)
    pace = Pace(connection=connection, device=world.device, length=setup.length)

    def make_batches(samples: Samples, recipe: Recipe, **share: Any) -> Iterator[Batch]:
        if not loads:
            return pace.batches(repeat(_ready_batch(setup)))
        with _other_cores(setup.cores, place.core):
            return pace.batches(train_batches(samples, recipe, **share))

    hooks = open_hooks(recipe, setup.logs, rank=world.rank, mlflow=setup.mlflow)
    loop.train(recipe, world, hooks, "bench", make_batches=make_batches)


def timms(setup: Setup, place: Place, connection: Connection) -> None:
    """timm's `train_one_epoch` for one process, line by line, on batches that lie ready: it is in its train.py, which
    no program can import. bf16 has no scaler there; fp16 would.
    """
    world = place.join(setup.device)
    precision = choose_precision("auto", world.device)
    model = timm.create_model(setup.network, num_classes=setup.num_classes)
    model = model.to(world.device).to(memory_format=precision.memory_format)
    optimizer = create_optimizer_v2(model, opt="sgd", lr=LR, momentum=0.9, weight_decay=1e-4)
    scheduler = CosineLRScheduler(optimizer, t_initial=100)
    batch = _ready_batch(setup)
    ready = cycle([(batch.images, batch.labels)])
    batches = PrefetchLoader(ready, device=world.device)  # it moves and normalises
    losses_m, update_time_m, data_time_m = AverageMeter(), AverageMeter(), AverageMeter()
    model.train()
    optimizer.zero_grad()
    update_start_time = data_start_time = time.time()
    pace = Pace(connection=connection, device=world.device, length=setup.length)
    for num_updates, (images, labels) in enumerate(pace.batches(batches), 1):
        images = images.contiguous(memory_format=precision.memory_format)
        data_time_m.update(time.time() - data_start_time)
        with precision.autocast():
            loss = F.cross_entropy(model(images), labels)
        loss.backward(create_graph=False)
        optimizer.step()
        losses_m.update(loss.item(), len(images))
        optimizer.zero_grad()
        update_time_m.update(time.time() - update_start_time)
        update_start_time = time.time()
        scheduler.step_update(num_updates=num_updates, metric=losses_m.avg)
        data_start_time = time.time()


def products(dtype: torch.dtype, setup: Setup, place: Place, connection: Connection) -> None:
    """Products of large square matrices: the speed that the device reaches at all."""
    world = place.join(setup.device)
    side = _PEAK_SIDE[setup.device]
    a, b = (torch.randn(side, side, device=world.device).to(dtype) for _ in range(2))
    for _ in Pace(connection=connection, device=world.device, length=setup.length).batches(repeat(None)):
        torch.mm(a, b)


def product_tflop(device: str) -> float:
    """Of one of them, in 10^12 operations."""
    return 2 * _PEAK_SIDE[device] ** 3 / 1e12


def training_recipe(setup: Setup, num_workers: int = 1, overrides: tuple[str, ...] = ()) -> Recipe:
    """ImageNet's, in the shape of the comparison; every turn logs once."""
    return loading_recipe(
        "shards",
        setup.packed,
        setup.loader_processes,
        f"model.name={setup.network}",
        f"augment.train_size={setup.image_size}",
        f"run.global_batch_size={setup.batch_size * num_workers}",
        f"run.log_every_steps={setup.length.whole}",
        f"scaling.num_workers={num_workers}",
        "data.prefetch_mb=0.001",  # one batch for each process: the least that can lie ready when a turn begins
        *overrides,
    )


def _ready_batch(setup: Setup) -> Batch:
    """As the loader delivers them."""
    size = setup.image_size
    images = torch.randint(256, (setup.batch_size, size, size, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    labels = torch.randint(setup.num_classes, (setup.batch_size,))
    batch = Batch(images=images, labels=labels, indices=range(setup.batch_size), damaged=[])
    return batch.pin_memory() if setup.device == "cuda" else batch


@contextmanager
def _other_cores(cores: tuple[int, ...], own: int | None) -> Iterator[None]:
    """What is started inside uses the cores on which nothing is computed, where there are any."""
    if own is None or len(cores) == 1:
        yield
        return
    os.sched_setaffinity(0, set(cores) - {own})
    yield
    os.sched_setaffinity(0, [own])
