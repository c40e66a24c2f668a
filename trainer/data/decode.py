"""From a picture's file to pixels, for all sources of files (folders, shards).

libjpeg-turbo decodes (through simplejpeg), with the same result as Pillow in half its time. Pillow takes over where a
file is something else than an ordinary JPEG, and says whether it is damaged.

Measured on one core of a Xeon with AMX, 200 ImageNet JPEGs, decoding alone, relative to torchvision's recipe from
file to tensor: simplejpeg 2.23, torchvision.io 2.05, Pillow 1.71. Then the region is resized: torch's antialiased
kernel for uint8, writing in place, takes a quarter of Pillow's time and 0.4 of OpenCV's INTER_AREA.
"""

import io
from collections.abc import Callable
from functools import cache
from typing import Protocol

import numpy as np
import simplejpeg
import torch
from PIL import Image
from torch import Tensor

from trainer.data.boxes import Box

# What Pillow raises on damaged files, and on files that claim to be larger than its limit.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError)

MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)
"""Of a picture; above it Pillow refuses, too."""

_DCT_SCALES = (8, 4, 2)
"""Inverse DCTs of 1, 2 and 4 samples instead of 8 have code for vector units; the others are slower than a full one."""


class DamagedPictureError(OSError):
    """A file's contents are no picture that can be decoded to the end."""


class _Encoded(Protocol):
    def __len__(self) -> int: ...

    def encoded(self, index: int) -> bytes: ...

    def picture(self, index: int) -> Image.Image: ...


def decode(data: bytes) -> Image.Image:
    """The RGB picture, with Pillow's pixels to the last bit; raises DamagedPictureError."""
    if _same_as_pillow() and _size(data) is not None:
        try:
            return Image.fromarray(simplejpeg.decode_jpeg(data))
        except ValueError:
            pass
    return _by_pillow(data)


def decode_region(data: bytes, choose: Callable[[int, int], Box], bicubic: bool, out: Tensor) -> None:
    """Decode a region of a picture and resize it; raises DamagedPictureError.

    A region of at least twice the wanted size comes at half the resolution (or a quarter, or an eighth) out of the
    inverse DCT.

    Args:
        choose: (width, height) of the picture -> the region.
        out: (1, 3, H, W) uint8, channels last: where the result goes.
    """
    size = _size(data)
    if size is not None:
        box = choose(*size)
        scale = next((s for s in _DCT_SCALES if box.height >= s * out.shape[2] and box.width >= s * out.shape[3]), 1)
        try:
            pixels = _decode_scaled(data, size, scale)
        except ValueError:
            pass
        else:
            resize(pixels, _scaled(box, scale), bicubic, out)
            return
    picture = _by_pillow(data)
    resize(np.array(picture), choose(*picture.size), bicubic, out)


def resize(pixels: np.ndarray, box: Box, bicubic: bool, out: Tensor) -> None:
    """The box of (H, W, 3) uint8, resized into `out` with an antialiasing filter."""
    region = torch.from_numpy(pixels)[box.top : box.top + box.height, box.left : box.left + box.width]
    # interpolate() would allocate its result, and it would have to be copied: these are the kernels that it calls
    aten = torch.ops.aten
    kernel = aten._upsample_bicubic2d_aa if bicubic else aten._upsample_bilinear2d_aa
    kernel.out(region.permute(2, 0, 1)[None], list(out.shape[2:]), False, None, None, out=out)


def probes_at_even_distances(samples: _Encoded, count: int) -> list[Image.Image]:
    """Pictures of many classes, where samples are sorted by class; damaged ones are left out."""
    found = []
    for start in np.linspace(0, len(samples), num=min(count, len(samples)), endpoint=False, dtype=int):
        try:
            found.append(samples.picture(int(start)))
        except DAMAGED:
            continue
    return found


def _by_pillow(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except DAMAGED as error:
        raise DamagedPictureError(str(error)) from error


def _size(data: bytes) -> tuple[int, int] | None:
    """Width and height; None where it is no JPEG that both decoders read alike."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if colours not in ("YCbCr", "Gray") or width * height > MAX_PIXELS:
        return None
    return width, height


def _decode_scaled(data: bytes, size: tuple[int, int], scale: int) -> np.ndarray:
    """(H / scale, W / scale, 3) uint8, sizes rounded up."""
    if scale == 1:
        return simplejpeg.decode_jpeg(data)
    width, height = (-(-side // scale) for side in size)
    return simplejpeg.decode_jpeg(data, min_width=width, min_height=height, min_factor=scale)


def _scaled(box: Box, scale: int) -> Box:
    left, top = round(box.left / scale), round(box.top / scale)
    right, bottom = round((box.left + box.width) / scale), round((box.top + box.height) / scale)
    return Box(left, top, right - left, bottom - top)


@cache
def _same_as_pillow() -> bool:
    """Whether both libraries were built around decoders that agree: published accuracies depend on Pillow's pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    for mode, subsampling in (("RGB", 0), ("RGB", 1), ("RGB", 2), ("L", -1)):
        for progressive in (False, True):
            file = io.BytesIO()
            Image.fromarray(pixels).convert(mode).save(
                file, "JPEG", quality=85, subsampling=subsampling, progressive=progressive
            )
            expected = np.asarray(Image.open(file).convert("RGB"))
            if not np.array_equal(simplejpeg.decode_jpeg(file.getvalue()), expected):
                return False
    return True
