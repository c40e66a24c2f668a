"""Blocks that more than one family uses."""

from typing import Any

import torch.nn.functional as F
from timm.models.resnet import BasicBlock
from torch import Tensor, nn


class PlainBlock(BasicBlock):
    """Two 3x3 convolutions, nothing added: a residual block without its shortcut.

    It makes the plain networks of He et al. 2015 (arXiv:1512.03385, section 3.3) and the levels 7 and 8 of DRN-C.
    A projection that is offered for the shortcut is left out: it would never get a gradient.
    """

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,  # noqa: ARG002
        **options: Any,
    ) -> None:
        super().__init__(inplanes, planes, stride, None, **options)

    def zero_init_last(self) -> None:
        """Nothing: without a shortcut a last BN of zeros would silence the network for good."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        return self.act2(self.bn2(self.conv2(x)))


class PaddedShortcut(nn.Module):
    """Option A of He et al. 2015: every `stride`-th cell, and zeros for the channels that are new. No parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))
