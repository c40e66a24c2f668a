"""Runs, begun and ended by the driver: one per training, one above those of a study or sweep, one per import."""

import getpass
import json
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.exceptions import MlflowException

from shared.card import Card
from shared.errors import UserError
from shared.models import describe
from shared.registry import client
from shared.store import shown_tracking_uri, tracking_uri
from trainer.checkout import code_version
from trainer.config import Recipe
from trainer.data import DataSet
from trainer.tracking.log import guarded, log_card

RECIPE_FILE = "recipe.json"
PARENT_TAG = "mlflow.parentRunId"  # MLflow's UI shows a run below the one that it names
CHECKPOINTS_TAG = "checkpoints"
"""Recipes trained by one command share a folder of checkpoints, named after the first one's run."""


def create_run(recipe: Recipe, data: DataSet, parent: str | None = None) -> str:
    """A SCHEDULED run with the recipe's parameters, its data sets and the code's version; returns its id."""
    api = client()
    cost = describe(
        recipe.model.name,
        num_classes=len(data.train.classes),
        width=recipe.model.width,
        in_chans=len(recipe.augment.mean),
        image_size=recipe.augment.eval_size,
    )
    tags = _origin() | {"mlflow.note.content": _description(recipe, data)}
    if parent:
        tags[PARENT_TAG] = parent
    run = api.create_run(_experiment(api, recipe.run.experiment), run_name=recipe.name, tags=tags)
    params = flat_params(recipe) | {
        "arch": recipe.model.name,
        "output_stride": cost.output_stride,
        "params_m": round(cost.params / 1e6, 3),
        "gmacs": cost.gmacs,
        "global_batch": recipe.run.global_batch_size,
        "epochs": recipe.run.epochs,
        "world_size": recipe.scaling.num_workers,
        "train_images": len(data.train),
        "val_images": len(data.val),
    }
    run_id = run.info.run_id
    api.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])
    api.log_inputs(run_id, [_input(recipe, data, part) for part in ("train", "val")])
    api.log_dict(run_id, asdict(recipe), RECIPE_FILE)
    api.update_run(run_id, status="SCHEDULED")
    return run_id


def create_parent(
    kind: str, name: str, experiment: str, settings: dict[str, Any], params: Mapping[str, str] | None = None
) -> str:
    """A run below which trainings appear, and that holds all settings of what they are part of; returns its id.

    Args:
        kind: study or sweep.
    """
    api = client()
    run_id = api.create_run(_experiment(api, experiment), run_name=name, tags=_origin()).info.run_id
    api.log_batch(run_id, params=[Param(key, value[:6000]) for key, value in (params or {}).items()])
    api.log_dict(run_id, settings, f"{kind}.json")
    return run_id


def find_parent(kind: str, run_id: str) -> dict[str, Any]:
    """The settings that `create_parent` wrote.

    Raises:
        UserError: there is none of this kind.
    """
    client()  # sets the address that mlflow.artifacts uses
    try:
        return mlflow.artifacts.load_dict(f"runs:/{run_id}/{kind}.json")
    except (MlflowException, OSError) as error:
        raise UserError(f"no {kind} {run_id!r} at {shown_tracking_uri()}") from error


class Child(NamedTuple):
    run_id: str
    status: str
    metrics: dict[str, float]
    """The last value of each."""


def children(parent: str) -> dict[str, Child]:
    """The runs below a parent by their names, in the order of their creation."""
    api = client()
    runs = api.search_runs(
        [api.get_run(parent).info.experiment_id],
        filter_string=f"tags.`{PARENT_TAG}` = '{parent}'",
        order_by=["attributes.start_time ASC"],
    )
    return {run.info.run_name: Child(run.info.run_id, run.info.status, run.data.metrics) for run in runs}


def history(run_id: str, metric: str) -> list[tuple[float, float]]:
    """(step, value) of everything that was logged, in the order of steps."""
    return sorted((float(p.step), float(p.value)) for p in client().get_metric_history(run_id, metric))


def last_values(run_id: str) -> dict[str, float]:
    """The newest value of each metric; empty where MLflow does not say."""
    return guarded(lambda: client().get_run(run_id).data.metrics) or {}


