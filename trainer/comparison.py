"""The classic picture: top-1 error on ImageNet against cost and size, published and measured.

The published errors are those that the recipes expect: the recipe with the architecture's own name.
"""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from math import sqrt
from typing import TYPE_CHECKING, Any

from shared import versions
from shared.errors import UserError
from shared.models import ARCHITECTURES, describe
from shared.models.zoo import Description
from trainer import figures, recipes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEN_CROPS = "ten crops of each picture; all others: one"
ABOVE_PUBLISHED = 4.0
"""Percent above the highest published error: what was measured above that is drawn there, with its figure."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """An architecture, what it costs, and its published error."""

    cost: Description
    top1_error_pct: float | None
    top1_error_source: str | None

    @property
    def ten_crops(self) -> bool:
        """Whether the error is of ten crops of each picture: about two points below that of one."""
        return "10 crops" in (self.top1_error_source or "")

    def row(self) -> dict[str, Any]:
        """One line of `python -m trainer models --json`."""
        published = {"top1_error_pct": self.top1_error_pct, "top1_error_source": self.top1_error_source}
        return asdict(self.cost) | published


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """A version of the registry that was evaluated on ImageNet, or on a part of it."""

    cost: Description
    top1_error_pct: float
    images: int

    @property
    def margin_pct(self) -> float:
        """Half of the 95 % interval: so few pictures tell so much about all others."""
        share = self.top1_error_pct / 100
        return 196 * sqrt(share * (1 - share) / self.images) if self.images else 0.0


_describe = cache(describe)  # what was measured is mostly what is listed


def networks() -> list[Network]:
    """All architectures; an error is there where a recipe of that name expects one on ImageNet."""
    known = set(recipes.names())
    found = []
    for name in ARCHITECTURES:
        recipe = recipes.load(name) if name in known else None
        error = recipe.expected.top1_error_pct if recipe and recipe.data_name == "imagenet" else None
        source = recipe.expected.source if recipe and error is not None else None
        found.append(Network(cost=_describe(name), top1_error_pct=error, top1_error_source=source))
    return found


def table(networks: Sequence[Network]) -> str:
    """What `python -m trainer models` prints."""
    lines = [f"{'model':<18} {'parameters':>12} {'GMACs':>8}  {'stride':>6}  {'top-1 error':>11}  source"]
    for n in networks:
        m, mark = n.cost, "*" if n.ten_crops else " "
        error = "" if n.top1_error_pct is None else f"{n.top1_error_pct:.2f} %{mark}"
        lines.append(f"{m.name:<18} {m.params:>12,} {m.gmacs:>8.3g}  {m.output_stride:>6}  {error:>11}  {m.source}")
    return "\n".join([*lines, f"* {TEN_CROPS}"])


def measurements() -> list[Measurement]:
    """What the registry knows about ImageNet; empty, with a line that says why, where that is nothing."""
    try:
        versions.check_reachable()
        found = [_measurement(version) for version in versions.versions() if _is_comparable(version)]
    except UserError as error:
        log.warning("no measured points: %s", error)
        return []
    if not found:
        log.warning("no measured points: the registry holds no version that was evaluated on ImageNet")
    return found


def _is_comparable(version: versions.Version) -> bool:
    # imagenet, imagenet-sample, ...; Imagenette has ten classes
    on_imagenet = re.match("imagenet(?!te)", version.tags.get("data", ""))
    return bool(on_imagenet) and version.architecture in ARCHITECTURES and version.top1_error_pct is not None


def _measurement(version: versions.Version) -> Measurement:
    width = re.search(r"-w([\d.]+)-", version.name)  # see Recipe.registered_name
    assert version.top1_error_pct is not None
    return Measurement(
        cost=_describe(version.architecture, width=float(width[1]) if width else 1.0),
        top1_error_pct=version.top1_error_pct,
        images=int(float(version.tags.get("images", 0))),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Family:
    title: str
    prefix: str
    """Of the architectures' names; the first family that fits takes a network."""

    label: str
    """What a point is called: followed by the depth."""

    colour: str
    marker: str
    joined: bool = True


