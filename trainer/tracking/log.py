"""What is written into a run while it lasts; none of it may stop a training.

A call that fails is reported once and skipped.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import mlflow
from mlflow.entities import Metric, RunTag
from PIL import Image

from shared.card import Card
from shared.registry import client
from shared.store import shown_tracking_uri

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

T = TypeVar("T")
_complained = False


def guarded(call: Callable[[], T]) -> T | None:
    """What `call` returns; None where MLflow does not take it."""
    global _complained
    try:
        return call()
    except Exception as error:  # a lost metric must not end a training
        if not _complained:
            log.warning("MLflow at %s does not take what is logged: %s", shown_tracking_uri(), error)
        _complained = True
        return None


def tag(run_id: str, key: str, value: str) -> None:
    guarded(lambda: client().set_tag(run_id, key, value))


def log_card(run_id: str, card: Card) -> None:
    guarded(lambda: client().log_text(run_id, card.to_json(), "card.json"))


def log_figure(run_id: str, figure: "Figure", name: str) -> None:
    guarded(lambda: client().log_figure(run_id, figure, name))


def log_summary(run_id: str, metrics: dict[str, float], tags: dict[str, str]) -> None:
    """What is known in the end of a run that has no steps of its own."""
    now = int(time.time() * 1000)
    points = [Metric(name, value, now, 0) for name, value in metrics.items()]
    guarded(lambda: client().log_batch(run_id, metrics=points, tags=[RunTag(*item) for item in tags.items()]))


class RunLog:
    """Rank 0's pen. Values are sent in the background; steps that an earlier attempt logged are skipped."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._api = client()
        guarded(lambda: self._api.update_run(run_id, status="RUNNING"))
        history = guarded(lambda: self._api.get_metric_history(run_id, "train/loss")) or []
        self._logged_until = max((point.step for point in history), default=-1)

    def metrics(self, values: dict[str, float], step: int) -> None:
        if step <= self._logged_until and "train/loss" in values:
            return
        now = int(time.time() * 1000)
        points = [Metric(name, value, now, step) for name, value in values.items()]
        guarded(lambda: self._api.log_batch(self._run_id, metrics=points, synchronous=False))

    def image(self, key: str, image: Image.Image, step: int) -> None:
        guarded(lambda: self._api.log_image(self._run_id, image, key=key, step=step, synchronous=False))

    def file(self, path: Path, folder: str) -> None:
        """Delivered when it returns."""
        guarded(lambda: self._api.log_artifact(self._run_id, str(path), folder))

    def tag(self, key: str, value: str) -> None:
        guarded(lambda: self._api.log_batch(self._run_id, tags=[RunTag(key, value[:5000])], synchronous=False))

    def finish(self) -> None:
        self.flush()
        guarded(lambda: self._api.set_terminated(self._run_id, "FINISHED"))

    def flush(self) -> None:
        """Wait until everything is delivered."""
        guarded(mlflow.flush_async_logging)
