"""What figures of this project share: where they are written, their colours, and labels that keep out of the way."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import cos, radians, sin
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared.errors import UserError

if TYPE_CHECKING:  # matplotlib takes a second to import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")

# Okabe and Ito's colours, which people with any colour vision tell apart
BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE, GREY = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#767676",
)  # fmt: skip

SERIES = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, GREY)


def check_path(name: str) -> Path:
    """Where a figure shall go, checked before any work is done for it.

    Raises:
        UserError: a suffix that is not among SUFFIXES, or a folder that is missing or cannot be written.
    """
    path = Path(name)
    if path.suffix not in SUFFIXES:
        raise UserError(f"--plot {name}: a figure's name ends in {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise UserError(f"--plot {name}: there is no folder {path.parent}; create it or choose another")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"--plot {name} cannot be written; choose another file")
    return path


def new_figure(width_in: float, height_in: float) -> "Figure":
    """An empty figure, without pyplot: nothing global, no window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained", facecolor="white")


def save(figure: "Figure", path: Path) -> None:
    figure.savefig(path, dpi=160)


def tidy(axes: "Axes") -> None:
    """A pale grid behind the data, and no frame where there is no axis."""
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """A text beside the point (x, y), in data coordinates."""

    x: float
    y: float
    text: str
    colour: str


def place_labels(axes: "Axes", labels: Sequence[Label], size_pt: float = 7.5) -> None:
    """Write each label where it hides least: markers, lines and the labels before it count, and so does distance.

    Call it last, when the limits of `axes` are settled and everything else is drawn.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.text import Text

    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    pixels_per_pt = figure.dpi / 72
    occupied = np.concatenate([_dots(np.asarray(line.get_xydata()), axes, pixels_per_pt) for line in axes.lines])
    texts = [
        axes.annotate(
            label.text, (label.x, label.y), xytext=(0, 0), textcoords="offset points", ha="center", va="center",
            color=tuple(0.75 * c for c in to_rgb(label.colour)), fontsize=size_pt,  # thin strokes look paler than areas
            arrowprops={"arrowstyle": "-", "color": label.colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0},
        )
        for label in labels
    ]  # fmt: skip
    boxes: dict[int, np.ndarray] = {}
    for _ in range(3):  # the first labels did not know of the last ones
        for i, (label, text) in enumerate(zip(labels, texts, strict=True)):
            text.set_in_layout(False)  # the layout stays the one that was measured
            half = np.array(Text.get_window_extent(text).size) / 2
            anchor = axes.transData.transform((label.x, label.y))
            others = [box for j, box in boxes.items() if j != i]
            offsets = _offsets(half, pixels_per_pt)
            costs = [_cost(anchor + o, half, float(np.hypot(*o)), occupied, others, axes) for o in offsets]
            best = offsets[int(np.argmin(costs))]
            text.set_position(tuple(best / pixels_per_pt))
            boxes[i] = _box(anchor + best, half)


def _offsets(half: np.ndarray, pixels_per_pt: float) -> list[np.ndarray]:
    """Sixteen directions at three distances; at the first, the text's box just clears a marker."""
    directions = [np.array([cos(radians(a)), sin(radians(a))]) for a in np.arange(0, 360, 22.5)]
    return [d * (half + gap_pt * pixels_per_pt) for gap_pt in (5.0, 9.0, 14.0) for d in directions]


def _cost(
    centre: np.ndarray,
    half: np.ndarray,
    distance: float,
    occupied: np.ndarray,
    others: list[np.ndarray],
    axes: "Axes",
) -> float:
    box = _box(centre, half + 1)
    frame = axes.bbox.get_points()
    outside = np.maximum(frame[0] - box[0], 0).sum() + np.maximum(box[1] - frame[1], 0).sum()
    covered = ((occupied > box[0]) & (occupied < box[1])).all(axis=1).sum()
    overlaps = sum(np.prod(np.clip(np.minimum(box[1], t[1]) - np.maximum(box[0], t[0]), 0, None)) for t in others)
    return float(100 * outside + 4 * covered + 5 * overlaps + distance)


def _box(centre: np.ndarray, half: np.ndarray) -> np.ndarray:
    return np.stack([centre - half, centre + half])


def _dots(points: np.ndarray, axes: "Axes", pixels_per_pt: float) -> np.ndarray:
    """(n, 2) data coordinates of a line and its markers -> (m, 2) pixels that it covers."""
    pixels = axes.transData.transform(points)
    corners = pixels_per_pt * np.array([(x, y) for x in (-3, 0, 3) for y in (-3, 0, 3)])
    pieces = [(pixels[:, None] + corners).reshape(-1, 2)]
    for start, end in pairwise(pixels):
        pieces.append(np.linspace(start, end, int(np.hypot(*(end - start)) / 2), endpoint=False))
    return np.concatenate(pieces)
