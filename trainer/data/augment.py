"""Training augmentation of one picture on the host: whatever changes its geometry, and policies that need Pillow."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import auto_augment_transform, rand_augment_transform
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from shared.transforms import MODES
from trainer.config import AugmentConfig
from trainer.data.boxes import BOX_NUMBERS, Box, crop_box
from trainer.data.decode import decode, decode_region

NUMBERS = BOX_NUMBERS + 2
"""Random numbers that one picture takes: its crop, then flip and policy."""


class TrainTransform:
    """A picture, or its file, and random numbers -> training pixels. The same numbers always give the same pixels.

    Args:
        size: side of the crop; by default train_size.
        exact: Pillow's pixels, as torchvision's published recipes have them, even where that is slower.
    """

    def __init__(self, config: AugmentConfig, *, size: int | None = None, exact: bool = False) -> None:
        self.mode = MODES[len(config.mean)]
        self.size = size or config.train_size
        self._config = config
        self._pad = round(config.pad * self.size / config.train_size)
        self._interpolation = InterpolationMode(config.interpolation)
        self._by_region = config.crop == "resized" and self.mode == "RGB" and not exact
        self._policy = _policy(config, self.size) if config.auto_augment else None

    def __call__(self, stored: bytes | Image.Image, numbers: Sequence[float], out: Tensor) -> None:
        """Write one picture.

        Args:
            stored: a picture, or the contents of its file.
            numbers: NUMBERS of them, in [0, 1).
            out: (1, C, size, size) uint8, channels last.

        Raises:
            DamagedPictureError
        """
        if self._by_region and isinstance(stored, bytes):
            decode_region(stored, lambda w, h: self._box(w, h, numbers), self._config.interpolation == "bicubic", out)
        else:
            picture = decode(stored) if isinstance(stored, bytes) else stored
            self._crop(picture.convert(self.mode), numbers, out)
        *_, flip, policy = numbers
        if self._config.flip and flip < 0.5:
            out.copy_(out.flip(3))
        if self._policy:
            pixels = out[0].permute(1, 2, 0).numpy()  # the same memory
            with _seeded(int(policy * 2**53)):
                changed = self._policy(Image.fromarray(pixels.squeeze()))
            pixels[:] = np.asarray(changed).reshape(pixels.shape)

    def _box(self, width: int, height: int, numbers: Sequence[float]) -> Box:
        return crop_box(width, height, numbers[:BOX_NUMBERS], (self._config.min_scale, self._config.max_scale))

    def _crop(self, picture: Image.Image, numbers: Sequence[float], out: Tensor) -> None:
        """The crop as torchvision makes it of a picture of Pillow's."""
        size = [self.size, self.size]
        if self._config.crop == "resized":
            left, top, width, height = self._box(*picture.size, numbers)
            cropped = F.resized_crop(picture, top, left, height, width, size, self._interpolation)
        elif self._config.crop == "padded":
            picture = F.resize(picture, [self.size], self._interpolation)
            # a box that begins outside the picture is black there, as after padding
            left = int(numbers[0] * (picture.width + 2 * self._pad - self.size + 1)) - self._pad
            top = int(numbers[1] * (picture.height + 2 * self._pad - self.size + 1)) - self._pad
            cropped = picture.crop((left, top, left + self.size, top + self.size))
        else:
            cropped = F.center_crop(F.resize(picture, [self.size], self._interpolation), size)
        out.copy_(F.pil_to_tensor(cropped))


def _policy(config: AugmentConfig, size: int) -> Callable[[Image.Image], Image.Image]:
    mean = tuple(round(255 * channel) for channel in config.mean)
    if config.auto_augment == "trivial":
        return v2.TrivialAugmentWide(fill=[*mean])
    # timm's usual settings: shift by up to 45 % of the side, fill with the mean colour
    settings = {"translate_const": int(size * 0.45), "img_mean": mean if len(mean) > 1 else mean[0]}
    make = rand_augment_transform if config.auto_augment.startswith("rand") else auto_augment_transform
    return make(config.auto_augment, settings)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """timm draws from Python's and NumPy's global generators, torchvision from torch's: borrow them, and leave them as
    they were.
    """
    before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
