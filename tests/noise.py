"""Pictures that no codec can shrink, and pictures as files."""

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image


def noise(seed: int, size: tuple[int, int] = (300, 200), mode: str = "RGB") -> Image.Image:
    channels = {"L": (), "RGB": (3,), "CMYK": (4,)}[mode]
    values = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], *channels), dtype=np.uint8)
    return Image.fromarray(values, mode=mode)


def encoded(picture: Image.Image, kind: str = "JPEG", quality: int = 95, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=quality, **options)
    return buffer.getvalue()


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
