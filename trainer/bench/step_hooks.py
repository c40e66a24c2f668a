"""The loop's hooks for `bench step`: real logging, as on a worker of Ray's, but for the news to its driver."""

import json
import os
from collections.abc import Callable
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path

from PIL import Image

from trainer.board import Progress
from trainer.config import Recipe
from trainer.data import open_data

Write = Callable[[dict[str, float], int], None]

HAS_MLFLOW = find_spec("mlflow") is not None
LOGGING = "MLflow in a SQLite file" if HAS_MLFLOW else "JSON lines in a file: MLflow is not installed"


class BenchHooks:
    """Metrics go where `write` puts them; there is no evaluation, and nothing is kept."""

    def __init__(self, write: Write) -> None:
        self.log = write

    def log_image(self, key: str, image: Image.Image, step: int) -> None: ...

    def tag(self, key: str, value: str) -> None: ...

    def progress(self, news: Progress) -> None: ...

    def save(self, metrics: dict[str, float], folder: Path) -> None: ...


def create_store(recipe: Recipe, folder: Path, _: Connection | None = None) -> None:
    """Where all contenders log. One process makes it before they start: it takes seconds, and two would collide."""
    if HAS_MLFLOW:
        _use_store(folder)
        from trainer import tracking  # not at the top: MLflow may be missing

        tracking.create_run(recipe, open_data(recipe.data))


def open_hooks(recipe: Recipe, folder: Path, rank: int) -> BenchHooks:
    """With a run of its own."""
    if rank:
        return BenchHooks(lambda metrics, step: None)  # noqa: ARG005
    if not HAS_MLFLOW:
        return BenchHooks(_json_lines(folder / f"{os.getpid()}.jsonl"))
    _use_store(folder)
    from trainer import tracking  # as above

    return BenchHooks(tracking.RunLog(tracking.create_run(recipe, open_data(recipe.data))).metrics)


def _use_store(folder: Path) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"


def _json_lines(path: Path) -> Write:
    file = path.open("a", buffering=1)
    return lambda metrics, step: print(json.dumps({"step": step} | metrics), file=file)
