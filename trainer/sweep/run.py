"""A sweep's trainings: below one MLflow run, which holds all settings, the best figures and a figure of all of them.

Only the best network is registered. A registry is for networks that somebody may want to use, and each version is a
step in the history of its model: forty points of a sweep are forty rows that say nothing, and `champion` would wander
through them. The others are not lost: their checkpoints stay where the recipe keeps them.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from math import inf
from typing import TYPE_CHECKING

from shared import registry
from shared.errors import TrainingError
from trainer import launch, parents, pretrained, registration, tracking, training
from trainer.config import DataConfig, Recipe
from trainer.data import DataSet
from trainer.sweep import figure, points
from trainer.sweep.points import Sweep
from trainer.sweep.results import ERROR, Result, kept_error, table
from trainer.tracking import Child

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)


class PartlyFailedError(TrainingError):
    """Some trainings failed; the others are trained, and can be looked at.

    Args:
        parent: the run above them.
    """

    def __init__(self, message: str, parent: str) -> None:
        super().__init__(message)
        self.parent = parent


def run(sweep: Sweep, concurrent: int | None = None) -> str:
    """Train all points; returns the parent run's id.

    Args:
        concurrent: trainings at once, at most.

    Raises:
        UserError: a point cannot work; nothing has started then.
        PartlyFailedError: after the last one.
    """
    data = _check(sweep.recipes)
    # weights to start from are chosen once: an alias may have moved when the sweep goes on
    sweep = replace(sweep, recipes=tuple(pretrained.pin(recipe) for recipe in sweep.recipes))
    parent = tracking.create_parent(
        "sweep", sweep.name, sweep.recipes[0].run.experiment, asdict(sweep), params=_varied(sweep)
    )
    with parents.under(parent, "sweep"):
        jobs = [(r, tracking.create_run(r, d, parent)) for r, d in zip(sweep.recipes, data, strict=True)]
        _train(sweep, jobs, parent, concurrent)
    return parent


def resume(parent: str, concurrent: int | None = None) -> None:
    """Go on with what did not finish, and start what never began.

    Raises:
        UserError: no such sweep.
        PartlyFailedError: after the last one.
    """
    registry.check_reachable()
    sweep, begun = find(parent), parents.begun(parent)
    left = [r for r in sweep.recipes if r.name not in begun or begun[r.name].status != "FINISHED"]
    data = _check(left)
    with parents.under(parent, "sweep"):
        ids = {name: child.run_id for name, child in begun.items()}
        jobs = [(r, ids.get(r.name) or tracking.create_run(r, d, parent)) for r, d in zip(left, data, strict=True)]
        _train(sweep, jobs, parent, concurrent)


def find(parent: str) -> Sweep:
    """The sweep of a parent run.

    Raises:
        UserError: there is none.
    """
    return points.from_settings(tracking.find_parent("sweep", parent))


def _check(recipes: Sequence[Recipe]) -> list[DataSet]:
    """What `training.check` returns for each. Those with the same data share it: an index of ImageNet takes memory."""
    found: dict[DataConfig, DataSet] = {}
    return [found.setdefault(recipe.data, training.check(recipe)) for recipe in recipes]


def _train(sweep: Sweep, jobs: Sequence[tuple[Recipe, str]], parent: str, concurrent: int | None) -> None:
    failed = _train_each(jobs, parent, concurrent) if jobs else 0
    _register_best(sweep, parent)
    if failed:
        raise PartlyFailedError(f"{failed} of {len(sweep.recipes)} trainings of the sweep failed", parent)


def _train_each(jobs: Sequence[tuple[Recipe, str]], parent: str, concurrent: int | None) -> int:
    """Train and end every run; returns how many failed."""
    from trainer.launch.sweep import sweep

    names = {run_id: recipe.name for recipe, run_id in jobs}
    failed: list[str] = []
    running = set(names)

    def ended(run_id: str, cause: str) -> None:
        running.discard(run_id)
        if cause:
            failed.append(run_id)
            tracking.fail_run(run_id, cause)
        else:
            tracking.end_run(run_id, "FINISHED")
        error = kept_error(tracking.last_values(run_id))
        outcome = f"failed: {cause}" if cause else "trained" if error is None else f"validation error {error:.2f} %"
        log.warning("%d of %d ended: %s: %s", len(jobs) - len(running), len(jobs), names[run_id], outcome)

    status = "FAILED"
    try:
        sweep(jobs, parent, concurrent, ended)
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        for run_id in running:
            tracking.end_run(run_id, status)
    return len(failed)


def _register_best(sweep: Sweep, parent: str) -> None:
    """Make the best network a version, and its figures and settings those of the parent.

    Raises:
        TrainingError: its checkpoint is gone.
    """
    children = tracking.children(parent)
    finished = [r for r in sweep.recipes if r.name in children and children[r.name].status == "FINISHED"]
    if not finished:
        return
    best = min(finished, key=lambda recipe: _or_worst(kept_error(children[recipe.name].metrics)))
    child = children[best.name]
    metrics = {name: value for name, value in child.metrics.items() if name.startswith(("val/", "gridding/"))}
    tags = {f"best {key}": str(value) for key, value in zip(sweep.keys, sweep.point(best), strict=True)}
    tracking.log_summary(parent, metrics, {**tags, "best_run": child.run_id})
    version = registration.register(best, launch.last_state(best, child.run_id))
    log.warning("%s is the best: registered as %s", best.name, version.uri)


def report(parent: str) -> tuple["Figure", str]:
    """The figure, which is logged to the parent run, and a table; also of a sweep that is not finished.

    Raises:
        UserError: there is no such sweep.
    """
    registry.check_reachable()
    sweep, children = find(parent), tracking.children(parent)
    results = [_result(sweep, recipe, children.get(recipe.name)) for recipe in sweep.recipes]
    drawn = figure.draw(sweep.name, sweep.keys, results)
    tracking.log_figure(parent, drawn, "sweep.png")
    return drawn, table(results)


def _result(sweep: Sweep, recipe: Recipe, child: Child | None) -> Result:
    metrics = child.metrics if child else {}
    finished = child is not None and child.status == "FINISHED"
    return Result(
        name=recipe.name,
        point=sweep.point(recipe),
        error_pct=kept_error(metrics) if finished else None,
        lowest_pct=metrics.get(f"{ERROR}_best"),
        images=int(metrics.get("val/images", 0)),
        status=child.status if child else "not begun",
        run_id=child.run_id if child else "",
    )


def _varied(sweep: Sweep) -> dict[str, str]:
    """Each key with its values, in their order: the parent's parameters."""
    values = zip(*(sweep.point(recipe) for recipe in sweep.recipes), strict=True)
    columns = (dict.fromkeys(map(str, column)) for column in values)
    return {key: ", ".join(column) for key, column in zip(sweep.keys, columns, strict=True)}


def _or_worst(error: float | None) -> float:
    return inf if error is None else error
