"""One shard: a job that can run anywhere, be killed at any time and be done again."""

import hashlib
import re
import tarfile
from pathlib import Path, PurePath
from typing import Any, BinaryIO, NamedTuple

from shared.errors import TrainingError
from trainer.data.decode import DAMAGED
from trainer.packing.layout import Item, PackedItem, part_path, read_json, replacing, shard_name, write_json
from trainer.packing.pictures import stored

_BLOCK = 512
_END = bytes(2 * _BLOCK)


class Job(NamedTuple):
    folder: str
    """TARGET/train or TARGET/val."""

    number: int
    items: tuple[Item, ...]
    shorter_side: int
    quality: int


def pack_shard(job: Job) -> int:
    """Write the shard and then its part of the index, unless both are there and right; returns the pictures read.

    Raises:
        TrainingError: a picture cannot be read, or the shard not be written.
    """
    folder = Path(job.folder)
    part, tar = part_path(folder, job.number), folder / shard_name(job.number)
    if not _is_right(tar, read_json(part)):
        try:
            with replacing(tar) as file:
                content = _write(job, file)
            write_json(part, content)
        except OSError as error:
            raise TrainingError(
                f"{tar} cannot be written ({error.strerror or error}); run the command again to go on"
            ) from error
    return len(job.items)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_item(item: Item) -> bytes:
    """A picture's bytes.

    Raises:
        TrainingError: the file system fails. A picture that cannot be read is not one that is damaged: a mount that
            went away would empty the set.
    """
    try:
        with open(item.path, "rb") as file:
            file.seek(item.offset)
            return file.read(item.size)
    except OSError as error:
        raise TrainingError(
            f"{item.path} cannot be read ({error.strerror or error}); run the command again to go on"
        ) from error


def _is_right(tar: Path, part: dict[str, Any] | None) -> bool:
    return (
        part is not None
        and tar.is_file()
        and tar.stat().st_size == part["shard"]["bytes"]
        and sha256(tar) == part["shard"]["sha256"]
    )


class _Tar:
    """A tar file whose bytes depend on nothing but what is added."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.size = 0

    def add(self, name: str, data: bytes) -> int:
        """Returns the offset of the data."""
        header = tarfile.TarInfo(name)  # mode 644, owner 0, time 0
        header.size = len(data)
        self.write(header.tobuf(tarfile.USTAR_FORMAT))
        offset = self.size
        self.write(data)
        self.write(bytes(-len(data) % _BLOCK))
        return offset

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.sha256.update(data)
        self.size += len(data)


def _write(job: Job, file: BinaryIO) -> dict[str, Any]:
    tar = _Tar(file)
    packed: list[PackedItem] = []
    report: list[tuple[int, str]] = []
    for item in job.items:
        data = read_item(item)
        try:
            picture = stored(data, item.name, job.shorter_side, job.quality)
        except DAMAGED as error:
            report.append((item.number, f"left out\t{item.name}\t{_line(error)}"))
            continue
        if picture.note:
            report.append((item.number, f"re-encoded\t{item.name}\t{picture.note}"))
        key = _key(item)
        offset = tar.add(f"{key}.{picture.extension}", picture.data)
        tar.add(f"{key}.cls", str(item.label).encode())
        packed.append(PackedItem(item.number, item.label, offset, len(picture.data)))
    tar.write(_END)
    shard = {"bytes": tar.size, "sha256": tar.sha256.hexdigest()}
    return {"shard": shard, "pictures": packed, "report": report}


def _key(item: Item) -> str:
    """Unique, short enough for the oldest tar header, and without dots, at which WebDataset cuts."""
    return f"{item.number:08d}-" + re.sub(r"[^A-Za-z0-9_-]", "_", PurePath(item.name).stem)[:60]


def _line(error: BaseException) -> str:
    # Pillow names the buffer by its address, which differs from run to run
    return re.sub(r" <_io\.BytesIO.*?>", "", " ".join(str(error).split())) or type(error).__name__
