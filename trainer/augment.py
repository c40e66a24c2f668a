"""Augmentation of a whole batch on its device: colours, erasing, mixing, each with numbers of every picture's own.

The numbers are a pure function of the seed and the position in the training stream, so a picture looks the same on any
number of workers. They are drawn on the host, a few dozen for each picture, and no update waits for the device.
"""

from itertools import permutations

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor

from trainer.config import Recipe
from trainer.data.boxes import BOX_NUMBERS, random_box
from trainer.data.loader import Batch
from trainer.data.sampling import COLOUR, ERASING, MIXING, uniforms

ERASED_SCALE, ERASED_RATIO = (0.02, 0.33), (0.3, 3.3)
"""Share of the area and aspect ratio of what is erased, as published (arXiv:1708.04896)."""

_LUMA = (0.2989, 0.587, 0.114)  # as torchvision weighs red, green and blue
_CONTRAST, _SATURATION = 1, 2  # brightness is 0
_ORDERS = np.array(list(permutations(range(3))))


class BatchAugmentation:
    """uint8 pictures and labels -> what the network and the loss get.

    Mixing pairs the pictures at positions 2k and 2k + 1 of the training stream, which are on the same worker as long
    as its share of a batch is even.
    """

    def __init__(self, recipe: Recipe, num_classes: int) -> None:
        self.mixes = bool(recipe.augment.mixup or recipe.augment.cutmix)
        self._config = recipe.augment
        self._normalize = recipe.augment.eval_transform.normalize
        self._seed = recipe.run.seed
        self._num_classes = num_classes

    def __call__(self, batch: Batch, device: torch.device, memory_format: torch.memory_format) -> tuple[Tensor, Tensor]:
        """Move a batch to the device, augment and normalise it.

        Returns:
            (B, C, H, W) float32, and the (B,) labels; where pictures are mixed, (B, num_classes) shares of them.
        """
        images = batch.images.to(device, non_blocking=True, memory_format=memory_format)
        labels = batch.labels.to(device, non_blocking=True)
        positions = np.asarray(batch.indices)
        if self._config.color_jitter or self._config.grey:
            images = self._recoloured(images.float(), uniforms(self._seed, positions, COLOUR, 5))
        inputs = self._normalize(images)
        if self._config.erasing:
            inputs = self._erased(inputs, uniforms(self._seed, positions, ERASING, 1 + BOX_NUMBERS))
        return self._mixed(inputs, labels, positions) if self.mixes else (inputs, labels)

    def _recoloured(self, images: Tensor, numbers: np.ndarray) -> Tensor:
        """torchvision's ColorJitter (brightness, contrast and saturation, in random order), then RandomGrayscale.

        Each of them mixes the picture with another one: black, the mean of its grey version, its grey version.

        Args:
            images: float, 0 to 255.
            numbers: (B, 5): brightness, contrast, saturation, their order, whether to turn grey.
        """
        turns: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        if strength := self._config.color_jitter:
            order = _ORDERS[(numbers[:, 3] * len(_ORDERS)).astype(int)]  # (B, 3): which is first, second, third
            factors = np.take_along_axis(1 + strength * (2 * numbers[:, :3] - 1), order, axis=1)
            turns = [(factors[:, i], order[:, i] == _CONTRAST, order[:, i] == _SATURATION) for i in range(3)]
        if self._config.grey:
            turns_grey = numbers[:, 4] < self._config.grey
            turns += [(1.0 - turns_grey, np.zeros_like(turns_grey), turns_grey)]
        for factor, towards_mean, towards_grey in turns:
            grey = _grey(images)
            other = _each(towards_grey, images) * grey + _each(towards_mean, images) * grey.mean((1, 2, 3), True)
            images = torch.lerp(other, images, _each(factor, images)).clamp(0, 255)
        return images

    def _erased(self, inputs: Tensor, numbers: np.ndarray) -> Tensor:
        """RandomErasing: a rectangle becomes the mean colour."""
        height, width = inputs.shape[2:]
        edges = np.zeros((len(inputs), 4), dtype=int)
        for i, (chance, *rest) in enumerate(numbers.tolist()):
            box = random_box(width, height, rest, ERASED_SCALE, ERASED_RATIO)
            if box and chance < self._config.erasing:
                edges[i] = box.left, box.top, box.left + box.width, box.top + box.height
        return inputs.masked_fill(_inside(edges, inputs), 0.0)

    def _mixed(self, inputs: Tensor, labels: Tensor, positions: np.ndarray) -> tuple[Tensor, Tensor]:
        """MixUp or CutMix of neighbours; where a recipe has both, each pair draws one of them."""
        assert len(positions) % 2 == 0
        assert positions[0] % 2 == 0
        mixup, cutmix = self._config.mixup, self._config.cutmix
        which, share, *centre = uniforms(self._seed, positions // 2, MIXING, 4).T
        cuts = which < 0.5 if mixup and cutmix else np.full(len(which), bool(cutmix))
        alpha = np.where(cuts, cutmix or 1, mixup or 1)
        kept = betaincinv(alpha, alpha, share)  # the inverse of Beta's distribution function
        edges = _cut_edges(kept, np.stack(centre, axis=1), width=inputs.shape[3], height=inputs.shape[2])
        areas = (edges[:, 2] - edges[:, 0]) * (edges[:, 3] - edges[:, 1]) / (inputs.shape[2] * inputs.shape[3])

        # (B, 1, H, W): how much of each pixel stays; the rest is the neighbour's
        stays = torch.where(_each(cuts, inputs) > 0, (~_inside(edges, inputs)).float(), _each(kept, inputs))
        mixed = torch.lerp(_neighbours(inputs), inputs, stays)
        # not one_hot, which looks at the labels first
        classes = (labels[:, None] == torch.arange(self._num_classes, device=labels.device)).float()
        return mixed, torch.lerp(
            _neighbours(classes), classes, _each(np.where(cuts, 1 - areas, kept), inputs)[:, :, 0, 0]
        )


def _each(values: np.ndarray, like: Tensor) -> Tensor:
    """(B,) numbers -> (B, 1, 1, 1) float32 on the device of `like`."""
    return _moved(values.astype(np.float32), like.device).view(-1, 1, 1, 1)


def _moved(values: np.ndarray, device: torch.device) -> Tensor:
    tensor = torch.from_numpy(values)
    # a copy from memory that is not pinned may wait for what the device has to do yet
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _grey(images: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 1, H, W)."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def _inside(edges: np.ndarray, images: Tensor) -> Tensor:
    """(B, 4) left, top, right, bottom -> (B, 1, H, W), whether a pixel lies in its picture's rectangle."""
    left, top, right, bottom = _moved(edges, images.device)[:, :, None, None, None].unbind(1)
    x = torch.arange(images.shape[3], device=images.device).view(1, 1, 1, -1)
    y = torch.arange(images.shape[2], device=images.device).view(1, 1, -1, 1)
    return (x >= left) & (x < right) & (y >= top) & (y < bottom)


def _cut_edges(kept: np.ndarray, centre: np.ndarray, width: int, height: int) -> np.ndarray:
    """CutMix's rectangles, of area 1 - kept before the picture's border cuts them.

    Args:
        centre: (B, 2) x and y, in [0, 1).

    Returns:
        (B, 4) left, top, right, bottom.
    """
    size = np.array([width, height])
    half = np.sqrt(1 - kept)[:, None] * size / 2
    middle = (centre * size).astype(int)
    first, last = (np.clip((middle + side * half).astype(int), 0, size) for side in (-1, 1))
    return np.concatenate([first, last], axis=1)


def _neighbours(tensor: Tensor) -> Tensor:
    """(B, ...) -> (B, ...), with 2k and 2k + 1 exchanged."""
    return tensor.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
