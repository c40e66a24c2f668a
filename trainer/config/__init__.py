"""Recipes: what an experiment is, as frozen dataclasses that are checked before anything starts."""

from typing import Any

from pydantic.dataclasses import dataclass

from trainer.config.fields import FORBID_UNKNOWN
from trainer.config.pictures import AugmentConfig, DataConfig
from trainer.config.updates import ModelConfig, OptimizerConfig, RunConfig, ScalingConfig, ScheduleConfig

__all__ = [
    "FORBID_UNKNOWN",
    "AugmentConfig",
    "DataConfig",
    "Expected",
    "ModelConfig",
    "OptimizerConfig",
    "Recipe",
    "RunConfig",
    "ScalingConfig",
    "ScheduleConfig",
]


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
