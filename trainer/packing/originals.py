"""ImageNet as it is handed out: a training tar that holds a tar for each class, a validation tar, a development kit."""

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from shared.errors import UserError
from shared.labels import WORDNET_ID
from trainer.data.folder import class_order
from trainer.packing.layout import Item

TRAIN_TAR, VAL_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"


class OriginalSamples:
    """Pictures that lie in a tar, addressed by their place in it; ordered, and named, as class folders would be."""

    def __init__(self, tar: Path, found: list[tuple[str, str, int, int]], classes: tuple[str, ...] | None) -> None:
        """`found`: class, file name, offset and size of every picture."""
        found = sorted(found)
        self.classes = classes or class_order(sorted({entry[0] for entry in found}))
        index_of = {name: i for i, name in enumerate(self.classes)}
        unknown = sorted({entry[0] for entry in found} - set(index_of))
        if unknown:
            raise UserError(
                f"{tar} has classes that are not among the {len(self.classes)} of {TRAIN_TAR}: {unknown[:5]}"
            )
        self._tar = str(tar)
        self._names = [f"{folder}/{name}" for folder, name, _, _ in found]
        self._places = np.array([entry[2:] for entry in found], dtype=np.int64)
        self.labels = np.array([index_of[entry[0]] for entry in found], dtype=np.int64)
        digest = hashlib.sha256()  # as that of FolderSamples
        for name, (_, size) in zip(self._names, self._places, strict=True):
            digest.update(f"{name} {size}\n".encode(errors="surrogateescape"))
        self.digest = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def item(self, number: int) -> Item:
        offset, size = (int(value) for value in self._places[number])
        return Item(number, self._names[number], int(self.labels[number]), self._tar, offset, size)


def is_original(folder: Path) -> bool:
    return (folder / TRAIN_TAR).is_file() or (folder / VAL_TAR).is_file()


def open_originals(folder: Path) -> Iterator[tuple[str, OriginalSamples]]:
    """The parts whose tars are there.

    Raises:
        UserError: a tar is damaged, or nothing says which class the validation pictures have.
    """
    classes = None
    if (folder / TRAIN_TAR).is_file():
        train = OriginalSamples(folder / TRAIN_TAR, _training(folder / TRAIN_TAR), classes)
        classes = train.classes
        yield "train", train
    if (folder / VAL_TAR).is_file():
        yield "val", OriginalSamples(folder / VAL_TAR, _validation(folder), classes)


def _training(path: Path) -> list[tuple[str, str, int, int]]:
    found = []
    try:
        with tarfile.open(path, "r:") as outer:
            for member in outer:
                wordnet_id = Path(member.name).stem
                if not WORDNET_ID.fullmatch(wordnet_id):
                    raise UserError(
                        f"{path} holds {member.name}; it should hold a tar for each class, such as n01440764.tar"
                    )
                inner_file = outer.extractfile(member)
                assert inner_file is not None
                with tarfile.open(fileobj=inner_file, mode="r:") as inner:
                    found += [
                        (wordnet_id, Path(m.name).name, member.offset_data + m.offset_data, m.size)
                        for m in inner
                        if m.isfile()
                    ]
    except tarfile.TarError as error:
        raise UserError(f"{path} is damaged ({error}); get it again") from error
    return found


def _validation(folder: Path) -> list[tuple[str, str, int, int]]:
    path = folder / VAL_TAR
    try:
        with tarfile.open(path, "r:") as tar:
            members = sorted((Path(m.name).name, m.offset_data, m.size) for m in tar if m.isfile())
    except tarfile.TarError as error:
        raise UserError(f"{path} is damaged ({error}); get it again") from error
    truth = _ground_truth(folder)
    if len(truth) != len(members):
        raise UserError(f"{path} holds {len(members)} pictures, and there is a ground truth for {len(truth)}")
    return [(wordnet_id, *member) for wordnet_id, member in zip(truth, members, strict=True)]


def _ground_truth(folder: Path) -> list[str]:
    """A WordNet id for every validation picture, from a text file of them or from the development kit."""
    for path in sorted(folder.glob("*.txt")):
        lines = path.read_text().split()
        if lines and all(WORDNET_ID.fullmatch(line) for line in lines):
            return lines
    kit = folder / DEVKIT
    if not kit.is_file():
        raise UserError(
            f"{folder} does not say which class the pictures of {VAL_TAR} have; put {DEVKIT} there, or a .txt with a "
            "WordNet id for each picture, a line each"
        )
    try:
        with tarfile.open(kit) as tar:
            files = {Path(m.name).name: m for m in tar if re.search(r"(ground_truth\.txt|meta\.mat)$", m.name)}
            numbers = _content(tar, files["ILSVRC2012_validation_ground_truth.txt"]).split()
            wordnet_ids = _wordnet_ids(_content(tar, files["meta.mat"]))
        return [wordnet_ids[int(number)] for number in numbers]
    except (tarfile.TarError, OSError, EOFError, KeyError, ValueError) as error:
        raise UserError(f"{kit} is damaged ({error}); get it again") from error


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    if file is None:
        raise ValueError(f"{member.name} is not a file")
    return file.read()


def _wordnet_ids(meta: bytes) -> dict[int, str]:
    """The development kit's own numbering (1 to 1000, in no order that WordNet knows) -> WordNet id."""
    from scipy.io import loadmat

    synsets: Any = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
    return {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in np.atleast_1d(synsets)}
