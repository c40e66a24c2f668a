"""How a picture becomes a network's input at evaluation: the same code in validation, `evaluate` and the demo."""

from functools import lru_cache
from typing import Literal

import torch
from PIL import Image
from pydantic.dataclasses import dataclass
from timm.models import PretrainedCfg
from torch import Tensor
from torchvision.transforms import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

MODES = {1: "L", 3: "RGB"}
"""Channels -> Pillow's mode."""

Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalTransform:
    """Resize the shorter side, cut out the centre, normalise. It travels in the card of every registered version."""

    resize: int = 256
    """Pixels of the shorter side."""

    crop: int | None = 224
    """Side of the centre crop in pixels; None keeps the whole picture."""

    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    """Of each channel, on a scale from 0 to 1: three for colour, one for grey."""

    std: tuple[float, ...] = IMAGENET_STD

    @classmethod
    def from_timm(cls, cfg: PretrainedCfg) -> "EvalTransform":
        """What timm says about a network's input."""
        side = cfg.input_size[-1]
        return cls(
            resize=int(side / cfg.crop_pct),
            crop=side,
            interpolation="bilinear" if cfg.interpolation == "bilinear" else "bicubic",
            mean=tuple(cfg.mean),
            std=tuple(cfg.std),
        )

    @property
    def channels(self) -> int:
        return len(self.mean)

    def crop_picture(self, picture: Image.Image) -> Image.Image:
        """The pixels that the network sees, as an RGB or grey picture.

        PIL does the resizing: published accuracies were measured with its antialiased filters.
        """
        resized = F.resize(
            picture.convert(MODES[self.channels]), [self.resize], F.InterpolationMode(self.interpolation)
        )
        return resized if self.crop is None else F.center_crop(resized, [self.crop])

    def pixels(self, picture: Image.Image) -> Tensor:
        """Picture -> (C, H, W), uint8."""
        return F.pil_to_tensor(self.crop_picture(picture))

    def normalize(self, pixels: Tensor) -> Tensor:
        """(..., C, H, W) uint8 -> float32 of the same shape, on the device of the input."""
        # a CPU is faster with whole rows of channels-last pictures than with one pixel after the other
        row = 1 if pixels.is_contiguous() else pixels.shape[-1]
        mean, std = (_per_channel(values, row, pixels.device) for values in (self.mean, self.std))
        return pixels.to(torch.float32, copy=True).div_(255).sub_(mean).div_(std)

    def __call__(self, picture: Image.Image) -> Tensor:
        """Picture -> (C, H, W), float32, normalised."""
        return self.normalize(self.pixels(picture))


@lru_cache
def _per_channel(values: tuple[float, ...], row: int, device: torch.device) -> Tensor:
    """(C, 1, row), channels last, made once: a copy to a device waits for what it has to do yet."""
    with torch.inference_mode(False):  # it outlives the mode in which it is first needed
        return torch.tensor(values, device=device).repeat(1, row, 1).permute(2, 0, 1)
