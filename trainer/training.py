"""One training from recipe to registered version: the path that `python -m trainer train` takes."""

import logging
import os
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter

from shared import registry
from shared.card import Card
from shared.errors import UserError
from shared.registry import Version
from trainer import checkpoint, launch, tracking
from trainer.config import Recipe
from trainer.data import DataSet, open_data

log = logging.getLogger(__name__)


def check(recipe: Recipe) -> DataSet:
    """Everything that can be known to fail before anything starts.

    Raises:
        UserError: MLflow does not answer, data is missing, or checkpoints cannot be stored.
    """
    if launch.in_submitted_job() and "MLFLOW_TRACKING_URI" not in os.environ:
        raise UserError(
            "MLFLOW_TRACKING_URI is not set, and this job runs in a copy of the checkout that Ray deletes; pass it: "
            """ray job submit --runtime-env-json '{"env_vars": {"MLFLOW_TRACKING_URI": "..."}}'"""
        )
    registry.check_reachable()
    data = open_data(recipe.data)
    launch.check(recipe)
    return data


def train(recipe: Recipe, data: DataSet) -> Version:
    """Train, log and register `recipe`, which was checked."""
    return _run(recipe, data, tracking.create_run(recipe, data))


def resume(run_id: str) -> Version:
    """Go on with an interrupted run from its last checkpoint.

    Raises:
        UserError: no such run, or it is finished.
    """
    registry.check_reachable()
    recipe = TypeAdapter(Recipe).validate_python(tracking.find_interrupted(run_id))
    data = check(recipe)
    tracking.reopen_run(run_id)
    return _run(recipe, data, run_id)


def _run(recipe: Recipe, data: DataSet, run_id: str) -> Version:
    status = "FAILED"
    try:
        state = launch.train(recipe, run_id)
        version = register(recipe, data, state, run_id)
        status = "FINISHED"
        return version
    except KeyboardInterrupt:
        status = "KILLED"
        log.warning("interrupted; go on with: python -m trainer train --resume %s", run_id)
        raise
    finally:
        tracking.end_run(run_id, status)


def register(recipe: Recipe, data: DataSet, state: checkpoint.State, run_id: str) -> Version:
    """Make a version of the final weights."""
    card = Card(
        architecture=recipe.model.name,
        width=recipe.model.width,
        classes=data.train.classes,
        transform=recipe.augment.eval_transform,
        weights="trained",
        weights_sha256="",
        data=recipe.data_name,
        data_digest=data.val.digest,
        metrics=state.metrics,
        recipe=asdict(recipe),
        code_version=tracking.code_version(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    model = card.build()
    model.load_state_dict(state.model)
    version = registry.publish(model, card, name=recipe.registered_name, run_id=run_id)
    tracking.log_card(run_id, card.to_json())
    return version


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
