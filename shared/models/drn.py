"""Dilated Residual Networks B, C and D (arXiv:1705.09914, figures 5 and table of section 4).

All of them keep a resolution of 1/8: two strided levels fewer than a ResNet, dilations 2 and 4 in their place.

    level   1   2   3   4   5   6   7   8
    stride  1   2   2   2   1   1   1   1      first convolution of the level
    dilation 1  1   1   1   2   4   2   1      every convolution of the level, the first one too

B and C end with two levels of falling dilation that smooth out the lattice which dilation leaves behind. In B they
have shortcuts, so the lattice can bypass them; C removes those shortcuts. D replaces the residual blocks of the
levels 1, 2, 7 and 8 by plain convolutions.

Parameter names are those of the published weights: conv1, bn1 (layer0 in D), layer1 ... layer8, fc (a 1x1 convolution).
"""

from typing import Any, Literal

from timm.models import build_model_with_cfg, generate_default_cfgs
from timm.models.resnet import BasicBlock, Bottleneck, downsample_conv
from torch import Tensor, nn

from shared.models.blocks import PlainBlock
from shared.models.levels import LevelNet
from shared.models.registering import IMAGENET, register
from shared.models.width import scaled

CHANNELS = (16, 32, 64, 128, 256, 512, 512, 512)
STRIDES = (1, 2, 2, 2, 1, 1, 1, 1)
DILATIONS = (1, 1, 1, 1, 2, 4, 2, 1)
PERIPHERAL_LEVELS = (1, 2, 7, 8)
DEGRIDDING_LEVELS = (7, 8)


class DRN(LevelNet):
    """A DRN of architecture B, C or D.

    Args:
        arch: "B", "C" or "D".
        block: residual block of levels 3 to 6.
        depths: blocks in levels 3 to 6, and (D only) convolutions in each of levels 7 and 8 as a fifth number.
        num_classes: 0 removes the classifier.
        global_pool: timm's pooling name; "" turns pooling off, and the network returns class maps.
        width: factor on all channel counts.
        drop_rate: dropout before the classifier.

    Shapes: (B, in_chans, H, W) -> (B, num_classes), any H and W; with global_pool="" -> (B, num_classes, H/8, W/8),
    rounded up.
    """

    def __init__(
        self,
        arch: Literal["B", "C", "D"],
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, ...],
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        width: float = 1.0,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(num_classes, in_chans, drop_rate)
        channels = [scaled(c, width) for c in CHANNELS]
        stem = nn.Conv2d(in_chans, channels[0], 7, padding=3, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU(True)
        if arch == "D":
            self.layer0 = nn.Sequential(*stem)
        else:
            self.conv1, self.bn1, self.act1 = stem

        in_channels = channels[0]
        for level, (out_channels, stride, dilation) in enumerate(zip(channels, STRIDES, DILATIONS, strict=True), 1):
            if level not in PERIPHERAL_LEVELS:
                layer = _residual_level(block, depths[level - 3], in_channels, out_channels, stride, dilation)
                out_channels *= block.expansion
            elif arch == "D":
                count = depths[4] if level in DEGRIDDING_LEVELS else 1
                layer = _plain_level(count, in_channels, out_channels, stride, dilation)
            else:
                # With Bottleneck the degridding levels narrow 4x. A shortcut that DRN-C does not add needs no
                # projection: the published C-58 carries one that never receives a gradient.
                shortcut = arch == "B" or level not in DEGRIDDING_LEVELS
                kind = BasicBlock if shortcut else PlainBlock
                layer = _residual_level(kind, 1, in_channels, out_channels, stride, dilation)
            self._add_level(layer, out_channels, stride)
            in_channels = out_channels

        self._finish(global_pool)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stem(self, x: Tensor) -> Tensor:
        return self.layer0(x) if hasattr(self, "layer0") else self.act1(self.bn1(self.conv1(x)))

    def classifier(self, num_classes: int) -> nn.Module:
        return nn.Conv2d(self.num_features, num_classes, 1)


def _residual_level(
    block: type[BasicBlock] | type[Bottleneck], depth: int, in_channels: int, channels: int, stride: int, dilation: int
) -> nn.Sequential:
    out_channels = channels * block.expansion
    needs_projection = stride != 1 or in_channels != out_channels
    projection = downsample_conv(in_channels, out_channels, kernel_size=1, stride=stride) if needs_projection else None
    blocks = [block(in_channels, channels, stride, projection, dilation=dilation, first_dilation=dilation)]
    blocks += [block(out_channels, channels, dilation=dilation, first_dilation=dilation) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)


def _plain_level(count: int, in_channels: int, channels: int, stride: int, dilation: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(count):
        conv = nn.Conv2d(
            in_channels if i == 0 else channels,
            channels,
            kernel_size=3,
            stride=stride if i == 0 else 1,
            padding=dilation,
            dilation=dilation,
            bias=False,
        )
        layers += [conv, nn.BatchNorm2d(channels), nn.ReLU(True)]
    return nn.Sequential(*layers)


VARIANTS: dict[str, dict[str, Any]] = {
    "drn_b_26": {"arch": "B", "block": BasicBlock, "depths": (2, 2, 2, 2)},
    "drn_c_26": {"arch": "C", "block": BasicBlock, "depths": (2, 2, 2, 2)},
    "drn_c_42": {"arch": "C", "block": BasicBlock, "depths": (3, 4, 6, 3)},
    "drn_c_58": {"arch": "C", "block": Bottleneck, "depths": (3, 4, 6, 3)},
    "drn_d_22": {"arch": "D", "block": BasicBlock, "depths": (2, 2, 2, 2, 1)},
    "drn_d_24": {"arch": "D", "block": BasicBlock, "depths": (2, 2, 2, 2, 2)},
    "drn_d_38": {"arch": "D", "block": BasicBlock, "depths": (3, 4, 6, 3, 1)},
    "drn_d_40": {"arch": "D", "block": BasicBlock, "depths": (3, 4, 6, 3, 2)},
    "drn_d_54": {"arch": "D", "block": Bottleneck, "depths": (3, 4, 6, 3, 1)},
    "drn_d_56": {"arch": "D", "block": Bottleneck, "depths": (3, 4, 6, 3, 2)},
    "drn_d_105": {"arch": "D", "block": Bottleneck, "depths": (3, 4, 23, 3, 1)},
    "drn_d_107": {"arch": "D", "block": Bottleneck, "depths": (3, 4, 23, 3, 2)},
}

default_cfgs = generate_default_cfgs(
    {
        name: {
            **IMAGENET,
            "pool_size": (28, 28),
            "first_conv": "layer0.0" if v["arch"] == "D" else "conv1",
            "license": "bsd-3-clause",
        }
        for name, v in VARIANTS.items()
    }
)


def _create(name: str, pretrained: bool, **options: Any) -> DRN:
    return build_model_with_cfg(
        DRN, name, pretrained, feature_cfg={"out_indices": tuple(range(8))}, **{**VARIANTS[name], **options}
    )


register(__name__, {name: f"{name.upper().replace('_', '-')}, arXiv:1705.09914." for name in VARIANTS}, _create)
