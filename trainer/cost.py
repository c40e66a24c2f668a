"""What a network costs to train, set against what its device can do."""

from dataclasses import dataclass
from functools import cache

from shared.models import describe
from trainer.config import Recipe
from trainer.hardware import peak_tflops
from trainer.precision import Precision


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Of one network on one device."""

    name: str
    num_classes: int
    width: float
    in_chans: int
    peak_tflops: float | None
    """Of the device, in the precision used; None where it is not known, as for CPUs."""

    @classmethod
    def of(cls, recipe: Recipe, num_classes: int, precision: Precision) -> "Cost":
        return cls(
            name=recipe.model.name,
            num_classes=num_classes,
            width=recipe.model.width,
            in_chans=len(recipe.augment.mean),
            peak_tflops=peak_tflops(precision.device, precision.name),
        )

    def training_gflops(self, image_size: int) -> float:
        """Operations that an update needs for each picture of that side in pixels, in billions.

        Two for each multiply-accumulate, and the backward pass counts as two forward passes. What is computed twice to
        save memory does not count: this is model FLOPs utilisation (MFU), arXiv:2204.02311 appendix B.
        """
        return 3 * 2 * _gmacs(self.name, self.num_classes, self.width, self.in_chans, image_size)


@cache
def _gmacs(name: str, num_classes: int, width: float, in_chans: int, image_size: int) -> float:
    return describe(name, num_classes=num_classes, width=width, in_chans=in_chans, image_size=image_size).gmacs
