"""A sweep's trainings: below one MLflow run, which holds all settings, the best figures and a figure of all of them.

Only the best network is registered. A registry is for networks that somebody may want to use, and each version is a
step in the history of its model: forty points of a sweep are forty rows that say nothing, and `champion` would wander
through them. The others are not lost: their checkpoints stay where the recipe keeps them.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from shared import registry
from shared.errors import TrainingError
from trainer import launch, parents, pretrained, registration, tracking, training
from trainer.config import Recipe
from trainer.sweep import figure, points
from trainer.sweep.figure import ERROR, Result
from trainer.sweep.points import Sweep
from trainer.tracking import Child

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)


def run(sweep: Sweep, concurrent: int | None = None) -> tuple[str, TrainingError | None]:
    """Train all points; returns the parent run's id, and what to raise in the end where some failed.

    Args:
        concurrent: trainings at once, at most.

    Raises:
        UserError: a point cannot work; nothing has started then.
    """
    for recipe in sweep.recipes:
        training.check(recipe)
    # weights to start from are chosen once: an alias may have moved when the sweep goes on
    sweep = replace(sweep, recipes=tuple(pretrained.pin(recipe) for recipe in sweep.recipes))
    parent = tracking.create_parent(
        "sweep", sweep.name, sweep.recipes[0].run.experiment, asdict(sweep), params=_varied(sweep)
    )
    return parent, _train(sweep, parent, concurrent)


def resume(parent: str, concurrent: int | None = None) -> TrainingError | None:
    """Go on with what did not finish, start what never began; returns what to raise in the end where some failed.

    Raises:
        UserError: no such sweep.
    """
    registry.check_reachable()
    return _train(find(parent), parent, concurrent)


def find(parent: str) -> Sweep:
    """The sweep of a parent run.

    Raises:
        UserError: there is none.
    """
    return points.from_settings(tracking.find_parent("sweep", parent))


def _train(sweep: Sweep, parent: str, concurrent: int | None) -> TrainingError | None:
    begun = parents.begun(parent)
    left = [r for r in sweep.recipes if r.name not in begun or begun[r.name].status != "FINISHED"]
    data = [training.check(recipe) for recipe in left]
    failure: TrainingError | None = None
    try:
        with parents.under(parent, "sweep"):
            jobs = []
            for recipe, its_data in zip(left, data, strict=True):
                child = begun.get(recipe.name)
                jobs.append((recipe, child.run_id if child else tracking.create_run(recipe, its_data, parent)))
            failed = _train_each(jobs, parent, concurrent) if jobs else 0
            _register_best(sweep, parent)
            if failed:
                raise TrainingError(f"{failed} of {len(sweep.recipes)} trainings of the sweep failed")
    except TrainingError as error:
        failure = error
    return failure


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
        outcome = f"failed: {cause}" if cause else _outcome(run_id)
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


def _outcome(run_id: str) -> str:
    errors = tracking.history(run_id, ERROR)
    return f"validation error {errors[-1][1]:.2f} %" if errors else "trained"


def _register_best(sweep: Sweep, parent: str) -> None:
    """Make the best network a version, and its figures and settings those of the parent.

    Raises:
        TrainingError: its checkpoint is gone.
    """
    children = tracking.children(parent)
    finished = [r for r in sweep.recipes if r.name in children and children[r.name].status == "FINISHED"]
    if not finished:
        return
    best = min(finished, key=lambda recipe: children[recipe.name].metrics[ERROR])
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


def table(results: Sequence[Result]) -> str:
    """The points by their error, those without one at the end."""
    width = max(len(result.name) for result in results)
    lines = [f"{'training':<{width}}  {'validation error':>16}  {'lowest before':>13}  run"]
    for result in sorted(results, key=lambda r: (r.status != "FINISHED", r.error_pct or 0)):
        final = f"{result.error_pct:.2f} %" if result.error_pct is not None else ""
        lowest = f"{result.lowest_pct:.2f} %" if result.lowest_pct is not None else ""
        if result.status != "FINISHED":
            final = result.status.lower()
        lines.append(f"{result.name:<{width}}  {final:>16}  {lowest:>13}  {result.run_id}")
    return "\n".join(lines)


def _result(sweep: Sweep, recipe: Recipe, child: Child | None) -> Result:
    metrics = child.metrics if child else {}
    finished = child is not None and child.status == "FINISHED"
    return Result(
        name=recipe.name,
        point=sweep.point(recipe),
        error_pct=metrics.get(ERROR) if finished else None,
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
