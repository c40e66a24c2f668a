"""timm's pretrained networks, by timm's own loader."""

from pathlib import Path
from typing import Any

import requests
import timm
from torch import Tensor

from shared.errors import UserError
from trainer.importing.checksums import sha256

CONNECT_TIMEOUT_S = 10.0


def read(name: str) -> tuple[dict[str, Tensor], str]:
    """The state dict of a timm name with its tag, and the sha256 of its file ("" where timm does not say which).

    Raises:
        UserError: the hub cannot be reached, or the file cannot be loaded.
    """
    hub_id = timm.get_pretrained_cfg(name).hf_hub_id
    if hub_id and _cached(hub_id) is None:
        _check_hub(name)
    try:
        model: Any = timm.create_model(name, pretrained=True)
    except Exception as error:  # of the hub's client, of PyTorch and of safetensors
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"timm cannot load {name} ({reason[:160]}); try again, or give a file as SOURCE") from error
    cached = _cached(hub_id) if hub_id else None
    return model.state_dict(), sha256(cached) if cached else ""


def _cached(hub_id: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_id.partition("@")[0], "model.safetensors")
    return Path(found) if isinstance(found, str) else None


def _check_hub(name: str) -> None:
    """The hub's client retries for a minute before it says that there is no network."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise UserError(f"timm's {name} is not in the cache, and HF_HUB_OFFLINE is set; unset it, or give a file")
    try:
        requests.head(constants.ENDPOINT, timeout=CONNECT_TIMEOUT_S)
    except requests.RequestException as error:
        raise UserError(
            f"timm's {name} is not in the cache, and {constants.ENDPOINT} cannot be reached; check the network, "
            "import it where there is one (HF_HOME holds the cache), or give a file as SOURCE"
        ) from error
