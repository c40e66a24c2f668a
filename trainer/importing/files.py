"""Weights files read as tensors and nothing else: no code that came with a file ever runs."""

import pickle
import re
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from shared.errors import UserError
from trainer.importing.checksums import packed_member

WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Keys under which training scripts keep the weights."""

PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every name."""


def read(path: Path) -> dict[str, Tensor]:
    """The state dict in a .safetensors file, one of PyTorch's formats, or a zip that holds one such file.

    Raises:
        UserError: the file is damaged, holds more than tensors, or holds none; the message names it.
    """
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    try:
        content = _load(path)
    # what PyTorch, zipfile and safetensors raise on files that are damaged or hold something else
    except (pickle.UnpicklingError, SafetensorError, zipfile.BadZipFile, ArithmeticError, LookupError) as error:
        raise _refusal(path, error) from error
    except (OSError, RuntimeError, EOFError, AttributeError, TypeError, ValueError, AssertionError) as error:
        if isinstance(error, UserError):
            raise
        raise _refusal(path, error) from error
    return _state_dict(content, path.name)


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors" or _looks_like_safetensors(path):
        return load_file(path)
    member = packed_member(path)
    if member is None:
        _check_crc(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        unpacked = Path(folder) / Path(member).name
        with archive.open(member) as source, unpacked.open("wb") as target:
            while block := source.read(1 << 20):
                target.write(block)
        if packed_member(unpacked) is not None:
            raise UserError(f"{path.name} holds a zip within a zip; unpack it first")
        return _load(unpacked)


def _looks_like_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"  # after the length of its header, which is JSON


def _state_dict(content: Any, called: str) -> dict[str, Tensor]:
    """Out of its wrappings, with plain names."""
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{called} holds a {type(content).__name__} and no named tensors; save model.state_dict()")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise UserError(f"{called} holds a {type(value).__name__} at {key!r} where a state dict holds tensors")
    for prefix in PREFIXES * 2:  # the two wrap each other in either order
        if all(key.startswith(prefix) for key in content):
            content = {key.removeprefix(prefix): value for key, value in content.items()}
    broken = [key for key, value in content.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise UserError(f"{called} holds values that are not finite in {len(broken)} tensors (first {broken[0]})")
    return dict(content)


def _check_crc(path: Path) -> None:
    """PyTorch's format is a zip, but its reader does not look at the checksums in there."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"bad CRC-32 of {damaged}")


def _refusal(path: Path, error: Exception) -> UserError:
    text = str(error) or type(error).__name__
    foreign = re.search(r"(?:GLOBAL|class|function) ([\w.<>-]+\w)", text)
    if foreign and isinstance(error, pickle.UnpicklingError):
        return UserError(
            f"{path.name} holds more than tensors ({foreign[1]}); refused, as loading it could run code; save the "
            "state_dict() alone"
        )
    if path.open("rb").read(2) == b"PK" and not zipfile.is_zipfile(path):
        text = "the end of the archive is missing"
    text = text.partition("WeightsUnpickler error:")[2] or text.partition(". This is an internal")[0]
    return UserError(f"{path.name} is damaged, incomplete or no weights file ({text.strip().splitlines()[0][:120]})")
