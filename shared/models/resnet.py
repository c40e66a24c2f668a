"""DRN-A and narrow ResNets, both as timm's ResNet.

DRN-A is a ResNet whose layer3 and layer4 keep a stride of 1 and are dilated by 2 and 4 in place (arXiv:1705.09914,
figure 1): timm's ResNet with output_stride=8. Layout and keys are those of the ResNet, so every ResNet checkpoint is
a DRN-A checkpoint (the "a-trous" identity: equal at every position that the strided network keeps).
"""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, Bottleneck, ResNet, make_blocks
from torch import nn

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


def _cfg(resnet: str) -> dict[str, Any]:
    return {
        "hf_hub_id": f"timm/{resnet}.tv_in1k",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (28, 28),
        "crop_pct": 0.875,
        "interpolation": "bilinear",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "first_conv": "conv1",
        "classifier": "fc",
        "license": "bsd-3-clause",
        "origin_url": "https://arxiv.org/abs/1705.09914",
    }


default_cfgs = generate_default_cfgs({f"drn_a_{n}": _cfg(f"resnet{n}") for n in (18, 34, 50, 101)})


def _create_drn_a(depth: int, pretrained: bool, **kwargs: Any) -> ResNet:
    return build_model_with_cfg(
        WidthResNet,
        f"drn_a_{depth}",
        pretrained,
        **{**RESNETS[f"resnet{depth}"], "output_stride": 8, **kwargs},
    )


@register_model
def drn_a_18(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """DRN-A-18. Pretrained weights are those of torchvision's ResNet-18 (a-trous identity)."""
    return _create_drn_a(18, pretrained, **kwargs)


@register_model
def drn_a_34(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """DRN-A-34. Pretrained weights are those of torchvision's ResNet-34 (a-trous identity)."""
    return _create_drn_a(34, pretrained, **kwargs)


@register_model
def drn_a_50(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """DRN-A-50. Pretrained weights are those of torchvision's ResNet-50 (a-trous identity)."""
    return _create_drn_a(50, pretrained, **kwargs)


@register_model
def drn_a_101(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """DRN-A-101. Pretrained weights are those of torchvision's ResNet-101 (a-trous identity)."""
    return _create_drn_a(101, pretrained, **kwargs)
