"""Recipes: what an experiment is, as frozen dataclasses that are checked before anything starts."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from shared.transforms import IMAGENET_MEAN, IMAGENET_STD, EvalTransform, Interpolation

FORBID_UNKNOWN = ConfigDict(extra="forbid")

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
AUTO_AUGMENT = r"^((rand|original|originalr|v0|v0r|3a)(-(mstd|mmax|m|n|p|inc)[0-9.]+)*)?$"


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


@dataclass(frozen=True, kw_only=True, slots=True, config=FORBID_UNKNOWN)
class DataConfig:
    source: str
    """photos, folder, shards, or a torchvision set by name (mnist, cifar10, ...)."""

    path: str = ""
    """Where the data is: a folder with train/ and val/ (or test/), torchvision's download folder, or for shards what
    `python -m trainer pack` wrote, in a folder or at an address (s3://, gs://, https://)."""

    name: str = ""
    """What the registry calls the data set; by default the source, or the folder's name."""

    repeats: Positive = 1
    """Repeated augmentation (arXiv:1902.05509): every sample of an epoch comes so many times in a row, differently
    augmented; an epoch is as long as ever, and so sees only a part of the samples."""

    num_loader_workers: Annotated[int, Field(ge=0)] = 2
    """Processes per training worker that read and decode pictures; 0 does it in the training process."""

    prefetch_mb: Annotated[float, Field(gt=0)] = 1000.0
    """Batches that wait in the memory of each training worker; at least one for each of its loader processes."""

    decoder: Literal["fast", "pillow"] = "fast"
    """fast: no finer than a crop needs, resized by torch; pillow: the pixels of torchvision's published recipes, at
    half the speed. They differ by rounding, and in training alone: evaluation has Pillow's pixels."""

    cache_gb: Annotated[float, Field(ge=0)] = 50.0
    """shards at an address: how much of the local disk keeps what was read, on every node; 0 keeps nothing."""

    cache_path: str = ""
    """shards at an address: where that is; by default ~/.cache/degrid/shards."""

    retry_s: Annotated[float, Field(ge=0, le=1500)] = 300.0
    """How long a mount or an object store that fails is asked again before the run ends. The other workers wait that
    long, which they do for 30 minutes."""


@dataclass(frozen=True, kw_only=True, slots=True, config=FORBID_UNKNOWN)
class AugmentConfig:
    train_size: Positive = 224
    """Side of the training crop in pixels."""

    crop: Literal["resized", "padded", "centre"] = "resized"
    """resized: RandomResizedCrop; padded: a random crop after padding (CIFAR); centre: as at evaluation."""

    min_scale: Fraction = 0.08
    max_scale: Fraction = 1.0
    """resized: share of the picture's area that the crop keeps."""

    pad: Annotated[int, Field(ge=0)] = 4
    """padded: pixels on each side."""

    flip: bool = True
    auto_augment: Annotated[str, Field(pattern=AUTO_AUGMENT)] = ""
    """RandAugment or AutoAugment in timm's notation, such as rand-m6-mstd0.5-inc1 or original-mstd0.5."""

    color_jitter: Fraction = 0.0
    """Strength for brightness, contrast and saturation."""

    grey: Fraction = 0.0
    """Probability of turning the crop grey."""

    erasing: Fraction = 0.0
    """Probability of wiping out a random rectangle (arXiv:1708.04896)."""

    mixup: Annotated[float, Field(ge=0)] = 0.0
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    """Alpha of MixUp (arXiv:1710.09412) and CutMix (arXiv:1905.04899); 0 disables. With both, each pair
    of pictures draws one."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    eval_resize: Positive = 256
    """Pixels of the shorter side at evaluation."""

    eval_size: Positive = 224
    """Side of the centre crop at evaluation, in pixels."""

    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    """Of each channel, on a scale from 0 to 1. Three numbers for colour, one for grey pictures."""

    @property
    def eval_transform(self) -> EvalTransform:
        return EvalTransform(
            resize=self.eval_resize, crop=self.eval_size, interpolation=self.interpolation, mean=self.mean, std=self.std
        )


@dataclass(frozen=True, kw_only=True, slots=True, config=FORBID_UNKNOWN)
class OptimizerConfig:
    name: Literal["sgd", "adam", "adamw", "lamb"] = "sgd"
    base_lr: Annotated[float, Field(gt=0)]
    """Learning rate per 256 images of global batch (arXiv:1706.02677)."""

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    """Both for sgd."""

    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Not applied to biases and normalisation. For adam it is L2 regularisation, for adamw and lamb decoupled."""

    body_lr_factor: Annotated[float, Field(gt=0, le=1)] = 1.0
    """With model.pretrained: factor on the learning rate of all layers but the classifier."""

    loss: Literal["cross_entropy", "bce"] = "cross_entropy"
    """bce: binary cross-entropy over the classes, as in "ResNet strikes back" (arXiv:2110.00476)."""

    bce_threshold: Fraction = 0.2
    """bce: mixed labels above it count as 1, others as 0."""


@dataclass(frozen=True, kw_only=True, slots=True, config=FORBID_UNKNOWN)
class ScheduleConfig:
    name: Literal["cosine", "step", "constant"] = "cosine"
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Linear warm-up length, in epochs; 0 disables it."""

    milestones: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """step: epochs after which the rate drops."""

    step_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """step: factor of each drop."""


@dataclass(frozen=True, kw_only=True, slots=True, config=FORBID_UNKNOWN)
class RunConfig:
    epochs: Annotated[float, Field(gt=0)]
    """May end within an epoch: 163.84 epochs of CIFAR-10 in batches of 128 are 64,000 updates."""

    global_batch_size: Positive
    """Images per update, over all workers. It fixes the result; the number of workers only fixes the speed."""

    seed: int = 0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """auto: bf16 where the hardware multiplies it natively, else fp32."""

    log_every_steps: Positive = 50
    experiment: str = "degrid"
    """MLflow experiment."""

    storage_path: str = ""
    """Where checkpoints go: a folder or s3:// URI that every node reaches; by default runs/ in the checkout."""

    max_failures: Annotated[int, Field(ge=0)] = 3
    """Restarts from the last checkpoint after a worker or node died."""


@dataclass(frozen=True, kw_only=True, slots=True, config=FORBID_UNKNOWN)
class ScalingConfig:
    num_workers: Positive = 1
    """Training processes: one per GPU, or per CPU core where there is no GPU."""

    use_gpu: bool | Literal["auto"] = "auto"
    """auto: where the cluster has any."""


@dataclass(frozen=True, kw_only=True, slots=True, config=FORBID_UNKNOWN)
class Expected:
    source: str
    """Where the figures were published or measured."""

    top1_error_pct: float | None = None
    top5_error_pct: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True, config=FORBID_UNKNOWN)
class Recipe:
    name: str
    model: ModelConfig
    data: DataConfig
    augment: AugmentConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    run: RunConfig
    scaling: ScalingConfig
    expected: Expected

    @property
    def data_name(self) -> str:
        return self.data.name or self.data.source

    @property
    def registered_name(self) -> str:
        """One registered model per architecture, width and data set."""
        width = "" if self.model.width == 1 else f"-w{self.model.width:g}"
        return f"{self.model.name}{width}-{self.data_name}"

    @property
    def learning_rate(self) -> float:
        """The peak, for the global batch."""
        return self.optimizer.base_lr * self.run.global_batch_size / 256

    @property
    def model_options(self) -> dict[str, Any]:
        """What `shared.models.create_model` takes besides name and classes."""
        return {
            "width": self.model.width,
            "drop_rate": self.model.drop_rate,
            "drop_path_rate": self.model.drop_path_rate,
            "in_chans": len(self.augment.mean),
        }
