"""What an update minimises: the loss of a batch, plain or mixed, with auxiliary classifiers or without."""

from collections.abc import Callable

import torch
from timm.loss import BinaryCrossEntropy
from torch import Tensor, nn
from torchvision.transforms import v2

from trainer.config import Recipe

Mixing = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(B, C, H, W) float, (B,) labels -> the same pictures mixed, and (B, classes) shares of the labels."""


def make_loss(recipe: Recipe) -> nn.Module:
    """(B, classes) logits and (B,) labels or (B, classes) shares -> the mean loss."""
    smoothing = recipe.augment.label_smoothing
    if recipe.optimizer.loss == "bce":
        return BinaryCrossEntropy(smoothing=smoothing, target_threshold=recipe.optimizer.bce_threshold)
    return nn.CrossEntropyLoss(label_smoothing=smoothing)


def make_mixing(recipe: Recipe, num_classes: int) -> Mixing | None:
    """MixUp, CutMix, or for each update one of them; None where the recipe has neither.

    They draw from torch's global generator, on the host: no update waits for the device.
    """
    steps: list[nn.Module] = []
    if recipe.augment.mixup:
        steps += [v2.MixUp(alpha=recipe.augment.mixup, num_classes=num_classes)]
    if recipe.augment.cutmix:
        steps += [v2.CutMix(alpha=recipe.augment.cutmix, num_classes=num_classes)]
    return v2.RandomChoice(steps) if steps else None


def total_loss(outputs: Tensor | tuple[Tensor, ...], target: Tensor, loss: nn.Module, aux_weight: float) -> Tensor:
    """The loss of the logits, plus `aux_weight` times that of each auxiliary classifier's."""
    logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
    return sum((aux_weight * loss(aux, target) for aux in auxiliary), start=loss(logits, target))


def right_at_top1(outputs: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
    """How many of the batch are classified right, as a tensor on its device."""
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    return (logits.detach().argmax(dim=1) == labels).sum(dtype=torch.float32)
