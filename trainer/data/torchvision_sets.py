"""torchvision's classification sets by name, downloaded where that is allowed."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torchvision import datasets

from shared.errors import UserError

_BY_TRAIN_FLAG = ({"train": True}, {"train": False})

TORCHVISION_SETS: dict[str, tuple[Callable[..., Any], tuple[dict[str, Any], dict[str, Any]]]] = {
    "mnist": (datasets.MNIST, _BY_TRAIN_FLAG),
    "fashion_mnist": (datasets.FashionMNIST, _BY_TRAIN_FLAG),
    "cifar10": (datasets.CIFAR10, _BY_TRAIN_FLAG),
    "cifar100": (datasets.CIFAR100, _BY_TRAIN_FLAG),
    "imagenette": (datasets.Imagenette, ({"split": "train"}, {"split": "val"})),
    "flowers102": (datasets.Flowers102, ({"split": "train"}, {"split": "test"})),
    "food101": (datasets.Food101, ({"split": "train"}, {"split": "test"})),
}
"""Name -> class, and its arguments for training and validation."""

IDX_CLASSES = {"mnist": datasets.MNIST.classes, "fashion_mnist": datasets.FashionMNIST.classes}
"""Sets that are also read from their original files -> the names of their classes."""


class TorchvisionSamples:
    """One part of a torchvision set.

    Raises:
        UserError: it is not in `root` and cannot be downloaded.
    """

    def __init__(self, name: str, root: Path, *, training: bool) -> None:
        make, (train_arguments, val_arguments) = TORCHVISION_SETS[name]
        arguments = train_arguments if training else val_arguments
        try:
            self._set = make(root, download=False, **arguments)
        except RuntimeError:
            try:
                self._set = make(root, download=True, **arguments)
            except (OSError, RuntimeError) as error:  # URLError is an OSError
                raise UserError(
                    f"data set {name} is neither in {root} nor can it be downloaded ({error}); "
                    "put torchvision's files there, or set data.path"
                ) from error
        self._what = f"{name} {'training' if training else 'validation'}"
        targets = next(getattr(self._set, a) for a in ("targets", "_labels", "labels") if hasattr(self._set, a))
        self.labels = np.asarray(targets, dtype=np.int64)
        self.classes = _class_names(self._set, int(self.labels.max()) + 1)
        self.digest = hashlib.sha256(f"{self._what} {self.classes}".encode() + self.labels.tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return f"{self._what} picture {index}"

    def picture(self, index: int) -> Image.Image:
        return self._set[index][0].convert("RGB")

    def probes(self, count: int) -> list[Image.Image]:
        """The first picture of as many classes as there are, then the second of each, and so on."""
        order = np.argsort(self.labels, kind="stable")
        rank = np.arange(len(order)) - np.searchsorted(self.labels[order], self.labels[order])
        return [self.picture(int(i)) for i in order[np.argsort(rank, kind="stable")][:count]]


def _class_names(dataset: Any, count: int) -> tuple[str, ...]:
    names = getattr(dataset, "classes", None) or [str(i) for i in range(count)]
    # Imagenette names a class by several words
    return tuple(name if isinstance(name, str) else name[0] for name in names)