@contextmanager
def import_run(recipe: Recipe, card: Card, source: str, params: Mapping[str, str]) -> Iterator[str]:
    """The id of a run in which imported weights are registered; it ends with the block."""
    api = client()
    tags = _origin() | {
        "mlflow.source.name": f"python -m trainer import {card.architecture}",
        "command": f"python -m trainer import {card.architecture} {source}",  # an address may hold a secret
        "mlflow.note.content": f"**{card.architecture}**: {card.weights}",
    }
    experiment = _experiment(api, recipe.run.experiment)
    run_id = api.create_run(experiment, run_name=f"import {card.architecture}", tags=tags).info.run_id
    try:
        params = {"arch": card.architecture, "width": f"{card.width:g}", "classes": str(len(card.classes)), **params}
        now = int(time.time() * 1000)
        api.log_batch(
            run_id,
            metrics=[Metric(f"val/{key}", value, now, 0) for key, value in card.metrics.items()],
            params=[Param(key, value) for key, value in params.items() if value],
        )
        log_card(run_id, card)
        yield run_id
        api.set_terminated(run_id, "FINISHED")
    except BaseException as error:
        end_run(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise


def find_interrupted(run_id: str) -> tuple[dict[str, Any], str]:
    """The recipe of a run that can go on, as `asdict` wrote it, and the name under which it keeps checkpoints.

    Raises:
        UserError: there is no such run, or it is finished.
    """
    try:
        run = client().get_run(run_id)
        recipe = mlflow.artifacts.load_dict(f"runs:/{run_id}/{RECIPE_FILE}")
    except MlflowException as error:
        raise UserError(f"no run {run_id!r} of this project at {shown_tracking_uri()}") from error
    if run.info.status == "FINISHED":
        raise UserError(f"run {run_id} is FINISHED; train its recipe again instead of resuming it")
    return recipe, run.data.tags.get(CHECKPOINTS_TAG, run_id)


def end_run(run_id: str, status: str) -> bool:
    """End a run with a status, and say whether there was something to end.

    A run that is FINISHED keeps its status. One that never started is removed: it holds nothing.
    """
    api = client()
    before = guarded(lambda: api.get_run(run_id).info.status)
    if before == "SCHEDULED":
        guarded(lambda: api.delete_run(run_id))
    elif before != "FINISHED":
        guarded(lambda: api.set_terminated(run_id, status))
        return True
    return False


def fail_run(run_id: str, cause: str) -> None:
    """End a run as FAILED, also one that never started; the cause becomes a tag."""
    api = client()
    guarded(lambda: api.set_tag(run_id, "failure", cause[:5000]))
    guarded(lambda: api.set_terminated(run_id, "FAILED"))


def _origin() -> dict[str, str]:
    return {
        "mlflow.user": getpass.getuser(),
        # the UI shows what follows the last slash of it
        "mlflow.source.name": " ".join(["python -m trainer", *(word for word in sys.argv[1:] if "/" not in word)]),
        "command": shlex.join(["python", "-m", "trainer", *sys.argv[1:]]),
        "mlflow.source.git.commit": code_version(),
    }


def _experiment(api: mlflow.MlflowClient, name: str) -> str:
    existing = api.get_experiment_by_name(name)
    if existing is not None:
        return existing.experiment_id
    # With a SQLite store MLflow would put artifacts under the current directory, which Ray's workers change.
    database = tracking_uri().partition("sqlite:///")[2]
    location = (Path(database).resolve().parent / "mlartifacts").as_uri() if database else None
    try:
        # the kind opens it among the UI's model trainings instead of its chat evaluations
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return api.create_experiment(name, artifact_location=location, tags=kind)
    except MlflowException:  # another training was faster
        return api.get_experiment_by_name(name).experiment_id


def _input(recipe: Recipe, data: DataSet, part: str) -> DatasetInput:
    samples = data.train if part == "train" else data.val
    dataset = Dataset(
        name=f"{recipe.data_name}-{part}",
        digest=samples.digest[:36],
        source_type="local",
        source=json.dumps({"source": recipe.data.source, "path": recipe.data.path}),
        profile=json.dumps({"num_rows": len(samples), "classes": len(samples.classes)}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", part)])


def _description(recipe: Recipe, data: DataSet) -> str:
    return (
        f"**{recipe.model.name}** (width {recipe.model.width:g}) on **{recipe.data_name}**: {len(data.train):,} "
        f"training and {len(data.val):,} validation pictures of {len(data.train.classes)} classes, "
        f"{recipe.run.epochs:g} epochs in batches of {recipe.run.global_batch_size}.\n\n"
        f"Expected: {recipe.expected.source}"
        + (f", top-1 error {recipe.expected.top1_error_pct} %" if recipe.expected.top1_error_pct else "")
    )


def flat_params(recipe: Recipe) -> dict[str, Any]:
    """The recipe as one level of `section.key`, for MLflow's table."""
    flat: dict[str, Any] = {"recipe": recipe.name}
    for section, values in asdict(recipe).items():
        if isinstance(values, dict) and section != "expected":
            flat |= {f"{section}.{key}": value for key, value in values.items()}
    return flat
