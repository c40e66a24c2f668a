"""Sections about pictures: where they come from, and how they are augmented."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.transforms import IMAGENET_MEAN, IMAGENET_STD, EvalTransform, Interpolation
from trainer.config.fields import FORBID_UNKNOWN, Fraction, Positive

AUTO_AUGMENT = r"^(trivial|(rand|original|originalr|v0|v0r|3a)(-(mstd|mmax|m|n|p|inc)[0-9.]+)*)?$"


@dataclass(frozen=True, kw_only=True, slots=True, config=FORBID_UNKNOWN)
class DataConfig:
    source: str
    """photos, folder, shards, or a torchvision set by name (mnist, cifar10, ...)."""

    path: str = ""
    """Where the data is: a folder with train/ and val/ (or test/), torchvision's download folder, or for shards what
    `python -m trainer pack` wrote, in a folder or at an address (s3://, gs://, https://)."""

    name: str = ""
    """What the registry calls the data set; by default the source, or the folder's name."""

    repeats: Positive = 1
    """Repeated augmentation (arXiv:1902.05509): every sample of an epoch comes so many times, differently augmented and
    far apart in a batch; an epoch is as long as ever, and so sees only a part of the samples."""

    num_loader_workers: Annotated[int, Field(ge=0)] = 2
    """Processes per training worker that read and decode pictures; 0 does it in the training process."""

    prefetch_mb: Annotated[float, Field(gt=0)] = 1000.0
    """Batches that wait in each worker's memory; at least one for each of its loader processes."""

    decoder: Literal["fast", "pillow"] = "fast"
    """fast: no finer than a crop needs, resized by torch; pillow: torchvision's pixels, at half the speed. They differ
    by rounding, and in training alone."""

    cache_gb: Annotated[float, Field(ge=0)] = 50.0
    """shards at an address: how much of the local disk keeps what was read, on every node; 0 keeps nothing."""

    cache_path: str = ""
    """shards at an address: where that is; by default ~/.cache/degrid/shards."""

    retry_s: Annotated[float, Field(ge=0, le=1500)] = 300.0
    """How long a mount or an object store that fails is asked again before the run ends. The other workers wait that
    long, which they do for 30 minutes."""


@dataclass(frozen=True, kw_only=True, slots=True, config=FORBID_UNKNOWN)
class AugmentConfig:
    train_size: Positive = 224
    """Side of the training crop in pixels."""

    start_size: Positive | None = None
    """Progressive resizing: side of the first crops, from which they grow to train_size; by default all have that."""

    size_step: Positive = 32
    """start_size: pixels by which crops grow at a time. Every size is another shape, for which a device plans, or
    torch compiles, anew."""

    grow_from: Fraction = 0.5
    grow_until: Fraction = 0.8
    """start_size: shares of the training after which crops begin to grow, and have train_size; by default as in
    MosaicML's Composer."""

    crop: Literal["resized", "padded", "centre"] = "resized"
    """resized: RandomResizedCrop; padded: a random crop after padding (CIFAR); centre: as at evaluation."""

    min_scale: Fraction = 0.08
    max_scale: Fraction = 1.0
    """resized: share of the picture's area that the crop keeps."""

    pad: Annotated[int, Field(ge=0)] = 4
    """padded: pixels on each side; of crops that have yet to grow, in proportion fewer."""

    flip: bool = True
    auto_augment: Annotated[str, Field(pattern=AUTO_AUGMENT)] = ""
    """RandAugment, AutoAugment as timm writes them: rand-m6-mstd0.5-inc1, original-mstd0.5; or trivial."""

    color_jitter: Fraction = 0.0
    """Strength for brightness, contrast and saturation."""

    grey: Fraction = 0.0
    """Probability of turning the crop grey."""

    erasing: Fraction = 0.0
    """Probability of wiping out a random rectangle (arXiv:1708.04896)."""

    mixup: Annotated[float, Field(ge=0)] = 0.0
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    """Alpha of MixUp (arXiv:1710.09412) and CutMix (arXiv:1905.04899); 0 disables. With both, each pair
    of pictures draws one."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    eval_resize: Positive = 256
    """Pixels of the shorter side at evaluation."""

    eval_size: Positive = 224
    """Side of the centre crop at evaluation, in pixels."""

    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    """Of each channel, on a scale from 0 to 1. Three numbers for colour, one for grey pictures."""

    @property
    def train_sizes(self) -> tuple[int, ...]:
        """All sides of training crops, ascending."""
        return tuple(range(self.start_size or self.train_size, self.train_size + 1, self.size_step))

    def train_size_at(self, share: float) -> int:
        """Side of the training crops when this share of the training is done: of `train_sizes`, the nearest to a line
        from start_size at grow_from to train_size at grow_until.
        """
        grown = (share - self.grow_from) / (self.grow_until - self.grow_from)
        sizes = self.train_sizes
        return sizes[round(min(max(grown, 0.0), 1.0) * (len(sizes) - 1))]

    @property
    def eval_transform(self) -> EvalTransform:
        return EvalTransform(
            resize=self.eval_resize, crop=self.eval_size, interpolation=self.interpolation, mean=self.mean, std=self.std
        )
