"""Sweeps: what the words mean, which figure is drawn, and one of two points trained, resumed and drawn again."""

import io
import logging
import math
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import pytest
from demo_store import copy_of_empty
from mlflow.entities import Run

from shared import registry
from trainer.__main__ import main
from trainer.sweep import figure, points, scales
from trainer.sweep.results import ERROR, Result, kept_error

# points


def test_a_grid_is_all_combinations_and_names_show_their_points():
    sweep = points.read(["tiny_resnet18", "optimizer.base_lr=0.1,0.2", "run.epochs=3", "run.seed=0,1"])
    assert sweep.name == "tiny_resnet18: base_lr, seed"
    assert sweep.keys == ("optimizer.base_lr", "run.seed")
    assert [sweep.point(recipe) for recipe in sweep.recipes] == [(0.1, 0), (0.1, 1), (0.2, 0), (0.2, 1)]
    assert sweep.recipes[2].name == "tiny_resnet18 base_lr=0.2 seed=0"
    assert {recipe.run.epochs for recipe in sweep.recipes} == {3}


def test_keys_of_the_same_name_keep_their_sections():
    sweep = points.read(["tiny_resnet18", "optimizer.name=sgd,lars", "schedule.name=cosine,constant"])
    assert sweep.recipes[0].name == "tiny_resnet18 optimizer.name=sgd schedule.name=cosine"


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("0.1", ("0.1",)),
        ("0.1, 0.2", ("0.1", "0.2")),
        ("[30,60]", ("[30,60]",)),
        ("[30,60],[40,80]", ("[30,60]", "[40,80]")),
        ('"a,b"', ('"a,b"',)),
        ('"a,b",\'c,"\'', ('"a,b"', "'c,\"'")),
        ("resnet18,drn_c_26", ("resnet18", "drn_c_26")),
        ("", ("",)),
        ("../cifar10", ("../cifar10",)),
    ],
)
def test_commas_within_brackets_and_quotes_belong_to_a_value(text, texts):
    assert points.read_setting(f"data.path={text}") == points.Values(key="data.path", texts=texts)


def test_a_list_is_one_value():
    sweep = points.read(["tiny_resnet18", "schedule.name=step", "schedule.milestones=[1,2],[3]"])
    assert [recipe.schedule.milestones for recipe in sweep.recipes] == [(1, 2), (3,)]


def drawn(*settings: str, samples: int = 20, seed: int = 0) -> list[tuple[Any, ...]]:
    sweep = points.read(["tiny_resnet18", *settings], samples, seed)
    return [sweep.point(recipe) for recipe in sweep.recipes]


def test_a_wide_range_is_drawn_evenly_by_order_of_magnitude():
    rates = sorted(rate for (rate,) in drawn("optimizer.base_lr=0.01..1", samples=200))
    assert 0.01 <= rates[0] < 0.02
    assert 0.5 < rates[-1] <= 1
    assert sum(rate < 0.1 for rate in rates) == pytest.approx(100, abs=25)  # 3.5 standard deviations


def test_a_narrow_range_is_drawn_evenly():
    widths = [width for (width,) in drawn("model.width=0.5..1.5", samples=200)]
    assert sum(width < 1 for width in widths) == pytest.approx(100, abs=25)


def test_integers_stay_integers_and_both_ends_belong_to_the_range():
    assert {seed for (seed,) in drawn("run.seed=1..4", samples=4)} == {1, 2, 3, 4}
    assert all(isinstance(size, int) and 8 <= size <= 256 for (size,) in drawn("data.num_loader_workers=8..256"))


def test_a_range_of_a_real_number_may_be_written_in_integers():
    assert any(width % 1 for (width,) in drawn("model.width=1..2"))


def test_a_seed_draws_the_same_points_and_more_samples_only_add_some():
    few, many = (drawn("optimizer.base_lr=0.01..1", "run.seed=1,2,3", samples=n) for n in (5, 20))
    assert many[:5] == few
    assert len(set(many)) == 20
    assert drawn("optimizer.base_lr=0.01..1", samples=5, seed=1) != [(rate,) for rate, _ in few]


