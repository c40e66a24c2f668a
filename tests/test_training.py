"""The whole path on two Ray workers: recipe, MLflow run, registered version, evaluation."""

import json
from pathlib import Path

import pytest

from shared import registry
from trainer import recipes, training
from trainer.__main__ import main

pytestmark = pytest.mark.slow


def overrides(colour_folder: Path, storage: Path) -> list[str]:
    return [
        "data.source=folder", f"data.path={colour_folder}", "data.name=colours", "model.width=0.125",
        "augment.train_size=32", "augment.eval_resize=32", "augment.eval_size=32", "run.global_batch_size=8",
        "run.epochs=2", "run.log_every_steps=2", "run.experiment=tests", f"run.storage_path={storage}",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(colour_folder, tmp_path_factory):
    """A recipe trained on two workers: the recipe and its version, in a store of its own."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        api = registry.client()
        api.create_experiment("tests", artifact_location=(folder / "artifacts").as_uri())
        recipe = recipes.load("tiny_drn_c_26", overrides(colour_folder, folder / "runs"))
        version = training.train(recipe, training.check(recipe))
        yield recipe, version


def test_a_training_is_one_finished_run_with_everything_in_it(trained):
    recipe, version = trained
    api = registry.client()
    run = api.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert len(api.search_runs([run.info.experiment_id])) == 1
    assert {"train/loss", "train/lr", "val/top1_error_pct", "val/loss", "perf/images_per_s", "gridding/ghd"} <= set(
        run.data.metrics
    )
    assert run.data.params["arch"] == "drn_c_26"
    assert run.data.params["world_size"] == "2"
    assert run.data.params["optimizer.base_lr"] == str(recipe.optimizer.base_lr)
    assert run.data.tags["mlflow.source.git.commit"]
    assert {"recipe.json", "card.json", "images"} <= {f.path for f in api.list_artifacts(version.run_id)}
    assert [i.dataset.name for i in run.inputs.dataset_inputs] == ["colours-train", "colours-val"]


def test_every_step_is_logged_once(trained):
    _, version = trained
    history = registry.client().get_metric_history(version.run_id, "train/loss")
    assert [point.step for point in history] == [2, 4, 6, 7]
    pictures = registry.client().list_artifacts(version.run_id, "images")
    assert len([p for p in pictures if p.path.endswith(".png")]) == 2


def test_the_version_carries_the_exact_error_of_its_run(trained):
    _, version = trained
    assert version.name == "drn_c_26-w0.125-colours"
    assert version.aliases == ("champion",)
    served = registry.load(version.uri)
    run = registry.client().get_run(version.run_id)
    assert served.card.metrics["top1_error_pct"] == run.data.metrics["val/top1_error_pct"]
    assert served.card.metrics["images"] == 7
    assert served.card.classes == ("blue", "green", "red")


def test_a_finished_run_is_not_resumed(trained, capsys):
    _, version = trained
    assert main(["train", "--resume", version.run_id]) == 2
    assert f"run {version.run_id} is FINISHED" in capsys.readouterr().err


def test_an_interrupted_run_goes_on_as_the_same_run(trained, colour_folder, monkeypatch, tmp_path):
    """Its driver dies after the training and before the registration; --resume ends it."""
    recipe = recipes.load("tiny_resnet18", overrides(colour_folder, tmp_path))
    data = training.check(recipe)
    with monkeypatch.context() as patch:
        patch.setattr(training, "register", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            training.train(recipe, data)
    api = registry.client()
    experiment = api.get_experiment_by_name("tests").experiment_id
    run_id = api.search_runs([experiment], "attributes.status = 'KILLED'")[0].info.run_id
    version = training.resume(run_id)
    assert version.run_id == run_id
    assert api.get_run(run_id).info.status == "FINISHED"
    assert [point.step for point in api.get_metric_history(run_id, "train/loss")] == [2, 4, 6, 7]


def test_evaluation_is_the_same_on_one_two_and_three_workers(trained, colour_folder, capsys):
    _, version = trained
    results = []
    for workers in (1, 2, 3):
        arguments = ["evaluate", version.uri, "--json", f"data.path={colour_folder}", f"scaling.num_workers={workers}"]
        assert main([*arguments, "run.precision=fp32"]) == 0
        results.append(json.loads(capsys.readouterr().out))
    assert results[0]["images"] == 7
    assert results[0]["gridding"]["ghd"] > 0
    assert results[0] == results[1] == results[2]


def test_a_training_that_fails_ends_its_run_and_says_why(trained, colour_folder, tmp_path, capsys):
    words = overrides(colour_folder, tmp_path)
    assert main(["train", "tiny_resnet18", *words, "optimizer.base_lr=1e30"]) == 1
    assert "failed: the loss became nan" in capsys.readouterr().err
    api = registry.client()
    experiment = api.get_experiment_by_name("tests").experiment_id
    assert len(api.search_runs([experiment], "attributes.status = 'FAILED'")) == 1


def test_more_workers_than_the_cluster_has_are_refused_before_a_run_exists(trained, colour_folder, tmp_path, capsys):
    api = registry.client()
    experiment = api.get_experiment_by_name("tests").experiment_id
    before = len(api.search_runs([experiment]))
    words = overrides(colour_folder, tmp_path)
    assert main(["train", "tiny_resnet18", *words, "scaling.num_workers=400", "run.global_batch_size=400"]) == 2
    assert "scaling.num_workers=400 needs as many" in capsys.readouterr().err
    assert len(api.search_runs([experiment])) == before
