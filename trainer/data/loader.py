"""Batches: whole ones, by exact positions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from shared.errors import TrainingError
from shared.transforms import EvalTransform
from trainer.config import DataConfig, Recipe
from trainer.data.augment import NUMBERS, TrainTransform
from trainer.data.decode import DAMAGED, DamagedPictureError
from trainer.data.loader_processes import Once, data_loader, with_short_errors
from trainer.data.sampling import GEOMETRY, Plan, Stream, uniforms
from trainer.data.sources import Samples

SKIPPED = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    images: Tensor
    """(B, C, H, W), uint8, channels last."""

    labels: Tensor
    """(B,), int64; SKIPPED (evaluation only) where the picture is damaged, or there to fill the batch."""

    indices: Sequence[int]
    """B positions in the training stream; at evaluation, samples, and numbers past the last of them."""

    damaged: list[int]
    """Samples of this batch that could not be decoded."""

    @classmethod
    def black(cls, count: int, channels: int, size: int, label: int) -> "Batch":
        """Pictures that show nothing, as they lie in memory when a loader delivers them."""
        images = _empty_images(count, channels, size).zero_()
        return cls(images=images, labels=torch.full((count,), label), indices=range(count), damaged=[])

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
        self._plan = Plan(
            num_samples=len(samples), global_batch_size=recipe.run.global_batch_size, epochs=recipe.run.epochs
        )
        self._augment = recipe.augment
        exact = recipe.data.decoder == "pillow"
        self._transforms = {
            size: TrainTransform(recipe.augment, size=size, exact=exact) for size in recipe.augment.train_sizes
        }
        self._stored = getattr(samples, "encoded", samples.picture)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        positions = np.asarray(indices)
        wanted = self.stream.samples(positions).tolist()
        numbers = uniforms(self.stream.seed, positions, GEOMETRY, NUMBERS).tolist()
        transform = self._transform(step=indices[0] // self.stream.global_batch_size)
        images = _empty_images(len(wanted), len(transform.mode), transform.size)
        damaged: list[int] = []
        used = [self._fill(images[i : i + 1], transform, wanted[i], numbers[i], damaged) for i in range(len(wanted))]
        return Batch(images=images, labels=_labels(self.samples.labels[used]), indices=indices, damaged=damaged)

    def _transform(self, step: int) -> TrainTransform:
        """That of the size which crops have at this update, on every worker."""
        return self._transforms[self._augment.train_size_at(self._plan.share_done(step))]

    def _fill(
        self, out: Tensor, transform: TrainTransform, sample: int, numbers: list[float], damaged: list[int]
    ) -> int:
        """Write `sample`, or the next of its class that is not damaged; returns which it was."""
        for candidate in _same_class_from(self.samples.labels, sample):
            try:
                transform(self._read(candidate), numbers, out)
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
    """Whole batches, by their samples. Numbers past the last one give black pictures that are SKIPPED."""

    def __init__(self, samples: Samples, transform: EvalTransform) -> None:
        self.samples = samples
        self.transform = transform

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        assert self.transform.crop is not None
        samples = [index for index in indices if index < len(self.samples)]
        images = _empty_images(len(indices), self.transform.channels, self.transform.crop)
        images[len(samples) :] = 0
        labels = torch.full((len(indices),), SKIPPED)
        labels[: len(samples)] = _labels(self.samples.labels[samples])
        damaged = []
        for i, sample in enumerate(samples):
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
    batch_bytes = recipe.run.global_batch_size // world_size * len(recipe.augment.mean) * recipe.augment.train_size**2
    # the processes begin here, not with the first batch that is asked for
    return with_short_errors(iter(data_loader(dataset, Once(shares), recipe.data, batch_bytes, pin)))


class EvalBatches:
    """One worker's share of all samples, each exactly once over all workers; may be gone through many times, with the
    same loader processes.

    Batches are cut before they are dealt out, so every sample shares its batch with the same others, and gets the
    same logits, on any number of workers. All have the same shape, for which a network is compiled once: what the last
    one lacks are SKIPPED pictures.
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
        batch_size = min(batch_size, len(samples))
        starts = range(rank * batch_size, len(samples), world_size * batch_size)
        batches = [range(start, start + batch_size) for start in starts]
        self._shape = batch_size, transform.channels, transform.crop
        batch_bytes = batch_size * transform.channels * transform.crop**2
        self._loader = data_loader(_EvalSet(samples, transform), batches, config, batch_bytes, pin)

    def black(self) -> Batch:
        """One more batch of this shape, in which no picture counts."""
        return Batch.black(*self._shape, label=SKIPPED)

    def __iter__(self) -> Iterator[Batch]:
        return with_short_errors(iter(self._loader))


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
