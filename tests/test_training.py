"""The whole path on two Ray workers: recipe, MLflow run, registered version, evaluation."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared import registry
from shared.errors import TrainingError
from shared.registry import Version
from trainer import recipes, training
from trainer.__main__ import main

pytestmark = pytest.mark.slow


def overrides(colour_folder: Path, storage: Path) -> list[str]:
    return [
        "data.source=folder", f"data.path={colour_folder}", "data.name=colours", "model.width=0.125",
        "augment.train_size=32", "augment.eval_resize=32", "augment.eval_size=32", "run.global_batch_size=8",
        "run.epochs=2", "run.log_every_steps=2", "run.experiment=tests", "run.max_failures=0",
        f"run.storage_path={storage}",
    ]  # fmt: skip


@dataclass
class Trained:
    good: Version
    """Of the first recipe."""
    failed_run: str
    """Of the second one, whose data set has a damaged picture among 26."""
    error: str
    repair: Callable[[], None]


@pytest.fixture(scope="module")
def trained(colour_folder, tmp_path_factory):
    """Two recipes trained by one command on two workers, in a store of their own; the second one fails."""
    folder = tmp_path_factory.mktemp("trained")
    damaged = folder / "data"
    shutil.copytree(colour_folder, damaged)
    victim = damaged / "train" / "red" / "0.jpg"
    content = victim.read_bytes()
    victim.write_bytes(content[:200])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        api = registry.client()
        experiment = api.create_experiment("tests", artifact_location=(folder / "artifacts").as_uri())
        good = recipes.load("tiny_drn_c_26", overrides(colour_folder, folder / "runs"))
        bad = recipes.load("tiny_resnet18", overrides(damaged, folder / "runs"))
        with pytest.raises(TrainingError) as caught:
            training.train([good, bad])
        runs = {run.info.run_name: run for run in api.search_runs([experiment])}
        assert set(runs) == {"tiny_drn_c_26", "tiny_resnet18"}
        yield Trained(
            good=registry.resolve(runs["tiny_drn_c_26"].info.run_id),
            failed_run=runs["tiny_resnet18"].info.run_id,
            error=str(caught.value),
            repair=lambda: victim.write_bytes(content),
        )


def steps(run_id: str, metric: str) -> list[int]:
    return [point.step for point in registry.client().get_metric_history(run_id, metric)]


def test_a_training_is_one_finished_run_with_everything_in_it(trained):
    api = registry.client()
    run = api.get_run(trained.good.run_id)
    assert run.info.status == "FINISHED"
    assert {"train/loss", "train/lr", "val/top1_error_pct", "val/loss", "perf/images_per_s", "gridding/ghd"} <= set(
        run.data.metrics
    )
    assert run.data.params["arch"] == "drn_c_26"
    assert run.data.params["world_size"] == "2"
    assert run.data.params["optimizer.base_lr"] == "0.4"
    assert run.data.tags["mlflow.source.git.commit"]
    assert {"recipe.json", "card.json", "images"} <= {f.path for f in api.list_artifacts(run.info.run_id)}
    assert [i.dataset.name for i in run.inputs.dataset_inputs] == ["colours-train", "colours-val"]


def test_every_step_is_logged_once(trained):
    assert steps(trained.good.run_id, "train/loss") == [2, 4, 6, 7]
    assert steps(trained.good.run_id, "val/top1_error_pct") == [4, 7]
    pictures = registry.client().list_artifacts(trained.good.run_id, "images")
    assert len([p for p in pictures if p.path.endswith(".png")]) == 2


def test_the_version_carries_the_exact_error_of_its_run(trained):
    assert trained.good.name == "drn_c_26-w0.125-colours"
    assert trained.good.aliases == ("champion",)
    served = registry.load(trained.good.uri)
    run = registry.client().get_run(trained.good.run_id)
    assert served.card.metrics["top1_error_pct"] == run.data.metrics["val/top1_error_pct"]
    assert served.card.metrics["images"] == 7
    assert served.card.classes == ("blue", "green", "red")


def test_a_training_that_fails_ends_its_run_and_says_why(trained):
    assert "1 of 26 training pictures are damaged, more than 1%" in trained.error
    assert "red/0.jpg" in trained.error
    assert registry.client().get_run(trained.failed_run).info.status == "FAILED"


def test_a_failed_run_is_resumed_as_the_same_run(trained):
    trained.repair()
    [version] = training.resume(trained.failed_run)
    assert version.run_id == trained.failed_run
    assert registry.client().get_run(trained.failed_run).info.status == "FINISHED"
    assert steps(trained.failed_run, "train/loss") == [2, 4, 6, 7]


def test_a_finished_run_is_not_resumed(trained, capsys):
    assert main(["train", "--resume", trained.good.run_id]) == 2
    assert f"run {trained.good.run_id} is FINISHED" in capsys.readouterr().err


def test_evaluation_is_the_same_on_one_two_and_three_workers(trained, colour_folder, capsys):
    results = []
    for workers in (1, 2, 3):
        arguments = [
            "evaluate",
            trained.good.uri,
            "--json",
            f"data.path={colour_folder}",
            f"scaling.num_workers={workers}",
        ]
        assert main([*arguments, "run.precision=fp32"]) == 0
        results.append(json.loads(capsys.readouterr().out))
    assert results[0]["images"] == 7
    assert results[0]["gridding"]["ghd"] > 0
    for result in results[1:]:
        # workers have fewer threads than one process, and convolutions add up in another order
        assert result.pop("loss") == pytest.approx(results[0]["loss"], abs=1e-5)
        assert result.pop("gridding") == pytest.approx(results[0]["gridding"], rel=1e-3)
        assert result == {key: results[0][key] for key in result}


def test_more_workers_than_the_cluster_has_are_refused_before_a_run_exists(trained, colour_folder, tmp_path, capsys):
    api = registry.client()
    experiment = api.get_experiment_by_name("tests").experiment_id
    before = len(api.search_runs([experiment]))
    words = overrides(colour_folder, tmp_path)
    assert main(["train", "tiny_resnet18", *words, "scaling.num_workers=400", "run.global_batch_size=400"]) == 2
    assert "scaling.num_workers=400 is more than this machine can run" in capsys.readouterr().err
    assert len(api.search_runs([experiment])) == before
