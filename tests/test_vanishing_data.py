"""On two Ray workers: the data goes away in the middle of an epoch, and comes back."""

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from demo_store import copy_of_empty

from shared import registry
from trainer import checkpoint
from trainer.__main__ import main

pytestmark = pytest.mark.slow

COPIES = 20
STEPS = COPIES * 26 // 4


def many(colour_folder: Path, target: Path) -> Path:
    """Enough pictures for an epoch of some seconds."""
    shutil.copytree(colour_folder, target)
    for picture in (colour_folder / "train").rglob("*.jpg"):
        for i in range(1, COPIES):
            shutil.copy(picture, target / picture.relative_to(colour_folder).with_stem(f"{picture.stem}-{i}"))
    return target


def only_run() -> Any:
    api = registry.client()
    experiment = api.get_experiment_by_name("tests")
    runs = api.search_runs([experiment.experiment_id]) if experiment else []
    return runs[0] if runs else None


def steps(run_id: str, metric: str) -> list[int]:
    return [point.step for point in registry.client().get_metric_history(run_id, metric)]


def take_away_after(step: int, data: Path) -> threading.Thread:
    """Rename the folder as soon as the run has logged a step."""

    def follow() -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            run = only_run()
            if run is not None and max(steps(run.info.run_id, "train/loss"), default=0) >= step:
                data.rename(f"{data}-away")
                return
            time.sleep(0.05)

    thread = threading.Thread(target=follow)
    thread.start()
    return thread


def test_a_run_whose_data_vanishes_keeps_every_update_and_goes_on_when_it_is_back(
    colour_folder, tmp_path, monkeypatch, capsys
):
    data, kept = many(colour_folder, tmp_path / "data"), tmp_path / "runs"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", copy_of_empty(tmp_path))
    vanishing = take_away_after(10, data)
    words = ["data.source=folder", f"data.path={data}", "data.name=colours", "data.retry_s=0.5", "model.width=0.125",
             "augment.train_size=32", "augment.eval_resize=32", "augment.eval_size=32", "run.global_batch_size=4",
             "run.epochs=1", "run.log_every_steps=1", "run.experiment=tests", f"run.storage_path={kept}",
             "scaling.num_workers=2"]  # fmt: skip
    assert main(["train", "tiny_resnet18", *words]) == 1
    vanishing.join()

    run_id = only_run().info.run_id
    (file,) = kept.glob("*/checkpoint_*/state.pt")
    saved = checkpoint.load(file.parent)
    assert 10 <= saved.step < STEPS
    assert steps(run_id, "train/loss") == list(range(1, saved.step + 1))
    assert only_run().info.status == "FAILED"
    told = capsys.readouterr().err
    assert f"stopped after update {saved.step}, which is saved" in told
    line = told.splitlines()[-1]
    assert line.startswith("failed: worker ")
    assert "could not be read for 0.5 s" in line

    Path(f"{data}-away").rename(data)
    assert main(["train", "--resume", run_id]) == 0
    assert only_run().info.status == "FINISHED"
    assert steps(run_id, "train/loss") == list(range(1, STEPS + 1))
    assert steps(run_id, "val/top1_error_pct") == [STEPS]
