"""What a figure depends on besides the code: the machine and the libraries."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from trainer.checkout import code_version

_LIBRARIES = ("torch", "torchvision", "timm", "Pillow", "simplejpeg")


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def hardware() -> dict[str, str | int]:
    found: dict[str, str | int] = {"cpu": _cpu_model(), "cores": len(cores())}
    return found | ({"gpu": torch.cuda.get_device_name(0)} if torch.cuda.is_available() else {})


def versions() -> dict[str, str]:
    return {"degrid": code_version(), "python": platform.python_version()} | {
        name: version(name) for name in _LIBRARIES
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
