"""Jobs in parallel: in Ray's tasks where a cluster is given, else in processes of this machine."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

from shared.errors import TrainingError

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_parallel(work: Callable[[Job], Result], jobs: Iterable[Job], num_processes: int) -> Iterator[Result]:
    """The results, in the order in which they are ready. Jobs are made only when there is room for them.

    Args:
        num_processes: 0: one for each core.

    Raises:
        TrainingError: whatever `work` raises; or a process died.
    """
    if "RAY_ADDRESS" in os.environ:
        from trainer import launch

        yield from launch.map_tasks(work, jobs)
        return
    num_processes = num_processes or _available_cores()
    if num_processes == 1:
        yield from map(work, jobs)
    else:
        yield from _in_processes(work, iter(jobs), num_processes)


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_processes(work: Callable[[Job], Result], jobs: Iterator[Job], num_processes: int) -> Iterator[Result]:
    # "spawn": a fork would copy the threads' locks of whatever the caller has imported
    pool = ProcessPoolExecutor(num_processes, get_context("spawn"), _end_with_parent, (os.getpid(),))
    try:
        running = {pool.submit(work, job) for job in islice(jobs, 2 * num_processes)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(work, job) for job in islice(jobs, len(done))}
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise TrainingError(
            "a process was killed (memory?); run the command again with a lower --num-processes to go on"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent(parent: int) -> None:
    """A process whose parent was killed ends too, instead of waiting for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
