"""Memory that a worker takes, on the host and on its device."""

import multiprocessing
import time

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
    processes = [psutil.Process(), *(psutil.Process(p.pid) for p in multiprocessing.active_children() if _lives(p.pid))]
    return sum(_own_bytes(process) for process in processes)


def _lives(pid: int | None) -> bool:
    return pid is not None and psutil.pid_exists(pid)


def _own_bytes(process: psutil.Process) -> int:
    """PSS, in which memory that processes share (batches, forked pages) counts once; elsewhere than on Linux RSS."""
    try:
        info = process.memory_full_info()
    except psutil.Error:  # a loader process that ended just now
        return 0
    return int(getattr(info, "pss", info.rss))


def device_peak_gb(device: torch.device) -> float:
    """The most that tensors took on a GPU since `forget_peak`."""
    return torch.cuda.max_memory_allocated(device) / 1e9


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
