"""One update: uint8 batch -> loss -> gradient -> new weights."""

import inspect
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel

from trainer.augment import BatchAugmentation
from trainer.compiling import WARM_UPS, compiled, compiling
from trainer.config import Recipe
from trainer.data.loader import Batch
from trainer.data.sampling import hash64
from trainer.losses import make_loss, right_at_top1, total_loss
from trainer.optim import set_learning_rate
from trainer.precision import Precision

# torch 2.15 renamed the option
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    loss: Tensor
    """(), the mean over this worker's images."""

    right: Tensor | None
    """(), how many of them were classified right; None where pictures are mixed, and right is not defined."""


class TrainStep:
    """Forward, loss, backward, update. Owns no state but the model's, the optimizer's, and fp16's scale.

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
        self.scaler = GradScaler(precision.device.type, enabled=precision.dtype == torch.float16)
        """Keeps fp16's gradients in its range, and leaves out updates where they left it. Its state is to be saved."""

        self._workers: DistributedDataParallel | None = None
        if world_size > 1:
            # BN statistics stay local while training and are averaged before evaluation: no broadcast every step
            options: dict[str, Any] = {_SYNC_BUFFERS: False, "gradient_as_bucket_view": True}
            self._workers = DistributedDataParallel(model, **options)
        # the wrapper is compiled, not what it wraps: then gradients are exchanged while others are still computed
        self._forward: nn.Module = compiled(self._workers or model, recipe.run.compile)
        self._loss = make_loss(recipe)
        self._augment = BatchAugmentation(recipe, num_classes=model.num_classes)  # type: ignore[arg-type]  # as in timm
        self._aux_weight = float(getattr(model, "aux_weight", 0.0))
        self._share = recipe.run.global_batch_size // world_size
        self._parts = recipe.run.parts(self._share)
        self._clip_norm = recipe.optimizer.clip_norm
        self._seed = recipe.run.seed
        self._rank = rank

    def __call__(self, batch: Batch, *, step: int, learning_rate: float) -> StepResult:
        """What this worker's images gave, still on the device."""
        torch.manual_seed(int(hash64(self._seed, step, self._rank)) >> 1)
        set_learning_rate(self.optimizer, learning_rate)
        result = self._gradients(*self._augment(batch, self.precision.device, self.precision.memory_format))
        if self._clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self._clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return result

    def warm_up(self, image_size: int, num_channels: int) -> None:
        """Compile for batches of this size; nothing that training depends on changes. All workers call it together.

        Raises:
            UserError: the network cannot be compiled.
        """
        before = [buffer.clone() for buffer in self.model.buffers()]
        black = Batch.black(self._share, num_channels, image_size, label=0)
        with compiling():
            for _ in range(WARM_UPS):
                self._gradients(*self._augment(black, self.precision.device, self.precision.memory_format))
        self.optimizer.zero_grad(set_to_none=True)
        for buffer, value in zip(self.model.buffers(), before, strict=True):
            buffer.copy_(value)

    def _gradients(self, inputs: Tensor, target: Tensor) -> StepResult:
        """The gradients of a batch, the mean over all workers, in place of those before."""
        self.optimizer.zero_grad(set_to_none=True)
        parts = list(zip(inputs.chunk(self._parts), target.chunk(self._parts), strict=True))
        with self._without_sync():
            results = [self._backward(*part) for part in parts[:-1]]
        results.append(self._backward(*parts[-1]))
        losses, right = zip(*results, strict=True)
        return StepResult(loss=sum(losses), right=None if self._augment.mixes else sum(right))

    def _backward(self, inputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor | None]:
        """Add the gradient of one part of the batch; returns its part of the mean loss, and how many are right."""
        with self.precision.autocast():
            outputs = self._forward(inputs)
            loss = total_loss(outputs, target, self._loss, self._aux_weight) / self._parts
        self.scaler.scale(loss).backward()
        return loss.detach(), None if self._augment.mixes else right_at_top1(outputs, target)

    def _without_sync(self) -> AbstractContextManager[None]:
        """Only the last part's gradients, which are the sum, are exchanged between workers."""
        return self._workers.no_sync() if self._workers else nullcontext()
