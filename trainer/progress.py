"""What the driver shows while the workers train."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from trainer.board import Progress

POLL_INTERVAL_S = 0.5
LINE_INTERVAL_S = 10.0
"""Between two lines where there is no terminal, as in the log of a job."""

WORTH_TELLING_PCT = 10
"""A device that waits longer for data wants more loader processes, or packed pictures."""


@contextmanager
def shown(news: Callable[[], tuple[Progress | None, list[str]]]) -> Iterator[None]:
    """While the context is open: a progress bar on a terminal, a line now and then elsewhere, and all messages.

    Args:
        news: returns the latest progress and the messages since the last call; it may fail while workers restart.
    """
    display = _Display()
    try:
        with following(lambda: display.show(*news())):
            yield
    finally:
        display.close()


@contextmanager
def following(poll: Callable[[], object]) -> Iterator[None]:
    """While the context is open, call `poll` every POLL_INTERVAL_S, and a last time when it closes; it may fail."""
    stop = threading.Event()

    def try_to_poll() -> None:
        try:
            poll()
        except Exception:  # the workers' trouble is reported where it is handled; the bar only waits
            return

    def follow() -> None:
        while not stop.wait(POLL_INTERVAL_S):
            try_to_poll()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        try_to_poll()


def line(progress: Progress) -> str:
    """A training in one line."""
    return f"{progress.title}: step {progress.step} of {progress.total_steps}, {_figures(progress)}"


class _Display:
    """A bar for each training on a terminal; elsewhere a line every LINE_INTERVAL_S and a last one."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._latest: Progress | None = None
        self._shown: Progress | None = None
        self._next_line_s = 0.0

    def show(self, latest: Progress | None, messages: list[str]) -> None:
        if latest is not None and self._latest is not None and latest.title != self._latest.title:
            self.close()
        self._latest = latest
        if latest is not None and latest != self._shown:
            if sys.stderr.isatty():
                self._move_bar(latest)
            elif latest.step == latest.total_steps or time.monotonic() >= self._next_line_s:
                self._write_line()
        for message in messages:
            tqdm.write(message, file=sys.stderr)

    def close(self) -> None:
        """Say how far it came."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        elif self._latest is not None and self._latest != self._shown:
            self._write_line()

    def _move_bar(self, latest: Progress) -> None:
        if self._bar is None:
            self._bar = tqdm(
                desc=latest.title, total=latest.total_steps, initial=latest.step, file=sys.stderr, dynamic_ncols=True,
                bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps{postfix}",
            )  # fmt: skip
        self._bar.set_postfix_str(_figures(latest), refresh=False)
        self._bar.update(latest.step - self._bar.n)
        self._bar.refresh()  # an evaluation brings news, but no step

    def _write_line(self) -> None:
        assert self._latest is not None
        self._shown = self._latest
        self._next_line_s = time.monotonic() + LINE_INTERVAL_S
        print(line(self._shown), file=sys.stderr, flush=True)


def _figures(progress: Progress) -> str:
    # tqdm's own estimate would take a pause, such as an evaluation, for a slower training
    figures = [f"{tqdm.format_interval(progress.seconds_left)} left", f"{progress.images_per_s:.0f} images/s"]
    if progress.data_wait_pct >= WORTH_TELLING_PCT:
        figures.append(f"{progress.data_wait_pct:.0f} % of the time waiting for data")
    figures.append(f"loss {progress.loss:.3f}")
    if progress.top1_error_pct is not None:
        figures.append(f"validation error {progress.top1_error_pct:.1f} %")
    return ", ".join(figures)
