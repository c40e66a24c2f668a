"""What an update minimises: the loss of a batch, plain or mixed, with auxiliary classifiers or without."""

import torch
from timm.loss import BinaryCrossEntropy
from torch import Tensor, nn

from trainer.config import Recipe


def make_loss(recipe: Recipe) -> nn.Module:
    """(B, classes) logits and (B,) labels or (B, classes) shares -> the mean loss."""
    smoothing = recipe.augment.label_smoothing
    if recipe.optimizer.loss == "bce":
        return BinaryCrossEntropy(smoothing=smoothing, target_threshold=recipe.optimizer.bce_threshold)
    return nn.CrossEntropyLoss(label_smoothing=smoothing)


def total_loss(outputs: Tensor | tuple[Tensor, ...], target: Tensor, loss: nn.Module, aux_weight: float) -> Tensor:
    """The loss of the logits, plus `aux_weight` times that of each auxiliary classifier's."""
    logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
    return sum((aux_weight * loss(aux, target) for aux in auxiliary), start=loss(logits, target))


def right_at_top1(outputs: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
    """How many of the batch are classified right, as a tensor on its device."""
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    return (logits.detach().argmax(dim=1) == labels).sum(dtype=torch.float32)
