"""What is to be packed: class folders, or ImageNet's original tar files."""

from pathlib import Path
from typing import Protocol

import numpy as np

from shared.errors import UserError
from trainer.data.folder import FolderSamples
from trainer.packing.layout import Item
from trainer.packing.originals import is_original, open_originals


class SourcePart(Protocol):
    """The pictures of one part, in the order of their relative paths."""

    classes: tuple[str, ...]
    labels: np.ndarray
    digest: str

    def __len__(self) -> int: ...

    def item(self, number: int) -> Item: ...


def open_source(path: Path) -> dict[str, SourcePart]:
    """The parts that are there, "train" and "val"; class folders without either are a validation part.

    Raises:
        UserError: there is nothing to pack.
    """
    if not path.is_dir():
        raise UserError(
            f"{path} is not a folder; SOURCE should hold train/ and val/, class folders, or ImageNet's tars"
        )
    path = path.resolve()
    if is_original(path):
        return dict(open_originals(path))
    found: dict[str, SourcePart] = {}
    classes = None
    for part, names in (("train", ("train",)), ("val", ("val", "test"))):
        root = next((path / name for name in names if (path / name).is_dir()), None)
        if root is not None:
            samples = FolderSamples(root, classes)
            classes = samples.classes
            found[part] = _Files(samples)
    return found or {"val": _Files(FolderSamples(path))}


class _Files:
    def __init__(self, samples: FolderSamples) -> None:
        self._samples = samples
        self.classes = samples.classes
        self.labels = samples.labels
        self.digest = samples.digest

    def __len__(self) -> int:
        return len(self._samples)

    def item(self, number: int) -> Item:
        samples = self._samples
        return Item(
            number, samples.relative_name(number), int(samples.labels[number]), samples.name(number), offset=0, size=-1
        )
