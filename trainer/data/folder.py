"""A folder of class folders, ImageNet's usual layout."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from shared.errors import UserError
from shared.labels import imagenet_index, imagenet_wordnet_ids
from trainer.data.decode import decode, probes_at_even_distances
from trainer.data.folder_index import folder_index
from trainer.data.store import RETRY_S, persist

# What a network mount answers while its server is away. EIO is not among them: it may be one bad sector.
_AWAY = (errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH)


class FolderSamples:
    """Pictures under root/<class>/, in the order of their paths.

    Folders that are all named by WordNet ids of ImageNet take ImageNet's 1000 indices, even where only some are
    there; other folders are numbered in alphabetical order, or as `classes` says.

    Args:
        retry_s: how long to wait for a mount that has vanished.

    Raises:
        UserError: no class folders, no pictures in one of them, or a folder that is not among `classes`.
    """

    def __init__(self, root: Path, classes: tuple[str, ...] | None = None, retry_s: float = RETRY_S) -> None:
        index = folder_index(root)
        if classes is None:
            classes = class_order(index.folders)
        index_of = {name: i for i, name in enumerate(classes)}
        unknown = [name for name in index.folders if name not in index_of]
        if unknown:
            raise UserError(f"{root} has class folders that are not among the {len(classes)} classes: {unknown[:5]}")
        self.root = root
        self.classes = classes
        self.digest = index.digest
        self.labels = np.array([index_of[name] for name in index.folders], dtype=np.int64)[index.files["folder"]]
        # One array, not a million Python strings: forked loader processes share its pages.
        self._paths = index.files["path"]
        self._retry_s = retry_s

    def __len__(self) -> int:
        return len(self.labels)

    def relative_name(self, index: int) -> str:
        return os.fsdecode(self._paths[index])

    def name(self, index: int) -> str:
        return os.path.join(self.root, self.relative_name(index))

    def encoded(self, index: int) -> bytes:
        """The file's contents.

        Raises:
            OSError: this file cannot be read.
            TrainingError: none can, the whole time that one waits for it.
        """
        path = self.name(index)
        return persist(lambda: _contents(path), path, self._retry_s, is_final=lambda error: not self._is_away(error))

    def picture(self, index: int) -> Image.Image:
        return decode(self.encoded(index))

    def probes(self, count: int) -> list[Image.Image]:
        return probes_at_even_distances(self, count)

    def _is_away(self, error: Exception) -> bool:
        """Whether it is the mount that fails, not this file."""
        if getattr(error, "errno", None) in _AWAY:
            return True
        try:
            return not os.listdir(self.root)
        except OSError:
            return True


def _contents(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def class_order(folders: Sequence[str]) -> tuple[str, ...]:
    """ImageNet's 1000 classes where all of `folders` are among them, else `folders`."""
    return imagenet_wordnet_ids() if all(name in imagenet_index() for name in folders) else tuple(folders)
