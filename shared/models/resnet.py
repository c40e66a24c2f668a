"""DRN-A, plain networks and narrow ResNets, all as timm's ResNet.

DRN-A is a ResNet whose layer3 and layer4 keep a stride of 1 and are dilated by 2 and 4 in place (arXiv:1705.09914,
figure 1): timm's ResNet with output_stride=8. Layout and keys are those of the ResNet, so every ResNet checkpoint is
a DRN-A checkpoint (the "a-trous" identity: equal at every position that the strided network keeps).

The plain networks are those of He et al. 2015 (arXiv:1512.03385, figure 3 middle): ResNets without shortcuts, and so
without the projections on them.
"""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs
from timm.models.resnet import BasicBlock, Bottleneck, ResNet, make_blocks
from torch import nn

from shared.models.blocks import PlainBlock
from shared.models.registering import IMAGENET, register
from shared.models.width import scaled

STEM_CHANNELS = 64
STAGE_CHANNELS = (64, 128, 256, 512)

RESNETS: dict[str, dict[str, Any]] = {
    "resnet18": {"block": BasicBlock, "layers": (2, 2, 2, 2)},
    "resnet34": {"block": BasicBlock, "layers": (3, 4, 6, 3)},
    "resnet50": {"block": Bottleneck, "layers": (3, 4, 6, 3)},
    "resnet101": {"block": Bottleneck, "layers": (3, 4, 23, 3)},
    "resnet152": {"block": Bottleneck, "layers": (3, 8, 36, 3)},
}

PLAIN: dict[str, dict[str, Any]] = {
    "plain18": {"block": PlainBlock, "layers": (2, 2, 2, 2)},
    "plain34": {"block": PlainBlock, "layers": (3, 4, 6, 3)},
}


class WidthResNet(ResNet):
    """timm's ResNet with a factor on all channel counts; timm fixes its plain stem at 64 channels."""

    def __init__(self, width: float = 1.0, in_chans: int = 3, **kwargs: Any) -> None:
        channels = tuple(scaled(c, width) for c in STAGE_CHANNELS)
        super().__init__(channels=channels, in_chans=in_chans, **kwargs)
        stem = scaled(STEM_CHANNELS, width)
        if stem == STEM_CHANNELS:
            return
        self.conv1 = nn.Conv2d(in_chans, stem, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.feature_info[0]["num_chs"] = stem
        [(_, self.layer1)], _ = make_blocks(
            (kwargs["block"],), channels[:1], kwargs["layers"][:1], stem, act_layer=nn.ReLU, norm_layer=nn.BatchNorm2d
        )
        self.init_weights()


def narrow_resnet(name: str, width: float, **kwargs: Any) -> ResNet:
    """The ResNet `name` with `width` times its channels."""
    return WidthResNet(width=width, **RESNETS[name], **kwargs)


A_TROUS = {f"drn_a_{depth}": f"resnet{depth}" for depth in (18, 34, 50, 101)}

default_cfgs = generate_default_cfgs(
    {
        **{
            name: {
                **IMAGENET,
                "hf_hub_id": f"timm/{resnet}.tv_in1k",
                "pool_size": (28, 28),
                "first_conv": "conv1",
                "license": "bsd-3-clause",
                "origin_url": "https://arxiv.org/abs/1705.09914",
            }
            for name, resnet in A_TROUS.items()
        },
        **{name: {**IMAGENET, "pool_size": (7, 7), "first_conv": "conv1"} for name in PLAIN},
    }
)


def _create(name: str, pretrained: bool, **options: Any) -> ResNet:
    variant = PLAIN[name] if name in PLAIN else RESNETS[A_TROUS[name]] | {"output_stride": 8}
    return build_model_with_cfg(WidthResNet, name, pretrained, **{**variant, **options})


register(
    __name__,
    {
        **{
            name: f"{name}. Pretrained weights are those of torchvision's {r} (a-trous identity)."
            for name, r in A_TROUS.items()
        },
        **{name: f"{name}: the ResNet of that depth without its shortcuts." for name in PLAIN},
    },
    _create,
)
