"""The training loop in one process on a tiny data set, written down: shared by tests."""

import shutil
from pathlib import Path

import torch

from trainer import checkpoint, loop, recipes

WORLD = loop.World(rank=0, size=1, device=torch.device("cpu"))


class Recorder:
    """The loop's hooks, written down; it may stop the training after some epochs."""

    def __init__(self, folder: Path, stop_after: int | None = None) -> None:
        self.folder = folder
        self.stop_after = stop_after
        self.logged: dict[tuple[str, int], float] = {}
        self.images: list[tuple[str, int]] = []
        self.files: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}
        self.news: list = []
        self.saved: list[Path] = []

    def log(self, metrics, step):
        self.logged |= {(name, step): value for name, value in metrics.items()}

    def log_image(self, key, image, step):
        self.images.append((key, step))
        assert image.mode == "RGB"

    def log_file(self, path, folder):
        self.files[f"{folder}/{path.name}"] = path.read_bytes()

    def tag(self, key, value):
        self.tags[key] = value

    def progress(self, news):
        self.news.append(news)

    def save(self, metrics, folder):  # noqa: ARG002
        kept = self.folder / str(len(self.saved))
        shutil.copytree(folder, kept)
        self.saved.append(kept)
        if len(self.saved) == self.stop_after:
            raise InterruptedError

    def values(self, name: str) -> dict[int, float]:
        return {step: value for (key, step), value in self.logged.items() if key == name}


def recipe(colour_folder: Path, *overrides: str):
    return recipes.load(
        "tiny_drn_c_26",
        ["data.source=folder", f"data.path={colour_folder}", "model.width=0.125", "augment.train_size=32",
         "augment.eval_resize=32", "augment.eval_size=32", "run.global_batch_size=8", "run.epochs=3",
         "run.log_every_steps=2", "run.precision=fp32", "scaling.num_workers=1", *overrides],
    )  # fmt: skip


def final_state(recorder: Recorder) -> checkpoint.State:
    return checkpoint.load(recorder.saved[-1])
