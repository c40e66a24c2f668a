"""The embedded data set: crops of 16 photographs, to be told which one they come from.

Tiny, real and always there: it needs no download, trains on two CPU cores within minutes, and is hard enough that the
networks learn features in which gridding shows. Training crops come from one side of each photograph, validation crops
from the other; they share no pixel.
"""

import hashlib
from functools import cache
from typing import Literal

import numpy as np
from PIL import Image

from shared.photos import PHOTO_NAMES, photo
from trainer.data.sampling import hash64

TRAIN_SHARE = 0.6
"""Of the longer side of each photograph."""

TRAIN_CROPS = 100
"""Training samples per photograph in an epoch; each is another random crop."""

VAL_CROPS = 32
"""Fixed validation crops per photograph."""

MAX_SIDE = 512
"""Larger photographs are scaled down to it: a crop of 96 px shows no more, and takes longer to cut."""

_VAL_SEED = 20170528


class PhotoSamples:
    """Crops of the photographs; a training sample is the whole training side, for the augmentation to crop."""

    def __init__(self, part: Literal["train", "val"]) -> None:
        self.part = part
        self.classes = PHOTO_NAMES
        self._crops = TRAIN_CROPS if part == "train" else VAL_CROPS
        self.labels = np.repeat(np.arange(len(PHOTO_NAMES)), self._crops)
        digest = hashlib.sha256(f"{part} {TRAIN_SHARE} {self._crops} {MAX_SIDE} {_VAL_SEED}".encode())
        for name in PHOTO_NAMES:
            digest.update(photo(name).tobytes())
        self.digest = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return f"{PHOTO_NAMES[self.labels[index]]} {self.part} {index % self._crops}"

    def picture(self, index: int) -> Image.Image:
        name = PHOTO_NAMES[self.labels[index]]
        if self.part == "train":
            return _train_picture(name)
        return _whole(name).crop(_val_crop(_whole(name), index))

    def probes(self, count: int) -> list[Image.Image]:
        """The whole photographs."""
        return [photo(name) for name in PHOTO_NAMES[:count]]


def _split(whole: Image.Image) -> int:
    return round(max(whole.size) * TRAIN_SHARE)


def _train_side(whole: Image.Image) -> tuple[int, int, int, int]:
    width, height = whole.size
    return (0, 0, _split(whole), height) if width >= height else (0, 0, width, _split(whole))


@cache
def _whole(name: str) -> Image.Image:
    shrunk = photo(name).copy()
    shrunk.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BICUBIC)
    return shrunk


@cache
def _train_picture(name: str) -> Image.Image:
    return _whole(name).crop(_train_side(_whole(name)))


def _val_crop(whole: Image.Image, index: int) -> tuple[int, int, int, int]:
    """A square of 60 to 100 % of the validation side's shorter edge, at a fixed pseudo-random place."""
    width, height = whole.size
    left, top = (_split(whole), 0) if width >= height else (0, _split(whole))
    u, v, w = hash64(_VAL_SEED, index, np.arange(3)) / 2.0**64
    side = int(min(width - left, height - top) * (0.6 + 0.4 * u))
    x = left + int(v * (width - left - side + 1))
    y = top + int(w * (height - top - side + 1))
    return x, y, x + side, y + side
