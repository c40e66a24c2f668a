"""The pictures that a benchmark of data loading reads: as they are, and packed."""

import io
import os
import random
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path, PurePath
from typing import TypeVar

import numpy as np
import simplejpeg
from PIL import Image

from shared.errors import UserError
from shared.photos import PHOTO_NAMES, photo
from trainer.bench.fresh import in_fresh_process
from trainer.bench.streams import loading_recipe, open_training
from trainer.data.folder_index import folder_index
from trainer.packing import pack

FEWEST, MOST = 16, 1000
"""From a larger set, pictures at even distances are taken: all of them are read from memory, not from the disk."""

PACKED_SIDE = 256
"""Shorter side of the packed pictures, in pixels."""

_EXTENSIONS = (".jpg", ".jpeg")
_MADE_PER_PHOTO = 16
_MADE_SIZE = (500, 375)
_MADE_QUALITY = 97
"""With full chroma, as most of ImageNet's: about as many bytes as those have (94 kB on average; ImageNet 110 kB)."""

Picture = tuple[str, bytes]
"""Class and contents."""

Entry = TypeVar("Entry")


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureSets:
    raw: Path
    """Holds train/<class>/*.jpg."""

    packed: Path
    """The same as shards, with a shorter side of PACKED_SIDE."""

    unpacked: Path
    """train/<class>/*.jpg, the pictures of the shards."""

    description: dict[str, str | int | float]
    """Where they come from, how many they are and how large on average."""


def check_source(images: Path | None) -> None:
    """Raises UserError: `images` is nothing from which pictures could be taken."""
    if images is None:
        return
    if not images.exists():
        raise UserError(f"--images {images} does not exist; give a folder of class folders with JPEGs, or a tar of it")
    count = len(_files(images)) if images.is_dir() else len(_members(images))
    _check_count(count, images)


def prepare(images: Path | None, folder: Path) -> PictureSets:
    """Write the sets into `folder`.

    Raises:
        UserError: fewer than FEWEST pictures can be decoded.
    """
    raw, packed, unpacked = folder / "raw", folder / "packed", folder / "unpacked"
    undecodable = _write(raw / "train", _pictures(images))
    _check_count(_count(raw), images)
    pack_here(raw, packed, pack.Settings(shorter_side=PACKED_SIDE))
    shards = open_training(loading_recipe("shards", packed, 1))
    _write(unpacked / "train", ((str(shards.labels[i]), shards.encoded(i)) for i in range(len(shards))))
    description: dict[str, str | int | float] = {
        "source": str(images or f"{len(PHOTO_NAMES)} photographs of scikit-image, cropped to 500 x 375 px"),
        "count": _count(raw),
        "mean_kb": _mean_kb(raw),
        "packed_side_px": PACKED_SIDE,
        "packed_mean_kb": _mean_kb(unpacked),
        "undecodable": undecodable,
    }
    return PictureSets(raw=raw, packed=packed, unpacked=unpacked, description=description)


def pack_here(source: Path, target: Path, settings: pack.Settings) -> None:
    """On this machine, also where RAY_ADDRESS names a cluster: its other nodes do not see our folder."""
    in_fresh_process(partial(_pack_without_ray, source, target, settings))


def _pack_without_ray(source: Path, target: Path, settings: pack.Settings, _: Connection) -> None:
    os.environ.pop("RAY_ADDRESS", None)
    with redirect_stderr(io.StringIO()):  # its progress bar
        pack.pack(source, target, settings, num_processes=1)  # there is one shard to write


def _pictures(images: Path | None) -> Iterator[Picture]:
    if images is None:
        return _made()
    return _from_folder(images) if images.is_dir() else _from_tar(images)


def _files(root: Path) -> list[Path]:
    """`root` may also be what train/ lies in."""
    root = root / "train" if (root / "train").is_dir() else root
    paths = (os.fsdecode(path) for path in folder_index(root).files["path"])
    return [root / path for path in paths if path.lower().endswith(_EXTENSIONS)]


def _from_folder(root: Path) -> Iterator[Picture]:
    for path in _spread(_files(root)):
        yield path.parent.name, path.read_bytes()


def _members(path: Path) -> list[str]:
    try:
        with tarfile.open(path) as tar:
            return [m.name for m in tar if m.isfile() and m.name.lower().endswith(_EXTENSIONS)]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"--images {path} is neither a folder nor a tar that can be read ({error})") from error


def _from_tar(path: Path) -> Iterator[Picture]:
    names = _spread(_members(path))
    with tarfile.open(path) as tar:
        for name in names:
            file = tar.extractfile(name)
            assert file is not None
            yield PurePath(name).parent.name, file.read()


def _made() -> Iterator[Picture]:
    """Crops of the embedded photographs, of ImageNet's usual size and about its quality."""
    numbers = random.Random(0)
    for name in PHOTO_NAMES:
        whole = photo(name)
        for _ in range(_MADE_PER_PHOTO):
            width = min(whole.width, whole.height * 4 / 3) * numbers.uniform(0.6, 1)
            height = width * 3 / 4
            x, y = numbers.uniform(0, whole.width - width), numbers.uniform(0, whole.height - height)
            crop = whole.resize(_MADE_SIZE, Image.Resampling.BICUBIC, (x, y, x + width, y + height))
            buffer = io.BytesIO()
            crop.save(buffer, "JPEG", quality=_MADE_QUALITY, subsampling=0)
            yield name, buffer.getvalue()


def _write(root: Path, pictures: Iterator[Picture]) -> int:
    """Files under names of our own: a tar can hold any. Returns how many were left out."""
    numbers: dict[str, int] = {}
    undecodable = 0
    for i, (name, data) in enumerate(pictures):
        try:
            simplejpeg.decode_jpeg(data)
        except ValueError:
            undecodable += 1
            continue
        folder = root / f"{numbers.setdefault(name, len(numbers)):04d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i:04d}.jpg").write_bytes(data)
    return undecodable


def _spread(entries: Sequence[Entry]) -> list[Entry]:
    return [entries[i] for i in np.linspace(0, len(entries), num=min(MOST, len(entries)), endpoint=False, dtype=int)]


def _check_count(count: int, images: Path | None) -> None:
    if count < FEWEST:
        raise UserError(f"--images {images} holds {count} JPEGs that can be read; give at least {FEWEST}")


def _count(root: Path) -> int:
    return sum(1 for _ in root.rglob("*.jpg"))


def _mean_kb(root: Path) -> float:
    return float(np.mean([path.stat().st_size for path in root.rglob("*.jpg")])) / 1000
