"""`python -m trainer study`: several trainings below one MLflow run, and one figure of all their errors.

The parent run holds the study with all its settings, so that it can be resumed and drawn again from its id alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from shared import registry
from trainer import figures, parents, pretrained, studies, tracking, training
from trainer.studies import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = list[tuple[float, float]]
"""(update, error in %), in order."""

Row = tuple[str, float | None, float | None]
"""Network, training error and validation error in percent; None where there is none yet."""

SETTLED = 0.15
"""Errors before this share of the training may leave the figure at its top: all begin by guessing."""

CAPTION = (
    "Bold: validation error at the end of each epoch. "
    "Thin, dashed: training error, a mean over each epoch of augmented pictures while the weights change."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """The errors of one network, an epoch a point."""

    training: Points
    validation: Points


def run(study: Study) -> str:
    """Train the recipes one after the other below a parent run; returns its id.

    Raises:
        UserError: one of them cannot work; nothing has started then.
        TrainingError: a training failed; `resume` goes on.
    """
    training.check_all(study.recipes)
    # weights to start from are chosen once: an alias may have moved when the study goes on
    panels = {title: [pretrained.pin(recipe) for recipe in panel] for title, panel in study.panels.items()}
    study = replace(study, panels=panels)
    parent = tracking.create_parent("study", study.name, study.recipes[0].run.experiment, asdict(study))
    _train(study, parent)
    return parent


def resume(parent: str) -> None:
    """Go on with the trainings that were interrupted, and start those that never began.

    Raises:
        UserError: no such study.
        TrainingError: a training failed again.
    """
    registry.check_reachable()
    study = find(parent)
    _train(study, parent)


def find(parent: str) -> Study:
    """The study of a parent run.

    Raises:
        UserError: there is none.
    """
    return studies.from_settings(tracking.find_parent("study", parent))


def _train(study: Study, parent: str) -> None:
    begun = parents.begun(parent)
    missing = [recipe for recipe in study.recipes if recipe.name not in begun]
    interrupted = [child.run_id for child in begun.values() if child.status != "FINISHED"]
    with parents.under(parent, "study"):
        # one at most: they are trained one after the other
        if interrupted:
            training.resume(interrupted[0], missing, parent)
        elif missing:
            training.train(missing, parent)


def curves(parent: str) -> dict[str, Curve]:
    """Recipe -> its errors so far, for those that have any."""
    found = {}
    for name, child in tracking.children(parent).items():
        validation = tracking.history(child.run_id, "val/top1_error_pct")
        intervals = tracking.history(child.run_id, "train/top1_error_pct")
        if validation:
            ends = [step for step, _ in validation]
            found[name] = Curve(training=epoch_means(intervals, ends), validation=validation)
    return found


def epoch_means(intervals: Points, ends: Sequence[float]) -> Points:
    """Errors of log intervals -> one point an epoch: the mean of the intervals that end in it, at their mean step.

    A log interval shows a few thousand pictures, an epoch every one of them once: that is noise enough averaged away.

    Args:
        ends: the last update of each epoch; what is logged after the last one is left out.
    """
    steps = np.array([step for step, _ in intervals])
    errors = np.array([error for _, error in intervals])
    epoch = np.searchsorted(ends, steps)  # an interval that ends with an epoch belongs to it
    members = [epoch == i for i in range(len(ends))]
    return [(float(steps[m].mean()), float(errors[m].mean())) for m in members if m.any()]


def table(rows: Sequence[Row]) -> str:
    lines = [f"{'network':<20} {'training error':>15} {'validation error':>17}"]
    for network, *errors in rows:
        training, validation = ("" if error is None else f"{error:.2f} %" for error in errors)
        lines.append(f"{network:<20} {training:>15} {validation:>17}")
    return "\n".join(lines)


def rows(study: Study, found: dict[str, Curve]) -> list[Row]:
    """The errors of each network's last epoch."""
    found_rows: list[Row] = []
    for recipe in study.recipes:
        curve = found.get(recipe.name, Curve(training=[], validation=[]))
        last = [points[-1][1] if points else None for points in (curve.training, curve.validation)]
        found_rows.append((study.label(recipe), last[0], last[1]))
    return found_rows


def report(parent: str) -> tuple["Figure", list[Row]]:
    """The figure, which is logged to the parent run, and the table; also of a study that is not finished.

    Raises:
        UserError: there is no such study.
    """
    registry.check_reachable()
    study, found = find(parent), curves(parent)
    figure = draw(study, found)
    tracking.log_figure(parent, figure, f"{study.name}.png")
    return figure, rows(study, found)


def draw(study: Study, found: dict[str, Curve]) -> "Figure":
    """Errors over updates as in figure 6 of arXiv:1512.03385: thin for training, bold for validation.

    A panel's first network has the same colour in every panel, and so on: where a panel lists its networks by depth,
    a colour is a depth. Training errors are means over epochs (`epoch_means`).
    """
    from matplotlib.ticker import EngFormatter

    figure = figures.new_figure(1 + 4.6 * len(study.panels), 4.6)
    panels = figure.subplots(1, len(study.panels), sharey=True, sharex=True, squeeze=False)[0]
    for axes, (title, recipes) in zip(panels, study.panels.items(), strict=True):
        axes.set_title(title, fontsize=11)
        for i, recipe in enumerate(recipes):
            if curve := found.get(recipe.name):
                colour = figures.SERIES[i % len(figures.SERIES)]
                error = curve.validation[-1][1]
                label = f"{study.label(recipe)}: {error:.1f} %"
                # dots: a training of one epoch has one point
                axes.plot(*_xy(curve.training), "o", linestyle=(0, (4, 2)), color=colour, linewidth=1.0, markersize=2)
                axes.plot(*_xy(curve.validation), "o-", color=colour, linewidth=2.2, markersize=3.5, label=label)
        axes.set_xlabel("iterations")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        figures.tidy(axes)
        if axes.lines:
            axes.legend(title="last validation error", frameon=False, loc="upper right", alignment="left")
    panels[0].set_ylabel("top-1 error (%)")
    panels[0].set_xlim(left=0)
    panels[0].set_ylim(0, _ceiling(found.values()))
    figure.suptitle(study.title)
    figure.supxlabel(CAPTION, fontsize=8, color=figures.GREY)
    return figure


def _xy(points: Points) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _ceiling(found: Iterable[Curve]) -> float:
    """The largest error after the first SETTLED of each training, and a little air."""
    late = [0.0]
    for curve in found:
        points = [*curve.training, *curve.validation]
        last = max(x for x, _ in points)
        late += [y for x, y in points if x >= SETTLED * last]
    return min(100.0, 1.05 * max(late)) or 100.0