MANY = f"run.seed={','.join(map(str, range(257)))}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name one recipe (given: none)"),
        (["tiny_resnet18", "tiny_drn_a_18", "run.seed=1,2"], "name one recipe (given: tiny_resnet18, tiny_drn_a_18)"),
        (["tiny_resnet19", "run.seed=1,2"], "unknown recipe 'tiny_resnet19'; did you mean"),
        (["tiny_resnet18", "optimizer.base_lr=0.1"], "nothing varies; give a setting several values"),
        (["tiny_resnet18", "--samples", "3"], "nothing varies"),
        (["tiny_resnet18", "optimizer.base_lr=0.1,-0.2"], "with optimizer.base_lr=-0.2: recipe tiny_resnet18: "),
        (["tiny_resnet18", "optimizer.lr=0.1,0.2"], "unknown key optimizer.lr"),
        (["tiny_resnet18", "optimiser.lr=0.1..0.2", "--samples", "2"], "unknown section 'optimiser'"),
        (["tiny_resnet18", "optimizer.base_lr=0.01..1"], "is a range, from which points are drawn: add --samples"),
        (["tiny_resnet18", "optimizer.base_lr=1..0.1", "--samples", "2"], "as in optimizer.base_lr=0.1..1"),
        (["tiny_resnet18", "run.seed=0.5..2", "--samples", "2"], "run.seed takes integers"),
        (["tiny_resnet18", "model.name=1..2", "--samples", "2"], "model.name is not a number"),
        (["tiny_resnet18", "optimizer.base_lr=0.1,,0.2"], "a value between the commas is empty"),
        (["tiny_resnet18", "optimizer.base_lr=0.1,0.2,0.10"], "0.10 comes twice"),
        (["tiny_resnet18", "run.seed=1,2", "run.seed=3"], "run.seed is given 2 times"),
        (["tiny_resnet18", "run.experiment=a,b"], "run.experiment cannot vary"),
        (["tiny_resnet18", MANY, "optimizer.momentum=0.8,0.9"], "514 points are more than the 256 that a sweep"),
        (["tiny_resnet18", "run.seed=1,2", "--samples", "300"], "300 points are more than the 256"),
        (["tiny_resnet18", "run.seed=1,2", "--samples", "0"], "--samples 0 is below 1"),
        (["tiny_resnet18", "run.seed=1,2", "--samples", "3"], "drawing found only 2 different points"),
        (["tiny_resnet18", "run.seed=1,2", "--concurrent", "0"], "--concurrent 0 is below 1"),
        (["run.seed=1,2", "--resume", "0" * 32], "a sweep keeps the settings it began with; drop run.seed=1,2"),
        (["--draw", "0" * 32], "no sweep '0000"),
        (["--resume", "0" * 32], "no sweep '0000"),
        (["tiny_resnet18", "run.seed=1,2", "--plot", "figure.gif"], "a figure's name ends in"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", copy_of_empty(tmp_path))
    assert main(["sweep", *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


# figures


def result(*point: Any, error: float | None = 50.0) -> Result:
    return Result(
        name=str(point),
        point=point,
        error_pct=error,
        lowest_pct=error,
        images=10_000,
        status="FINISHED" if error is not None else "FAILED",
        run_id="",
    )


@pytest.mark.parametrize(
    ("results", "kind"),
    [
        ([result(0.1), result(0.2)], "curve"),
        ([result("sgd"), result("lars")], "list"),
        ([result(True), result(False)], "list"),
        ([result(0.1, "sgd"), result(0.2, "sgd"), result(0.1, "lars"), result(0.2, "lars", error=None)], "heat map"),
        ([result(0.1, 1e-4), result(0.2, 1e-5), result(0.3, 1e-3)], "scatter"),
        ([result(0.1, "sgd"), result(0.2, "lars")], "parallel"),
        ([result(0.1, "sgd", (30, 60)), result(0.2, "lars", (40,)), result(0.3, "sgd", (40,), error=None)], "parallel"),
    ],
)
def test_every_kind_of_sweep_has_its_figure_also_with_failed_trainings_or_none_but_those(results, kind):
    assert figure.kind_of(results) == kind
    keys = [f"section.key{i}" for i in range(len(results[0].point))]
    figure.draw("title", keys, results).draw_without_rendering()
    figure.draw("title", keys, [result(*r.point, error=None) for r in results]).draw_without_rendering()


def test_a_curve_has_the_errors_over_the_values_and_marks_the_best_and_the_failed():
    axes = figure.draw("t", ["a.b"], [result(0.4, error=30), result(0.1, error=40), result(1.6, error=None)]).axes[0]
    assert axes.get_xscale() == "log"
    assert axes.lines[0].get_xydata().tolist() == [[0.1, 40], [0.4, 30]]
    assert {text.get_text() for text in axes.texts} == {"0.4: 30.0 %", "failed"}


def test_a_cell_of_a_heat_map_is_the_error_of_its_combination():
    results = [result(x, y, error=10 * x + y) for x in (1, 2, 3) for y in (4, 5)]
    axes = figure.draw("t", ["a.x", "a.y"], results).axes[0]
    assert axes.images[0].get_array().tolist() == [[14, 24, 34], [15, 25, 35]]


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0.1, 0.2, 0.4], "log"),
        ([0.1, 0.2, 0.3, 0.4], "linear"),
        ([1e-4, 1e-3], "log"),
        ([0.1, 0.3], "linear"),
        ([0, 1e-4, 1e-3], "symlog"),
        ([0, 1, 2], "linear"),
        ([-1, 1, 100], "linear"),
        ([5], "linear"),
    ],
)
def test_an_axis_is_logarithmic_where_the_values_ask_for_it(values, scale):
    assert scales.scale_of(values) == scale


