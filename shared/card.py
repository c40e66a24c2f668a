"""The card of a registered version: all that is needed to rebuild, feed and judge the network, as plain JSON."""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from torch import nn

from shared.errors import UserError
from shared.models import create_model
from shared.transforms import EvalTransform

FILE_NAME = "card.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    architecture: str
    """A name of shared.models.ARCHITECTURES or of timm's registry; nothing else is ever built from a card."""

    width: float
    classes: tuple[str, ...]
    transform: EvalTransform

    weights: str
    """Where they come from: "trained", "random", or the source of an import."""

    weights_sha256: str
    data: str
    """Name of the data set that the metrics were measured on."""

    data_digest: str
    """Digest of the validation set: errors are compared only where it is equal."""

    metrics: dict[str, float]
    """Measured values: top1_error_pct, top5_error_pct, loss, ghd (absent where maps have no lattice), ..."""

    recipe: dict[str, Any]
    code_version: str
    created: str
    """ISO 8601, UTC."""

    def build(self) -> nn.Module:
        """The network with fresh weights, in eval mode."""
        return create_model(
            self.architecture,
            num_classes=len(self.classes),
            width=self.width,
            in_chans=self.transform.channels,
        ).eval()

    def to_json(self) -> str:
        return TypeAdapter(Card).dump_json(self, indent=2).decode()


def read_card(path: Path) -> Card:
    """Raises UserError where the file is no card, with the first field that is wrong."""
    try:
        return TypeAdapter(Card).validate_python(json.loads(path.read_text()))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise UserError(f"{path.name}: {field}: {first['msg']}; the version was not written by this project") from error
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path.name} cannot be read as a card: {error}") from error
