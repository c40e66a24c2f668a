"""Memory that a worker takes, on the host and on its device."""

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import torch

READ_EVERY_S = 30.0
"""The kernel goes through all pages of a process to tell its share: some 10 ms for each 2 GB."""


class HostMemory:
    """Memory of this worker and its loader processes."""

    def __init__(self) -> None:
        self._latest_gb = 0.0
        self._next_s = 0.0

    def gb(self) -> float:
        """At most READ_EVERY_S old."""
        if time.monotonic() >= self._next_s:
            self._latest_gb = _host_bytes() / 1e9
            self._next_s = time.monotonic() + READ_EVERY_S
        return self._latest_gb


def _host_bytes() -> int:
    return sum(_own_bytes(pid) for pid in (os.getpid(), *(p.pid for p in multiprocessing.active_children())))


def _own_bytes(pid: int | None) -> int:
    """PSS, in which memory that processes share (batches, forked pages) counts once; elsewhere than on Linux RSS."""
    try:
        info = psutil.Process(pid).memory_full_info()
    except psutil.Error:  # a loader process that ended just now
        return 0
    return int(getattr(info, "pss", info.rss))


def device_peak_gb(device: torch.device) -> float:
    """The most that tensors took on a GPU since `forget_peak`."""
    return torch.cuda.max_memory_allocated(device) / 1e9


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def watch_peak(device: torch.device) -> Callable[[], float]:
    """Begin to watch; the result tells what was taken at most since then, in GB: on a GPU by all tensors, on a CPU the
    growth of this process.
    """
    forget_peak(device)
    with suppress(OSError):  # Linux alone has it
        Path("/proc/self/clear_refs").write_text("5")  # forgets how large this process once was
    before = psutil.Process().memory_info().rss

    def peak_gb() -> float:
        if device.type == "cuda":
            return device_peak_gb(device)
        return max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT - before) / 1e9

    return peak_gb


_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def total_gb(device: torch.device) -> float:
    """What there is: of the device, or of this machine for a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 1e9
    return psutil.virtual_memory().total / 1e9
