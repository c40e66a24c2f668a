"""Running statistics of batch normalisation: each worker's own while training, their mean for evaluation.

They stay local while training, so that no update has to broadcast them. A checkpoint within an epoch holds those of
every worker: from their mean training would go on just as well, but not bit for bit. The same holds for the moving
average of a network: each function takes all networks of a training as one module.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


def average_batch_norm(model: nn.Module) -> None:
    """Replace every worker's running statistics by their mean, so that all of them evaluate, and save, one network.

    Doing it again changes nothing, not even by rounding.
    """
    buffers = _statistics(model)
    if not dist.is_initialized() or not buffers:
        return
    # in float64 the sum of equal float32 numbers is exact, and so is their mean
    flat = _flat(buffers).double()
    dist.all_reduce(flat)
    _fill(buffers, flat / dist.get_world_size())


def gather_batch_norm(model: nn.Module) -> Tensor:
    """(workers, n), on the CPU: the running statistics of every worker."""
    buffers = _statistics(model)
    workers = dist.get_world_size() if dist.is_initialized() else 1
    if not buffers:
        return torch.empty(workers, 0)
    everyone = [_flat(buffers) for _ in range(workers)]
    if workers > 1:
        dist.all_gather(everyone, _flat(buffers))
    return torch.stack(everyone).cpu()


def restore_batch_norm(model: nn.Module, everyone: Tensor, rank: int) -> None:
    """Give a model what `gather_batch_norm` found on the worker of this rank."""
    _fill(_statistics(model), everyone[rank])


def _statistics(model: nn.Module) -> list[Tensor]:
    return [buffer for buffer in model.buffers() if buffer.is_floating_point()]


def _flat(buffers: Sequence[Tensor]) -> Tensor:
    return torch.cat([buffer.flatten() for buffer in buffers])


def _fill(buffers: Sequence[Tensor], flat: Tensor) -> None:
    for buffer, values in zip(buffers, flat.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(values.view_as(buffer))
