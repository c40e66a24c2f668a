"""What the loop needs from outside: its place among the workers, and somebody who logs and keeps."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image

from trainer.board import Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """This worker among the others."""

    rank: int
    size: int
    device: torch.device


class Hooks(Protocol):
    """What the loop needs from its surroundings. Only `save` does anything on workers other than rank 0."""

    def log(self, metrics: dict[str, float], step: int) -> None: ...

    def log_image(self, key: str, image: Image.Image, step: int) -> None: ...

    def log_file(self, path: Path, folder: str) -> None:
        """Copy a file into a folder of the run; the file may be gone afterwards."""

    def tag(self, key: str, value: str) -> None: ...

    def progress(self, news: Progress) -> None: ...

    def save(self, metrics: dict[str, float], folder: Path) -> None:
        """Keep rank 0's `folder` as the latest checkpoint. All workers call it; only rank 0 waits until it is kept."""
