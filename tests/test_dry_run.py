"""A dry run checks and measures all that a training would need, and leaves nothing behind."""

import json

import pytest
import torch
from demo_store import copy_of_empty
from recording import WORLD, recipe

from shared import registry
from shared.errors import TrainingError, UserError
from trainer import dry_run, launch, rehearsal, training
from trainer.__main__ import main


@pytest.mark.slow
def test_a_dry_run_tells_the_figures_and_leaves_nothing(colour_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", copy_of_empty(tmp_path))
    monkeypatch.chdir(tmp_path)
    api = registry.client()
    tiny = api.get_experiment_by_name("tiny").experiment_id
    words = [
        "train", "tiny_drn_c_26", "--dry-run", "--json", "data.source=folder", f"data.path={colour_folder}",
        "model.width=0.125", "augment.train_size=32", "run.global_batch_size=8", "run.epochs=3", "run.experiment=tiny",
        "scaling.num_workers=2", "schedule.warmup_epochs=1", "run.storage_path=runs",
        "optimizer.ema_decay=0.99", "data.num_loader_workers=1",
    ]  # fmt: skip
    assert main(words) == 0
    (report,) = json.loads(capsys.readouterr().out)["trainings"]
    assert report["recipe"]["run"]["epochs"] == 3
    assert (report["world"]["workers"], report["world"]["nodes"], report["world"]["loader_processes"]) == (2, 1, 2)
    batch = report["batch"]
    assert (batch["global_batch_size"], batch["per_worker"], batch["at_once"]) == (8, 4, 4)
    assert batch["learning_rate"] == pytest.approx(0.4 * 8 / 256)
    assert (batch["total_steps"], batch["warmup_steps"], batch["evaluations"]) == (10, 3, 3)  # 26 pictures
    assert report["checks"]["data"]["classes"] == 3
    measured = report["measured"]
    assert len(measured["devices"]) == 2
    assert measured["image_size"] == 32
    assert measured["images_per_s"] == pytest.approx(2 * measured["images_per_s_per_worker"])
    assert 0.01 < measured["memory_gb"] < measured["memory_total_gb"]
    assert report["expected"]["training_s"] == pytest.approx(10 * measured["step_time_s"])

    lines = dry_run.text(report).splitlines()
    assert "  batch         8 pictures = 2 x 4; learning rate 0.0125" in lines
    assert any(line.startswith("  data          folder: 26 training and 7 validation pictures of 3") for line in lines)

    assert not (tmp_path / "runs").exists()
    assert api.search_runs([tiny]) == []
    assert api.get_experiment(tiny).tags == {}


def test_a_storage_that_cannot_be_written_is_named_before_workers_start(colour_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", copy_of_empty(tmp_path))
    (tmp_path / "file").touch()
    config = recipe(colour_folder, f"run.storage_path={tmp_path}/file/runs")
    with pytest.raises(UserError, match=rf"run.storage_path={tmp_path}/file/runs cannot be written"):
        dry_run.dry_run([config])
    assert "starting" not in capsys.readouterr().err


def test_profile_steps_beyond_the_training_are_refused_before_a_run_exists(colour_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", copy_of_empty(tmp_path))
    config = recipe(colour_folder, "run.profile_steps=[8, 11]", "run.experiment=tiny")
    with pytest.raises(UserError, match="ends after the last update, 10"):
        training.train([config])
    api = registry.client()
    assert api.search_runs([api.get_experiment_by_name("tiny").experiment_id]) == []


def test_a_deleted_experiment_is_named(colour_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", copy_of_empty(tmp_path))
    api = registry.client()
    api.delete_experiment(api.get_experiment_by_name("tiny").experiment_id)
    with pytest.raises(UserError, match=r"run.experiment=tiny is a deleted one; restore it in MLflow"):
        training.check(recipe(colour_folder, "run.experiment=tiny"))


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
    ids=["GPU", "CPU"],
)
def test_memory_that_is_too_small_names_the_batch_and_the_way_out(colour_folder, monkeypatch, error):
    class TooLarge:
        def __init__(self, *_):
            raise error

    monkeypatch.setattr(rehearsal, "TrainStep", TooLarge)
    config = recipe(colour_folder, "run.per_device_batch_size=4")
    line = (
        r"4 pictures of 32 px at once \(run.global_batch_size=8 over 1 workers\) do not fit into "
        r"the [\d]+ GB of CPU, .+; try run.per_device_batch_size=2, more workers, or run.precision=bf16"
    )
    with pytest.raises(UserError, match=line):
        rehearsal.measure(config, WORLD)


def test_a_worker_that_the_kernel_killed_names_the_batch(colour_folder, monkeypatch):
    def killed(*_):
        raise TrainingError("worker 1 failed: ... (1) the process was killed by the OOM killer due to ...")

    monkeypatch.setattr(training, "check_all", lambda _: [])
    monkeypatch.setattr(launch, "run_on_workers", killed)
    with pytest.raises(UserError, match=r"run.global_batch_size=8 over 1 workers does not .* run.per_device"):
        dry_run.dry_run([recipe(colour_folder)])