_FAMILIES = (
    _Family(title="VGG", prefix="vgg", label="VGG-", colour=figures.GREY, marker="v"),
    _Family(title="plain", prefix="plain", label="plain-", colour=figures.ORANGE, marker="X"),
    _Family(title="ResNet", prefix="resnet", label="", colour="black", marker="o"),
    _Family(title="DRN-A", prefix="drn_a_", label="A-", colour=figures.SKY, marker="s"),
    _Family(title="DRN-B", prefix="drn_b_", label="B-", colour=figures.PURPLE, marker="P"),
    _Family(title="DRN-C", prefix="drn_c_", label="C-", colour=figures.VERMILION, marker="^"),
    _Family(title="DRN-D", prefix="drn_d_", label="D-", colour=figures.GREEN, marker="D"),
    _Family(title="other classics", prefix="", label="", colour=figures.GREY, marker="d", joined=False),
)
_Quantity = Callable[[Description], float]
_WRITTEN = {"alexnet": "AlexNet", "googlenet": "GoogLeNet", "inception_v3": "Inception-v3"}


def draw(networks: Sequence[Network], measured: Sequence[Measurement]) -> "Figure":
    """Error against multiply-accumulates and against parameters, families by colour and marker."""
    published = [(n, error) for n in networks if (error := n.top1_error_pct) is not None]
    figure = figures.new_figure(10, 6)
    by_cost, by_size = figure.subplots(1, 2, sharey=True)
    by_cost.set_xlabel("multiply-accumulates for one picture (billions)")
    by_size.set_xlabel("parameters (millions)")
    by_cost.set_ylabel("top-1 error on ImageNet (%)")
    if any(n.ten_crops for n, _ in published):
        by_size.set_title(f"* {TEN_CROPS}", loc="right", fontsize=8, color=figures.GREY)
    panels: tuple[tuple[Axes, _Quantity], ...] = ((by_cost, lambda c: c.gmacs), (by_size, lambda c: c.params / 1e6))
    for axes, quantity in panels:
        _draw_published(axes, published, quantity)
        _draw_measured(axes, measured, quantity, highest=max(error for _, error in published) + ABOVE_PUBLISHED)
    handles, titles = by_cost.get_legend_handles_labels()
    figure.legend(handles, titles, loc="outside lower center", ncols=5, frameon=False)
    for axes, quantity in panels:
        figures.place_labels(axes, [_label(n, error, quantity) for n, error in published])
    return figure


def _draw_published(axes: "Axes", published: Sequence[tuple[Network, float]], quantity: _Quantity) -> None:
    from matplotlib.ticker import LogLocator

    for family in _FAMILIES:
        members = sorted((quantity(n.cost), error) for n, error in published if _family(n.cost.name) is family)
        if members:
            axes.plot(
                *zip(*members, strict=True), label=family.title,
                color=family.colour, linewidth=1.2 if family.joined else 0, marker=family.marker, markersize=6,
                markeredgecolor="white", markeredgewidth=0.5, zorder=2 + 1 / len(members),  # small families on top
            )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.margins(0.07)
    figures.tidy(axes)


def _draw_measured(axes: "Axes", measured: Sequence[Measurement], quantity: _Quantity, highest: float) -> None:
    title: str | None = _measured_title(measured)
    for m in measured:
        x, y, colour = quantity(m.cost), min(m.top1_error_pct, highest), _family(m.cost.name).colour
        if m.top1_error_pct > highest:  # a network that has hardly learned would squash all the others
            axes.annotate(
                f"{m.top1_error_pct:.0f} % \u2191", (x, y), xytext=(7, -3), textcoords="offset points", fontsize=7.5
            )
        else:
            axes.plot([x, x], [y - m.margin_pct, y + m.margin_pct], color=colour, linewidth=0.8, zorder=1)
        axes.plot(
            x, y, label=title, color=colour, linewidth=0,
            marker="*", markersize=11, markerfacecolor="none", markeredgewidth=1.2, zorder=4,
        )  # fmt: skip
        title = None  # one line in the legend


def _measured_title(measured: Sequence[Measurement]) -> str:
    counts = sorted({m.images for m in measured})
    images = f"{counts[0]:,}" if len(counts) == 1 else f"{min(counts, default=0):,} to {max(counts, default=0):,}"
    return f"measured here ({images} images; bar: 95 %)"


def _label(network: Network, error: float, quantity: _Quantity) -> figures.Label:
    name, family = network.cost.name, _family(network.cost.name)
    text = _WRITTEN.get(name, family.label + name.removeprefix(family.prefix)) + ("*" if network.ten_crops else "")
    return figures.Label(x=quantity(network.cost), y=error, text=text, colour=family.colour)


def _family(name: str) -> _Family:
    return next(family for family in _FAMILIES if name.startswith(family.prefix))
