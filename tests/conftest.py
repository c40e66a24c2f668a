"""Tiny real things that many tests share."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

# Before Ray is imported anywhere: a cluster of its own, loopback, no telemetry.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.pop("RAY_ADDRESS", None)
os.environ.pop("MLFLOW_TRACKING_URI", None)

COLOURS = {"blue": (40, 60, 200), "green": (50, 180, 60), "red": (200, 50, 40)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def colour_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and val/ with three classes of noisy coloured JPEGs of different sizes: 26 and 7 pictures."""
    root = tmp_path_factory.mktemp("colours")
    random = np.random.default_rng(0)
    counts = {"train": (9, 9, 8), "val": (3, 2, 2)}
    for part, per_class in counts.items():
        for (name, colour), count in zip(COLOURS.items(), per_class, strict=True):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                noise = random.integers(-40, 40, (40 + i, 48, 3))
                pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.jpg")
    return root
