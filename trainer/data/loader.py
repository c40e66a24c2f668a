"""Batches: torch's DataLoader over exact positions."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from shared.errors import TrainingError, UserError
from shared.transforms import EvalTransform
from trainer.config import DataConfig, Recipe
from trainer.data.augment import NUMBERS, TrainTransform
from trainer.data.decode import DAMAGED, DamagedPictureError
from trainer.data.sampling import GEOMETRY, Stream, uniforms
from trainer.data.sources import Samples

SKIPPED = -1
_MAX_PREFETCH = 8
_SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    images: Tensor
    """(B, C, H, W), uint8, channels last."""

    labels: Tensor
    """(B,), int64; SKIPPED where the picture is damaged (evaluation only)."""

    indices: Sequence[int]
    """B positions in the training stream; at evaluation, samples."""

    damaged: list[int]
    """Samples of this batch that could not be decoded."""

    def pin_memory(self) -> "Batch":
        return Batch(
            images=self.images.pin_memory(),
            labels=self.labels.pin_memory(),
            indices=self.indices,
            damaged=self.damaged,
        )


class _TrainSet(Dataset):
    """Whole batches, by their positions in the training stream."""

    def __init__(self, samples: Samples, recipe: Recipe) -> None:
        self.samples = samples
        self.stream = Stream(
            seed=recipe.run.seed,
            num_samples=len(samples),
            global_batch_size=recipe.run.global_batch_size,
            repeats=recipe.data.repeats,
        )
        self.transform = TrainTransform(recipe.augment, exact=recipe.data.decoder == "pillow")
        self._stored = getattr(samples, "encoded", samples.picture)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        positions = np.asarray(indices)
        wanted = self.stream.samples(positions).tolist()
        numbers = uniforms(self.stream.seed, positions, GEOMETRY, NUMBERS).tolist()
        images = _empty_images(len(wanted), len(self.transform.mode), self.transform.size)
        damaged: list[int] = []
        used = [self._fill(images[i : i + 1], wanted[i], numbers[i], damaged) for i in range(len(wanted))]
        return Batch(images=images, labels=_labels(self.samples.labels[used]), indices=indices, damaged=damaged)

    def _fill(self, out: Tensor, sample: int, numbers: list[float], damaged: list[int]) -> int:
        """Write `sample`, or the next of its class that is not damaged; returns which it was."""
        for candidate in _same_class_from(self.samples.labels, sample):
            try:
                self.transform(self._read(candidate), numbers, out)
            except DamagedPictureError:
                damaged.append(candidate)
                continue
            return candidate
        name = self.samples.classes[self.samples.labels[sample]]
        raise TrainingError(f"every picture of class {name} is damaged; replace them, or remove the class")

    def _read(self, sample: int) -> bytes | Image.Image:
        try:
            return self._stored(sample)
        except DAMAGED as error:
            raise DamagedPictureError(str(error)) from error


class _EvalSet(Dataset):
    """Whole batches, by their samples."""

    def __init__(self, samples: Samples, transform: EvalTransform) -> None:
        self.samples = samples
        self.transform = transform

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        assert self.transform.crop is not None
        images = _empty_images(len(indices), self.transform.channels, self.transform.crop)
        labels = _labels(self.samples.labels[list(indices)])
        damaged = []
        for i, sample in enumerate(indices):
            try:
                picture = self.samples.picture(sample)
            except DAMAGED:
                images[i], labels[i] = 0, SKIPPED
                damaged.append(sample)
            else:
                images[i] = self.transform.pixels(picture)
        return Batch(images=images, labels=labels, indices=indices, damaged=damaged)


def train_batches(
    samples: Samples, recipe: Recipe, *, rank: int, world_size: int, first_step: int, last_step: int, pin: bool
) -> Iterator[Batch]:
    """This worker's share of the updates first_step to last_step - 1. A damaged picture is replaced by the next good
    one of its class, always the same one.

    Raises:
        UserError: the machine has too little shared memory.
        TrainingError: the storage fails, or a class has no picture that can be decoded.
    """
    dataset = _TrainSet(samples, recipe)
    shares = dataset.stream.shares(rank=rank, world_size=world_size, first_step=first_step, last_step=last_step)
    batch_bytes = recipe.run.global_batch_size // world_size * len(dataset.transform.mode) * dataset.transform.size**2
    # the processes begin here, not with the first batch that is asked for
    return _with_short_errors(iter(_loader(dataset, _Once(shares), recipe.data, batch_bytes, pin)))


class EvalBatches:
    """One worker's share of all samples, each exactly once over all workers; may be gone through many times, with the
    same loader processes.

    Batches are cut before they are dealt out, so every sample shares its batch with the same others, and gets the
    same logits, on any number of workers.
    """

    def __init__(
        self,
        samples: Samples,
        transform: EvalTransform,
        config: DataConfig,
        *,
        batch_size: int,
        rank: int,
        world_size: int,
        pin: bool,
    ) -> None:
        assert transform.crop is not None
        starts = range(rank * batch_size, len(samples), world_size * batch_size)
        batches = [range(start, min(start + batch_size, len(samples))) for start in starts]
        batch_bytes = batch_size * transform.channels * transform.crop**2
        self._loader = _loader(_EvalSet(samples, transform), batches, config, batch_bytes, pin)

    def __iter__(self) -> Iterator[Batch]:
        return _with_short_errors(iter(self._loader))


def _labels(labels: np.ndarray) -> Tensor:
    return torch.from_numpy(labels.astype(np.int64))


def _same_class_from(labels: np.ndarray, sample: int) -> Iterator[int]:
    """`sample`, then the samples of its class that follow it, cyclically."""
    yield sample
    members = np.flatnonzero(labels == labels[sample])
    at = int(np.searchsorted(members, sample))
    yield from (int(i) for i in np.roll(members, -at)[1:])


def _empty_images(count: int, channels: int, size: int) -> Tensor:
    """(count, channels, size, size) uint8, channels last; within a loader process in memory that it shares with the
    training process, so that a batch is never copied on its way there.
    """
    num_bytes = count * channels * size * size
    shared = get_worker_info() is not None
    storage = torch.UntypedStorage._new_shared(num_bytes) if shared else torch.UntypedStorage(num_bytes)
    flat = torch.empty(0, dtype=torch.uint8).set_(storage)
    return flat.view(count, size, size, channels).permute(0, 3, 1, 2)


def _loader(
    dataset: Dataset, batches: Iterable[Sequence[int]], config: DataConfig, batch_bytes: int, pin: bool
) -> DataLoader:
    processes = config.num_loader_workers
    each = max(1, min(_MAX_PREFETCH, int(config.prefetch_mb * 1e6 / (batch_bytes * max(processes, 1)))))
    if processes:
        _check_shared_memory(batch_bytes * each * processes, config)
    return DataLoader(
        dataset,
        batch_sampler=batches,  # type: ignore[arg-type]  # ranges, which take no memory, not lists
        num_workers=processes,
        prefetch_factor=each if processes else None,
        persistent_workers=processes > 0,
        collate_fn=_as_it_is,
        pin_memory=pin,
        generator=torch.Generator(),  # else it takes a number from the global one
    )


def _check_shared_memory(needed: int, config: DataConfig) -> None:
    """Too little of it ends a loader process with a bus error that names nothing; containers have 64 MB by default."""
    if _SHARED_MEMORY.is_dir() and (free := shutil.disk_usage(_SHARED_MEMORY).free) < needed:
        raise UserError(
            f"{_SHARED_MEMORY} has {free / 1e6:.0f} MB free, prefetched batches take up to {needed / 1e6:.0f} MB; "
            f"start the container with more (docker run --shm-size=8g), or lower data.prefetch_mb="
            f"{config.prefetch_mb:g} or data.num_loader_workers={config.num_loader_workers}"
        )


def _as_it_is(batch: Any) -> Any:
    return batch


def _with_short_errors(batches: Iterator[Batch]) -> Iterator[Batch]:
    try:
        yield from batches
    except TrainingError as error:  # a loader process's comes with its traceback as text; the message is its last line
        raise TrainingError(str(error).strip().splitlines()[-1].removeprefix(_RAISED_THERE)) from error


_RAISED_THERE = f"{TrainingError.__module__}.{TrainingError.__qualname__}: "


class _Once:
    """An iterator in the shape that DataLoader wants for batch_sampler."""

    def __init__(self, batches: Iterator[range]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[range]:
        return self._batches
