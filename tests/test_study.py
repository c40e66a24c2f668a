"""Studies: what a file may say, what is averaged, and a small one trained, interrupted, resumed and drawn again."""

import shutil
from pathlib import Path

import pytest
from demo_store import copy_of_empty

from shared import registry
from shared.errors import UserError
from trainer import studies, study
from trainer.__main__ import main


@pytest.mark.parametrize("name", studies.names())
def test_every_study_of_the_project_loads(name):
    loaded = studies.load(name, ["run.experiment=other"])
    assert loaded.title
    assert {recipe.run.experiment for recipe in loaded.recipes} == {"other"}


def write_study(folder: Path, **panels: list[str]) -> Path:
    path = folder / "mine.toml"
    lines = ['title = "Mine"', 'overrides = ["run.epochs=3", "model.width=0.5"]', "[panels]"]
    path.write_text("\n".join([*lines, *(f"{title} = {recipes}" for title, recipes in panels.items())]))
    return path


def test_overrides_of_the_file_hold_for_all_and_those_of_the_command_line_come_last(tmp_path):
    path = write_study(tmp_path, left=["tiny_resnet18"], right=["tiny_drn_a_18"])
    loaded = studies.load(str(path), ["model.width=0.125"])
    assert loaded.name == "mine"
    assert [(r.run.epochs, r.model.width) for r in loaded.recipes] == [(3, 0.125)] * 2
    assert [loaded.label(r) for r in loaded.recipes] == ["resnet18", "drn_a_18"]


