"""A packed set: tar shards with an index, on the local disk or in an object store.

From an object store, what is read is kept on the local disk (`trainer.data.cache`). Where the whole part fits into the
cache it comes in blocks of 4 MB: every block holds some forty pictures that this epoch will want too, and requests
cost time. Where it does not fit, a block would be gone before its other pictures come up, so single pictures are
fetched and kept: nothing is read that was not asked for.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shared.errors import TrainingError, UserError
from trainer.config import DataConfig
from trainer.data.cache import Cache
from trainer.data.decode import decode, probes_at_even_distances
from trainer.data.folder_index import cache_root
from trainer.data.store import Store, open_store
from trainer.packing.layout import FORMAT, INDEX_DTYPE, replacing, shard_name

BLOCK_BYTES = 4 * 2**20
_TAR_HEADER = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shards:
    """Where the shards are and how to read them."""

    store: Store
    part: str
    sizes: Sequence[int]
    keys: Sequence[str]
    """What the cache calls each shard: the beginning of its sha256, so that another packing is another shard."""

    cache: Cache | None

    def range(self, shard: int, offset: int, size: int) -> bytes:
        if self.cache is None:
            return self._fetch(shard, offset, size)
        if sum(self.sizes) > self.cache.limit_bytes:
            return self._cached(shard, offset, size, 0, size)
        parts = []
        for start in range(offset // BLOCK_BYTES * BLOCK_BYTES, offset + size, BLOCK_BYTES):
            block_size = min(BLOCK_BYTES, self.sizes[shard] - start)
            first, last = max(offset - start, 0), min(offset + size - start, block_size)
            parts.append(self._cached(shard, start, block_size, first, last - first))
        return b"".join(parts)

    def _cached(self, shard: int, start: int, block_size: int, offset: int, size: int) -> bytes:
        """A part of a block that begins at `start`."""
        assert self.cache is not None
        key = f"{self.keys[shard]}/{start}-{block_size}"
        data = self.cache.read(key, block_size, offset, size)
        if data is None:
            block = self._fetch(shard, start, block_size)
            self.cache.write(key, block)
            data = block[offset : offset + size]
        return data

    def _fetch(self, shard: int, offset: int, size: int) -> bytes:
        name = f"{self.part}/{shard_name(shard)}"
        try:
            return self.store.range(name, offset, size)
        except (FileNotFoundError, PermissionError) as error:  # not a damaged picture: the set is not what it was
            raise TrainingError(
                f"{self.store.root}/{name} {_refusal(error)}; restore it and go on with --resume"
            ) from error


class ShardSamples:
    """One part of a packed set, in the order of the source that was packed.

    Args:
        part: "train" or "val".
        classes: class indices of a model that already exists; by default the set's own.

    Raises:
        UserError: there is no such set, it is not complete, or has classes that are not among `classes`.
        TrainingError: the store does not answer.
    """

    def __init__(self, config: DataConfig, part: str, classes: tuple[str, ...] | None = None) -> None:
        if not config.path:
            raise UserError("data.path is empty; say where the packed set is: data.path=/path or s3://bucket/prefix")
        store = open_store(config.path, config.retry_s)
        root = Path(config.cache_path) if config.cache_path else cache_root() / "shards"
        found = _description(store, part)
        self._index = _open_index(store, part, found, root / "indexes")
        self.digest: str = found["digest"]
        self.classes = tuple(found["classes"]) if classes is None else classes
        self.labels = self._index["label"]
        if self.classes != tuple(found["classes"]):
            self.labels = _renumbered(self.labels, found["classes"], self.classes, store.root)
        self._shards = _Shards(
            store=store,
            part=part,
            sizes=[shard["bytes"] for shard in found["shards"]],
            keys=[shard["sha256"][:16] for shard in found["shards"]],
            cache=Cache(root, int(config.cache_gb * 1e9)) if store.is_remote and config.cache_gb else None,
        )

    def __len__(self) -> int:
        return len(self._index)

    def name(self, index: int) -> str:
        """Shard and member; the member's name begins with the picture's number in the source and its file's name."""
        row = self._index[index]
        shard = f"{self._shards.store.root}/{self._shards.part}/{shard_name(int(row['shard']))}"
        try:
            header = self._shards.range(int(row["shard"]), int(row["offset"]) - _TAR_HEADER, 100)
        except TrainingError:
            return f"{shard} at byte {row['offset']}"
        return f"{shard}: {header.rstrip(bytes(1)).decode(errors='replace')}"

    def encoded(self, index: int) -> bytes:
        """The picture's file.

        Raises:
            TrainingError: the store does not answer, or the shard is gone.
        """
        row = self._index[index]
        return self._shards.range(int(row["shard"]), int(row["offset"]), int(row["size"]))

    def picture(self, index: int) -> Image.Image:
        return decode(self.encoded(index))

    def probes(self, count: int) -> list[Image.Image]:
        return probes_at_even_distances(self, count)


def _description(store: Store, part: str) -> dict[str, Any]:
    if not store.is_remote and not Path(store.root).is_dir():
        raise UserError(f"data.path={store.root} is not a folder; it should be one that `python -m trainer pack` wrote")
    try:
        found = json.loads(store.read(f"{part}/index.json"))
    except (FileNotFoundError, PermissionError) as error:
        raise UserError(
            f"{store.root}/{part}/index.json {_refusal(error)}; data.path should be a set that `python -m trainer "
            "pack` has finished"
        ) from error
    except ValueError as error:
        raise UserError(f"{store.root}/{part}/index.json is damaged ({error}); restore it") from error
    if found.get("format") != FORMAT:
        raise UserError(
            f"{store.root}/{part}/index.json is of format {found.get('format')!r}, not {FORMAT!r}; pack the set again"
        )
    return found


def _refusal(error: OSError) -> str:
    return "does not exist" if isinstance(error, FileNotFoundError) else "may not be read"


def _open_index(store: Store, part: str, found: dict[str, Any], folder: Path) -> np.ndarray:
    """The index, mapped: all processes share the pages of one file."""
    if not store.is_remote:
        return _mapped(Path(store.root, part, "index.npy"), found)
    path = folder / f"{found['index_sha256']}.npy"
    if not path.exists():
        data = store.read(f"{part}/index.npy")
        if hashlib.sha256(data).hexdigest() != found["index_sha256"]:
            raise UserError(f"{store.root}/{part}/index.npy does not belong to index.json; upload the set again")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                file.write(data)
        except OSError as error:
            raise UserError(f"{folder} cannot be written ({error.strerror}); set data.cache_path") from error
    return _mapped(path, found)


def _mapped(path: Path, found: dict[str, Any]) -> np.ndarray:
    try:
        index = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore it, or pack the set again") from error
    if index.dtype != INDEX_DTYPE or len(index) != found["pictures"]:
        raise UserError(f"{path} does not belong to index.json beside it; restore it, or pack the set again")
    return index


def _renumbered(labels: np.ndarray, own: Sequence[str], classes: Sequence[str], root: str) -> np.ndarray:
    index_of = {name: i for i, name in enumerate(classes)}
    unknown = [own[i] for i in np.unique(labels) if own[i] not in index_of]
    if unknown:
        raise UserError(f"{root} has classes that are not among the {len(classes)} of the model: {unknown[:5]}")
    return np.array([index_of.get(name, -1) for name in own], dtype=np.int64)[labels]
