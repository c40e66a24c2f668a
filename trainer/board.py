"""Where workers post what the driver shows: an actor that outlives their restarts.

It imports nothing: its process should not load torch to hold a few strings.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """What a person who waits wants to know."""

    title: str
    step: int
    total_steps: int
    loss: float
    images_per_s: float
    data_wait_pct: float
    """Share of the time that went by waiting for pictures."""
    seconds_left: float
    """At that speed, evaluations not counted."""
    top1_error_pct: float | None
    """Of the last evaluation."""


class Board:
    """The latest progress, messages not yet shown, and how it ended."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._messages: list[str] = []
        self._answer: Any = None
        self._verdict: Exception | None = None

    def post_progress(self, progress: Progress) -> None:
        self._progress = progress

    def post_message(self, message: str) -> None:
        self._messages.append(message)

    def post_answer(self, answer: Any) -> None:
        """What rank 0 computed."""
        self._answer = answer

    def post_verdict(self, error: Exception) -> None:
        """An error that no restart can mend; the first one counts."""
        self._verdict = self._verdict or error

    def news(self) -> tuple[Progress | None, list[str]]:
        messages, self._messages = self._messages, []
        return self._progress, messages

    def answer(self) -> Any:
        return self._answer

    def verdict(self) -> Exception | None:
        return self._verdict
