"""One map out of a forward pass: which level, which channel, which class."""

from dataclasses import dataclass

from torch import Tensor

from demo.inference import CLASS_MAP, Activations, layer_names
from shared.labels import readable
from shared.registry import Served


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What the visitor looks at. Changing it costs no forward pass."""

    level: str = CLASS_MAP
    channel_rank: int | None = None
    """1 is the channel with the highest mean activation; None the mean over all channels."""

    class_name: str | None = None
    """None: each network's own top class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One network's map and scores, ready to be drawn."""

    letter: str
    served: Served
    values: Tensor
    """(H, W)."""

    layer: str
    shows: str
    """Which channel or class `values` is."""

    ghd: float
    variogram: float


def panel(letter: str, served: Served, activations: Activations, view: View) -> Panel:
    """Cut the wanted map out of a forward pass."""
    if view.level == CLASS_MAP:
        index = activations.top_class
        shows = "its top class: "
        if view.class_name in served.card.classes:
            index, shows = served.card.classes.index(view.class_name), "class: "
        values = activations.class_maps[index]
        layer, shows = f"fc on {layer_names(served)['output']}", shows + readable(served.card.classes[index])
    else:
        channels = activations.levels[view.level]
        layer = layer_names(served)[view.level]
        if view.channel_rank is None:
            values, shows = channels.mean(dim=0), f"mean over {len(channels)} channels"
        else:
            index = activations.ranked_channel(view.level, view.channel_rank)
            values, shows = channels[index], f"channel {index}, rank {min(view.channel_rank, len(channels))}"
    return Panel(
        letter=letter,
        served=served,
        values=values,
        layer=layer,
        shows=shows,
        ghd=activations.ghd,
        variogram=activations.variogram,
    )


def response_panel(letter: str, served: Served, activations: Activations, level: str) -> Panel:
    """The mean absolute response over the channels of a level, or over the class maps, relative to its peak."""
    if level == CLASS_MAP:
        maps, layer = activations.class_maps, f"fc on {layer_names(served)['output']}"
    else:
        maps, layer = activations.levels[level], layer_names(served)[level]
    response = maps.mean(dim=0)
    return Panel(
        letter=letter,
        served=served,
        values=response / response.max().clamp(min=1e-30),
        layer=layer,
        shows=f"mean of {len(maps)} absolute responses",
        ghd=activations.ghd,
        variogram=activations.variogram,
    )
