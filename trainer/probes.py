"""The same pictures after every epoch: how strong gridding is, and what the class maps look like."""

import io
from collections.abc import Sequence
from dataclasses import replace

import torch
from PIL import Image
from torch import Tensor, nn

from shared.gridding import grid_harmonic_density, smallest_side, variogram_ratio
from shared.models import class_maps, has_class_maps, max_dilation
from shared.transforms import EvalTransform
from trainer.precision import Precision, exact_fp32

PROBE_COUNT = 16
SHOWN = 4
PROBE_SIZE = 224
"""Pixels. Larger than the training crops of small data sets: a lattice of period 4 needs at least 16 x 16 cells."""


class Probes:
    """Fixed pictures and the measurements on them."""

    def __init__(self, pictures: Sequence[Image.Image], transform: EvalTransform, precision: Precision) -> None:
        self._transform = replace(transform, resize=PROBE_SIZE, crop=PROBE_SIZE)
        self.pixels = torch.stack([self._transform.pixels(p) for p in pictures[:PROBE_COUNT]])
        self.precision = precision

    def class_maps(self, model: nn.Module) -> Tensor | None:
        """(P, classes, H/8, W/8), float32, on the device; None for a network that has none (AlexNet, VGG, LeNet).

        fp32 throughout: scores must not depend on the hardware.
        """
        if not has_class_maps(model):
            return None
        inputs = self._transform.normalize(self.pixels.to(self.precision.device))
        with torch.inference_mode(), exact_fp32():
            return class_maps(model.eval(), inputs.contiguous(memory_format=self.precision.memory_format))


def gridding_metrics(model: nn.Module, maps: Tensor) -> dict[str, float]:
    """`ghd` and `v`: medians over the pictures, each over all class maps. Empty for a network without dilation."""
    dilation = max_dilation(model)
    if dilation < 2 or min(maps.shape[-2:]) < smallest_side(dilation):
        return {}
    return {
        "ghd": grid_harmonic_density(maps, dilation).median().item(),
        "v": variogram_ratio(maps, dilation).median().item(),
    }


def draw(pixels: Tensor, maps: Tensor, title: str) -> Image.Image:
    """The first pictures above the map of their strongest class, on one colour scale, as RGB."""
    from matplotlib.figure import Figure  # a second to import, and only one worker draws

    count = min(SHOWN, len(pixels))
    strongest = maps.mean(dim=(2, 3)).argmax(dim=1)
    shown = torch.stack([maps[i, strongest[i]] for i in range(count)]).cpu()
    figure = Figure(figsize=(3 * count + 0.8, 6.4), layout="constrained", facecolor="white")
    axes = figure.subplots(2, count, squeeze=False)
    for column in range(count):
        axes[0, column].imshow(pixels[column].permute(1, 2, 0).numpy(), cmap="grey")  # of one channel alone
        image = axes[1, column].imshow(
            shown[column].numpy(), cmap="inferno", interpolation="nearest", vmin=shown.min(), vmax=shown.max()
        )
    for axis in axes.flat:
        axis.set_axis_off()
    figure.colorbar(image, ax=list(axes[1]), label="logit")
    figure.suptitle(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=70)
    return Image.open(buffer).convert("RGB")