def test_recipes_of_one_network_are_told_apart_by_their_own_names(tmp_path):
    loaded = studies.load(str(write_study(tmp_path, both=["tiny_resnet18", "cifar10_resnet18"])))
    assert [loaded.label(r) for r in loaded.recipes] == ["tiny_resnet18", "cifar10_resnet18"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[panels\n", "is not valid TOML"),
        ('title = "x"\n', "panels: Field required; it has: title, panels, overrides"),
        ('title = "x"\nepochs = 3\n[panels]\n', "epochs: Unexpected keyword argument"),
        ('title = "x"\n[panels]\na = ["tiny_resnet19"]\n', "unknown recipe 'tiny_resnet19'; did you mean"),
        ('title = "x"\n[panels]\na = []\n', "names no recipes"),
        ('title = "x"\n[panels]\na = ["tiny_resnet18", "tiny_resnet18"]\n', "names tiny_resnet18 twice"),
    ],
)
def test_a_wrong_study_file_is_answered_in_one_clear_line(text, message, tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        studies.load(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name one study; there are degradation"),
        (["degradation", "degradation_short"], "name one study"),
        (["degradatoin"], "no study 'degradatoin'; there are degradation"),
        (["--draw", "0" * 32], "no study '0000"),
        (["--resume", "0" * 32], "no study '0000"),
        (["run.epochs=3", "--draw", "0" * 32], "a study keeps the settings it began with; drop run.epochs=3"),
        (["degradation", "--plot", "figure.gif"], "a figure's name ends in"),
    ],
)
def test_a_mistake_is_answered_with_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", copy_of_empty(tmp_path))
    assert main(["study", *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_a_point_of_training_error_is_the_mean_of_the_intervals_of_its_epoch():
    intervals = [(2, 90.0), (4, 70.0), (6, 60.0), (7, 50.0), (9, 10.0)]
    # epochs end at 4 and 7; what is logged after them belongs to an epoch that is not over
    assert study.epoch_means(intervals, [4, 7]) == [(3, 80), (6.5, 55)]
    assert study.epoch_means([(7, 50.0)], [4, 7]) == [(7, 50)]  # an interval longer than an epoch
    assert study.epoch_means([], [4, 7]) == []


def test_a_figure_has_a_thin_and_a_bold_line_for_each_network(tmp_path):
    path = write_study(tmp_path, left=["tiny_resnet18", "tiny_drn_a_18"], right=["tiny_drn_b_26", "tiny_drn_c_26"])
    mine = studies.load(str(path))
    curve = study.Curve(training=[(5, 90), (15, 30)], validation=[(10, 80), (20, 40.04)])
    figure = study.draw(mine, dict.fromkeys(("tiny_resnet18", "tiny_drn_a_18", "tiny_drn_c_26"), curve))
    left, right = figure.axes
    assert [line.get_linewidth() > 2 for line in left.lines] == [False, True] * 2
    assert list(left.lines[1].get_xydata()[1]) == [20, 40.04]
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["drn_c_26: 40.0 %"]
    assert left.lines[3].get_color() == right.lines[1].get_color()  # second of its panel
    assert left.get_ylim() == right.get_ylim()


@pytest.fixture(scope="module")
def trained(colour_folder, tmp_path_factory):
    """A study of three recipes on two workers; the second fails for a damaged picture, so the third never starts."""
    folder = tmp_path_factory.mktemp("study")
    shutil.copytree(colour_folder, folder / "data")
    victim = folder / "data" / "train" / "red" / "0.jpg"
    content = victim.read_bytes()
    victim.write_bytes(content[:200])
    damaged = folder / "damaged.toml"
    damaged.write_text(f'extends = "tiny_drn_a_18"\n[data]\npath = "{folder / "data"}"\n')
    whole = folder / "whole.toml"
    whole.write_text(f'extends = "tiny_drn_a_18"\n[data]\npath = "{colour_folder}"\n')
    third = folder / "third.toml"
    third.write_text(f'extends = "tiny_resnet18"\n[data]\npath = "{colour_folder}"\n')
    path = write_study(folder, first=[str(whole)], second=[str(damaged), str(third)])
    settings = [
        "data.source=folder", "model.width=0.125", "augment.train_size=32", "augment.eval_resize=32",
        "augment.eval_size=32", "run.global_batch_size=8", "run.epochs=2", "run.log_every_steps=2",
        "run.experiment=tests", "run.max_failures=0", "scaling.num_workers=1", f"run.storage_path={folder / 'runs'}",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", copy_of_empty(folder))
        assert main(["study", str(path), *settings]) == 1
        victim.write_bytes(content)
        yield registry.client(), folder


def runs(api) -> dict:
    experiment = api.get_experiment_by_name("tests")
    return {run.info.run_name: run for run in api.search_runs([experiment.experiment_id])}


@pytest.mark.slow
def test_an_interrupted_study_goes_on_with_what_is_missing(trained, capsys):
    api, folder = trained
    before = runs(api)
    assert {name: run.info.status for name, run in before.items()} == {
        "mine": "FAILED", "whole": "FINISHED", "damaged": "FAILED"
    }  # fmt: skip
    parent = before["mine"].info.run_id
    assert {run.data.tags.get("mlflow.parentRunId") for name, run in before.items() if name != "mine"} == {parent}

    figure = folder / "figure.png"
    assert main(["study", "--resume", parent, "--plot", str(figure)]) == 0
    after = runs(api)
    assert {name: run.info.status for name, run in after.items()} == dict.fromkeys(
        ("mine", "whole", "damaged", "third"), "FINISHED"
    )
    assert all(after[name].info.run_id == before[name].info.run_id for name in before)
    assert figure.read_bytes().startswith(b"\x89PNG")
    table = capsys.readouterr().out.splitlines()
    error = after["third"].data.metrics["val/top1_error_pct"]
    assert table[3].split()[0] == "resnet18"
    assert table[3].endswith(f"{error:.2f} %")


@pytest.mark.slow
def test_a_study_is_drawn_again_from_its_run_alone(trained, capsys):
    api, folder = trained
    parent = runs(api)["mine"].info.run_id
    figure = folder / "again.svg"
    assert main(["study", "--draw", parent, "--plot", str(figure)]) == 0
    assert "<!-- Mine -->" in figure.read_text()
    assert [f.path for f in api.list_artifacts(parent) if f.path.endswith(".png")] == ["mine.png"]


@pytest.mark.slow
def test_a_training_of_a_study_is_not_itself_a_study(trained, capsys):
    child = runs(trained[0])["whole"].info.run_id
    assert main(["study", "--draw", child]) == 2
    assert f"no study '{child}'" in capsys.readouterr().err
