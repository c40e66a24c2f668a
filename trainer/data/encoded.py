"""What all sources of encoded pictures (files, shards) have in common."""

import io
from typing import Protocol

import numpy as np
from PIL import Image

# What Pillow raises on damaged files.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError)


class _Encoded(Protocol):
    def __len__(self) -> int: ...

    def encoded(self, index: int) -> bytes: ...

    def picture(self, index: int) -> Image.Image: ...


def decode(data: bytes) -> Image.Image:
    """The RGB picture; raises one of DAMAGED."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def probes_at_even_distances(samples: _Encoded, count: int) -> list[Image.Image]:
    """Pictures of many classes, where samples are sorted by class; damaged ones are left out."""
    found = []
    for start in np.linspace(0, len(samples), num=min(count, len(samples)), endpoint=False, dtype=int):
        try:
            found.append(samples.picture(int(start)))
        except DAMAGED:
            continue
    return found
