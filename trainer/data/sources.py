"""Where pictures come from: the embedded photos, folders of class folders, packed shards, torchvision's sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from shared.errors import UserError
from shared.store import ROOT
from trainer.config import DataConfig
from trainer.data.folder import FolderSamples
from trainer.data.idx import IdxSamples, holds_idx_files
from trainer.data.photos import PhotoSamples
from trainer.data.shards import ShardSamples
from trainer.data.torchvision_sets import IDX_CLASSES, TORCHVISION_SETS, TorchvisionSamples


class Samples(Protocol):
    """The pictures of one part (training or validation) of a data set, by index.

    Where pictures are files (FolderSamples, ShardSamples) there is also `encoded(index) -> bytes`.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    """(n,), int64: the class index of every sample."""

    digest: str
    """Changes whenever the set of samples or their labels does."""

    def __len__(self) -> int: ...

    def picture(self, index: int) -> Image.Image:
        """The RGB picture; raises OSError (or another of Pillow's errors) where it is damaged, and TrainingError
        where its storage fails.
        """

    def name(self, index: int) -> str:
        """What a person would look for, such as the path of the file."""

    def probes(self, count: int) -> list[Image.Image]:
        """Fixed pictures on which gridding is measured, spread over the classes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    train: Samples
    val: Samples


def open_data(config: DataConfig) -> DataSet:
    """Both parts of a data set, checked.

    Raises:
        UserError: unknown source; missing or empty folder; a class without pictures on one side.
    """
    if config.source == "photos":
        return DataSet(train=PhotoSamples("train"), val=PhotoSamples("val"))
    if config.source == "shards":
        return _checked(ShardSamples(config, "train"), ShardSamples(config, "val"), config)
    if config.source not in ("folder", *TORCHVISION_SETS):
        raise UserError(
            f"unknown data.source {config.source!r}; there are: photos, folder, shards, {', '.join(TORCHVISION_SETS)}"
        )
    if config.source == "folder" or ((Path(config.path) / "train").is_dir() and config.path):
        return _open_folder(config)
    root = Path(config.path) if config.path else ROOT / "data"
    if config.source in IDX_CLASSES and holds_idx_files(root):
        return DataSet(
            train=IdxSamples(config.source, root, IDX_CLASSES[config.source], training=True),
            val=IdxSamples(config.source, root, IDX_CLASSES[config.source], training=False),
        )
    return DataSet(
        train=TorchvisionSamples(config.source, root, training=True),
        val=TorchvisionSamples(config.source, root, training=False),
    )


def open_for_evaluation(config: DataConfig, classes: Sequence[str] | None) -> Samples:
    """The validation part, with the class indices of a model that already exists; None: with those of the data.

    `data.path` may also be a bare folder of class folders.

    Raises:
        UserError: as open_data; or a class that the model does not know.
    """
    if config.source == "shards":
        return ShardSamples(config, "val", classes=None if classes is None else tuple(classes))
    if config.source == "folder":
        root = _existing(config.path)
        part = next((root / p for p in ("val", "test") if (root / p).is_dir()), root)
        return FolderSamples(part, None if classes is None else tuple(classes), config.retry_s)
    samples = open_data(config).val
    if classes is not None and tuple(samples.classes) != tuple(classes):
        raise UserError(
            f"the model knows {len(classes)} classes ({', '.join(classes[:3])} ...), data set {config.source} has "
            f"{len(samples.classes)} others ({', '.join(samples.classes[:3])} ...): evaluate it on its own data set"
        )
    return samples


def _existing(path: str) -> Path:
    if not path:
        raise UserError("data.path is empty; say where the pictures are: data.path=/path/with/train/and/val")
    if not Path(path).is_dir():
        raise UserError(f"data.path={path} is not a folder; it should hold train/ and val/ (or test/)")
    return Path(path).resolve()


def _open_folder(config: DataConfig) -> DataSet:
    root = _existing(config.path)
    train_root = root / "train"
    val_root = next((root / p for p in ("val", "test") if (root / p).is_dir()), None)
    if not train_root.is_dir() or val_root is None:
        raise UserError(f"data.path={config.path} should hold train/ and val/ (or test/), each with a folder per class")
    train = FolderSamples(train_root, retry_s=config.retry_s)
    return _checked(train, FolderSamples(val_root, train.classes, config.retry_s), config)


def _checked(train: Samples, val: Samples, config: DataConfig) -> DataSet:
    without = set(np.unique(train.labels)) - set(np.unique(val.labels))
    if without:
        names = ", ".join(sorted(train.classes[i] for i in without)[:5])
        raise UserError(
            f"{len(without)} classes of the training part of {config.path} have no pictures in its validation part: "
            f"{names}; add some"
        )
    return DataSet(train=train, val=val)
