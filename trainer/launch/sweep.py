"""Several trainings on one cluster, through Ray Tune: each has a driver of its own, and workers as in any training."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import ray
from pydantic import TypeAdapter

# What happened stands in MLflow: Tune's own files would say it again, and its summaries go to stdout
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

from ray import tune
from ray.tune.experiment import Trial

from shared.errors import TrainingError, UserError
from trainer import progress
from trainer.config import Recipe
from trainer.launch.cluster import Resources, share_out
from trainer.launch.driver import News, environment, storage_path, train_jobs
from trainer.sweep.board import Lines, SweepBoard

DRIVER_RESOURCES = {"CPU": 0, "memory": 1}
"""The workers ask for theirs themselves. Tune does not take nothing for an answer, so a driver asks for a byte."""

Ended = Callable[[str, str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """All that a driver needs, on whichever machine it runs."""

    recipe: dict[str, Any]
    run_id: str
    storage: str
    resources: Resources


def sweep(jobs: Sequence[tuple[Recipe, str]], name: str, concurrent: int | None, ended: Ended) -> None:
    """Train recipes, each into the run of its id and with workers of its own, as many at once as the cluster has room.

    Nothing is registered. Checkpoints are kept under the run's id; one that has any goes on from its last one.

    Args:
        name: of Tune's folder beside the checkpoints.
        concurrent: at most so many at once; by default GPUs decide, and on CPU cores it is one at a time.
        ended: called with the run's id and the cause of its failure ("": it is trained) as each training ends.

    Raises:
        UserError: no Ray answers, or it is too small.
        KeyboardInterrupt: it was interrupted; trainings that have not ended are stopped.
    """
    at_once = min(len(jobs), *(_room(recipe, concurrent) for recipe, _ in jobs))
    board = ray.remote(num_cpus=0)(SweepBoard).remote()
    packed = [
        _Job(
            recipe=asdict(recipe),
            run_id=run_id,
            storage=storage_path(recipe),
            resources=share_out(recipe.scaling, at_once),
        )
        for recipe, run_id in jobs
    ]
    trainable = tune.with_parameters(_train, jobs=packed, board=board, variables=environment())
    callback = _Callback({i: run_id for i, (_, run_id) in enumerate(jobs)}, ended)
    # what Tune has to say of failures and interruptions is about its own API; ours stands in `ended` and MLflow
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    lines = Lines()
    with progress.following(lambda: lines.show(*ray.get(board.news.remote(), timeout=5))):
        tune.Tuner(
            tune.with_resources(trainable, DRIVER_RESOURCES),
            param_space={"job": tune.grid_search(list(range(len(jobs))))},
            tune_config=tune.TuneConfig(max_concurrent_trials=at_once, reuse_actors=True),
            run_config=tune.RunConfig(
                name=name,
                storage_path=packed[0].storage,
                # of drivers, which are lost with their node; what goes wrong in a training is no failure to Tune
                failure_config=tune.FailureConfig(max_failures=jobs[0][0].run.max_failures),
                callbacks=[callback],
                verbose=0,
            ),
        ).fit()
    if callback.missing:  # Tune catches Ctrl-C, stops everything and returns
        raise KeyboardInterrupt


def _train(config: dict[str, Any], jobs: Sequence[_Job], board: Any, variables: Mapping[str, str]) -> dict[str, Any]:
    """A trial: the driver of one training."""
    os.environ.update(variables)
    job = jobs[config["job"]]
    recipe = TypeAdapter(Recipe).validate_python(job.recipe)

    def shown(news: News) -> Any:
        return progress.following(lambda: board.post.remote(recipe.name, *news()))

    cause = ""
    try:
        train_jobs([(recipe, job.run_id)], job.run_id, job.storage, job.resources, register=False, shown=shown)
    except (TrainingError, UserError) as error:
        cause = str(error)
    board.remove.remote(recipe.name)
    return {"ended": True, "cause": cause}


class _Callback(tune.Callback):
    """Tells of each trial's end, in the driver of the sweep."""

    def __init__(self, run_ids: dict[int, str], ended: Ended) -> None:
        self.missing = dict(run_ids)
        self._ended = ended

    def on_trial_complete(self, *_: Any, trial: Trial, **__: Any) -> None:
        if trial.last_result.get("ended"):  # it also comes here when it is stopped
            self._end(trial, trial.last_result["cause"])

    def on_trial_error(self, *_: Any, trial: Trial, **__: Any) -> None:
        error = trial.get_error()
        self._end(trial, f"its driver failed: {str(error).strip().splitlines()[-1] if error else 'Ray lost it'}")

    def _end(self, trial: Trial, cause: str) -> None:
        run_id = self.missing.pop(trial.config["job"], None)
        if run_id is not None:
            self._ended(run_id, cause)


def _room(recipe: Recipe, concurrent: int | None) -> int:
    """How many trainings like this one run at once."""
    if not share_out(recipe.scaling).use_gpu:
        return concurrent or 1  # each takes all cores unless it is told to share them
    room = int(ray.cluster_resources()["GPU"]) // recipe.scaling.num_workers
    return min(room, concurrent or room)
