"""How a packed set lies on disk: what `pack` writes and `trainer.data.shards` reads.

    pack.json            what was packed, and how
    report.txt           pictures that were left out or re-encoded, a line each
    train/, val/         000000.tar, 000001.tar, ...: WebDataset's format, `KEY.jpg` and `KEY.cls` for every picture
          index.npy      INDEX_DTYPE, a row per picture in the order of the source, wherever the picture lies
          index.json     classes, digest, and the size and sha256 of every shard; written last

While packing, `train/parts/000000.json` holds a finished shard's rows of the index. This module and those that it
serves in worker processes import no torch: a process starts in a fraction of a second.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

FORMAT = "degrid shards 1"
INDEX_DTYPE = np.dtype([("offset", "<i8"), ("label", "<i8"), ("size", "<i4"), ("shard", "<i4")])
PARTS = ("train", "val")


class Item(NamedTuple):
    """A picture of the source."""

    number: int
    """Its place in the order of the source."""

    name: str
    """Relative to the part, such as n01440764/n01440764_10026.JPEG."""

    label: int
    path: str
    offset: int
    size: int
    """Where its bytes lie in the file at `path`; size -1: the whole file."""


class PackedItem(NamedTuple):
    number: int
    label: int
    offset: int
    size: int


def shard_name(number: int) -> str:
    return f"{number:06d}.tar"


def part_path(folder: Path, number: int) -> Path:
    return folder / "parts" / f"{number:06d}.json"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that appears at `path` when it is complete and on the disk, or never."""
    # of one process alone: another one may be writing the same shard
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    with replacing(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def read_json(path: Path) -> Any:
    """The content, or None where there is no such file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def remove_leftovers(target: Path) -> None:
    """Files that a killed process was writing."""
    for partial in target.rglob(".*.partial"):
        partial.unlink(missing_ok=True)
