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

from trainer.bench.helpers import cpu_s, helpers

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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Delivered:
    images: int
    elapsed_s: float
    core_s: float


def measure(contender: Contender) -> Speed:
    """Raises TrainingError: one of its processes failed."""
    with helpers([partial(_deliver, stream, contender.cores) for stream in contender.streams]) as receivers:
        for receiver in receivers:
            receiver.receive()
        begin_at = time.monotonic() + WARM_UP_S
        for receiver in receivers:
            receiver.send((begin_at, begin_at + TURN_S))
        delivered: list[_Delivered] = [receiver.receive() for receiver in receivers]
    return Speed(
        images_per_core_s=sum(d.images for d in delivered) / sum(d.core_s for d in delivered),
        images_per_s=sum(d.images / d.elapsed_s for d in delivered) / contender.num_processes,
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
    idle_s = use.makers * elapsed_s - (use.wanted_s - before.wanted_s)
    core_s = use.cpu_s - before.cpu_s + max(0.0, idle_s)
    return _Delivered(images=images, elapsed_s=elapsed_s, core_s=max(core_s, _LEAST_S))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Use:
    """What this process and those below it have had, and wanted, since they began."""

    cpu_s: float
    makers: int
    """Processes that make pictures: those below this one, or this one where there are none."""

    wanted_s: float
    """Time in which they ran or waited for a core."""

    @classmethod
    def now(cls) -> "_Use":
        me = psutil.Process()
        below = me.children(recursive=True)
        makers = below or [me]
        return cls(
            cpu_s=cpu_s([me, *below]),
            makers=len(makers),
            wanted_s=sum(map(_wanted_s, makers)),
        )


def _wanted_s(process: psutil.Process) -> float:
    """Of its first thread: the kernel's account where it keeps one (ns on a core, ns of waiting for one, turns)."""
    try:
        on_core_ns, waited_ns, _ = map(int, Path(f"/proc/{process.pid}/schedstat").read_text().split())
    except (OSError, ValueError):
        return cpu_s([process])
    return (on_core_ns + waited_ns) / 1e9
