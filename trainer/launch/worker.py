"""What Ray runs on every worker: the loop, and its ties to Ray, MLflow and the driver."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import ray.train
import ray.train.torch
from PIL import Image
from pydantic import TypeAdapter

from shared.errors import TrainingError, UserError
from trainer import checkpoint, loop
from trainer.board import Progress
from trainer.config import Recipe
from trainer.rollcall import StoppedError

if TYPE_CHECKING:
    from trainer.tracking import RunLog


class _BoardHandler(logging.Handler):
    """Warnings of a worker's code, for the driver to show."""

    def __init__(self, board: Any) -> None:
        super().__init__(logging.WARNING)
        self._board = board
        self._process = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        if os.getpid() != self._process:  # a loader process: Ray's client does not survive the fork, and would hang
            return
        self._board.post_message.remote(record.getMessage())


class _RayHooks:
    """The loop's hooks on a Ray worker."""

    def __init__(self, run_id: str, board: Any, world: loop.World) -> None:
        self._board = board
        self._log: RunLog | None = None
        if world.rank == 0:
            from trainer import tracking  # MLflow takes seconds to import, and the other workers need none

            self._log = tracking.RunLog(run_id)

    def log(self, metrics: dict[str, float], step: int) -> None:
        if self._log:
            self._log.metrics(metrics, step)

    def log_image(self, key: str, image: Image.Image, step: int) -> None:
        if self._log:
            self._log.image(key, image, step)

    def log_file(self, path: Path, folder: str) -> None:
        if self._log:
            self._log.file(path, folder)

    def tag(self, key: str, value: str) -> None:
        if self._log:
            self._log.tag(key, value)

    def progress(self, news: Progress) -> None:
        if self._log:
            self._board.post_progress.remote(news)

    def save(self, metrics: dict[str, float], folder: Path) -> None:
        # Delivered before the checkpoint exists: what a restart repeats was logged, what was not is repeated
        if self._log:
            self._log.flush()
        kept = ray.train.Checkpoint.from_directory(folder) if self._log else None
        ray.train.report(metrics, checkpoint=kept)

    def finish(self, recipe: Recipe, state: checkpoint.State, *, register: bool) -> None:
        """Register the network, if it shall be, and end its run."""
        if self._log:
            from trainer import registration  # as above

            version = registration.register(recipe, state) if register else None
            self._log.finish()
            if version is not None:
                self._board.post_message.remote(f"{recipe.name}: registered as {version.uri}")


def train_jobs(config: dict[str, Any]) -> None:
    if _is_decided(config):
        return
    jobs = [(TypeAdapter(Recipe).validate_python(recipe), run_id) for recipe, run_id in config["jobs"]]
    with _worker(config) as world:
        state = _latest_state()
        # the trainings before the one that the last checkpoint belongs to are registered
        run_ids = [run_id for _, run_id in jobs]
        first = run_ids.index(state.run_id) if state is not None and state.run_id in run_ids else 0
        for recipe, run_id in jobs[first:]:
            hooks = _RayHooks(run_id, config["board"], world)
            resume_from = state if state is not None and state.run_id == run_id else None
            hooks.finish(recipe, loop.train(recipe, world, hooks, run_id, resume_from), register=config["register"])


def _latest_state() -> checkpoint.State | None:
    latest = ray.train.get_checkpoint()
    if latest is None:
        return None
    with latest.as_directory() as folder:
        return checkpoint.load(Path(folder))


def do_work(config: dict[str, Any]) -> None:
    if _is_decided(config):
        return
    with _worker(config) as world:
        answer = config["work"](world, config["arguments"])
        if world.rank == 0:
            ray.get(config["board"].post_answer.remote(answer))


def _is_decided(config: dict[str, Any]) -> bool:
    """Ray Train restarts after any error; workers that find a verdict have nothing left to do."""
    return ray.get(config["board"].verdict.remote()) is not None


@contextmanager
def _worker(config: dict[str, Any]) -> Iterator[loop.World]:
    """A worker's surroundings: its place in the world, the driver's environment, and what happens to errors.

    An error that no restart can mend is posted as the verdict, for the driver to raise.
    """
    board = config["board"]
    os.environ.update(config["environment"])
    handler = _BoardHandler(board)
    logging.getLogger().addHandler(handler)
    context = ray.train.get_context()
    try:
        yield loop.World(
            rank=context.get_world_rank(), size=context.get_world_size(), device=ray.train.torch.get_device()
        )
    except (UserError, TrainingError) as error:
        kind = UserError if isinstance(error, UserError) else TrainingError
        ray.get(board.post_verdict.remote(kind(str(error))))
        # Workers that stop together return. After an error Ray Train would start them anew, and might not have seen
        # the checkpoint that they reported just before it
        if not isinstance(error, StoppedError):
            raise
    finally:
        logging.getLogger().removeHandler(handler)
