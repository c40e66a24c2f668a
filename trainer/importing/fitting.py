"""State dicts into networks: every tensor finds its place, or one line says what differs.

Published files come in several layouts of the same network:
- the network's own names; old files lack `num_batches_tracked`;
- the DRN authors' C-58 also carries a projection in layer7 that its network never uses;
- torchvision's VGG, whose fully connected layers are 1x1 and 7x7 convolutions in timm's;
- pytorchcv's mirror of DRN: other names, but the same tensors in the same order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from shared.errors import UserError
from shared.models import ARCHITECTURES, create_model
from shared.models.inception import is_auxiliary

COUNTER = "num_batches_tracked"
"""Batch norm's, which evaluation does not use: old files lack it."""

DEAD = "layer7.0.downsample."
MIRROR_PREFIX = "features."
VGG_LAYERS = {"classifier.0.": "pre_logits.fc1.", "classifier.3.": "pre_logits.fc2.", "classifier.6.": "head.fc."}


@dataclass(frozen=True, slots=True)
class Layout:
    """What an architecture's state dict looks like."""

    shapes: dict[str, torch.Size]
    """Of its tensors, in order, without counters; for 1000 classes."""

    per_class: frozenset[str]
    """Those whose first axis is the class."""

    def differences(self, state: Mapping[str, Tensor]) -> list[str]:
        """What keeps `state` from being this network's, one phrase for each kind; empty if nothing."""
        missing = [key for key in self.shapes if key not in state and not is_auxiliary(key)]
        unexpected = [key for key in state if key not in self.shapes]
        misshaped = [key for key in self.shapes if key in state and not self._fits(key, state[key])]
        phrases = [
            f"{len(keys)} {kind} (first {keys[0]}{detail(keys[0])})"
            for keys, kind, detail in (
                (missing, "missing", lambda _: ""),
                (unexpected, "unexpected", lambda _: ""),
                (misshaped, "of another shape", lambda key: f": {_shape(state[key].shape)} for {self._expected(key)}"),
            )
            if keys
        ]
        if not phrases and len({state[key].shape[0] for key in self.per_class if key in state}) > 1:
            phrases = ["its classifiers have different numbers of classes"]
        return phrases

    def classes(self, state: Mapping[str, Tensor]) -> int:
        return next(state[key].shape[0] for key in self.per_class if key in state)

    def _fits(self, key: str, tensor: Tensor) -> bool:
        skipped = 1 if key in self.per_class else 0
        shape = self.shapes[key]
        return len(tensor.shape) == len(shape) and tensor.shape[skipped:] == shape[skipped:]

    def _expected(self, key: str) -> str:
        return _shape(self.shapes[key], "classes" if key in self.per_class else None)


def fit(state: dict[str, Tensor], architecture: str, called: str, **options: Any) -> tuple[nn.Module, int]:
    """The network with the weights of `state`, in eval mode, and how many classes it has.

    Args:
        called: what messages call the file.
        options: of `shared.models.create_model`, such as width.

    Raises:
        UserError: they do not belong together; it says what differs and which architecture would fit.
    """
    layout = layout_of(architecture, **options)
    placed, differences = _place(state, layout)
    if differences:
        others = [name for name in ARCHITECTURES if name != architecture and _fits(state, name, **options)]
        hint = f"; it fits {' or '.join(others)}" if others else ""
        raise UserError(f"{called} ({len(state)} tensors) is no {architecture}: {', '.join(differences)}{hint}")
    classes = layout.classes(placed)
    model = create_model(architecture, num_classes=classes, **options).eval()
    model.load_state_dict(model.state_dict() | placed)
    return model, classes


def layout_of(architecture: str, **options: Any) -> Layout:
    """Counted on the meta device. Raises UserError as create_model does."""
    shapes, others = (_shapes(architecture, classes, tuple(options.items())) for classes in (1000, 1001))
    per_class = frozenset(key for key, shape in shapes.items() if shape != others[key])
    return Layout(shapes, per_class)


@cache
def _shapes(architecture: str, classes: int, options: tuple[tuple[str, Any], ...]) -> dict[str, torch.Size]:
    with torch.device("meta"):
        model = create_model(architecture, num_classes=classes, **dict(options))
    return {key: tensor.shape for key, tensor in model.state_dict().items() if not key.endswith(COUNTER)}


def _place(state: Mapping[str, Tensor], layout: Layout) -> tuple[dict[str, Tensor], list[str]]:
    """`state` under the network's own names, and what differs if no known layout fits."""
    plain = {key: tensor for key, tensor in state.items() if not key.endswith(COUNTER)}
    if all(key in layout.shapes for key in plain if not key.startswith(DEAD)):
        plain = {key: tensor for key, tensor in plain.items() if key in layout.shapes}
    differences = layout.differences(plain)
    for convert in (_from_torchvision_vgg, _from_mirror):
        if not differences:
            break
        converted = convert(plain, layout)
        if converted is not None and not layout.differences(converted):
            plain, differences = converted, []
    return plain, differences


def _from_torchvision_vgg(state: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor] | None:
    if "classifier.6.weight" not in state or "head.fc.weight" not in layout.shapes:
        return None
    converted = {}
    for key, tensor in state.items():
        for old, new in VGG_LAYERS.items():
            if key.startswith(old):
                key = key.replace(old, new)
                if key in layout.shapes and tensor.numel() == layout.shapes[key].numel():
                    tensor = tensor.reshape(layout.shapes[key])
        converted[key] = tensor
    return converted


def _from_mirror(state: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor] | None:
    if not next(iter(state)).startswith(MIRROR_PREFIX):
        return None
    names = list(layout.shapes)
    if len(state) != len(names):
        names = _with_dead_projection(names)
    if len(state) != len(names) or any(_last(old) != _last(new) for old, new in zip(state, names, strict=True)):
        return None
    return {new: state[old] for old, new in zip(state, names, strict=True) if not new.startswith(DEAD)}


def _with_dead_projection(names: Iterable[str]) -> list[str]:
    """The order of a C-58 that has the projection: it follows the block's two convolutions."""
    dead = [f"{DEAD}{i}" for i in ("0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var")]
    found: list[str] = []
    for name in names:
        if name.startswith("layer7.1.") or (name.startswith("layer8.") and dead):
            found += dead
            dead = []
        found.append(name)
    return found


def _fits(state: Mapping[str, Tensor], architecture: str, **options: Any) -> bool:
    try:
        required = [key for key in _shapes(architecture, 1000, tuple(options.items())) if not is_auxiliary(key)]
        # most fall out by their number of tensors alone
        return len(required) <= len(state) and not _place(state, layout_of(architecture, **options))[1]
    except UserError:  # an architecture without these options
        return False


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _shape(shape: torch.Size, first: str | None = None) -> str:
    sizes = [str(size) for size in shape]
    return " x ".join([first, *sizes[1:]] if first else sizes) or "one number"
