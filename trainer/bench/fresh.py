"""Functions in fresh processes: what one measurement leaves behind (memory, threads) the next one never sees."""

import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context, set_start_method
from multiprocessing.connection import Connection
from typing import Any

import psutil

from shared.errors import TrainingError

Work = Callable[[Connection], Any]
"""Its result is sent when it returns."""


class FreshProcess:
    """A process and the pipe to it."""

    def __init__(self, work: Work) -> None:
        # "forkserver": fresh processes in which torch is imported already
        context = get_context("forkserver")
        context.set_forkserver_preload(["trainer.bench.streams"])
        self._connection, far_end = context.Pipe()
        self._process = context.Process(target=_run, args=(work, far_end))
        with _sigint_ignored():  # for good in what starts here: this process decides what Ctrl-C means
            self._process.start()
        far_end.close()

    def send(self, message: Any) -> None:
        self._connection.send(message)

    def receive(self) -> Any:
        """What the process sends next, or its result.

        Raises:
            TrainingError: its work failed, or it was killed.
        """
        try:
            message = self._connection.recv()
        except EOFError as error:
            raise TrainingError("a measuring process was killed (memory?); try again with fewer --processes") from error
        if isinstance(message, _Failure):
            raise TrainingError(f"a measuring process failed ({message.line})")
        return message

    def end(self) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.join()


@contextmanager
def fresh_processes(works: Sequence[Work]) -> Iterator[list[FreshProcess]]:
    started: list[FreshProcess] = []
    try:
        for work in works:
            started.append(FreshProcess(work))
        yield started
    finally:
        for process in started:
            process.end()


def in_fresh_process(work: Work) -> Any:
    with fresh_processes([work]) as (process,):
        return process.receive()


def cpu_s(processes: Iterable[psutil.Process]) -> float:
    """Seconds of processor time that they have had since they began, to a hundredth."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


@contextmanager
def _sigint_ignored() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Failure:
    def __init__(self, error: Exception) -> None:
        text = " ".join(str(error).split()[-40:])  # a loader process's error ends with what matters
        self.line = f"{type(error).__name__}: {text}" if text else type(error).__name__


def _run(work: Work, connection: Connection) -> None:
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more processes than cores: sometimes on purpose
    set_start_method(None, force=True)  # loader processes start as in a training, not as this one did
    try:
        connection.send(work(connection))
    except (EOFError, BrokenPipeError):  # the parent is gone
        return
    except Exception as error:
        connection.send(_Failure(error))
