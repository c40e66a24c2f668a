"""Speed, loss and damaged pictures, counted without slowing the step down."""

import logging
import math
import time
from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist

from shared.errors import TrainingError
from trainer.data import Samples
from trainer.data.loader import Batch
from trainer.step import StepResult

log = logging.getLogger(__name__)

MAX_DAMAGED_SHARE = 0.01


class Meter:
    """Loss, training error and speed since the last reading."""

    def __init__(self, global_batch_size: int, device: torch.device, max_loss: float | None = None) -> None:
        self._global_batch_size = global_batch_size
        self._max_loss = math.inf if max_loss is None else max_loss
        self._device = device
        self._sums = torch.zeros(2, device=device)  # losses of updates, images classified right
        self.restart()

    def restart(self) -> None:
        """Begin a new interval; call it after a pause, such as an evaluation."""
        self._sums.zero_()
        self._steps = 0
        self._waited_s = 0.0
        self._started = time.perf_counter()

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches, with the time spent waiting for them added up."""
        iterator = iter(batches)
        while True:
            before = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waited_s += time.perf_counter() - before
            yield batch

    def add(self, result: StepResult) -> None:
        """One update; its figures stay on the device."""
        self._counts_right = result.right is not None
        self._sums += torch.stack([result.loss, result.loss if result.right is None else result.right])
        self._steps += 1

    def read(self, step: int) -> dict[str, float]:
        """The interval's metrics; the only place where the host waits for the device.

        Raises:
            TrainingError: the loss is not finite, or above `max_loss`.
        """
        workers = 1
        if dist.is_initialized():
            dist.all_reduce(self._sums)
            workers = dist.get_world_size()
        loss_sum, right = self._sums.tolist()
        value = loss_sum / self._steps / workers
        elapsed_s = time.perf_counter() - self._started
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss became {value} within the {self._steps} updates before step {step}; "
                "lower optimizer.base_lr or lengthen schedule.warmup_epochs"
            )
        if value > self._max_loss:
            raise TrainingError(
                f"the mean loss of the {self._steps} updates before step {step} is {value:.4g}, above run.max_loss="
                f"{self._max_loss:g}; lower optimizer.base_lr, or raise run.max_loss"
            )
        images = self._steps * self._global_batch_size
        metrics = {
            "train/loss": value,
            **({"train/top1_error_pct": 100 * (1 - right / images)} if self._counts_right else {}),
            "perf/images_per_s": images / elapsed_s,
            "perf/step_time_s": elapsed_s / self._steps,
            "perf/data_wait_pct": 100 * self._waited_s / elapsed_s,
        }
        if self._device.type == "cuda":
            metrics["perf/gpu_memory_gb"] = torch.cuda.max_memory_allocated(self._device) / 1e9
        self.restart()
        return metrics


class Damage:
    """Damaged pictures of one part of a data set: each counted once, named, and not too many."""

    def __init__(self, samples: Samples, part: str) -> None:
        self._samples = samples
        self._part = part
        self._known: set[int] = set()

    def add(self, damaged: Iterable[int]) -> None:
        """Samples that this worker could not decode.

        Raises:
            TrainingError: more than MAX_DAMAGED_SHARE of the part is damaged.
        """
        for sample in set(damaged) - self._known:
            self._known.add(sample)
            log.warning("skipped a damaged %s picture: %s", self._part, self._samples.name(sample))
        if len(self._known) > MAX_DAMAGED_SHARE * len(self._samples):
            raise TrainingError(
                f"{len(self._known)} of {len(self._samples)} {self._part} pictures are damaged, more than "
                f"{MAX_DAMAGED_SHARE:.0%} ({', '.join(self.names(3))} ...); repair or remove them"
            )

    def gather(self) -> None:
        """Share what every worker knows."""
        if dist.is_initialized():
            everyone: list[set[int]] = [set()] * dist.get_world_size()
            dist.all_gather_object(everyone, self._known)
            self.add(set.union(*everyone))

    def names(self, count: int) -> list[str]:
        return [self._samples.name(sample) for sample in sorted(self._known)[:count]]

    def __len__(self) -> int:
        return len(self._known)
