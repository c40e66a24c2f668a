"""Random rectangles: what RandomResizedCrop keeps and RandomErasing wipes out, from given random numbers."""

import math
from collections.abc import Sequence
from typing import NamedTuple

ATTEMPTS = 10
BOX_NUMBERS = 2 * ATTEMPTS + 2
"""Random numbers that one rectangle takes, whether it needs them or not."""

CROP_RATIO = (3 / 4, 4 / 3)


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: int
    top: int
    width: int
    height: int


def random_box(
    width: int, height: int, numbers: Sequence[float], scale: tuple[float, float], ratio: tuple[float, float]
) -> Box | None:
    """A rectangle of random area, aspect ratio and place: torchvision's procedure for both of its users.

    Args:
        width, height: of the picture.
        numbers: BOX_NUMBERS in [0, 1).
        scale: smallest and largest share of the picture's area.
        ratio: smallest and largest width / height; its logarithm is uniform.

    Returns:
        None where no attempt fitted into the picture.
    """
    area = width * height
    log_ratio = math.log(ratio[0]), math.log(ratio[1])
    for u, v in zip(numbers[:ATTEMPTS], numbers[ATTEMPTS : 2 * ATTEMPTS], strict=True):
        target = area * (scale[0] + (scale[1] - scale[0]) * u)
        aspect = math.exp(log_ratio[0] + (log_ratio[1] - log_ratio[0]) * v)
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            return Box(int(numbers[-2] * (width - w + 1)), int(numbers[-1] * (height - h + 1)), w, h)
    return None


def crop_box(width: int, height: int, numbers: Sequence[float], scale: tuple[float, float]) -> Box:
    """As torchvision's RandomResizedCrop: where nothing fits, the largest centred box of an allowed aspect ratio."""
    if box := random_box(width, height, numbers, scale, CROP_RATIO):
        return box
    w, h = width, height
    if width / height < CROP_RATIO[0]:
        h = round(width / CROP_RATIO[0])
    elif width / height > CROP_RATIO[1]:
        w = round(height * CROP_RATIO[1])
    return Box((width - w) // 2, (height - h) // 2, w, h)
