"""One figure of a sweep: which kind of it shows the most depends on what varied."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trainer import figures
from trainer.sweep.parallel import draw_parallel
from trainer.sweep.results import Result, error_of, finished_of
from trainer.sweep.scales import distinct, is_number, set_scale, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["curve", "list", "heat map", "scatter", "parallel"]


def kind_of(results: Sequence[Result]) -> Kind:
    columns = list(zip(*(result.point for result in results), strict=True))
    numeric = [all(is_number(value) for value in column) for column in columns]
    if len(columns) == 1:
        return "curve" if numeric[0] else "list"
    if len(columns) == 2:
        if len(results) == len(distinct(columns[0])) * len(distinct(columns[1])):
            return "heat map"
        if all(numeric):
            return "scatter"
    return "parallel"


def draw(title: str, keys: Sequence[str], results: Sequence[Result]) -> "Figure":
    """The figure of the kind that fits; trainings that are not finished are marked where there is a place for them."""
    kind = kind_of(results)
    width = 2.4 * len(keys) + 2.5 if kind == "parallel" else 6.4
    figure = figures.new_figure(max(width, 6.4), 4.4)
    axes = figure.subplots()
    finished = finished_of(results)
    _DRAWN[kind](axes, keys, results)
    figure.suptitle(title)
    caption = [f"Top-1 error on {finished[0].images:,} validation pictures after the last update."] if finished else []
    if kind in ("curve", "list") and finished:
        caption.append("Bars: the 95 % interval that this number leaves.")
    if len(finished) < len(results) and kind != "heat map":
        caption.append(f"Not finished: {len(results) - len(finished)} of {len(results)}.")
    figure.supxlabel("\n".join(caption), fontsize=8, color=figures.GREY)
    return figure


def _curve(axes: "Axes", keys: Sequence[str], results: Sequence[Result]) -> None:
    finished = finished_of(results)
    set_scale(axes, "x", [result.point[0] for result in results])
    _plot_with_bars(axes, sorted(finished, key=lambda r: r.point[0]))
    for result in results:
        if result.error_pct is None:
            axes.plot(result.point[0], 0.97, "x", color=figures.VERMILION, transform=axes.get_xaxis_transform())
            axes.annotate(
                result.status.lower(), (result.point[0], 0.97), xycoords=axes.get_xaxis_transform(), fontsize=8,
                xytext=(0, -12), textcoords="offset points", ha="center", color=figures.VERMILION,
            )  # fmt: skip
    axes.set_xlabel(keys[0])
    axes.set_ylabel("top-1 error (%)")
    figures.tidy(axes)
    axes.margins(y=0.12)
    if finished:
        best = min(finished, key=error_of)
        axes.plot(best.point[0], error_of(best), "o", markersize=8, color=figures.VERMILION, zorder=4)
        label = f"{best.point[0]:g}: {best.error_pct:.1f} %"
        figures.place_labels(
            axes, [figures.Label(x=best.point[0], y=error_of(best), text=label, colour=figures.VERMILION)], 9
        )


def _plot_with_bars(axes: "Axes", finished: Sequence[Result]) -> None:
    x, y = [result.point[0] for result in finished], [error_of(result) for result in finished]
    axes.plot(x, y, "o-", color=figures.BLUE, linewidth=1.6, markersize=5)
    for result in finished:
        low, high = error_of(result) - result.margin_pct, error_of(result) + result.margin_pct
        axes.plot([result.point[0]] * 2, [low, high], color=figures.BLUE, linewidth=1)


def _list(axes: "Axes", keys: Sequence[str], results: Sequence[Result]) -> None:
    """The best at the top."""
    ranked = sorted(results, key=lambda r: (r.error_pct is None, r.error_pct or 0))
    for place, result in enumerate(ranked):
        if result.error_pct is None:
            axes.annotate(
                result.status.lower(), (0.02, place), xycoords=axes.get_yaxis_transform(), fontsize=8, va="center",
                color=figures.VERMILION,
            )  # fmt: skip
            continue
        colour = figures.BLUE if place else figures.VERMILION
        axes.plot(
            [result.error_pct - result.margin_pct, result.error_pct + result.margin_pct], [place] * 2, color=colour
        )
        axes.plot(result.error_pct, place, "o", color=colour)
        axes.annotate(
            f"{result.error_pct:.1f} %", (result.error_pct, place), xytext=(0, 6), textcoords="offset points",
            ha="center", fontsize=8, color=colour,
        )  # fmt: skip
    axes.set_yticks(range(len(ranked)), [text(result.point[0]) for result in ranked])
    axes.set_ylim(len(ranked) - 0.5, -0.5)
    axes.set_ylabel(keys[0])
    axes.set_xlabel("top-1 error (%)")
    axes.margins(x=0.1)
    figures.tidy(axes)


def _heat_map(axes: "Axes", keys: Sequence[str], results: Sequence[Result]) -> None:
    """A cell for each combination, the values of the first key from left to right."""
    finished = finished_of(results)
    columns, rows = (distinct([result.point[i] for result in results]) for i in (0, 1))
    errors = np.full((len(rows), len(columns)), np.nan)
    for result in finished:
        errors[rows.index(result.point[1]), columns.index(result.point[0])] = error_of(result)
    image = axes.imshow(errors, cmap="viridis", origin="lower", aspect="auto")
    middle = (np.nanmin(errors) + np.nanmax(errors)) / 2 if finished else 0
    best = min(finished, key=error_of, default=None)
    for result in results:
        x, y, error = columns.index(result.point[0]), rows.index(result.point[1]), result.error_pct
        colour = figures.VERMILION if error is None else "white" if error <= middle else "black"
        label = result.status.lower() if error is None else f"{error:.1f}"
        weight = "bold" if result is best else "normal"
        axes.text(x, y, label, ha="center", va="center", color=colour, fontsize=9, fontweight=weight)
    if best is not None:
        from matplotlib.patches import Rectangle

        x, y = columns.index(best.point[0]), rows.index(best.point[1])
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, color=figures.VERMILION, linewidth=2.5))
    axes.set_xticks(range(len(columns)), [text(value) for value in columns])
    axes.set_yticks(range(len(rows)), [text(value) for value in rows])
    axes.set_xlabel(keys[0])
    axes.set_ylabel(keys[1])
    axes.spines[:].set_visible(False)
    _colour_bar(axes, image)


def _scatter(axes: "Axes", keys: Sequence[str], results: Sequence[Result]) -> None:
    """Two numbers that were drawn at random: a point for each training."""
    finished = finished_of(results)
    set_scale(axes, "x", [result.point[0] for result in results])
    set_scale(axes, "y", [result.point[1] for result in results])
    for result in results:
        if result.error_pct is None:
            axes.plot(*result.point, "x", color=figures.GREY)
    if finished:
        x, y = zip(*(result.point for result in finished), strict=True)
        errors = [error_of(result) for result in finished]
        image = axes.scatter(x, y, c=errors, cmap="viridis", s=70, edgecolors="white", linewidths=0.6, zorder=3)
        _colour_bar(axes, image)
        best = min(finished, key=error_of)
        axes.plot(*best.point, "o", markersize=13, color=figures.VERMILION, fillstyle="none", markeredgewidth=1.8)
        label = f"{best.error_pct:.1f} %"
        figures.place_labels(
            axes, [figures.Label(x=best.point[0], y=best.point[1], text=label, colour=figures.VERMILION)], 9
        )
    axes.set_xlabel(keys[0])
    axes.set_ylabel(keys[1])
    figures.tidy(axes)


def _colour_bar(axes: "Axes", image: Any) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    bar = figure.colorbar(image, ax=axes, label="top-1 error (%)")
    bar.outline.set_visible(False)


_DRAWN: dict[Kind, Callable[["Axes", Sequence[str], Sequence[Result]], None]] = {
    "curve": _curve,
    "list": _list,
    "heat map": _heat_map,
    "scatter": _scatter,
    "parallel": draw_parallel,
}
