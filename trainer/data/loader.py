"""Batches: torch's DataLoader over exact positions."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from shared.errors import TrainingError
from shared.transforms import EvalTransform
from trainer.config import Recipe
from trainer.data.augment import TrainTransform
from trainer.data.encoded import DAMAGED
from trainer.data.sampling import augmentation_seed, position, worker_batches
from trainer.data.sources import Samples

SKIPPED = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    images: Tensor
    """(B, C, H, W), uint8."""

    labels: Tensor
    """(B,), int64; SKIPPED where the picture is damaged (evaluation only)."""

    damaged: list[int]
    """Samples of this batch that could not be decoded."""

    def pin_memory(self) -> "Batch":
        return Batch(images=self.images.pin_memory(), labels=self.labels.pin_memory(), damaged=self.damaged)


class _TrainSet(Dataset):
    """Indexed by position in the training stream."""

    def __init__(self, samples: Samples, recipe: Recipe) -> None:
        self.samples = samples
        self.seed = recipe.run.seed
        self.repeats = recipe.data.repeats
        self.transform = TrainTransform(recipe.augment)

    def __getitem__(self, stream_index: int) -> tuple[Tensor, int, list[int]]:
        sample = position(self.seed, stream_index, len(self.samples), self.repeats).sample
        damaged: list[int] = []
        for candidate in _same_class_from(self.samples.labels, sample):
            try:
                picture = self.samples.picture(candidate)
            except DAMAGED:
                damaged.append(candidate)
                continue
            pixels = self.transform(picture, augmentation_seed(self.seed, stream_index))
            return pixels, int(self.samples.labels[candidate]), damaged
        raise OSError(f"every picture of class {self.samples.classes[self.samples.labels[sample]]} is damaged")


class _EvalSet(Dataset):
    """Indexed by sample."""

    def __init__(self, samples: Samples, transform: EvalTransform) -> None:
        self.samples = samples
        self.transform = transform

    def __getitem__(self, sample: int) -> tuple[Tensor, int, list[int]]:
        try:
            return self.transform.pixels(self.samples.picture(sample)), int(self.samples.labels[sample]), []
        except DAMAGED:
            assert self.transform.crop is not None
            blank = torch.zeros(self.transform.channels, self.transform.crop, self.transform.crop, dtype=torch.uint8)
            return blank, SKIPPED, [sample]


def train_batches(
    samples: Samples, recipe: Recipe, *, rank: int, world_size: int, first_step: int, last_step: int, pin: bool
) -> Iterator[Batch]:
    """This worker's share of the updates first_step to last_step - 1. A damaged picture is replaced by the next good
    one of its class, always the same one.
    """
    batches = worker_batches(
        global_batch_size=recipe.run.global_batch_size,
        rank=rank,
        world_size=world_size,
        first_step=first_step,
        last_step=last_step,
        repeats=recipe.data.repeats,
    )
    return _load(_TrainSet(samples, recipe), batches, recipe.data.num_loader_workers, pin)


def eval_batches(
    samples: Samples,
    transform: EvalTransform,
    *,
    batch_size: int,
    rank: int,
    world_size: int,
    num_loader_workers: int,
    pin: bool,
) -> Iterator[Batch]:
    """This worker's share of all samples, each exactly once over all workers.

    Batches are cut before they are dealt out, so every sample shares its batch with the same others, and gets the
    same logits, on any number of workers.
    """
    starts = range(rank * batch_size, len(samples), world_size * batch_size)
    batches = (list(range(start, min(start + batch_size, len(samples)))) for start in starts)
    return _load(_EvalSet(samples, transform), batches, num_loader_workers, pin)


def _same_class_from(labels: np.ndarray, sample: int) -> Iterator[int]:
    """`sample`, then the samples of its class that follow it, cyclically."""
    yield sample
    members = np.flatnonzero(labels == labels[sample])
    at = int(np.searchsorted(members, sample))
    yield from (int(i) for i in np.roll(members, -at)[1:])


def _collate(items: list[tuple[Tensor, int, list[int]]]) -> Batch:
    pixels, labels, damaged = zip(*items, strict=True)
    return Batch(
        images=torch.stack(pixels),
        labels=torch.tensor(labels, dtype=torch.int64),
        damaged=[sample for samples in damaged for sample in samples],
    )


def _load(dataset: Dataset, batches: Iterator[list[int]], num_loader_workers: int, pin: bool) -> Iterator[Batch]:
    loader = DataLoader(
        dataset,
        batch_sampler=_Once(batches),
        num_workers=num_loader_workers,
        collate_fn=_collate,
        pin_memory=pin,
        generator=torch.Generator(),  # else it takes a number from the global one
    )
    return _with_short_errors(iter(loader))  # the processes begin here, not with the first batch that is asked for


def _with_short_errors(batches: Iterator[Batch]) -> Iterator[Batch]:
    try:
        yield from batches
    except TrainingError as error:  # a loader process's comes with its traceback as text; the message is its last line
        raise TrainingError(str(error).strip().splitlines()[-1].removeprefix(_RAISED_THERE)) from error


_RAISED_THERE = f"{TrainingError.__module__}.{TrainingError.__qualname__}: "


class _Once:
    """An iterator in the shape that DataLoader wants for batch_sampler."""

    def __init__(self, batches: Iterator[list[int]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return self._batches
