"""Dilated stages as dense ones: the phases of the map folded into the batch.

A run of convolutions of dilation d is d x d independent dense networks on the d x d phases (sub-lattices) of the map:

    (B, C, H, W)  --fold-->  (B * d * d, C, H/d, W/d)  --the same blocks, dilation 1-->  --unfold-->  (B, C', H, W)

Padding d becomes padding 1, so the zeros at the border are the same ones; batch norm sees the same cells, so its
statistics are the same ones. Whether it is faster depends on the device's kernels: `python -m trainer bench step` times
every stage both ways, and names the setting.
"""

import copy
import math
from collections.abc import Iterable
from itertools import groupby
from typing import TypeVar

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from shared.errors import UserError

Model = TypeVar("Model", bound=nn.Module)

# What gives the same result on phases as on the map: it looks at one cell at a time, or is a convolution
SAME_ON_PHASES = (nn.Conv2d, _BatchNorm, nn.ReLU, nn.Identity, DropPath)


def fold_phases(model: Model, stages: Iterable[str] | None = None) -> Model:
    """Let dilated stages run on phases from now on: the same numbers to float tolerance, in training and evaluation.

    Parameters, buffers and their names stay, so checkpoints interchange. Fold before the network is compiled or wrapped
    in DDP. Every stage still takes and gives the map itself, so hooks on stages see what they always saw; hooks on the
    convolutions in a folded stage see phases.

    A map whose height or width the dilation does not divide is folded by the largest divisor of the dilation that
    does divide both (22 x 22 at dilation 4: by 2, and dilation 2 remains); an odd map runs dilated. So do the stages
    under gradient checkpointing, which calls their blocks one by one, and the first block of a stage in which the
    dilation has yet to grow (DRN-A).

    Args:
        model: a network with stages layer1, layer2, ...: DRN-A, B, C and D. It is changed in place.
        stages: names of the stages to fold; None folds every dilated stage.

    Returns:
        model.

    Raises:
        UserError: a stage of `stages` is not a dilated stage of this network, or holds a layer that would act
            differently on phases, such as DropBlock.
    """
    dilated = dilated_stages(model)
    for name in dilated if stages is None else stages:
        if name not in dilated:
            raise UserError(f"{name!r} is not a dilated stage of this network; it has {', '.join(dilated) or 'none'}")
        stage = getattr(model, name)
        _check(name, stage)
        setattr(model, name, PhasedStage(stage))
    return model


def dilated_stages(model: nn.Module) -> dict[str, int]:
    """Name and largest dilation of the stages of `model` that are dilated, in order, folded or not."""
    found = {name: _dilation(m) for name, m in model.named_children() if isinstance(m, nn.Sequential)}
    return {name: dilation for name, dilation in found.items() if dilation > 1}


class PhasedStage(nn.Sequential):
    """The blocks of a stage, run on phases where the size of the map allows it.

    For every fold there is a view of the blocks: shallow copies that share all parameters and buffers and differ in
    the dilation of their convolutions. The views are no submodules: state dict and parameters are those of the blocks.

    Shapes: as the stage, (B, C, H, W) -> (B, C', H, W), any H and W.
    """

    views: dict[int, nn.Sequential]

    def __init__(self, stage: nn.Sequential) -> None:
        super().__init__(*stage)
        self.train(stage.training)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        # Also how convert_sync_batchnorm hands back each block once it has replaced the layers in it
        super().add_module(name, module)
        dilation = _dilation(self)
        self.views = {fold: _view(self, fold) for fold in range(dilation, 1, -1) if dilation % fold == 0}

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        for fold, view in self.views.items():  # the largest first
            if height % fold == 0 and width % fold == 0:
                return view(x)
        return super().forward(x)


