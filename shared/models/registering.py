"""Entry points for timm's registry, made from names: `timm.create_model("drn_c_26")` finds what is registered here."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import timm.models
from torch import nn

IMAGENET: dict[str, Any] = {
    "url": "",
    "num_classes": 1000,
    "input_size": (3, 224, 224),
    "crop_pct": 0.875,
    "interpolation": "bilinear",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "classifier": "fc",
}
"""What timm wants to know of a network that takes ImageNet's pictures in the way torchvision prepares them."""


def register(module: str, sources: Mapping[str, str], create: Callable[..., nn.Module]) -> None:
    """Register `create(name, pretrained, **options)` under every name of `sources` (name -> docstring).

    Args:
        module: the caller's __name__, whose `default_cfgs` holds a timm configuration for every name.
    """
    for name, doc in sources.items():
        entry = _entry_point(name, create)
        entry.__name__ = entry.__qualname__ = name
        entry.__module__ = module
        entry.__doc__ = doc
        setattr(sys.modules[module], name, entry)
        timm.models.register_model(entry)


def _entry_point(name: str, create: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    def entry(pretrained: bool = False, **options: Any) -> nn.Module:
        for option in ("drop_path_rate", "cache_dir"):  # timm's scripts pass them to every network
            if not options.get(option):
                options.pop(option, None)
        return create(name, pretrained, **options)

    return entry
