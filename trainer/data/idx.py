"""MNIST's original files (IDX, gzipped or not) in one folder, as its authors and Debian's packages ship them."""

import gzip
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from shared.errors import UserError

_UNSIGNED_BYTES = 8


def holds_idx_files(folder: Path) -> bool:
    return any(folder.glob("train-images-idx3-ubyte*"))


class IdxSamples:
    """One part of MNIST, Fashion-MNIST or another set of that format.

    Raises:
        UserError: a file is missing or damaged.
    """

    def __init__(self, name: str, folder: Path, classes: Sequence[str], *, training: bool) -> None:
        part = "train" if training else "t10k"
        self._pictures = _read(folder, f"{part}-images-idx3-ubyte", dimensions=3)
        self.labels = _read(folder, f"{part}-labels-idx1-ubyte", dimensions=1).astype(np.int64)
        if len(self._pictures) != len(self.labels) or self.labels.max() >= len(classes):
            raise UserError(f"{folder} holds {len(self._pictures)} pictures and {len(self.labels)} labels of {part}")
        self.classes = tuple(classes)
        self.digest = hashlib.sha256(self._pictures.tobytes() + self.labels.tobytes()).hexdigest()
        self._what = f"{name} {'training' if training else 'validation'}"

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return f"{self._what} picture {index}"

    def picture(self, index: int) -> Image.Image:
        return Image.fromarray(self._pictures[index]).convert("RGB")

    def probes(self, count: int) -> list[Image.Image]:
        """The first picture of as many classes as there are."""
        _, first = np.unique(self.labels, return_index=True)
        return [self.picture(int(i)) for i in first[:count]]


def _read(folder: Path, name: str, dimensions: int) -> np.ndarray:
    """A header of 2 zero bytes, type, number of dimensions and big-endian sizes; then the values."""
    path = next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
    if path is None:
        raise UserError(f"{folder} lacks {name} or {name}.gz; it should hold the four original files")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zero, kind, found = int.from_bytes(data[:2]), data[2], data[3]
        shape = np.frombuffer(data, ">u4", count=dimensions, offset=4)
        if (zero, kind, found) != (0, _UNSIGNED_BYTES, dimensions):
            raise ValueError("its header is not that of an IDX file of bytes")
        return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(tuple(shape))
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise UserError(f"{path} is damaged ({error}); get it again") from error
