"""Turns of training loops that wait between them.

All contenders' processes live through all rounds, and each loop takes the steps of a turn when it is told to. So
starting, compiling and warming up happen once, a turn takes seconds, and what else the machine does touches all alike.
"""

import resource
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from typing import TypeVar

import torch

from trainer.bench.fresh import FreshProcess, Work, fresh_processes

Batch = TypeVar("Batch")


@dataclass(frozen=True, kw_only=True, slots=True)
class Length:
    """Of a turn, in steps."""

    warm_up: int
    """Not timed: the cores' caches are another contender's, and batches lie ready that a steady loop would not have."""

    timed: int

    @property
    def whole(self) -> int:
        return self.warm_up + self.timed


@dataclass(frozen=True, kw_only=True, slots=True)
class Took:
    """What the timed steps of a turn took in one process."""

    elapsed_s: float
    cpu_s: float
    """Processor time of the process, all of its threads."""

    memory_gb: float
    """Highest so far: on a GPU what tensors had of it, on a CPU the process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepContender:
    """A loop in one process, or in several that take their turns at the same time."""

    works: Sequence[Work]
    images_per_step: int
    """In each process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """The loop's side of it: batches that come when it is their turn."""

    connection: Connection
    device: torch.device
    length: Length

    def batches(self, source: Iterable[Batch]) -> Iterator[Batch]:
        """Those of `source`, without an end; each turn is timed from the moment when the loop asks for its first timed
        batch to that when it asks for the one after the last: waiting, logging and the rest of the loop are in it.
        """
        batches = iter(source)
        while self.connection.recv():
            yield from islice(batches, self.length.warm_up)
            elapsed_s, cpu_s = self._now(), time.process_time()
            yield from islice(batches, self.length.timed)
            elapsed_s, cpu_s = self._now() - elapsed_s, time.process_time() - cpu_s
            self.connection.send(Took(elapsed_s=elapsed_s, cpu_s=cpu_s, memory_gb=self._memory_gb()))

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _memory_gb(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


Round = Mapping[str, Sequence[Took]]
"""A turn of every contender."""


def run_rounds(
    contenders: Mapping[str, StepContender], num_rounds: int, say: Callable[[Round], None] = lambda _: None
) -> list[Round]:
    """All contenders take turns, after one that does not count; neighbours are compared with each other.

    Raises:
        TrainingError: a process failed.
    """
    with ExitStack() as stack:
        started: dict[str, list[FreshProcess]] = {}
        for name, contender in contenders.items():
            started[name] = stack.enter_context(fresh_processes(contender.works))
            _turn(started[name])
        rounds: list[Round] = []
        for number in range(num_rounds):
            order = list(started)[:: -1 if number % 2 else 1]  # a machine that slows down favours neither side
            rounds.append({name: _turn(started[name]) for name in order})
            say(rounds[-1])
        return rounds


def _turn(processes: Sequence[FreshProcess]) -> list[Took]:
    for process in processes:
        process.send(True)
    return [process.receive() for process in processes]


def images_per_s(contender: StepContender, took: Sequence[Took], length: Length) -> float:
    """Of all processes together."""
    return sum(contender.images_per_step * length.timed / t.elapsed_s for t in took)


def images_per_cpu_s(contender: StepContender, took: Sequence[Took], length: Length) -> float:
    """For a second of processor time: waiting for a core that other programs have does not count."""
    return contender.images_per_step * length.timed * len(took) / sum(t.cpu_s for t in took)
