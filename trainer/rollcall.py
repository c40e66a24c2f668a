"""What one worker does alone, all of them finish, or none.

A worker that leaves the loop by itself, because its storage failed or its pictures are damaged, leaves the others
waiting for its gradients, and nobody can save what was done: a checkpoint takes all workers. So before anything that
they do together each tells the others how it stands, and they go on, or stop, together.
"""

from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache
from typing import TypeVar, cast

import torch
import torch.distributed as dist

from shared.errors import TrainingError

Result = TypeVar("Result")


class Status(IntEnum):
    """How a worker stands. The gravest status of any worker is what all of them act on."""

    READY = 0
    FAILED = 1
    """What it did alone ended with a TrainingError."""


class StoppedError(TrainingError):
    """Raised on all workers at the same point with the same line: what they do next, they can still do together."""


class DivergedError(StoppedError):
    """Nothing that was learned since the last checkpoint is worth keeping."""


def all_or_none(work: Callable[[], Result]) -> Result:
    """What `work` returns on this worker, once it has succeeded on all of them.

    Raises:
        StoppedError: it raised TrainingError on some of them; the line is that of the first worker among these.
    """
    failure: TrainingError | None = None
    result: Result | None = None
    try:
        result = work()
    except TrainingError as error:
        failure = error
    if call_roll(Status.READY if failure is None else Status.FAILED) is Status.FAILED:
        raise StoppedError(_first_line(failure)) from failure
    return cast(Result, result)


def call_roll(own: Status) -> Status:
    """The gravest status of any worker. It waits for the other workers, never for a device.

    Raises:
        RuntimeError: another worker died, or did not answer for half an hour.
    """
    if not _has_others():
        return own
    gravest = torch.tensor([own], dtype=torch.uint8)
    dist.all_reduce(gravest, dist.ReduceOp.MAX, group=_cpu_group(dist.group.WORLD))
    return Status(int(gravest))


def _has_others() -> bool:
    return dist.is_initialized() and dist.get_world_size() > 1


@lru_cache(maxsize=1)
def _cpu_group(everyone: dist.ProcessGroup) -> dist.ProcessGroup:
    """The workers connected by Gloo: through NCCL an answer would wait for everything that the device has to do yet."""
    if dist.get_backend(everyone) == "gloo":
        return everyone
    group = dist.new_group(backend="gloo")
    assert isinstance(group, dist.ProcessGroup)  # all workers are its members
    return group


def _first_line(failure: TrainingError | None) -> str:
    """The line that the first worker with a failure has, with its number where not all have the same."""
    own = None if failure is None else str(failure)
    lines: list[str | None] = [own]
    if _has_others():
        lines *= dist.get_world_size()
        dist.all_gather_object(lines, own, group=_cpu_group(dist.group.WORLD))
    rank, line = next((rank, line) for rank, line in enumerate(lines) if line is not None)
    return line if len(set(lines)) == 1 else f"worker {rank}: {line}"