def test_the_weights_that_would_be_registered_are_compared():
    assert kept_error({ERROR: 30.0, f"{ERROR}_ema": 20.0}) == 20.0
    assert kept_error({ERROR: 30.0}) == 30.0
    assert kept_error({}) is None


def test_the_margin_is_the_95_percent_interval_of_a_share():
    assert result(1, error=50).margin_pct == pytest.approx(1.96 * 100 * math.sqrt(0.25 / 10_000))


# trainings

SETTINGS = [
    "data.source=folder", "data.name=colours", "model.width=0.125", "augment.train_size=32", "augment.eval_resize=32",
    "augment.eval_size=32", "run.global_batch_size=8", "run.epochs=1", "run.log_every_steps=2", "run.experiment=tests",
    "run.max_failures=0", "scaling.num_workers=1",
]  # fmt: skip


@dataclass
class Swept:
    exit_code: int
    out: str
    err: str
    parent: Run
    children: dict[str, Run]
    settings: list[str]


@pytest.fixture(scope="module")
def swept(colour_folder, tmp_path_factory):
    """A sweep of two points in a store of its own: the first one's loss is above what it allows itself."""
    folder = tmp_path_factory.mktemp("swept")
    settings = [*SETTINGS, f"data.path={colour_folder}", f"run.storage_path={folder / 'runs'}"]
    out, err = io.StringIO(), io.StringIO()
    log = logging.StreamHandler(err)  # as the command line has it; pytest keeps the root logger for itself
    logging.getLogger("trainer").addHandler(log)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", copy_of_empty(folder))
        with redirect_stdout(out), redirect_stderr(err):
            code = main(["sweep", "tiny_resnet18", *settings, "run.max_loss=1e-6,100"])
        logging.getLogger("trainer").removeHandler(log)
        parent = runs()["tiny_resnet18: max_loss"]
        yield Swept(code, out.getvalue(), err.getvalue(), parent, below(parent.info.run_id), settings)


def runs() -> dict[str, Run]:
    api = registry.client()
    experiment = api.get_experiment_by_name("tests")
    return {run.info.run_name: run for run in api.search_runs([experiment.experiment_id])}


def below(parent: str) -> dict[str, Run]:
    return {name: run for name, run in runs().items() if run.data.tags.get("mlflow.parentRunId") == parent}


FAILS, TRAINS = "tiny_resnet18 max_loss=1e-6", "tiny_resnet18 max_loss=100"


