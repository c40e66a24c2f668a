"""One picture's bytes, checked, and converted where they are not what their name says."""

import io
from pathlib import PurePath
from typing import NamedTuple

from PIL import Image

EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),  # a JPEG with more pictures behind it, from cameras
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "PPM": (".ppm",),
    "TIFF": (".tif", ".tiff"),
}


class Stored(NamedTuple):
    data: bytes
    extension: str
    note: str
    """Why the picture had to be re-encoded; empty where it did not."""


def stored(data: bytes, name: str, shorter_side: int, quality: int) -> Stored:
    """What goes into the shard.

    Pictures that are what their name says are copied byte for byte; a larger `shorter_side` than asked for (0: any),
    CMYK, and other formats that call themselves JPEG become RGB (or grey) JPEGs. EXIF rotation is neither applied nor
    kept then, as training does not apply it either.

    Raises:
        one of DAMAGED: it cannot be decoded to the end.
    """
    with Image.open(io.BytesIO(data)) as picture:
        note = _mismatch(picture, name)
        shrinks = 0 < shorter_side < min(picture.size)
        if not note and not shrinks:
            if picture.format == "JPEG":  # an eighth of the size reads as many bytes, and takes less time
                picture.draft(None, (1, 1))
            picture.load()
            return Stored(data, EXTENSIONS[picture.format or ""][0].removeprefix("."), "")
        pixels = picture if picture.mode in ("RGB", "L") else picture.convert("RGB")
        if shrinks:
            scale = shorter_side / min(pixels.size)
            width, height = (max(shorter_side, round(side * scale)) for side in pixels.size)
            pixels = pixels.resize((width, height), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        pixels.save(buffer, "JPEG", quality=quality, exif=b"", icc_profile=None)
        return Stored(buffer.getvalue(), "jpg", note)


def _mismatch(picture: Image.Image, name: str) -> str:
    kind, suffix = picture.format or "", PurePath(name).suffix.lower()
    if suffix not in EXTENSIONS.get(kind, ()):
        return f"is {kind or 'of no known format'} and called {suffix or 'nothing'}"
    if kind in ("JPEG", "MPO") and picture.mode not in ("RGB", "L"):
        return f"is {picture.mode}"
    return ""
