"""What the trainings of a sweep tell, gathered for the one driver that shows it.

It imports nothing heavy: its process should not load torch to hold a few strings.
"""

import sys
import time

from trainer.board import Progress


class SweepBoard:
    """An actor: the latest progress of each training, and messages not yet shown."""

    def __init__(self) -> None:
        self._latest: dict[str, Progress] = {}
        self._messages: list[str] = []

    def post(self, name: str, latest: Progress | None, messages: list[str]) -> None:
        if latest is not None:
            self._latest[name] = latest
        self._messages += [message if name in message else f"{name}: {message}" for message in messages]

    def remove(self, name: str) -> None:
        """Its training has ended."""
        self._latest.pop(name, None)

    def news(self) -> tuple[list[Progress], list[str]]:
        messages, self._messages = self._messages, []
        return list(self._latest.values()), messages


class Lines:
    """On stderr: messages at once, a line for each training now and then."""

    def __init__(self) -> None:
        self._shown: list[Progress] = []
        self._next_s = 0.0

    def show(self, latest: list[Progress], messages: list[str]) -> None:
        from trainer.progress import LINE_INTERVAL_S, line

        lines = list(messages)
        if time.monotonic() >= self._next_s and (fresh := [p for p in latest if p not in self._shown]):
            lines += [line(progress) for progress in fresh]
            self._shown = latest
            # the more train at once, the less often each is heard of
            self._next_s = time.monotonic() + LINE_INTERVAL_S * len(latest)
        for text in lines:
            print(text, file=sys.stderr, flush=True)
