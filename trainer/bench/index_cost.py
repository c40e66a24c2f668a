"""What an index of ImageNet's size costs: how soon training can start, and the memory of all loader processes.

The set has as many entries as ImageNet and one tiny picture for each class behind them, so that the very loader that
trains can run. Its memory is what the loader takes more than with one entry for each class.
"""

import os
import shutil
import time
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from trainer.bench.fresh import cpu_s, in_fresh_process
from trainer.bench.pictures import pack_here
from trainer.bench.streams import loading_recipe, open_training
from trainer.data import train_batches
from trainer.data.folder_index import FolderIndex, modification_times, remember
from trainer.packing.layout import read_json, write_json
from trainer.packing.pack import Settings

ENTRIES = 1_281_167
"""ImageNet's."""

CLASSES = 1000
_REST_S = 0.3
_LONGEST_REST_S = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexCost:
    open_s: float
    memory_mb: float


def index_costs(folder: Path, entries: int, num_processes: int) -> dict[str, IndexCost]:
    """Of a remembered folder and of a packed set. `folder` is where the synthetic sets go.

    Args:
        num_processes: loader processes, all of one process that trains.

    Raises:
        TrainingError: a process failed.
    """
    few, cache = folder / "few", folder / "cache"
    few_packed, packed = folder / "few_packed", folder / "packed"
    _write_pictures(few / "train")
    pack_here(few, few_packed, Settings())
    write_packed(few_packed, packed, entries)
    in_fresh_process(partial(_remember_folder, few / "train", cache, entries))

    def cost(source: str, few: Path, whole: Path) -> IndexCost:
        without = in_fresh_process(partial(_load, source, few, folder / "empty", num_processes))
        loaded = in_fresh_process(partial(_load, source, whole, cache, num_processes))
        assert (without.entries, loaded.entries) == (CLASSES, entries)
        return IndexCost(open_s=loaded.open_s, memory_mb=(loaded.memory_bytes - without.memory_bytes) / 1e6)

    return {"folder": cost("folder", few, few), "shards": cost("shards", few_packed, packed)}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Loaded:
    entries: int
    open_s: float
    memory_bytes: int
    """Of all processes, shared pages counted once."""


def _load(source: str, root: Path, cache: Path, num_processes: int, _: Connection) -> _Loaded:
    os.environ["DEGRID_CACHE"] = str(cache)
    # small crops: batches that lie ready take memory too, not always the same
    recipe = loading_recipe(source, root, num_processes, "augment.train_size=32")
    started = time.perf_counter()
    samples = open_training(recipe)
    open_s = time.perf_counter() - started
    batches = train_batches(samples, recipe, rank=0, world_size=1, first_step=0, last_step=10**9, pin=False)
    for _batch in range(2 * num_processes):  # all of them have read pictures from all over the set
        next(batches)
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    _wait_for_rest(family)
    memory_bytes = sum(process.memory_full_info().pss for process in family)
    return _Loaded(entries=len(samples), open_s=open_s, memory_bytes=memory_bytes)


def _wait_for_rest(family: list[psutil.Process]) -> None:
    """Until as many batches are ready as there may be."""
    before, deadline = -1.0, time.monotonic() + _LONGEST_REST_S
    while (now := cpu_s(family)) > before and time.monotonic() < deadline:
        before = now
        time.sleep(_REST_S)


def _write_pictures(root: Path) -> None:
    """One for each class, with names as long as ImageNet's."""
    for number in range(CLASSES):
        folder = root / f"c{number:08d}"
        folder.mkdir(parents=True)
        Image.new("RGB", (32, 32), (number % 256, 0, 0)).save(folder / f"c{number:08d}_{number:05d}.JPEG")


def _many(rows: np.ndarray, entries: int) -> np.ndarray:
    """The rows, each so many times in a row that there are `entries`."""
    return rows[np.arange(entries) * len(rows) // entries]


def _remember_folder(root: Path, cache: Path, entries: int, _: Connection) -> None:
    os.environ["DEGRID_CACHE"] = str(cache)
    folders = sorted(path.name for path in root.iterdir())
    files = np.array(
        [(i, f"{name}/{path.name}".encode()) for i, name in enumerate(folders) for path in (root / name).iterdir()],
        dtype=[("folder", "<i4"), ("path", "S30")],
    )
    index = FolderIndex(folders=folders, files=_many(files, entries), digest="0" * 64)
    remember(root, modification_times(root, folders), index)


def write_packed(few: Path, target: Path, entries: int) -> None:
    """A packed set whose training part holds the pictures of `few` so many times that there are `entries`."""
    shutil.copytree(few, target)
    description = target / "train" / "index.json"
    write_json(description, read_json(description) | {"pictures": entries})
    np.save(target / "train" / "index.npy", _many(np.load(few / "train" / "index.npy"), entries))
