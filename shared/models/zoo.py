"""The architectures of this project: what there is, how to build one, what one costs."""

import difflib
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from shared.errors import UserError
from shared.models import drn, resnet

DRN_PAPER = "Yu, Koltun and Funkhouser 2017, arXiv:1705.09914"
RESNET_PAPER = "He et al. 2015, arXiv:1512.03385"

ARCHITECTURES: dict[str, str] = {
    **dict.fromkeys(resnet.RESNETS, RESNET_PAPER),
    **{name.split(".")[0]: DRN_PAPER for name in resnet.default_cfgs},
    **dict.fromkeys(drn.VARIANTS, DRN_PAPER),
}
"""Name -> source, from the plain to the dilated."""


def create_model(name: str, *, num_classes: int = 1000, width: float = 1.0, **kwargs: Any) -> nn.Module:
    """A network with fresh weights, in training mode.

    Raises:
        UserError: no such architecture, or a width that is not above 0.
    """
    check_name(name)
    if name in resnet.RESNETS:
        if width != 1.0:
            return resnet.narrow_resnet(name, width, num_classes=num_classes, **kwargs)
        return timm.create_model(name, num_classes=num_classes, **kwargs)
    return timm.create_model(name, num_classes=num_classes, width=width, **kwargs)


def check_name(name: str) -> None:
    if name not in ARCHITECTURES:
        near = difflib.get_close_matches(name, ARCHITECTURES, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else "`python -m trainer models` lists them"
        raise UserError(f"unknown model {name!r}; {hint}")


def output_stride(model: nn.Module) -> int:
    """Input pixels per cell of the last feature map, along one axis."""
    levels: Any = model.feature_info  # timm's convention
    return int(levels[-1]["reduction"])


def max_dilation(model: nn.Module) -> int:
    """The largest dilation in the network: the period of the lattice that it can leave on its maps. 1 for a ResNet."""
    return max(m.dilation[0] for m in model.modules() if isinstance(m, nn.Conv2d))


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    name: str
    params: int
    gmacs: float
    """Multiply-accumulate operations of convolutions and linear layers, in billions, for one image."""
    output_stride: int
    source: str


def describe(name: str, *, num_classes: int = 1000, width: float = 1.0, image_size: int = 224) -> Description:
    """Size and cost, counted on the meta device: no memory, no arithmetic."""
    with torch.device("meta"):
        model = create_model(name, num_classes=num_classes, width=width).eval()
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            model(torch.empty(1, 3, image_size, image_size))
    return Description(
        name=name,
        params=sum(p.numel() for p in model.parameters()),
        gmacs=round(counter.get_total_flops() / 2e9, 2),
        output_stride=output_stride(model),
        source=ARCHITECTURES[name],
    )
