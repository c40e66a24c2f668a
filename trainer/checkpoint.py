"""What is needed to go on after an update, as tensors and plain values: no pickled code."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FILE_NAME = "state.pt"


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """Everything else is a pure function of the recipe and the step: order, augmentation, dropout, learning rate."""

    run_id: str
    """The MLflow run that this state belongs to."""
    step: int
    """Updates done."""
    best_top1_error_pct: float
    metrics: dict[str, float]
    """Of the evaluation at this step, of the network `to_register`; empty where there was none."""
    classes: list[str]
    data_digest: str
    """Of the validation part."""
    model: dict[str, Any]
    """With the mean of all workers' running statistics."""
    optimizer: dict[str, Any]
    batch_norm: Tensor | None = None
    """(workers, n): the running statistics of each, where they differ: within an epoch."""
    ema: dict[str, Any] | None = None
    """The moving average of `model`, where the recipe asks for it."""
    scaler: dict[str, Any] | None = None
    """fp16's scale; empty in other precisions."""
    to_register: str = "raw"
    """The network that becomes a version if training ends here, `raw` or `ema`: see trainer.validation."""

    @property
    def weights_to_register(self) -> dict[str, Any]:
        weights = {"raw": self.model, "ema": self.ema}[self.to_register]
        assert weights is not None
        return weights


def save(folder: Path, state: State) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{FILE_NAME}.partial"
    torch.save(asdict(state), partial)
    partial.rename(folder / FILE_NAME)


def load(folder: Path) -> State:
    """On the CPU."""
    return State(**torch.load(folder / FILE_NAME, map_location="cpu", weights_only=True))
