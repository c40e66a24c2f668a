"""What the networks that are built here have in common: a stem, levels, a head, and the interface of timm."""

from abc import abstractmethod
from typing import Any

import torch.nn.functional as F
from timm.layers import SelectAdaptivePool2d
from timm.models import checkpoint_seq
from torch import Tensor, nn


class LevelNet(nn.Module):
    """A stem, then layer1, layer2, ..., then pooling and the classifier `fc`.

    A subclass builds its stem, adds its levels in order, and ends with `_finish`.

    Args:
        num_classes: 0 removes the classifier.
        global_pool: timm's pooling name; "" turns pooling off, and the network returns class maps.
        drop_rate: dropout before the classifier.
    """

    fc: nn.Module
    global_pool: SelectAdaptivePool2d

    def __init__(self, num_classes: int, in_chans: int, drop_rate: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.grad_checkpointing = False
        self.feature_info: list[dict[str, Any]] = []

    @abstractmethod
    def stem(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def classifier(self, num_classes: int) -> nn.Module:
        """A linear layer, or a 1x1 convolution, on num_features channels."""

    def _add_level(self, layer: nn.Sequential, channels: int, stride: int) -> None:
        """`channels`: of its output."""
        name = f"layer{len(self.feature_info) + 1}"
        reduction = stride * (self.feature_info[-1]["reduction"] if self.feature_info else 1)
        self.add_module(name, layer)
        self.feature_info.append({"num_chs": channels, "reduction": reduction, "module": name})

    def _finish(self, global_pool: str) -> None:
        self.num_features = self.head_hidden_size = self.feature_info[-1]["num_chs"]
        self._set_head(global_pool)

    def _set_head(self, global_pool: str) -> None:
        self.fc = self.classifier(self.num_classes) if self.num_classes > 0 else nn.Identity()
        flatten = bool(global_pool) and not isinstance(self.fc, nn.Conv2d)
        self.global_pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=flatten)

    def get_classifier(self) -> nn.Module:
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new head with fresh weights; num_classes=0 removes it, global_pool="" turns pooling off."""
        like = next(self.parameters())
        self.num_classes = num_classes
        self._set_head(self.global_pool.pool_type if global_pool is None else global_pool)
        self.fc.to(like.device, like.dtype)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """timm's grouping of parameters, for layer-wise learning rates."""
        return {"stem": r"^conv1|^bn1|^layer0", "blocks": r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)"}

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, num_features, H/s, W/s), rounded up, for an output stride of s."""
        x = self.stem(x)
        for level in self.feature_info:
            layer = getattr(self, level["module"])
            x = checkpoint_seq(layer, x) if self.grad_checkpointing and self.training else layer(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features -> logits (B, num_classes), or maps where pooling is off."""
        x = self.global_pool(x)
        if self.drop_rate:
            x = F.dropout(x, self.drop_rate, self.training)
        if not pre_logits:
            x = self.fc(x)
        return x if self.global_pool.is_identity() else x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))
