"""torch.compile, checked before it is needed."""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from shared.errors import UserError, in_one_line

Module = TypeVar("Module", bound=nn.Module)

_MANY_SHAPES = 64
"""Crops that grow, parts that are not exchanged, training and evaluation: each is compiled once. From torch's default
of 8 on, it would go back to uncompiled code, and say so only in a log."""


WARM_UPS = 3
"""Calls until CUDA graphs, which some modes use, are recorded."""


def check_compiler(setting: str, device_type: str) -> None:
    """Raises UserError: networks cannot be compiled on this machine."""
    if setting == "off":
        return
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise UserError(
            f"run.compile={setting} needs a C++ compiler, and {compiler} is not there; install it "
            "(apt install g++), name another one in CXX, or set run.compile=off"
        )
    if device_type == "cuda" and importlib.util.find_spec("triton") is None:
        raise UserError(f"run.compile={setting} needs Triton on a GPU; pip install triton, or set run.compile=off")


def compiled(module: Module, setting: str) -> Module:
    """`module`, compiled when it is first called, for every shape anew; itself if that is off.

    Args:
        setting: run.compile.
    """
    if setting == "off":
        return module
    torch._dynamo.config.recompile_limit = _MANY_SHAPES
    return torch.compile(module, mode=setting, dynamic=False)  # type: ignore[return-value]  # it stands in for it


@contextmanager
def compiling() -> Iterator[None]:
    """Raises UserError: what is first called in this context cannot be compiled."""
    from torch._dynamo.exc import TorchDynamoException  # seconds to import, and most trainings compile nothing
    from torch._inductor.exc import InductorError

    try:
        yield
    except (TorchDynamoException, InductorError) as error:
        raise UserError(f"the network cannot be compiled ({in_one_line(error)}); set run.compile=off") from error
