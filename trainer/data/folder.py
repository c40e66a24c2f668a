"""A folder of class folders, ImageNet's usual layout."""

import hashlib
import os
from pathlib import Path

import numpy as np
from PIL import Image

from shared.errors import UserError
from shared.labels import imagenet_index, imagenet_wordnet_ids

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff")


class FolderSamples:
    """Pictures under root/<class>/, in the order of their paths.

    Folders that are all named by WordNet ids of ImageNet take ImageNet's 1000 indices, even where only some are
    there; other folders are numbered in alphabetical order, or as `classes` says.

    Raises:
        UserError: no class folders, no pictures in one of them, or a folder that is not among `classes`.
    """

    def __init__(self, root: Path, classes: tuple[str, ...] | None = None) -> None:
        folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
        if not folders:
            raise UserError(f"{root} has no class folders; it should hold one folder per class with pictures in it")
        if classes is None:
            is_imagenet = all(name in imagenet_index() for name in folders)
            classes = imagenet_wordnet_ids() if is_imagenet else tuple(folders)
        index_of = {name: i for i, name in enumerate(classes)}
        unknown = [name for name in folders if name not in index_of]
        if unknown:
            raise UserError(f"{root} has class folders that are not among the {len(classes)} classes: {unknown[:5]}")

        digest = hashlib.sha256()
        paths: list[bytes] = []
        labels: list[int] = []
        for folder in folders:
            files = sorted(
                (e.name, e.stat().st_size)
                for e in os.scandir(root / folder)
                if e.name.lower().endswith(EXTENSIONS) and e.is_file()
            )
            if not files:
                raise UserError(f"class folder {root / folder} holds no pictures ({', '.join(EXTENSIONS)}); remove it")
            for name, size in files:
                relative = f"{folder}/{name}"
                paths.append(os.fsencode(relative))
                labels.append(index_of[folder])
                digest.update(f"{relative} {size}\n".encode(errors="surrogateescape"))
        self.root = root
        self.classes = classes
        # One array, not a million Python strings: forked loader processes share its pages.
        self._paths = np.array(paths)
        self.labels = np.array(labels, dtype=np.int64)
        self.digest = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return os.path.join(self.root, os.fsdecode(self._paths[index]))

    def picture(self, index: int) -> Image.Image:
        with open(self.name(index), "rb") as file:
            return Image.open(file).convert("RGB")

    def probes(self, count: int) -> list[Image.Image]:
        """Pictures at even distances: the files are sorted by class."""
        found = []
        for start in np.linspace(0, len(self), num=min(count, len(self)), endpoint=False, dtype=int):
            try:
                found.append(self.picture(int(start)))
            except (OSError, SyntaxError, ValueError):
                continue
        return found
