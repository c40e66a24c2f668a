"""Networks with auxiliary classifiers: GoogLeNet and Inception v3.

In training they return (logits, auxiliary logits, ...), and `aux_weight` says how much the loss of each auxiliary
classifier counts; in evaluation they return logits alone.
"""

from typing import Any

import torchvision
from timm.layers import SelectAdaptivePool2d
from timm.models import build_model_with_cfg
from timm.models.inception_v3 import InceptionV3 as TimmInceptionV3
from torch import Tensor, nn
from torchvision.models.googlenet import BasicConv2d


def is_auxiliary(parameter: str) -> bool:
    """Whether a parameter of that name belongs to a classifier that is used in training alone."""
    return parameter.lower().startswith("aux")


class GoogLeNet(torchvision.models.GoogLeNet):
    """torchvision's GoogLeNet (arXiv:1409.4842, with BN), keys and all, without its transformation of the input.

    Args:
        num_classes: 0 removes the classifiers.
        global_pool: timm's pooling name; "" turns pooling off.
        drop_rate: dropout before the classifier.

    Shapes: (B, in_chans, H, W) -> (B, num_classes); in training also two auxiliary logits of that shape.
    """

    aux_weight = 0.3
    """arXiv:1409.4842, section 5."""

    _LAYERS = (
        *("conv1", "maxpool1", "conv2", "conv3", "maxpool2", "inception3a", "inception3b", "maxpool3", "inception4a"),
        *("inception4b", "inception4c", "inception4d", "inception4e", "maxpool4", "inception5a", "inception5b"),
    )
    _AUX_AFTER = ("inception4a", "inception4d")

    def __init__(
        self, num_classes: int = 1000, in_chans: int = 3, global_pool: str = "avg", drop_rate: float = 0.2
    ) -> None:
        super().__init__(max(num_classes, 1), dropout=drop_rate, init_weights=True)
        if in_chans != 3:
            self.conv1 = BasicConv2d(in_chans, 64, kernel_size=7, stride=2, padding=3)
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = self.fc.in_features
        self.global_pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=bool(global_pool))
        self.feature_info = [
            {"num_chs": 64, "reduction": 2, "module": "conv1"},
            {"num_chs": 192, "reduction": 4, "module": "conv3"},
            {"num_chs": 480, "reduction": 8, "module": "inception3b"},
            {"num_chs": 832, "reduction": 16, "module": "inception4e"},
            {"num_chs": 1024, "reduction": 32, "module": "inception5b"},
        ]
        if num_classes == 0:
            self.reset_classifier(0)

    def get_classifier(self) -> nn.Module:
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """New classifiers with fresh weights, the auxiliary ones too; num_classes=0 removes them."""
        like = next(self.parameters())
        self.num_classes = num_classes
        if global_pool is not None:
            self.global_pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=bool(global_pool))
        for module, name in ((self, "fc"), (self.aux1, "fc2"), (self.aux2, "fc2")):
            features = self.num_features if module is self else 1024
            new = nn.Linear(features, num_classes) if num_classes > 0 else nn.Identity()
            setattr(module, name, new.to(like.device, like.dtype))

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, 1024, H/32, W/32)."""
        return self._features(x)[0]

    def _features(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The last map, and those from which the auxiliary classifiers start."""
        starts = []
        for name in self._LAYERS:
            x = getattr(self, name)(x)
            if name in self._AUX_AFTER:
                starts.append(x)
        return x, starts

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.dropout(self.global_pool(x))
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Any:
        x, starts = self._features(x)
        logits = self.forward_head(x)
        if not self.training or self.num_classes == 0:
            return logits
        return logits, self.aux1(starts[0]), self.aux2(starts[1])


class InceptionV3(TimmInceptionV3):
    """timm's Inception v3 (arXiv:1512.00567) with its auxiliary classifier, which it asks in training alone.

    Shapes: (B, in_chans, H, W) -> (B, num_classes); in training also one auxiliary logits of that shape, for which the
    picture must have 299 px or more.
    """

    aux_weight = 0.4
    """As in TensorFlow's implementation by the authors; the paper gives no figure."""

    def __init__(self, **options: Any) -> None:
        super().__init__(aux_logits=True, **options)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, 2048, H/32, W/32), rounded down."""
        return self.forward_postaux(self.forward_preaux(x))

    def forward(self, x: Tensor) -> Any:
        x = self.forward_preaux(x)
        aux = self.AuxLogits(x) if self.training and self.AuxLogits is not None else None
        logits = self.forward_head(self.forward_postaux(x))
        return logits if aux is None else (logits, aux)


def inception_v3(**options: Any) -> InceptionV3:
    """Inception v3 with its auxiliary classifier; timm's entry of that name has none."""
    return build_model_with_cfg(InceptionV3, "inception_v3", False, **options)
