"""The networks that came before: LeNet-5, a small convnet for MNIST, AlexNet, GoogLeNet.

AlexNet and GoogLeNet are torchvision's, with timm's interface around them; VGG is timm's as it is.
"""

from typing import Any

import torch.nn.functional as F
import torchvision
from timm.models import build_model_with_cfg, generate_default_cfgs
from torch import Tensor, nn

from shared.models.inception import GoogLeNet
from shared.models.registering import IMAGENET, register
from shared.models.width import scaled


class SequentialNet(nn.Module):
    """Convolutions, averaging to a fixed grid, and fully connected layers, the last of which classifies.

    Args:
        features: (B, in_chans, H, W) -> (B, C, h, w).
        grid: side of the grid that the fully connected layers expect. At the network's own input size the features
            have it already.
        classifier: layers from (B, C * grid * grid) to (B, classes); the last one is linear.
        num_classes: 0 removes the last layer.
        levels: for timm, the layers of `features` that end a level, with their channels and reduction.
        drop_rate: dropout before the last layer.
    """

    def __init__(
        self,
        features: nn.Sequential,
        grid: int,
        classifier: nn.Sequential,
        num_classes: int,
        levels: dict[int, tuple[int, int]],
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(grid)
        self.classifier = classifier
        self.drop_rate = drop_rate
        self.num_classes = num_classes
        last: Any = classifier[-1]
        self.num_features = self.head_hidden_size = last.in_features
        self.feature_info = [
            {"num_chs": channels, "reduction": reduction, "module": f"features.{layer}"}
            for layer, (channels, reduction) in levels.items()
        ]
        if num_classes == 0:
            self.reset_classifier(0)

    def get_classifier(self) -> nn.Module:
        return self.classifier[-1]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:  # noqa: ARG002 timm passes it
        """A new last layer with fresh weights; num_classes=0 removes it."""
        like = next(self.parameters())
        self.num_classes = num_classes
        last = nn.Linear(self.num_features, num_classes) if num_classes > 0 else nn.Identity()
        self.classifier[-1] = last.to(like.device, like.dtype)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.features(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.classifier[:-1](self.avgpool(x).flatten(1))
        if self.drop_rate:
            x = F.dropout(x, self.drop_rate, self.training)
        return x if pre_logits else self.classifier[-1](x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


class LeNet5(SequentialNet):
    """LeCun et al. 1998 in its common PyTorch form: ReLU, max pooling, a linear output; 61,706 parameters.

    The original's 32 px input is the 28 px picture with a border of 2, which the first convolution adds here.
    """

    def __init__(self, num_classes: int = 10, in_chans: int = 1, width: float = 1.0, drop_rate: float = 0.0) -> None:
        c1, c2, f1, f2 = (scaled(c, width) for c in (6, 16, 120, 84))
        features = nn.Sequential(
            nn.Conv2d(in_chans, c1, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(c1, c2, 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        classifier = nn.Sequential(
            nn.Linear(c2 * 5 * 5, f1),
            nn.ReLU(inplace=True),
            nn.Linear(f1, f2),
            nn.ReLU(inplace=True),
            nn.Linear(f2, max(num_classes, 1)),
        )
        super().__init__(features, 5, classifier, num_classes, {1: (c1, 1), 5: (c2, 4)}, drop_rate)


class ConvnetMnist(SequentialNet):
    """Two 3x3 convolutions of 8 and 16 channels, each with ReLU and 2x2 max pooling, and a linear layer."""

    def __init__(self, num_classes: int = 10, in_chans: int = 1, width: float = 1.0, drop_rate: float = 0.0) -> None:
        c1, c2 = (scaled(c, width) for c in (8, 16))
        features = nn.Sequential(
            nn.Conv2d(in_chans, c1, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(c1, c2, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        classifier = nn.Sequential(nn.Linear(c2 * 7 * 7, max(num_classes, 1)))
        super().__init__(features, 7, classifier, num_classes, {1: (c1, 1), 5: (c2, 4)}, drop_rate)


class AlexNet(SequentialNet):
    """torchvision's AlexNet ("one weird trick", arXiv:1404.5997), keys and all.

    Args:
        drop_rate: dropout before the first two fully connected layers.
    """

    def __init__(self, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.5) -> None:
        net = torchvision.models.AlexNet(max(num_classes, 1), dropout=drop_rate)
        if in_chans != 3:
            net.features[0] = nn.Conv2d(in_chans, 64, kernel_size=11, stride=4, padding=2)
        super().__init__(
            net.features, 6, net.classifier, num_classes, {1: (64, 4), 4: (192, 8), 7: (384, 16), 12: (256, 32)}
        )


_CLASSES = {"lenet5": LeNet5, "convnet_mnist": ConvnetMnist, "alexnet": AlexNet, "googlenet": GoogLeNet}
_LEVELS = {"lenet5": 2, "convnet_mnist": 2, "alexnet": 4, "googlenet": 5}
"""Maps that timm's features_only=True returns."""

_MNIST = {
    **IMAGENET,
    "num_classes": 10,
    "input_size": (1, 28, 28),
    "crop_pct": 1.0,
    "mean": (0.1307,),
    "std": (0.3081,),
}

default_cfgs = generate_default_cfgs(
    {
        "lenet5": {**_MNIST, "first_conv": "features.0", "classifier": "classifier.4"},
        "convnet_mnist": {**_MNIST, "first_conv": "features.0", "classifier": "classifier.0"},
        "alexnet": {**IMAGENET, "first_conv": "features.0", "classifier": "classifier.6", "fixed_input_size": False},
        "googlenet": {
            **IMAGENET,
            "first_conv": "conv1.conv",
            "classifier": ("fc", "aux1.fc2", "aux2.fc2"),
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
        },
    }
)


def _create(name: str, pretrained: bool, **options: Any) -> nn.Module:
    kind = _CLASSES[name]
    if issubclass(kind, SequentialNet):
        options.pop("global_pool", None)  # timm derives it for all
    feature_cfg = {"flatten_sequential": issubclass(kind, SequentialNet), "out_indices": tuple(range(_LEVELS[name]))}
    return build_model_with_cfg(kind, name, pretrained, feature_cfg=feature_cfg, **options)


register(__name__, {name: str(kind.__doc__).splitlines()[0] for name, kind in _CLASSES.items()}, _create)
