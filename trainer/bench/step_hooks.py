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

LOGGING = {True: "MLflow in a SQLite file", False: "JSON lines in a file: MLflow is not installed"}


def has_mlflow() -> bool:
    return find_spec("mlflow") is not None


class BenchHooks:
    """Metrics go where `write` puts them; there is no evaluation, and nothing is kept."""

    def __init__(self, write: Write) -> None:
        self.log = write

    def log_image(self, key: str, image: Image.Image, step: int) -> None: ...

    def log_file(self, path: Path, folder: str) -> None: ...

    def tag(self, key: str, value: str) -> None: ...

    def progress(self, news: Progress) -> None: ...

    def save(self, metrics: dict[str, float], folder: Path) -> None: ...


def create_store(recipe: Recipe, folder: Path, _: Connection) -> None:
    """Where all contenders log. One process makes it before they start: it takes seconds, and two would collide."""
    _create_run(recipe, folder)


def open_hooks(recipe: Recipe, folder: Path, *, rank: int, mlflow: bool) -> BenchHooks:
    """With a run of its own in the store; without MLflow with a file of its own."""
    if rank:
        return BenchHooks(lambda metrics, step: None)  # noqa: ARG005
    if not mlflow:
        return BenchHooks(_json_lines(folder / f"{os.getpid()}.jsonl"))
    run_id = _create_run(recipe, folder)
    from trainer import tracking  # not at the top: MLflow may be missing

    return BenchHooks(tracking.RunLog(run_id).metrics)


def _create_run(recipe: Recipe, folder: Path) -> str:
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
    from trainer import tracking  # as above

    return tracking.create_run(recipe, open_data(recipe.data))


def _json_lines(path: Path) -> Write:
    file = path.open("a", buffering=1)
    return lambda metrics, step: print(json.dumps({"step": step} | metrics), file=file)