@pytest.mark.slow
def test_a_failed_training_ends_no_other_one_and_the_command_says_so(swept):
    assert {name: run.info.status for name, run in swept.children.items()} == {FAILS: "FAILED", TRAINS: "FINISHED"}
    assert "above run.max_loss" in swept.children[FAILS].data.tags["failure"]
    assert swept.exit_code == 1
    assert "failed: 1 of 2 trainings of the sweep failed" in swept.err
    assert f"{FAILS}: failed: the mean loss of" in swept.err


@pytest.mark.slow
def test_the_table_is_sorted_by_error_with_the_failed_at_its_end(swept):
    _, best, failed = swept.out.splitlines()
    trained = swept.children[TRAINS]
    assert best.startswith(TRAINS)
    assert f"{trained.data.metrics['val/top1_error_pct']:.2f} %" in best
    assert best.endswith(trained.info.run_id)
    assert failed.startswith(FAILS)
    assert "failed" in failed


@pytest.mark.slow
def test_the_parent_has_the_swept_values_the_best_figures_and_the_picture_of_all(swept):
    parent, best = swept.parent, swept.children[TRAINS]
    assert parent.info.status == "FAILED"
    assert f"python -m trainer sweep --resume {parent.info.run_id}" in swept.err
    assert parent.data.params == {"run.max_loss": "1e-06, 100.0"}
    assert parent.data.tags["best_run"] == best.info.run_id
    assert parent.data.metrics["val/top1_error_pct"] == best.data.metrics["val/top1_error_pct"]
    files = {file.path for file in registry.client().list_artifacts(parent.info.run_id)}
    assert files == {"sweep.json", "sweep.png"}


@pytest.mark.slow
def test_the_best_network_alone_is_registered(swept):
    [version] = registry.versions()
    assert version.run_id == swept.children[TRAINS].info.run_id
    served = registry.load(version.uri)
    assert served.card.metrics["top1_error_pct"] == swept.parent.data.metrics["val/top1_error_pct"]


@pytest.mark.slow
def test_an_interrupted_sweep_keeps_what_is_finished_and_goes_on_with_the_rest(swept, monkeypatch, caplog, capsys):
    """Ray is left out here: what matters is which runs there are, and how they end."""
    asked = []

    def train(jobs, name, concurrent, ended):
        asked.append({recipe.name: run_id for recipe, run_id in jobs})
        for _, run_id in jobs[:2]:
            registry.client().update_run(run_id, status="RUNNING")
        ended(jobs[0][1], "")
        if len(asked) == 1:
            raise KeyboardInterrupt
        ended(jobs[1][1], "")

    monkeypatch.setattr("trainer.launch.sweep.sweep", train)
    monkeypatch.setattr("trainer.sweep.run._register_best", lambda *_: None)
    assert main(["sweep", "tiny_resnet18", *swept.settings, "run.seed=1,2,3"]) == 130
    parent = runs()["tiny_resnet18: seed"]
    assert parent.info.status == "KILLED"
    assert f"go on with: python -m trainer sweep --resume {parent.info.run_id}" in caplog.text
    begun = {name: run.info for name, run in below(parent.info.run_id).items()}
    one, two, three = (f"tiny_resnet18 seed={seed}" for seed in (1, 2, 3))
    assert {name: info.status for name, info in begun.items()} == {one: "FINISHED", two: "KILLED"}

    assert main(["sweep", "--resume", parent.info.run_id]) == 0
    assert asked[1].keys() == {two, three}
    assert asked[1][two] == begun[two].run_id


@pytest.mark.slow
def test_a_sweep_is_drawn_again_from_its_run_alone(swept, capsys, tmp_path):
    path = tmp_path / "again.svg"
    assert main(["sweep", "--draw", swept.parent.info.run_id, "--plot", str(path)]) == 0
    assert "<!-- tiny_resnet18: max_loss -->" in path.read_text()
    assert capsys.readouterr().out == swept.out


@pytest.mark.slow
def test_a_sweep_is_not_a_study(swept, capsys):
    assert main(["study", "--draw", swept.parent.info.run_id]) == 2
    assert f"no study '{swept.parent.info.run_id}'" in capsys.readouterr().err
