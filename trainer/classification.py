"""Exact evaluation: every image counts once, on any number of workers."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from shared.transforms import EvalTransform
from trainer.data.loader import SKIPPED, Batch
from trainer.precision import Precision, prepare
from trainer.rollcall import all_or_none


@dataclass(frozen=True, kw_only=True, slots=True)
class Classification:
    """Errors over a data set."""

    images: int
    top1_error_pct: float
    top5_error_pct: float
    """For fewer than five classes: the best of all of them, 0."""
    loss: float
    damaged: tuple[int, ...]
    """Samples that could not be decoded; they count in none of the figures."""


def classify(
    model: nn.Module, batches: Iterable[Batch], transform: EvalTransform, precision: Precision
) -> Classification:
    """Run `model` over this worker's batches and add up over all workers. Leaves the model in eval mode.

    Raises:
        StoppedError: the storage of one of them failed.
    """
    sums, damaged = all_or_none(lambda: _own_sums(model, batches, transform, precision))
    if dist.is_initialized():
        dist.all_reduce(sums)
        gathered: list[list[int]] = [[]] * dist.get_world_size()
        dist.all_gather_object(gathered, damaged)
        damaged = sorted(sample for part in gathered for sample in part)
    images, top1_right, top5_right, loss = sums.tolist()
    return Classification(
        images=int(images),
        top1_error_pct=round(100 * (1 - top1_right / max(images, 1)), 6),
        top5_error_pct=round(100 * (1 - top5_right / max(images, 1)), 6),
        loss=round(loss / max(images, 1), 6),
        damaged=tuple(damaged),
    )


def _own_sums(
    model: nn.Module, batches: Iterable[Batch], transform: EvalTransform, precision: Precision
) -> tuple[Tensor, list[int]]:
    """The sums (see `_batch_sums`) and the damaged samples of this worker's batches."""
    model.eval()
    # float64 sums on the device: exact counts, and no host synchronisation per batch
    sums = torch.zeros(4, dtype=torch.float64, device=precision.device)
    damaged: list[int] = []
    with torch.inference_mode():
        for batch in batches:
            damaged += batch.damaged
            inputs = prepare(batch.images, transform, precision)
            with precision.autocast():
                logits = model(inputs)
            sums += _batch_sums(logits.float(), batch.labels.to(precision.device, non_blocking=True))
    return sums, damaged


def _batch_sums(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, classes), (B,) -> (4,) float64: images, right at top 1, right within top 5, sum of losses."""
    counts = labels != SKIPPED
    target = labels.clamp(min=0)
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices
    right = (best == target[:, None]) & counts[:, None]
    losses = F.cross_entropy(logits, target, reduction="none") * counts
    return torch.stack([counts.sum(), right[:, 0].sum(), right.sum(), losses.double().sum()]).double()
