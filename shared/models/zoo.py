"""The architectures of this project: what there is, how to build one, what one costs."""

import difflib
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from shared.errors import UserError
from shared.models import cifar, classics, drn, inception, resnet  # noqa: F401 classics registers itself

DRN_PAPER = "Yu, Koltun and Funkhouser 2017, arXiv:1705.09914"
RESNET_PAPER = "He et al. 2015, arXiv:1512.03385"

ARCHITECTURES: dict[str, str] = {
    "lenet5": "LeCun et al. 1998, Proceedings of the IEEE 86(11)",
    "convnet_mnist": "two convolutions and a linear layer, as in many tutorials",
    "alexnet": "Krizhevsky 2014, arXiv:1404.5997",
    **dict.fromkeys(("vgg11", "vgg13", "vgg16", "vgg19"), "Simonyan and Zisserman 2014, arXiv:1409.1556"),
    "googlenet": "Szegedy et al. 2014, arXiv:1409.4842",
    "inception_v3": "Szegedy et al. 2015, arXiv:1512.00567",
    **dict.fromkeys(cifar.VARIANTS, f"{RESNET_PAPER}, section 4.2"),
    "cifar_resnet_small": "Choi, PyTorch Tutorial (deep residual network)",
    **dict.fromkeys(resnet.PLAIN, RESNET_PAPER),
    **dict.fromkeys(resnet.RESNETS, RESNET_PAPER),
    **dict.fromkeys(resnet.A_TROUS, DRN_PAPER),
    **dict.fromkeys(drn.VARIANTS, DRN_PAPER),
}
"""Name -> source, from the oldest to the dilated. Any other name of timm's registry works too."""

ONE_WIDTH = ("alexnet", "vgg11", "vgg13", "vgg16", "vgg19", "googlenet", "inception_v3")
"""Networks of torchvision and timm that have no width factor, among ARCHITECTURES."""


def create_model(name: str, *, num_classes: int = 1000, width: float = 1.0, **options: Any) -> nn.Module:
    """A network with fresh weights, in training mode.

    Args:
        name: one of ARCHITECTURES or of timm's registry.
        width: factor on all channel counts.
        options: the network's own, such as in_chans, drop_rate or drop_path_rate; None stands for its default.

    Raises:
        UserError: no such architecture, a width that is not above 0, or an option that the architecture has not.
    """
    check_name(name)
    options = {key: value for key, value in options.items() if value is not None} | {"num_classes": num_classes}
    if width != 1.0:
        if name in ONE_WIDTH or name not in ARCHITECTURES:
            raise UserError(f"width={width:g}: {name} exists at its published width only; leave the width at 1")
        if name in resnet.RESNETS:
            return resnet.narrow_resnet(name, width, **options)
        options["width"] = width
    try:
        return inception.inception_v3(**options) if name == "inception_v3" else timm.create_model(name, **options)
    except TypeError as error:
        raise UserError(f"{name} cannot be built with {options} ({error}); leave out what it does not know") from error


def check_name(name: str) -> None:
    if name not in ARCHITECTURES and not _in_timm(name):
        near = difflib.get_close_matches(name, [*ARCHITECTURES, *timm.list_models()], n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else "`python -m trainer models` lists them"
        raise UserError(f"unknown model {name!r}; {hint}")


def _in_timm(name: str) -> bool:
    # only bare names of the registry: timm would fetch "hf-hub:..." and read what "local-dir:..." points to
    return all(c.isalnum() or c in "_-" for c in name) and timm.is_model(name)


def input_size(name: str) -> tuple[int, int]:
    """Channels and side in pixels of the pictures that an architecture is made for."""
    cfg = timm.get_pretrained_cfg(name)
    channels, side, _ = cfg.input_size
    return channels, side


def output_stride(model: nn.Module) -> int:
    """Input pixels per cell of the last feature map, along one axis; 0 where the network has no such map."""
    levels: Any = getattr(model, "feature_info", None)  # timm's convention
    return int(levels[-1]["reduction"]) if levels else 0


def max_dilation(model: nn.Module) -> int:
    """The largest dilation in the network: the period of the lattice that it can leave on its maps. 1 for a ResNet."""
    return max((m.dilation[0] for m in model.modules() if isinstance(m, nn.Conv2d)), default=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    name: str
    params: int
    """Without auxiliary classifiers, which are used in training alone."""
    gmacs: float
    """Multiply-accumulate operations of convolutions and linear layers, in billions, for one image."""
    output_stride: int
    image_size: int
    """Side in pixels of the picture that the operations were counted for."""
    source: str


def check_input(name: str, image_size: int, **options: Any) -> None:
    """Raises UserError where the network cannot be trained on pictures of that size."""
    channels = options.setdefault("in_chans", input_size(name)[0])
    with torch.device("meta"):
        _try(create_model(name, **options).train(), name, channels, image_size)


def _try(model: nn.Module, name: str, in_chans: int, image_size: int) -> None:
    try:
        with torch.no_grad():
            model(torch.empty(2, in_chans, image_size, image_size))
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"{name} does not take pictures of {image_size} x {image_size} px ({str(error).splitlines()[0]}); "
            f"it is made for {input_size(name)[1]} px"
        ) from error


def describe(
    name: str,
    *,
    num_classes: int | None = None,
    width: float = 1.0,
    in_chans: int | None = None,
    image_size: int | None = None,
) -> Description:
    """Size and cost, counted on the meta device: no memory, no arithmetic.

    Args:
        num_classes: by default 1000, or 10 for the networks of small pictures.
        in_chans, image_size: by default the architecture's own.

    Raises:
        UserError: as create_model, or pictures of that size are too small for the network.
    """
    check_name(name)
    own_channels, own_size = input_size(name)
    in_chans, image_size = in_chans or own_channels, image_size or own_size
    if num_classes is None:
        num_classes = timm.get_pretrained_cfg(name).num_classes
    with torch.device("meta"):
        model = create_model(name, num_classes=num_classes, width=width, in_chans=in_chans).eval()
        with FlopCounterMode(display=False) as counter:
            _try(model, name, in_chans, image_size)
    gmacs = counter.get_total_flops() / 4e9  # 2 operations each, 2 pictures
    return Description(
        name=name,
        params=sum(p.numel() for key, p in model.named_parameters() if not inception.is_auxiliary(key)),
        gmacs=round(gmacs, 2) if gmacs >= 1 else float(f"{gmacs:.3g}"),
        output_stride=output_stride(model),
        image_size=image_size,
        source=ARCHITECTURES.get(name, "timm"),
    )
