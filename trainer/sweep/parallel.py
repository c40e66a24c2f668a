"""Parallel coordinates: the figure for sweeps of many settings, or of settings of different kinds."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from trainer import figures
from trainer.sweep.results import Result, error_of, finished_of
from trainer.sweep.scales import column

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_parallel(axes: "Axes", keys: Sequence[str], results: Sequence[Result]) -> None:
    """A line for each training through its values, to its error at the right; the best one is bold."""
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    finished = finished_of(results)
    errors = [error_of(result) for result in finished]
    columns = [column([result.point[i] for result in results]) for i in range(len(keys))]
    columns.append(column(errors or [0.0], scale="linear"))
    shade = Normalize(min(errors, default=0), max(errors, default=1))
    for rank, result in enumerate(sorted(finished, key=error_of, reverse=True), 1):  # the best ones on top
        best = rank == len(finished)
        places = [c.place(value) for c, value in zip(columns, [*result.point, result.error_pct], strict=True)]
        colour = figures.VERMILION if best else colormaps["viridis"](shade(error_of(result)))
        axes.plot(*_bent(places), color=colour, linewidth=2.8 if best else 1.4, alpha=1 if best else 0.85)
    for x, c in enumerate(columns):
        axes.axvline(x, color="0.3", linewidth=1, zorder=3)
        for place, label in c.ticks:
            axes.annotate(
                label, (x, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8, zorder=5,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
            )  # fmt: skip
    axes.set_xticks(range(len(columns)), [*keys, "top-1 error (%)"])
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(keys) + 0.25)
    axes.set_ylim(-0.04, 1.04)
    axes.tick_params(axis="x", length=0)
    axes.spines[:].set_visible(False)


def _bent(places: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """A curve that meets each axis at a right angle, so that lines which cross there can be told apart."""
    share = np.linspace(0, 1, 30)
    step = share * share * (3 - 2 * share)
    x = [i + share for i in range(len(places) - 1)]
    y = [a + (b - a) * step for a, b in pairwise(places)]
    return np.concatenate(x), np.concatenate(y)
