"""The speed of streams over a few seconds, once they run evenly."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import torch

from trainer.bench.fresh import cpu_s, fresh_processes

WARM_UP_S = 1.0
"""From the first batch on. What lay ready is taken within it; after it, batches come as fast as they are made."""

TURN_S = 3.0

_LEAST_S = 0.01
"""In which processor time is counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """Streams that run at the same time, each received by a process of its own."""

    streams: Sequence[Callable[[], Iterator[int]]]
    num_processes: int
    """That make pictures, in all streams together."""

    cores: Sequence[int] = ()
    """The only ones that all of its processes may use; empty: any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """Per process that makes pictures."""

    images_per_core_s: float
    """Core-seconds: the processor time of all processes, and the time in which those that make pictures had nothing to
    do. Waiting for a core that other work has is neither, so that a busy machine changes little.
    """

    images_per_s: float
    """On the clock."""

    waited_share: float
    """Part of the time in which the processes that make pictures waited for a core."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Delivered:
    images: int
    makers: int
    """Processes that make pictures."""

    elapsed_s: float
    core_s: float
    waited_s: float


def measure(contender: Contender) -> Speed:
    """Raises TrainingError: one of its processes failed."""
    with fresh_processes([partial(_deliver, stream, contender.cores) for stream in contender.streams]) as receivers:
        for receiver in receivers:
            receiver.receive()
        begin_at = time.monotonic() + WARM_UP_S
        for receiver in receivers:
            receiver.send((begin_at, begin_at + TURN_S))
        delivered: list[_Delivered] = [receiver.receive() for receiver in receivers]
    return Speed(
        images_per_core_s=sum(d.images for d in delivered) / sum(d.core_s for d in delivered),
        images_per_s=sum(d.images / d.elapsed_s for d in delivered) / contender.num_processes,
        waited_share=sum(d.waited_s for d in delivered) / sum(d.elapsed_s * d.makers for d in delivered),
    )


def _deliver(stream: Callable[[], Iterator[int]], cores: Sequence[int], connection: Connection) -> _Delivered:
    if cores:
        os.sched_setaffinity(0, cores)
    torch.set_num_threads(1)
    batches = stream()
    next(batches)
    connection.send("it runs")
    begin_at, end_at = connection.recv()
    for _ in batches:
        if time.monotonic() >= begin_at:
            break
    started, before, images = time.monotonic(), _Use.now(), 0
    for count in batches:
        images += count
        if time.monotonic() >= end_at:
            break
    elapsed_s, use = time.monotonic() - started, _Use.now()
    waited_s = use.waited_s - before.waited_s
    idle_s = max(0.0, use.makers * elapsed_s - (use.ran_s - before.ran_s) - waited_s)
    core_s = max(_LEAST_S, use.cpu_s - before.cpu_s + idle_s)
    return _Delivered(images=images, makers=use.makers, elapsed_s=elapsed_s, core_s=core_s, waited_s=waited_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Use:
    """What this process and those below it have had of the cores since they began."""

    cpu_s: float
    makers: int
    """Processes that make pictures: those below this one, or this one where there are none."""

    ran_s: float
    waited_s: float
    """The makers' time on a core, and of waiting for one."""

    @classmethod
    def now(cls) -> "_Use":
        me = psutil.Process()
        below = me.children(recursive=True)
        accounts = [_account_s(maker) for maker in below or [me]]
        return cls(
            cpu_s=cpu_s([me, *below]),
            makers=len(accounts),
            ran_s=sum(ran_s for ran_s, _ in accounts),
            waited_s=sum(waited_s for _, waited_s in accounts),
        )


def _account_s(process: psutil.Process) -> tuple[float, float]:
    """How long its first thread ran and waited for a core; without waiting where the kernel keeps no account of it."""
    try:
        ran_ns, waited_ns, _ = map(int, Path(f"/proc/{process.pid}/schedstat").read_text().split())
    except (OSError, ValueError):
        return cpu_s([process]), 0.0
    return ran_ns / 1e9, waited_ns / 1e9
