"""Studies: what a file may say, what is averaged, and a small one trained, interrupted, resumed and drawn again."""

from pathlib import Path

import pytest
from demo_store import copy_of_empty

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
