"""Axes for the values of a setting: numbers, evenly or by order of magnitude, and everything else as a list."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Name = Literal["linear", "log", "symlog"]

TICKS = 8
"""More values than that on an axis are not each named."""
WIDE = 10
"""Values that span this factor are shown by order of magnitude."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A setting's axis from 0 to 1."""

    place: Callable[[Any], float]
    ticks: list[tuple[float, str]]


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def text(value: Any) -> str:
    if is_number(value):
        return f"{value:g}"
    if isinstance(value, tuple):
        return f"[{', '.join(text(item) for item in value)}]"
    return "none" if value is None else str(value)


def distinct(values: Sequence[Any]) -> list[Any]:
    """Numbers by size, others in their order."""
    found = list(dict.fromkeys(values))
    return sorted(found) if all(is_number(value) for value in found) else found


def scale_of(values: Sequence[float]) -> Name:
    """By order of magnitude where the values are wide apart, or stand more evenly so; a zero among them is kept."""
    found = sorted(set(values))
    positive = [value for value in found if value > 0]
    if len(positive) < 2 or found[0] < 0:
        return "linear"
    wide = positive[-1] / positive[0] >= WIDE
    gaps = [b - a for a, b in pairwise(positive)]
    ratios = [log(b / a) for a, b in pairwise(positive)]
    # a tenth: steps of 0.1 are not quite even in binary
    even = len(positive) > 2 and 1.1 * max(ratios) / min(ratios) < max(gaps) / min(gaps)
    if not (wide or even):
        return "linear"
    return "log" if found[0] > 0 else "symlog"


def set_scale(axes: "Axes", which: Literal["x", "y"], values: Sequence[float]) -> None:
    """Scale and ticks of one side of `axes`."""
    from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator

    scale, found = scale_of(values), distinct(values)
    axis = axes.xaxis if which == "x" else axes.yaxis
    options = {"linthresh": min(value for value in found if value > 0)} if scale == "symlog" else {}
    (axes.set_xscale if which == "x" else axes.set_yscale)(scale, **options)
    axis.set_minor_formatter(NullFormatter())
    if len(found) <= TICKS:
        axis.set_major_locator(FixedLocator(found))
        axis.set_minor_locator(NullLocator())
    elif scale == "log":
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if found[-1] / found[0] < 1000 else (1,)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")


def column(values: Sequence[Any], scale: Name | None = None) -> Column:
    """The axis of one setting among several; the values choose its scale if nobody else does."""
    found = distinct(values)
    if not all(is_number(value) for value in found):
        last = max(1, len(found) - 1)
        places = {value: i / last for i, value in enumerate(found)}
        return Column(place=places.__getitem__, ticks=[(place, text(value)) for value, place in places.items()])
    scale = scale or scale_of(found)
    measure = _measure(found, scale)
    low, high = measure(found[0]), measure(found[-1])

    def place(value: float) -> float:
        return (measure(value) - low) / (high - low) if high > low else 0.5

    shown = found if len(found) <= TICKS else _round_numbers(found, scale)
    return Column(place=place, ticks=[(place(value), text(value)) for value in shown])


def _measure(found: Sequence[float], scale: Name) -> Callable[[float], float]:
    if scale == "linear":
        return float
    smallest = min(value for value in found if value > 0)
    # as matplotlib's symlog: a zero lies one step below the smallest
    return lambda value: log(value / smallest) if value > 0 else -1.0


def _round_numbers(found: Sequence[float], scale: Name) -> list[float]:
    from matplotlib.ticker import LogLocator, MaxNLocator

    locator = MaxNLocator(5) if scale == "linear" else LogLocator(subs=(1, 2, 5))
    low = min(value for value in found if value > 0) if isinstance(locator, LogLocator) else found[0]
    return [float(value) for value in locator.tick_values(low, found[-1]) if low <= value <= found[-1]]
