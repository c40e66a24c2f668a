"""What the driver shows while the workers train."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from trainer.board import Progress

POLL_INTERVAL_S = 0.5
LINE_INTERVAL_S = 10.0
"""Between two lines where there is no terminal, as in the log of a job."""


@contextmanager
def shown(news: Callable[[], tuple[Progress | None, list[str]]], title: str) -> Iterator[None]:
    """While the context is open: a progress bar on a terminal, a line now and then elsewhere, and all messages.

    Args:
        news: returns the latest progress and the messages since the last call; it may fail while workers restart.
    """
    bar = _bar(title)
    stop = threading.Event()

    def show_news() -> None:
        try:
            _show(bar, *news())
        except Exception:  # the workers' trouble is reported where it is handled; the bar only waits
            return

    def follow() -> None:
        while not stop.wait(POLL_INTERVAL_S):
            show_news()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        show_news()
        bar.close()


def _bar(title: str) -> tqdm:
    terminal = sys.stderr.isatty()
    return tqdm(
        desc=title,
        file=sys.stderr,
        dynamic_ncols=terminal,
        ascii=None if terminal else " #",
        mininterval=0.1 if terminal else LINE_INTERVAL_S,
        bar_format="{desc}: {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} steps, {elapsed}<{remaining}{postfix}"
        + ("" if terminal else "\n"),
    )


def _show(bar: tqdm, latest: Progress | None, messages: list[str]) -> None:
    for message in messages:
        bar.write(message, file=sys.stderr)
    if latest is None:
        return
    bar.total = latest.total_steps
    error = "" if latest.top1_error_pct is None else f", validation error {latest.top1_error_pct:.1f} %"
    bar.set_postfix_str(f"{latest.images_per_s:.0f} images/s, loss {latest.loss:.3f}{error}", refresh=False)
    bar.update(latest.step - bar.n)
