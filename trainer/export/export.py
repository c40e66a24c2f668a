"""One file from a network: traced, written, run again, and kept only if it computes what the original does."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shared import registry
from shared.card import Card
from shared.errors import TrainingError, UserError, in_one_line
from shared.models import class_maps, has_class_maps
from trainer.evaluate import recipe_for
from trainer.export import formats
from trainer.export.target import card_path
from trainer.packing.layout import replacing

log = logging.getLogger(__name__)

BATCH_SIZES = (1, 3)
"""Of the check. The graph is traced with 2."""

TOLERANCE = 1e-4
"""Of the check, relative to the largest output: other kernels sum float32 in another order."""


class Dense(nn.Module):
    """A network that returns its class maps."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, classes, H / output_stride, W / output_stride)."""
        return class_maps(self.network, images)


@torch.no_grad()
def export(reference: str, overrides: list[str], path: Path, *, dense: bool) -> dict[str, Any]:
    """Write a network and its card; files appear when they are complete and checked, or never.

    Args:
        reference: `models:/name@alias`, `models:/name/3`, a run id or an architecture (with random weights).
        overrides: settings of the evaluation's transform, for the card.
        path: ends in .onnx or .pt2.
        dense: class maps in place of logits.

    Returns:
        model, weights, format, output, card, returns, bytes, sizes, checked, max_difference and largest_output.

    Raises:
        UserError: unknown model, settings that do not belong here, or `dense` for a network without class maps.
        TrainingError: the network cannot be traced, or the file computes something else.
    """
    served = registry.load(reference)
    card = _card(served.card, overrides)
    if dense and not has_class_maps(served.model):
        raise UserError(f"--dense: {card.architecture} has no class maps; leave it out to get logits")
    network = Dense(served.model).eval() if dense else served.model
    form, returns = path.suffix[1:], "class_maps" if dense else "logits"
    formats.check_size(network, form)
    side = card.transform.crop or card.transform.resize
    with replacing(path) as file:
        checked = _write(network, Path(file.name), form, returns, card.transform.channels, side)
        with replacing(card_path(path)) as beside:
            beside.write(f"{card.to_json()}\n".encode())
    return {
        "model": served.version.uri if served.version else reference,
        "weights": card.weights,
        "format": form,
        "output": str(path),
        "card": str(card_path(path)),
        "returns": returns,
        "bytes": path.stat().st_size,
        **checked,
    }


def _card(card: Card, overrides: list[str]) -> Card:
    """The card with the transform that `overrides` ask for."""
    if not overrides:
        return card
    before = recipe_for(card.architecture, card.transform, card.recipe, [])
    after = recipe_for(card.architecture, card.transform, card.recipe, overrides)
    transform = after.augment.eval_transform
    if replace(after, augment=before.augment) != before or transform.channels != card.transform.channels:
        raise UserError(
            f"{' '.join(overrides)}: an export takes augment.eval_resize, augment.eval_size, augment.interpolation, "
            "augment.mean and augment.std alone, and keeps the number of channels"
        )
    if transform == before.augment.eval_transform:
        return card
    return replace(card, transform=transform, metrics={})  # measured with another one


def _write(network: nn.Module, path: Path, form: str, returns: str, channels: int, side: int) -> dict[str, Any]:
    """Trace, write and check, for pictures of any size, or of one where that fails: some layers know one size alone."""
    for any_size in (True, False):
        # the second is not square, and no multiple of a stride
        sides = [(side, side), (side * 5 // 4 + 1, side + 5)][: 1 + any_size]
        shapes = [(batch, channels, *size) for batch, size in product(BATCH_SIZES, sides)]
        sizes = "any" if any_size else f"{side} x {side} px only"
        try:
            program = formats.trace(network, torch.zeros(2, channels, side, side), any_size)
            formats.write(program, path, form, returns, any_size)
            return {"sizes": sizes, "checked": shapes, **_compare(network, formats.open_run(path, form), shapes)}
        except TrainingError as error:
            reason = str(error)
        except Exception as error:  # exporters and runtimes let through whatever an operator raises
            reason = in_one_line(error)
        if any_size:
            log.warning("pictures of any size: %s; the file will take %d x %d px alone", reason, side, side)
    raise TrainingError(f"--format {form}: the network cannot be exported ({reason}); nothing was written")


def _compare(network: nn.Module, run: formats.Run, shapes: Sequence[tuple[int, ...]]) -> dict[str, float]:
    """max_difference and largest_output on random pictures.

    Raises:
        TrainingError: they differ by more than TOLERANCE allows, or an output is not finite.
    """
    generator = torch.Generator().manual_seed(0)
    differences, outputs = [], []
    for shape in shapes:
        images = torch.randn(shape, generator=generator)
        expected = network(images)
        found = run(images)
        if found.shape != expected.shape:
            raise TrainingError(f"for {shape} the file returns {tuple(found.shape)}, not {tuple(expected.shape)}")
        differences.append((found - expected).abs().max())
        outputs.append(expected.abs().max())
    difference, largest = torch.stack(differences).max().item(), torch.stack(outputs).max().item()
    if not difference <= TOLERANCE * largest:  # also where one of them is not a number
        raise TrainingError(
            f"the file computes something else: outputs up to {largest:.3g} differ by up to {difference:.3g}; "
            f"at most {TOLERANCE:g} of the largest is rounding"
        )
    return {"max_difference": difference, "largest_output": largest}
