"""The small networks for 32 px pictures: residual and plain (He et al. 2015, arXiv:1512.03385, section 4.2).

    layer   stem  layer1  layer2  layer3
    stride   1      1       2       2
    channels 16     16      32      64        each layer: n blocks of two 3x3 convolutions; depth = 6 n + 2

Shortcuts carry no parameters (option A). `cifar_resnet_small` has two blocks a layer and projects by strided 3x3
convolutions, as in the well-known PyTorch tutorial of Yunjey Choi (195,738 parameters for ten classes).
"""

from typing import Any, Literal

from timm.models import build_model_with_cfg, generate_default_cfgs
from timm.models.resnet import BasicBlock
from torch import Tensor, nn

from shared.models.blocks import PaddedShortcut, PlainBlock
from shared.models.levels import LevelNet
from shared.models.registering import register
from shared.models.width import scaled

CHANNELS = (16, 32, 64)
STRIDES = (1, 2, 2)


class CifarResNet(LevelNet):
    """A residual or plain network of three layers.

    Args:
        depth: blocks in each layer.
        shortcut: "padded" (option A), "conv3x3" (a strided convolution with BN), or "none" (a plain network).
        width: factor on all channel counts.
        drop_rate: dropout before the classifier.
        he_init: draw convolutions as He et al. do (arXiv:1502.01852), and let every residual branch begin at zero, as
            timm's ResNets do (arXiv:1706.02677, section 5.1): deep ones then learn from the first update on. False
            leaves PyTorch's own start, which is smaller, and so moves faster under Adam.

    Shapes: (B, in_chans, H, W) -> (B, num_classes), any H and W.
    """

    def __init__(
        self,
        depth: int,
        shortcut: Literal["padded", "conv3x3", "none"],
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        width: float = 1.0,
        drop_rate: float = 0.0,
        he_init: bool = True,
    ) -> None:
        super().__init__(num_classes, in_chans, drop_rate)
        channels = [scaled(c, width) for c in CHANNELS]
        self.conv1 = nn.Conv2d(in_chans, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.act1 = nn.ReLU(inplace=True)

        block = PlainBlock if shortcut == "none" else BasicBlock
        in_channels = channels[0]
        for out_channels, stride in zip(channels, STRIDES, strict=True):
            changes = stride != 1 or in_channels != out_channels
            projection = _projection(shortcut, in_channels, out_channels, stride) if changes else None
            blocks = [block(in_channels, out_channels, stride, projection)]
            blocks += [block(out_channels, out_channels) for _ in range(depth - 1)]
            self._add_level(nn.Sequential(*blocks), out_channels, stride)
            in_channels = out_channels

        self._finish(global_pool)
        for module in self.modules() if he_init else ():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, BasicBlock):
                module.zero_init_last()

    def stem(self, x: Tensor) -> Tensor:
        return self.act1(self.bn1(self.conv1(x)))

    def classifier(self, num_classes: int) -> nn.Module:
        return nn.Linear(self.num_features, num_classes)


def _projection(shortcut: str, in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    if shortcut == "padded":
        return PaddedShortcut(in_channels, out_channels, stride)
    if shortcut == "conv3x3":
        conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(out_channels))
    return None


VARIANTS: dict[str, dict[str, Any]] = {
    **{f"plain{6 * n + 2}": {"depth": n, "shortcut": "none"} for n in (3, 5, 7, 9)},
    **{f"cifar_resnet{6 * n + 2}": {"depth": n, "shortcut": "padded"} for n in (3, 5, 7, 9, 18)},
    "cifar_resnet_small": {"depth": 2, "shortcut": "conv3x3", "he_init": False},
}

_CFG = {
    "num_classes": 10,
    "input_size": (3, 32, 32),
    "pool_size": (8, 8),
    "crop_pct": 1.0,
    "interpolation": "bilinear",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "first_conv": "conv1",
    "classifier": "fc",
}

default_cfgs = generate_default_cfgs({name: dict(_CFG) for name in VARIANTS})


def _create(name: str, pretrained: bool, **options: Any) -> CifarResNet:
    return build_model_with_cfg(
        CifarResNet, name, pretrained, feature_cfg={"out_indices": (0, 1, 2)}, **{**VARIANTS[name], **options}
    )


register(__name__, {name: f"{name}, for 32 px pictures." for name in VARIANTS}, _create)
