"""The small networks for 32 px pictures: residual and plain (He et al. 2015, arXiv:1512.03385, section 4.2).

    layer   stem  layer1  layer2  layer3
    stride   1      1       2       2
    channels 16     16      32      64        each layer: n blocks of two 3x3 convolutions; depth = 6 n + 2

Shortcuts carry no parameters (option A). `cifar_resnet_small` has two blocks a layer and projects by strided 3x3
convolutions, as in the well-known PyTorch tutorial of Yunjey Choi (195,738 parameters for ten classes).
"""

from typing import Any, Literal

import torch.nn.functional as F
from timm.layers import SelectAdaptivePool2d
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs
from timm.models.resnet import BasicBlock
from torch import Tensor, nn

from shared.models.blocks import PaddedShortcut, PlainBlock
from shared.models.registering import register
from shared.models.width import scaled

CHANNELS = (16, 32, 64)
STRIDES = (1, 2, 2)


class CifarResNet(nn.Module):
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
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.grad_checkpointing = False
        channels = [scaled(c, width) for c in CHANNELS]
        self.conv1 = nn.Conv2d(in_chans, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.act1 = nn.ReLU(inplace=True)

        block = PlainBlock if shortcut == "none" else BasicBlock
        in_channels, reduction = channels[0], 1
        self.feature_info = []
        for i, (out_channels, stride) in enumerate(zip(channels, STRIDES, strict=True), 1):
            changes = stride != 1 or in_channels != out_channels
            projection = _projection(shortcut, in_channels, out_channels, stride) if changes else None
            blocks = [block(in_channels, out_channels, stride, projection)]
            blocks += [block(out_channels, out_channels) for _ in range(depth - 1)]
            self.add_module(f"layer{i}", nn.Sequential(*blocks))
            reduction *= stride
            self.feature_info.append({"num_chs": out_channels, "reduction": reduction, "module": f"layer{i}"})
            in_channels = out_channels

        self.num_features = self.head_hidden_size = in_channels
        self._set_head(num_classes, global_pool)
        for module in self.modules() if he_init else ():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, BasicBlock):
                module.zero_init_last()

    def _set_head(self, num_classes: int, global_pool: str) -> None:
        self.global_pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=bool(global_pool))
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes > 0 else nn.Identity()

    def get_classifier(self) -> nn.Module:
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new head with fresh weights; num_classes=0 removes it."""
        like = next(self.parameters())
        self.num_classes = num_classes
        self._set_head(num_classes, self.global_pool.pool_type if global_pool is None else global_pool)
        self.fc.to(like.device, like.dtype)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """timm's grouping of parameters, for layer-wise learning rates."""
        return {"stem": r"^conv1|^bn1", "blocks": r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)"}

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, num_features, H/4, W/4)."""
        x = self.act1(self.bn1(self.conv1(x)))
        for level in (1, 2, 3):
            layer = getattr(self, f"layer{level}")
            x = checkpoint_seq(layer, x) if self.grad_checkpointing and self.training else layer(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.global_pool(x)
        if self.drop_rate:
            x = F.dropout(x, self.drop_rate, self.training)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


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
