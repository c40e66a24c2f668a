"""What lies in a folder of class folders, remembered: listing ImageNet's 1.28 million files takes minutes.

An index is kept for large sets in ~/.cache/degrid/folders (DEGRID_CACHE moves it). It holds as long as the same class
folders have the same times of modification: files that come, go or are renamed change those. A file whose contents are
replaced in place does not; remove the index then.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.errors import UserError
from trainer.packing.layout import replacing, write_json

log = logging.getLogger(__name__)

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff")
REMEMBERED_FROM = 20_000
"""Files. Fewer are listed in a moment."""

SETTLED_S = 2.0
"""A folder that has just changed may change again without a later time of modification."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderIndex:
    folders: list[str]
    """Class folders, sorted."""

    files: np.ndarray
    """(n,): `folder`, its number, and `path`, relative to the root, as bytes; in the order of the paths. Large ones
    are mapped from the cache, so that all processes share one copy."""

    digest: str
    """Of paths and sizes."""


def cache_root() -> Path:
    return Path(os.environ.get("DEGRID_CACHE") or Path.home() / ".cache" / "degrid")


def folder_index(root: Path) -> FolderIndex:
    """The pictures below root/<class>/.

    Raises:
        UserError: no class folders, or one without pictures.
    """
    with os.scandir(root) as entries:
        folders = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise UserError(f"{root} has no class folders; it should hold one folder per class with pictures in it")
    stamp = modification_times(root, folders)
    remembered = _recall(root, stamp)
    if remembered is not None:
        return remembered
    index = _listed(root, folders)
    if len(index.files) >= REMEMBERED_FROM and max(stamp.values()) < (time.time() - SETTLED_S) * 1e9:
        remember(root, stamp, index)
        return _recall(root, stamp) or index
    return index


def modification_times(root: Path, folders: Sequence[str]) -> dict[str, int]:
    """Of class folders, in ns: what tells whether an index still holds."""
    return {name: os.stat(root / name).st_mtime_ns for name in folders}


def _listed(root: Path, folders: list[str]) -> FolderIndex:
    digest = hashlib.sha256()
    paths: list[bytes] = []
    numbers: list[int] = []
    for number, folder in enumerate(folders):
        with os.scandir(root / folder) as entries:
            files = sorted(
                (e.name, e.stat().st_size) for e in entries if e.name.lower().endswith(EXTENSIONS) and e.is_file()
            )
        if not files:
            raise UserError(f"class folder {root / folder} holds no pictures ({', '.join(EXTENSIONS)}); remove it")
        for name, size in files:
            relative = f"{folder}/{name}"
            paths.append(os.fsencode(relative))
            numbers.append(number)
            digest.update(f"{relative} {size}\n".encode(errors="surrogateescape"))
    found = np.empty(len(paths), dtype=[("folder", "<i4"), ("path", f"S{max(map(len, paths))}")])
    found["folder"], found["path"] = numbers, paths
    return FolderIndex(folders=folders, files=found, digest=digest.hexdigest())


def _recall(root: Path, stamp: dict[str, int]) -> FolderIndex | None:
    notes = _notes(root)
    try:
        saved = json.loads(notes.read_text())
        if saved["stamp"] != stamp:
            return None
        files = np.load(_table(notes, saved["digest"]), mmap_mode="r")
    except (OSError, ValueError, KeyError):
        return None
    return FolderIndex(folders=list(stamp), files=files, digest=saved["digest"])


def remember(root: Path, stamp: dict[str, int], index: FolderIndex) -> None:
    """Keep an index for as long as the `modification_times` are `stamp`, where the disk allows it."""
    notes = _notes(root)
    try:
        notes.parent.mkdir(parents=True, exist_ok=True)
        table = _table(notes, index.digest)
        with replacing(table) as file:
            np.save(file, index.files)
        write_json(notes, {"root": str(root), "digest": index.digest, "stamp": stamp})
        for old in notes.parent.glob(f"{notes.stem}-*.npy"):
            if old != table:
                old.unlink(missing_ok=True)
    except OSError as error:
        log.warning("the index of %s is not kept: %s cannot be written (%s)", root, notes.parent, error.strerror)


def _notes(root: Path) -> Path:
    key = hashlib.sha256(os.fsencode(root.absolute())).hexdigest()[:16]
    return cache_root() / "folders" / f"{key}.json"


def _table(notes: Path, digest: str) -> Path:
    return notes.with_name(f"{notes.stem}-{digest[:16]}.npy")
