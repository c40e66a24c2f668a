"""`python -m trainer train RECIPE --dry-run`: what a training would be, and whether it can be, without training.

It makes no run, and leaves nothing behind.
"""

import json
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tqdm import tqdm

from shared.errors import TrainingError, UserError
from shared.store import shown_tracking_uri
from trainer import launch, tracking, training
from trainer.config import Recipe
from trainer.data import DataSet
from trainer.loop import make_plan
from trainer.rehearsal import rehearse

WIDTH = 120


def show(recipes: Sequence[Recipe], *, as_json: bool) -> None:
    """A dry run for a person, on stderr, or as one JSON object on stdout."""
    reports = dry_run(recipes)
    if as_json:
        print(json.dumps({"trainings": reports}))
        return
    for report in reports:
        print(text(report), file=sys.stderr)


def dry_run(recipes: Sequence[Recipe]) -> list[dict[str, Any]]:
    """Check recipes that one command would train, and measure their updates on the workers that they would have.

    Returns:
        For each: recipe, world, batch, checks, measured and expected; as README.md has them.

    Raises:
        UserError: one of them cannot work.
        TrainingError: the workers failed.
    """
    data = training.check_all(recipes)
    try:
        measured = launch.run_on_workers(rehearse, {"recipes": [asdict(recipe) for recipe in recipes]}, recipes[0])
    except TrainingError as error:
        if "OOM" not in str(error) and "OutOfMemory" not in str(error):  # what Ray says of a worker that was killed
            raise
        run = recipes[0].run
        raise UserError(
            f"a worker was killed, most likely because run.global_batch_size={run.global_batch_size} over "
            f"{recipes[0].scaling.num_workers} workers does not fit into the memory of its machine; "
            "try a smaller run.per_device_batch_size, or fewer workers and loader processes on each machine"
        ) from error
    return [_report(*parts) for parts in zip(recipes, data, measured, strict=True)]


def _report(recipe: Recipe, data: DataSet, measured: dict[str, Any]) -> dict[str, Any]:
    batch = _batch(recipe, data)
    return {
        "recipe": asdict(recipe),
        "world": launch.describe_world(recipe.scaling)
        | {"loader_processes": recipe.scaling.num_workers * recipe.data.num_loader_workers},
        "batch": batch,
        "checks": _checks(recipe, data),
        "measured": measured,
        "expected": {"training_s": batch["total_steps"] * measured["step_time_s"]},
    }


def _batch(recipe: Recipe, data: DataSet) -> dict[str, Any]:
    plan, run = make_plan(recipe, data), recipe.run
    share = run.global_batch_size // recipe.scaling.num_workers
    return {
        "global_batch_size": run.global_batch_size,
        "per_worker": share,
        "parts": run.parts(share),
        "at_once": share // run.parts(share),
        "learning_rate": recipe.learning_rate,
        "steps_per_epoch": plan.steps_per_epoch,
        "warmup_steps": round(recipe.schedule.warmup_epochs * plan.steps_per_epoch),
        "total_steps": plan.total_steps,
        "evaluations": sum(plan.evaluates_after(step) for step in range(1, plan.total_steps + 1)),
    }


def _checks(recipe: Recipe, data: DataSet) -> dict[str, Any]:
    """What was found right; anything else ended the dry run."""
    return {
        "data": {
            "name": recipe.data_name,
            "train_images": len(data.train),
            "val_images": len(data.val),
            "classes": len(data.train.classes),
            "train_digest": data.train.digest,
            "val_digest": data.val.digest,
        },
        "storage": {"path": launch.storage_path(recipe), "writable": True},
        "mlflow": {
            "address": shown_tracking_uri(),
            "experiment": recipe.run.experiment,
            "exists": tracking.check_experiment(recipe.run.experiment),
        },
        "shared_memory": {"enough": True},
    }


def text(report: dict[str, Any]) -> str:
    """A report for a person."""
    checks, measured = report["checks"], report["measured"]
    data, mlflow = checks["data"], checks["mlflow"]
    rows = {
        "world": _world(report["world"], measured["devices"]),
        "batch": _arithmetic(report["batch"]),
        "steps": _steps(report["batch"]),
        "data": f"{data['name']}: {data['train_images']:,} training and {data['val_images']:,} validation pictures of "
        f"{data['classes']} classes, digest {data['train_digest'][:12]}",
        "storage": f"{checks['storage']['path']} can be written",
        "MLflow": f"{mlflow['address']} answers; experiment {mlflow['experiment']} "
        + ("takes changes" if mlflow["exists"] else "will be created"),
        "loader": f"the first batch took {measured['first_batch_s']:.1f} s; there is shared memory for all that wait",
        "update": _speed(measured),
        "memory": f"{measured['memory_gb']:.2f} of {measured['memory_total_gb']:.1f} GB, by the worker that needs most",
        "training": f"{tqdm.format_interval(report['expected']['training_s'])}, evaluations not counted, if loader "
        "processes keep up",
    }
    return "\n".join([*_settings(report["recipe"]), *(_row(key, value) for key, value in rows.items())])


def _settings(recipe: dict[str, Any]) -> list[str]:
    """The recipe's sections, as they could be written into its file."""
    sections = {name: values for name, values in recipe.items() if isinstance(values, dict) and name != "expected"}
    return [
        f"{recipe['name']}:",
        *(
            _row(f"[{name}]", ", ".join(f"{key} = {json.dumps(v)}" for key, v in values.items() if v is not None))
            for name, values in sections.items()
        ),
    ]


def _row(key: str, value: str) -> str:
    return textwrap.fill(value, WIDTH, initial_indent=f"  {key:<13} ", subsequent_indent=" " * 16)


def _world(world: dict[str, Any], devices: list[str]) -> str:
    names = ", ".join(f"{devices.count(name)} x {name}" for name in dict.fromkeys(devices))
    return f"{names}; nodes: {world['nodes']}, their cores: {world['cores']}, loader processes: " + str(
        world["loader_processes"]
    )


def _arithmetic(batch: dict[str, Any]) -> str:
    workers = batch["global_batch_size"] // batch["per_worker"]
    parts = f", in {batch['parts']} parts of {batch['at_once']}" if batch["parts"] > 1 else ""
    return (
        f"{batch['global_batch_size']} pictures = {workers} x {batch['per_worker']}{parts}; "
        f"learning rate {batch['learning_rate']:g}"
    )


def _steps(batch: dict[str, Any]) -> str:
    return (
        f"{batch['total_steps']:,}, {batch['steps_per_epoch']:,.6g} in an epoch, {batch['warmup_steps']:,} of warm-up; "
        f"evaluations: {batch['evaluations']}"
    )


def _speed(measured: dict[str, Any]) -> str:
    share = "" if measured["mfu_pct"] is None else f", {measured['mfu_pct']:.1f} % of the device's peak"
    return (
        f"{measured['step_time_s']:.4g} s at {measured['image_size']} px in {measured['precision']} (mean of "
        f"{measured['updates']}): {measured['images_per_s']:.4g} images/s{share}"
    )
