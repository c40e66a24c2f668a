"""Speed, loss and damaged pictures, counted without slowing the step down."""

import logging
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist

from shared.errors import TrainingError
from trainer.config import Recipe
from trainer.cost import Cost
from trainer.data import DataSet, Samples
from trainer.data.loader import Batch
from trainer.memory import HostMemory, device_peak_gb, forget_peak
from trainer.precision import Precision
from trainer.rollcall import DivergedError
from trainer.step import StepResult

log = logging.getLogger(__name__)

MAX_DAMAGED_SHARE = 0.01


class Meter:
    """Loss, training error, speed and memory since the last reading.

    Args:
        cost: of the network's arithmetic; without it its share of the device's peak is not told.
    """

    def __init__(
        self, global_batch_size: int, device: torch.device, max_loss: float | None = None, cost: Cost | None = None
    ) -> None:
        self._global_batch_size = global_batch_size
        self._max_loss = math.inf if max_loss is None else max_loss
        self._device = device
        self._cost = cost
        self._host_memory = HostMemory()
        self._sums = torch.zeros(2, device=device)  # losses of updates, images classified right
        self.restart()

    @classmethod
    def of(cls, recipe: Recipe, data: DataSet, precision: Precision) -> "Meter":
        """For a training."""
        cost = Cost.of(recipe, len(data.train.classes), precision)
        return cls(recipe.run.global_batch_size, precision.device, recipe.run.max_loss, cost)

    def restart(self) -> None:
        """Begin a new interval; call it after a pause, such as an evaluation."""
        self._sums.zero_()
        self._steps = 0
        self._images: Counter[int] = Counter()  # of this worker, by the side of the crop in pixels
        self._waited_s = 0.0
        forget_peak(self._device)
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
            self._images[batch.images.shape[-1]] += len(batch.images)
            yield batch

    def add(self, result: StepResult) -> None:
        """One update; its figures stay on the device."""
        self._counts_right = result.right is not None
        self._sums += torch.stack([result.loss, result.loss if result.right is None else result.right])
        self._steps += 1

    def read(self, step: int) -> dict[str, float]:
        """The interval's metrics. With `check` the only place where the host waits for the device.

        Speeds are those of all workers where the name does not say otherwise, memory is this worker's.

        Raises:
            DivergedError: as `check`.
        """
        value, right, workers = self._loss_and_right()
        elapsed_s = time.perf_counter() - self._started
        self._refuse(value, step)
        images = self._steps * self._global_batch_size
        metrics = {
            "train/loss": value,
            **({"train/top1_error_pct": 100 * (1 - right / images)} if self._counts_right else {}),
            "perf/images_per_s": images / elapsed_s,
            "perf/images_per_s_per_worker": images / elapsed_s / workers,
            "perf/step_time_s": elapsed_s / self._steps,
            "perf/data_wait_pct": 100 * self._waited_s / elapsed_s,
            **self._share_of_peak(elapsed_s),
            "perf/host_memory_gb": self._host_memory.gb(),
        }
        if self._device.type == "cuda":
            metrics["perf/gpu_memory_gb"] = device_peak_gb(self._device)
        self.restart()
        return metrics

    def check(self, step: int) -> None:
        """Look at the loss before what was learned is kept. All workers call it.

        Raises:
            DivergedError: the mean loss since the last reading is not finite, or above `max_loss`.
        """
        if self._steps:
            self._refuse(self._loss_and_right()[0], step)

    def _loss_and_right(self) -> tuple[float, float, int]:
        """The mean loss of the interval, how many images were classified right, and by how many workers."""
        sums, workers = self._sums, 1
        if dist.is_initialized():
            sums, workers = sums.clone(), dist.get_world_size()
            dist.all_reduce(sums)
        loss_sum, right = sums.tolist()
        return loss_sum / self._steps / workers, right, workers

    def _refuse(self, loss: float, step: int) -> None:
        # all workers know the same sum, so all of them raise
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss became {loss} within the {self._steps} updates before step {step}; "
                "lower optimizer.base_lr or lengthen schedule.warmup_epochs"
            )
        if loss > self._max_loss:
            raise DivergedError(
                f"the mean loss of the {self._steps} updates before step {step} is {loss:.4g}, above run.max_loss="
                f"{self._max_loss:g}; lower optimizer.base_lr, or raise run.max_loss"
            )

    def _share_of_peak(self, elapsed_s: float) -> dict[str, float]:
        if self._cost is None or self._cost.peak_tflops is None:
            return {}
        tflops = sum(images * self._cost.training_gflops(size) for size, images in self._images.items()) / 1e3
        return {"perf/mfu_pct": 100 * tflops / elapsed_s / self._cost.peak_tflops}


def check_validation(loss: float, step: int) -> None:
    """Raises DivergedError, on all workers, where the loss on the validation part shows that the weights are lost."""
    if not math.isfinite(loss):
        raise DivergedError(
            f"the validation loss after step {step} is {loss}; lower optimizer.base_lr or lengthen "
            "schedule.warmup_epochs"
        )


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
