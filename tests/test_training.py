"""The whole path on two Ray workers: study, recipes, MLflow runs, registered versions, evaluation."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from demo_store import copy_of_empty

from shared import registry
from shared.errors import TrainingError
from shared.registry import Version
from trainer import studies, study
from trainer.__main__ import main

pytestmark = pytest.mark.slow


SETTINGS = [
    "data.source=folder", "data.name=colours", "model.width=0.125", "augment.train_size=32", "augment.eval_resize=32",
    "augment.eval_size=32", "run.global_batch_size=8", "run.epochs=2", "run.log_every_steps=2", "run.experiment=tests",
    "run.max_failures=0",
]  # fmt: skip


@dataclass
class Trained:
    good: Version
    """Of the first recipe."""
    failed_run: str
    """Of the second one, whose data set has a damaged picture among 26."""
    error: str
    parent: str
    """The run of the study that both belong to; its third recipe never began."""
    repair: Callable[[], None]


@pytest.fixture(scope="module")
def trained(colour_folder, tmp_path_factory):
    """A study of three recipes on two workers, in a store of its own; the second one fails."""
    folder = tmp_path_factory.mktemp("trained")
    damaged = folder / "data"
    shutil.copytree(colour_folder, damaged)
    victim = damaged / "train" / "red" / "0.jpg"
    content = victim.read_bytes()
    victim.write_bytes(content[:200])
    for name, base, data in (
        ("first", "tiny_drn_c_26", colour_folder),
        ("second", "tiny_resnet18", damaged),
        ("third", "tiny_resnet18", colour_folder),
    ):
        (folder / f"{name}.toml").write_text(f'extends = "{base}"\n[data]\npath = "{data}"\n')
    paths = [str(folder / f"{name}.toml") for name in ("first", "second", "third")]
    (folder / "mine.toml").write_text(f'title = "Mine"\n[panels]\nleft = {paths[:1]}\nright = {paths[1:]}\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", copy_of_empty(folder))
        with pytest.raises(TrainingError) as caught:
            study.run(studies.load(str(folder / "mine.toml"), [*SETTINGS, f"run.storage_path={folder / 'runs'}"]))
        found = runs()
        assert set(found) == {"mine", "first", "second"}
        yield Trained(
            good=registry.resolve(found["first"].info.run_id),
            failed_run=found["second"].info.run_id,
            error=str(caught.value),
            parent=found["mine"].info.run_id,
            repair=lambda: victim.write_bytes(content),
        )


def runs() -> dict[str, Any]:
    api = registry.client()
    experiment = api.get_experiment_by_name("tests")
    return {run.info.run_name: run for run in api.search_runs([experiment.experiment_id])}


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
    assert served.card.weights == "trained"
    assert served.card.classes == ("blue", "green", "red")


def test_a_training_that_fails_ends_its_run_and_says_why(trained):
    assert "1 of 26 training pictures are damaged, more than 1%" in trained.error
    assert "red/0.jpg" in trained.error
    assert registry.client().get_run(trained.failed_run).info.status == "FAILED"


def test_the_trainings_of_a_study_are_children_of_its_run(trained):
    found = runs()
    assert found["mine"].info.status == "FAILED"
    assert found["first"].data.tags["mlflow.parentRunId"] == trained.parent
    assert found["second"].data.tags["mlflow.parentRunId"] == trained.parent


def test_an_interrupted_study_goes_on_with_what_is_missing(trained, capsys, tmp_path):
    trained.repair()
    before, figure = runs(), tmp_path / "figure.png"
    assert main(["study", "--resume", trained.parent, "--plot", str(figure)]) == 0
    after = runs()
    names = ("mine", "first", "second", "third")
    assert {name: run.info.status for name, run in after.items()} == dict.fromkeys(names, "FINISHED")
    assert all(after[name].info.run_id == before[name].info.run_id for name in before)
    assert steps(trained.failed_run, "train/loss") == [2, 4, 6, 7]
    assert figure.read_bytes().startswith(b"\x89PNG")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(f"{after['third'].data.metrics['val/top1_error_pct']:.2f} %")


def test_a_study_is_drawn_again_from_its_run_alone(trained, capsys, tmp_path):
    figure = tmp_path / "again.svg"
    assert main(["study", "--draw", trained.parent, "--plot", str(figure)]) == 0
    assert "<!-- Mine -->" in figure.read_text()
    pictures = [f.path for f in registry.client().list_artifacts(trained.parent) if f.path.endswith(".png")]
    assert pictures == ["mine.png"]


def test_a_training_of_a_study_is_not_itself_a_study(trained, capsys):
    assert main(["study", "--draw", trained.failed_run]) == 2
    assert f"no study '{trained.failed_run}'" in capsys.readouterr().err


def test_a_finished_run_is_not_resumed(trained, capsys):
    assert main(["train", "--resume", trained.good.run_id]) == 2
    assert f"run {trained.good.run_id} is FINISHED" in capsys.readouterr().err


def test_evaluation_is_the_same_on_one_and_on_three_workers(trained, colour_folder, capsys):
    results = []
    for workers in (1, 3):  # seven pictures: unevenly dealt out
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
    words = [*SETTINGS, f"data.path={colour_folder}", f"run.storage_path={tmp_path}"]
    assert main(["train", "tiny_resnet18", *words, "scaling.num_workers=400", "run.global_batch_size=400"]) == 2
    assert "scaling.num_workers=400 is more than this machine can run" in capsys.readouterr().err
    assert len(api.search_runs([experiment])) == before
