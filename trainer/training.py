"""From recipes to registered versions: the path that `python -m trainer train` takes."""

import logging
import os
from collections.abc import Sequence
from typing import Any

from shared import registry
from shared.errors import UserError
from shared.models import check_input
from shared.registry import Version
from trainer import launch, pretrained, profiling, tracking
from trainer.config import Recipe
from trainer.data import DataSet, open_data
from trainer.loop import make_plan
from trainer.recipes import from_settings
from trainer.recipes.rules import check_classes

log = logging.getLogger(__name__)


def check(recipe: Recipe) -> DataSet:
    """Everything that can be known to fail before anything starts.

    Raises:
        UserError: MLflow does not answer or takes no changes, data is missing, or checkpoints cannot be stored.
    """
    if launch.in_submitted_job() and "MLFLOW_TRACKING_URI" not in os.environ:
        raise UserError(
            "MLFLOW_TRACKING_URI is not set, and this job runs in a copy of the checkout that Ray deletes; pass it: "
            """ray job submit --runtime-env-json '{"env_vars": {"MLFLOW_TRACKING_URI": "..."}}'"""
        )
    registry.check_reachable()
    tracking.check_experiment(recipe.run.experiment)
    data = open_data(recipe.data)
    for size in {recipe.augment.train_sizes[0], recipe.augment.train_size, recipe.augment.eval_size}:
        check_input(recipe.model.name, size, num_classes=len(data.train.classes), **recipe.model_options)
    profiling.check(recipe, make_plan(recipe, data))
    check_classes(recipe, len(data.train.classes))
    pretrained.check(recipe)
    launch.check(recipe)
    return data


def check_all(recipes: Sequence[Recipe]) -> list[DataSet]:
    """`check` for recipes that one command trains."""
    if len({recipe.scaling for recipe in recipes}) > 1:
        raise UserError("recipes trained by one command share their workers, so all need the same scaling section")
    return [check(recipe) for recipe in recipes]


def train(recipes: Sequence[Recipe], parent: str | None = None) -> list[Version]:
    """Check, train, log and register recipes, one after the other on the same workers.

    Args:
        parent: MLflow run below which their runs appear.

    Raises:
        UserError: one of them cannot work; nothing has started then.
        TrainingError: a training failed; those before it are registered.
    """
    data = check_all(recipes)
    recipes = [pretrained.pin(recipe) for recipe in recipes]
    run_ids = [tracking.create_run(recipe, d, parent) for recipe, d in zip(recipes, data, strict=True)]
    return _run(list(zip(recipes, run_ids, strict=True)), checkpoints=run_ids[0])


def resume(run_id: str, then: Sequence[Recipe] = (), parent: str | None = None) -> list[Version]:
    """Go on with an interrupted run from its last checkpoint; `then` train more on the same workers, as `train` does.

    Raises:
        UserError: no such run, or it is finished; or one of the others cannot work.
        TrainingError: a training failed again.
    """
    registry.check_reachable()
    settings, checkpoints = tracking.find_interrupted(run_id)
    recipe = from_settings(settings, name=settings["name"], overrides=[])
    _, *data = check_all([recipe, *then])
    then = [pretrained.pin(r) for r in then]
    run_ids = [run_id, *(tracking.create_run(r, d, parent) for r, d in zip(then, data, strict=True))]
    return _run(list(zip([recipe, *then], run_ids, strict=True)), checkpoints)


def _run(jobs: list[tuple[Recipe, str]], checkpoints: str) -> list[Version]:
    for _, run_id in jobs:
        if run_id != checkpoints:
            tracking.tag(run_id, tracking.CHECKPOINTS_TAG, checkpoints)
    status = "FAILED"
    try:
        launch.train(jobs, checkpoints)
    except (KeyboardInterrupt, SystemExit):  # Ray Train turns Ctrl-C into the latter
        status = "KILLED"
        raise
    finally:
        for _, run_id in jobs:  # those that finished keep their status
            if tracking.end_run(run_id, status):
                log.warning("run %s is %s; go on with: python -m trainer train --resume %s", run_id, status, run_id)
    return [registry.resolve(run_id) for _, run_id in jobs]


def summary(version: Version) -> dict[str, Any]:
    """A version in one line of a table."""
    tags = version.tags
    return {
        "network": version.architecture,
        "version": version.uri,
        "top1_error_pct": version.top1_error_pct,
        "ghd": float(tags["ghd"]) if "ghd" in tags else None,
        "run_id": version.run_id,
    }
