"""One update: uint8 batch -> loss -> gradient -> new weights."""

import inspect
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from shared.transforms import EvalTransform
from trainer.augment import BatchAugmentation
from trainer.config import Recipe
from trainer.data.loader import Batch
from trainer.data.sampling import hash64
from trainer.losses import make_loss, right_at_top1, total_loss
from trainer.optim import set_learning_rate

# torch 2.15 renamed the option
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """How a network is executed on a device."""

    device: torch.device
    dtype: torch.dtype

    @property
    def memory_format(self) -> torch.memory_format:
        # Measured on a CPU with AMX: bf16 gains a factor of 1.8 from channels_last, fp32 next to nothing
        fast = self.dtype == torch.bfloat16 or self.device.type == "cuda"
        return torch.channels_last if fast else torch.contiguous_format

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def choose_precision(setting: str, device: torch.device) -> Precision:
    """`auto` is bf16 where the hardware multiplies it natively; elsewhere it would be emulated, and slow."""
    if setting == "auto":
        native = torch.cuda.is_bf16_supported(False) if device.type == "cuda" else _cpu_multiplies_bf16()
        setting = "bf16" if native else "fp32"
    return Precision(device=device, dtype=torch.bfloat16 if setting == "bf16" else torch.float32)


def _cpu_multiplies_bf16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    loss: Tensor
    """(), the mean over this worker's images."""

    right: Tensor | None
    """(), how many of them were classified right; None where pictures are mixed, and right is not defined."""


class TrainStep:
    """Forward, loss, backward, update. Owns no state but the model's and the optimizer's.

    The random numbers of an update are seeded by (seed, step, rank), as dropout's are, or by (seed, position), as
    augmentation's: no generator state has to be saved.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        recipe: Recipe,
        precision: Precision,
        rank: int,
        world_size: int,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.precision = precision
        self._forward: nn.Module = model
        if world_size > 1:
            # BN statistics stay local while training and are averaged before evaluation: no broadcast every step
            options: dict[str, Any] = {_SYNC_BUFFERS: False, "gradient_as_bucket_view": True}
            self._forward = DistributedDataParallel(model, **options)
        self._loss = make_loss(recipe)
        self._augment = BatchAugmentation(recipe, num_classes=model.num_classes)  # type: ignore[arg-type]  # as in timm
        self._aux_weight = float(getattr(model, "aux_weight", 0.0))
        self._parts = recipe.run.accumulate
        self._clip_norm = recipe.optimizer.clip_norm
        self._seed = recipe.run.seed
        self._rank = rank

    def __call__(self, batch: Batch, *, step: int, learning_rate: float) -> StepResult:
        """What this worker's images gave, still on the device."""
        torch.manual_seed(int(hash64(self._seed, step, self._rank)) >> 1)
        set_learning_rate(self.optimizer, learning_rate)
        inputs, target = self._augment(batch, self.precision.device, self.precision.memory_format)
        self.optimizer.zero_grad(set_to_none=True)
        parts = list(zip(inputs.chunk(self._parts), target.chunk(self._parts), strict=True))
        with self._without_sync():
            results = [self._backward(*part) for part in parts[:-1]]
        results.append(self._backward(*parts[-1]))
        if self._clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._clip_norm)
        self.optimizer.step()
        losses, right = zip(*results, strict=True)
        return StepResult(loss=sum(losses), right=None if self._augment.mixes else sum(right))

    def _backward(self, inputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor | None]:
        """Add the gradient of one part of the batch; returns its part of the mean loss, and how many are right."""
        with self.precision.autocast():
            outputs = self._forward(inputs)
            loss = total_loss(outputs, target, self._loss, self._aux_weight) / self._parts
        loss.backward()
        return loss.detach(), None if self._augment.mixes else right_at_top1(outputs, target)

    def _without_sync(self) -> AbstractContextManager[None]:
        """Only the last part's gradients, which are the sum, are exchanged between workers."""
        return self._forward.no_sync() if isinstance(self._forward, DistributedDataParallel) else nullcontext()


def prepare(images: Tensor, transform: EvalTransform, precision: Precision) -> Tensor:
    """(B, C, H, W) uint8 on the host -> normalised float32 on the device, in the memory format of the network."""
    moved = images.to(precision.device, non_blocking=True, memory_format=precision.memory_format)
    return transform.normalize(moved)
