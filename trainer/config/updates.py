"""Sections about the network and its updates: what is trained, by which rule, how long and on what."""

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from trainer.config.fields import FORBID_UNKNOWN, Fraction, Positive


@dataclass(frozen=True, kw_only=True, slots=True, config=FORBID_UNKNOWN)
class ModelConfig:
    name: str
    """One of `python -m trainer models`."""

    width: Annotated[float, Field(gt=0, le=4)] = 1.0
    """Factor on all channel counts."""

    drop_rate: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout before the classifier; by default the network's own."""

    drop_path_rate: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Stochastic depth: probability of leaving out the last residual block, growing linearly from 0 (ResNets)."""

    pretrained: str = ""
    """Weights to start from: models:/name@alias, models:/name/3, a run id, or a source of `python -m trainer import`
    (torchvision, timm, official, a URL or a file). The classifier is new where the classes differ."""

    freeze_stages: Annotated[int, Field(ge=0)] = 0
    """With pretrained: so many stages (the stem and layer1, layer2, ...) keep their weights and BN statistics."""

    phase_folded_stages: tuple[str, ...] = ()
    """Dilated stages, such as ["layer5", "layer6"], that run as dense ones on the phases of the map while training and
    evaluating: the same network to float tolerance. `python -m trainer bench step` says where it is faster."""


def _moving(decay: float) -> float:
    if not 0 <= decay < 1:
        raise PydanticCustomError("decay", "an average moves only with a decay of at least 0 and below 1; try 0.9999")
    return decay


@dataclass(frozen=True, kw_only=True, slots=True, config=FORBID_UNKNOWN)
class OptimizerConfig:
    name: Literal["sgd", "adam", "adamw", "lamb", "lars"] = "sgd"
    base_lr: Annotated[float, Field(gt=0)]
    """Learning rate per 256 images of global batch (arXiv:1706.02677)."""

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    """Both for sgd and lars."""

    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Not applied to biases and normalisation. For adam it is L2 regularisation, for adamw and lamb decoupled."""

    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Longer gradients, over all parameters, are scaled down to this norm."""

    ema_decay: Annotated[float, AfterValidator(_moving)] = 0.0
    """Share of the weights' exponential moving average that an update leaves as it was, such as 0.9999, which spans
    some 10,000 updates; 0: no average. It grows as 1 - update^(-2/3) until then (timm's ModelEmaV3)."""

    body_lr_factor: Annotated[float, Field(gt=0, le=1)] = 1.0
    """With model.pretrained: factor on the learning rate of all layers but the classifier."""

    loss: Literal["cross_entropy", "bce"] = "cross_entropy"
    """bce: binary cross-entropy over the classes, as in "ResNet strikes back" (arXiv:2110.00476)."""

    bce_threshold: Fraction = 0.2
    """bce: mixed labels above it count as 1, others as 0."""


@dataclass(frozen=True, kw_only=True, slots=True, config=FORBID_UNKNOWN)
class ScheduleConfig:
    name: Literal["cosine", "polynomial", "step", "constant"] = "cosine"
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Linear warm-up length, in epochs; 0 disables it."""

    milestones: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """step: epochs after which the rate drops."""

    step_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """step: factor of each drop."""

    power: Annotated[float, Field(gt=0)] = 1.0
    """polynomial: of the share that is left. With 1 and a long warm-up the rate is a triangle (one-cycle)."""


@dataclass(frozen=True, kw_only=True, slots=True, config=FORBID_UNKNOWN)
class RunConfig:
    epochs: Annotated[float, Field(gt=0)]
    """May end within an epoch: 163.84 epochs of CIFAR-10 in batches of 128 are 64,000 updates."""
    global_batch_size: Positive
    """Images per update, over all workers. It fixes the result; the number of workers only fixes the speed."""

    per_device_batch_size: Positive | None = None
    """Images that a worker computes at once; by default its whole share of the batch. A larger share is computed in
    parts whose gradients are added up, so that fewer workers, or smaller ones, make the same updates. Batch
    normalisation sees a part at a time."""

    seed: int = 0
    precision: Literal["auto", "bf16", "fp16", "tf32", "fp32"] = "auto"
    """auto: bf16 where the hardware multiplies it natively, else fp32. fp16 (with a loss scale) and tf32 are for GPUs;
    weights and their updates are fp32 in any case."""

    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = "off"
    """A mode of torch.compile: minutes at the beginning, faster updates and evaluations after it."""

    sync_batch_norm: bool = False
    """Batch normalisation over the images of all workers, on GPUs; the host waits in each of its layers. Without it
    each worker normalises its own, and running statistics are averaged before every evaluation."""

    log_every_steps: Positive = 50
    max_loss: Annotated[float, Field(gt=0)] | None = None
    """A mean loss above it, as one that is not finite, ends the run where it is logged, or before an evaluation."""

    profile_steps: tuple[Positive, ...] = ()
    """First and last update (the first of a training is 1, as in its progress) that torch's profiler records on rank 0:
    a trace and a table of operations in the run's artifacts, below profile/."""

    experiment: str = "degrid"
    """MLflow experiment."""

    storage_path: str = ""
    """Where checkpoints go: a folder or s3:// URI that every node reaches; by default runs/ in the checkout."""

    max_failures: Annotated[int, Field(ge=0)] = 3
    """Restarts from the last checkpoint after a worker or node died."""

    def parts(self, share: int) -> int:
        """In how many parts a worker computes its share of a batch."""
        return math.ceil(share / (self.per_device_batch_size or share))


@dataclass(frozen=True, kw_only=True, slots=True, config=FORBID_UNKNOWN)
class ScalingConfig:
    num_workers: Positive = 1
    """Training processes: one per GPU, or per CPU core where there is no GPU."""

    use_gpu: bool | Literal["auto"] = "auto"
    """auto: where the cluster has any."""
