"""From a picture to what the page shows: classes, feature maps, class maps, scores. No Gradio here."""

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from shared.gridding import grid_harmonic_density, variogram_ratio
from shared.labels import readable
from shared.models import DRN, class_maps, max_dilation
from shared.registry import Served

CLASS_MAP = "class map"
LEVELS = ("stride-8 entry", "dilation 2", "dilation 4", "output")
"""Levels by their role, for networks whose layers have other names."""

GRIDDING_SIZE = 224
"""Pixels of the shorter side and of the crop, as for the probe pictures of a training: 28 x 28 cells."""

REMEMBERED = 18
"""Forward passes kept: six pictures through three networks. A full-width pass takes about 8 MB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Classification:
    top: list[tuple[str, float]]
    """Up to five readable labels with their probabilities, best first."""

    crop: Image.Image
    seconds: float


def classify(served: Served, picture: Image.Image) -> Classification:
    """The five most probable classes, and exactly the pixels that the network saw."""
    started = time.perf_counter()
    transform = served.card.transform
    crop = transform.crop_picture(picture)
    with torch.inference_mode():
        logits = served.model(network_input(served, picture))
    probabilities = logits[0].float().softmax(dim=0).cpu()
    top = probabilities.topk(min(5, len(probabilities)))
    return Classification(
        top=list(
            zip(_labels([served.card.classes[i] for i in top.indices.tolist()]), top.values.tolist(), strict=True)
        ),
        crop=crop,
        seconds=time.perf_counter() - started,
    )


def _labels(class_names: list[str]) -> list[str]:
    """Readable, and different from each other: ImageNet has two cranes, a bird and a machine."""
    labels = [readable(name) for name in class_names]
    pairs = zip(labels, class_names, strict=True)
    return [label if labels.count(label) == 1 else f"{label} ({name})" for label, name in pairs]


def network_input(served: Served, picture: Image.Image) -> Tensor:
    """Picture -> (1, C, H, W) on the network's device, as in validation."""
    return served.card.transform(picture)[None].to(_device(served))


@dataclass(frozen=True, kw_only=True, slots=True)
class Activations:
    """Everything one forward pass leaves behind, on the CPU."""

    levels: dict[str, Tensor]
    """Role of LEVELS -> (C, H, W)."""

    class_maps: Tensor
    """(classes, H, W), logits."""

    dilation: int

    @property
    def ghd(self) -> float:
        """Over all class maps; NaN where they are constant."""
        return float(grid_harmonic_density(self.class_maps[None], self.dilation))

    @property
    def variogram(self) -> float:
        return float(variogram_ratio(self.class_maps[None], self.dilation))

    @property
    def top_class(self) -> int:
        # average pooling and the classifier commute: the mean of a class map is the logit
        return int(self.class_maps.mean(dim=(1, 2)).argmax())

    def ranked_channel(self, level: str, rank: int) -> int:
        """The channel with the `rank`-th highest mean activation, from 1."""
        order = self.levels[level].mean(dim=(1, 2)).argsort(descending=True)
        return int(order[min(rank, len(order)) - 1])


class Passes:
    """Forward passes of the gridding tab, each computed once and kept for the visitor's next look."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, ...], Activations] = OrderedDict()
        # one at a time: hooks belong to the network, and passes that compete for the same cores finish no sooner
        self._lock = threading.Lock()

    def of_picture(self, served: Served, picture: Image.Image) -> Activations:
        """A picture, at 224 px, through a network of output stride 8."""
        transform = replace(served.card.transform, resize=GRIDDING_SIZE, crop=GRIDDING_SIZE)
        pixels = transform.pixels(picture)
        digest = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
        return self._once((digest, *_identity(served)), served, transform.normalize(pixels)[None])

    def of_one_pixel(self, served: Served) -> Activations:
        """The absolute response to one white pixel on the mean colour: what the weights do, whatever the picture.

        The response to the plain mean colour is taken off, so that biases and borders do not show.
        """
        transform = served.card.transform
        images = torch.zeros(2, transform.channels, GRIDDING_SIZE, GRIDDING_SIZE)
        white = torch.full((transform.channels, 1, 1), 255, dtype=torch.uint8)
        centre = GRIDDING_SIZE // 2
        images[0, :, centre, centre] = transform.normalize(white)[:, 0, 0]
        return self._once(("one pixel", *_identity(served)), served, images)

    def _once(self, key: tuple[str, ...], served: Served, images: Tensor) -> Activations:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = _forward(served, images)
                if len(self._kept) > REMEMBERED:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]


def layer_names(served: Served) -> dict[str, str]:
    """Role of LEVELS -> the layer that plays it."""
    if isinstance(served.model, DRN):
        return dict(zip(LEVELS, ("layer4", "layer5", "layer6", "layer8"), strict=True))
    return dict(zip(LEVELS, ("layer2", "layer3", "layer4", "layer4"), strict=True))


def _forward(served: Served, images: Tensor) -> Activations:
    """(1, 3, H, W), or (2, 3, H, W) for the absolute difference of two."""
    names = layer_names(served)
    seen: dict[str, Tensor] = {}
    hooks = [
        served.model.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: seen.__setitem__(name, output)
        )
        for name in set(names.values())
    ]
    try:
        with torch.inference_mode():
            maps = class_maps(served.model, images.to(_device(served)))
    finally:
        for hook in hooks:
            hook.remove()
    return Activations(
        levels={role: _settle(seen[name]) for role, name in names.items()},
        class_maps=_settle(maps),
        dilation=max_dilation(served.model),
    )


def _settle(maps: Tensor) -> Tensor:
    return (maps[0] if len(maps) == 1 else (maps[0] - maps[1]).abs()).float().cpu()


def _identity(served: Served) -> tuple[str, str]:
    return (served.version.uri if served.version else served.card.architecture, served.card.weights_sha256)


def _device(served: Served) -> torch.device:
    return next(served.model.parameters()).device
