"""Sixteen photographs that come with scikit-image: the embedded data set and the demo's examples. No download."""

from collections.abc import Callable
from functools import cache

import numpy as np
import skimage.data
from PIL import Image

_READERS: dict[str, Callable[[], np.ndarray]] = {
    "astronaut": skimage.data.astronaut,
    "brick": skimage.data.brick,
    "camera": skimage.data.camera,
    "cat": skimage.data.cat,
    "cell": skimage.data.cell,
    "coffee": skimage.data.coffee,
    "coins": skimage.data.coins,
    "grass": skimage.data.grass,
    "gravel": skimage.data.gravel,
    "hubble_deep_field": skimage.data.hubble_deep_field,
    "immunohistochemistry": skimage.data.immunohistochemistry,
    "moon": skimage.data.moon,
    "motorcycle": lambda: skimage.data.stereo_motorcycle()[0],
    "page": skimage.data.page,
    "retina": skimage.data.retina,
    "rocket": skimage.data.rocket,
}

PHOTO_NAMES = tuple(_READERS)


@cache
def photo(name: str) -> Image.Image:
    """One of PHOTO_NAMES as RGB; the callers share it, so copy before drawing on it."""
    return Image.fromarray(_READERS[name]()).convert("RGB")