class Fold(nn.Module):
    """Phases into the batch: (B, C, H, W) -> (B * n * n, C, H/n, W/n), the phases of a map side by side."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, x: Tensor) -> Tensor:
        n = self.n
        batch, channels, height, width = x.shape
        if x.is_contiguous(memory_format=torch.channels_last):  # and stays so: one copy, not two
            cells = x.permute(0, 2, 3, 1).reshape(batch, height // n, n, width // n, n, channels)
            phases = cells.permute(0, 2, 4, 1, 3, 5).reshape(-1, height // n, width // n, channels)
            return phases.permute(0, 3, 1, 2)
        cells = x.reshape(batch, channels, height // n, n, width // n, n)
        return cells.permute(0, 3, 5, 1, 2, 4).reshape(-1, channels, height // n, width // n)


class Unfold(nn.Module):
    """The inverse of Fold: (B * n * n, C, h, w) -> (B, C, h * n, w * n)."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, x: Tensor) -> Tensor:
        n = self.n
        _, channels, height, width = x.shape
        if x.is_contiguous(memory_format=torch.channels_last):
            phases = x.permute(0, 2, 3, 1).reshape(-1, n, n, height, width, channels)
            cells = phases.permute(0, 3, 1, 4, 2, 5).reshape(-1, height * n, width * n, channels)
            return cells.permute(0, 3, 1, 2)
        phases = x.reshape(-1, n, n, channels, height, width)
        return phases.permute(0, 3, 4, 1, 5, 2).reshape(-1, channels, height * n, width * n)


class DropPathOfMaps(nn.Module):
    """DropPath that drops all phases of a map together, with the random numbers of the unfolded network."""

    def __init__(self, drop_path: DropPath, fold: int) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.num_phases = fold * fold

    def forward(self, x: Tensor) -> Tensor:
        return self.drop_path(x.unflatten(0, (-1, self.num_phases))).flatten(0, 1)


def _view(stage: nn.Sequential, limit: int) -> nn.Sequential:
    """The stage on phases: neighbouring blocks that can be folded alike, at most by `limit`, folded together."""
    layers: list[nn.Module] = []
    for fold, blocks in groupby(stage, lambda block: _fold(block, limit)):
        if fold > 1:
            layers += [Fold(fold), *(_block_view(b, fold) for b in blocks), Unfold(fold)]
        else:
            layers += blocks
    return nn.Sequential(*layers)


def _fold(block: nn.Module, limit: int) -> int:
    """By how much the map may be folded for all convolutions of a block."""
    convs = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    if any(max(conv.stride) > 1 for conv in convs):
        return 1
    wide = [conv for conv in convs if conv.kernel_size != (1, 1)]
    return math.gcd(limit, *(n for conv in wide for n in (*conv.dilation, *map(int, conv.padding))))


def _block_view(block: nn.Module, fold: int) -> nn.Module:
    """A shallow copy of a block for maps folded by `fold`, or of a layer; other layers as they are."""
    if isinstance(block, nn.Conv2d):
        return _conv_view(block, fold)
    if isinstance(block, DropPath):
        return DropPathOfMaps(block, fold)
    if not any(block.children()):
        return block
    view = copy.copy(block)
    view._modules = {name: None if m is None else _block_view(m, fold) for name, m in block._modules.items()}
    return view


def _conv_view(conv: nn.Conv2d, fold: int) -> nn.Conv2d:
    view = copy.copy(conv)  # shares the dictionary of parameters, not only the parameters: .to() and loading reach it
    if conv.kernel_size != (1, 1):
        view.dilation = tuple(d // fold for d in conv.dilation)
        view.padding = tuple(int(p) // fold for p in conv.padding)
        view._reversed_padding_repeated_twice = [p // fold for p in conv._reversed_padding_repeated_twice]
    return view


def _dilation(stage: nn.Module) -> int:
    return max((max(m.dilation) for m in stage.modules() if isinstance(m, nn.Conv2d)), default=1)


def _check(name: str, stage: nn.Sequential) -> None:
    for path, layer in stage.named_modules():
        if not any(layer.children()) and not isinstance(layer, SAME_ON_PHASES):
            raise UserError(
                f"{name}.{path} ({type(layer).__name__}) would act differently on the phases of a map; "
                "leave it out, or fold the other stages only"
            )
