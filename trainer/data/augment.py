"""Training augmentation of one picture, drawn from its own seed."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import auto_augment_transform, rand_augment_transform
from torch import Tensor
from torchvision.transforms import v2

from shared.transforms import MODES
from trainer.config import AugmentConfig


class TrainTransform:
    """(picture, seed) -> (C, train_size, train_size), uint8. The same seed always gives the same pixels."""

    def __init__(self, config: AugmentConfig) -> None:
        self._mode = MODES[len(config.mean)]
        steps: list[Callable[[Image.Image], Any]] = [*_cropping(config)]
        if config.flip:
            steps += [v2.RandomHorizontalFlip()]
        if config.auto_augment:
            steps += [_auto_augment(config)]
        if config.color_jitter:
            steps += [v2.ColorJitter(config.color_jitter, config.color_jitter, config.color_jitter)]
        if config.grey:
            steps += [v2.RandomGrayscale(config.grey)]
        # PIL's enhancers are several times faster than torch's on one small picture, so the tensor comes last
        self._transform = v2.Compose([*steps, v2.PILToTensor()])
        self._seeded = _seeded_everywhere if config.auto_augment else _seeded_torch

    def __call__(self, picture: Image.Image, seed: int) -> Tensor:
        with self._seeded(seed):
            return self._transform(picture.convert(self._mode))


def _cropping(config: AugmentConfig) -> list[torch.nn.Module]:
    size, interpolation = config.train_size, v2.InterpolationMode(config.interpolation)
    if config.crop == "resized":
        return [v2.RandomResizedCrop(size, (config.min_scale, config.max_scale), interpolation=interpolation)]
    if config.crop == "padded":
        return [v2.Resize(size, interpolation), v2.RandomCrop(size, padding=config.pad, pad_if_needed=True)]
    return [v2.Resize(size, interpolation), v2.CenterCrop(size)]


def _auto_augment(config: AugmentConfig) -> Callable[[Image.Image], Image.Image]:
    mean = tuple(round(255 * channel) for channel in config.mean)
    # timm's usual settings: shift by up to 45 % of the side, fill with the mean colour
    settings = {"translate_const": int(config.train_size * 0.45), "img_mean": mean if len(mean) > 1 else mean[0]}
    make = rand_augment_transform if config.auto_augment.startswith("rand") else auto_augment_transform
    return make(config.auto_augment, settings)


@contextmanager
def _seeded_torch(seed: int) -> Iterator[None]:
    """torchvision draws from torch's global generator: borrow it, and leave it as it was for dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def _seeded_everywhere(seed: int) -> Iterator[None]:
    """timm draws from Python's and NumPy's global generators."""
    before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    try:
        with _seeded_torch(seed):
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
