"""torch's DataLoader for data sets that give whole batches: its processes, their memory and their errors."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from shared.errors import TrainingError, UserError
from trainer.config import DataConfig

_MAX_PREFETCH = 8
_SHARED_MEMORY = Path("/dev/shm")

_T = TypeVar("_T")


def data_loader(
    dataset: Dataset, batches: Iterable[Sequence[int]], config: DataConfig, batch_bytes: int, pin: bool
) -> DataLoader:
    """What `dataset` gives for each of `batches`.

    Args:
        batch_bytes: of the largest batch; all that wait take no more than data.prefetch_mb, or one for each process.

    Raises:
        UserError: the machine has too little shared memory.
    """
    processes = config.num_loader_workers
    each = max(1, min(_MAX_PREFETCH, int(config.prefetch_mb * 1e6 / (batch_bytes * max(processes, 1)))))
    if processes:
        _check_shared_memory(batch_bytes * each * processes, config)
    return DataLoader(
        dataset,
        batch_sampler=batches,  # type: ignore[arg-type]  # ranges, which take no memory, not lists
        num_workers=processes,
        prefetch_factor=each if processes else None,
        persistent_workers=processes > 0,
        collate_fn=_as_it_is,
        pin_memory=pin,
        generator=torch.Generator(),  # else it takes a number from the global one
    )


def _check_shared_memory(needed: int, config: DataConfig) -> None:
    """Too little of it ends a loader process with a bus error that names nothing; containers have 64 MB by default."""
    if _SHARED_MEMORY.is_dir() and (free := shutil.disk_usage(_SHARED_MEMORY).free) < needed:
        raise UserError(
            f"{_SHARED_MEMORY} has {free / 1e6:.0f} MB free, prefetched batches take up to {needed / 1e6:.0f} MB; "
            f"start the container with more (docker run --shm-size=8g), or lower data.prefetch_mb="
            f"{config.prefetch_mb:g} or data.num_loader_workers={config.num_loader_workers}"
        )


def _as_it_is(batch: Any) -> Any:
    return batch


def with_short_errors(batches: Iterator[_T]) -> Iterator[_T]:
    """The batches; where a process fails, its TrainingError without the traceback."""
    try:
        yield from batches
    except TrainingError as error:  # it comes as text, of which the message is the last line
        raise TrainingError(str(error).strip().splitlines()[-1].removeprefix(_RAISED_THERE)) from error


_RAISED_THERE = f"{TrainingError.__module__}.{TrainingError.__qualname__}: "


class Once:
    """An iterator in the shape that DataLoader wants for batch_sampler."""

    def __init__(self, batches: Iterator[range]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[range]:
        return self._batches
