"""The classic picture: one table of published errors, the registry's own points, and what is refused at once."""

import json

import pytest
from demo_store import copy_of_empty

from shared import registry
from trainer import comparison, recipes
from trainer.__main__ import main


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty registry, and a way to add a version of which only the listing is real."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", copy_of_empty(tmp_path))
    api = registry.client()

    def add(name: str, **tags: object) -> None:
        if name not in {m.name for m in api.search_registered_models()}:
            api.create_registered_model(name)
        api.create_model_version(name, tmp_path.as_uri(), tags={key: str(value) for key, value in tags.items()})

    return add


def test_published_errors_are_those_that_the_recipes_expect():
    rows = {n.cost.name: n.row() for n in comparison.networks()}
    expected = recipes.load("drn_c_26").expected
    assert rows["drn_c_26"]["top1_error_pct"] == expected.top1_error_pct == 24.86
    assert rows["drn_c_26"]["top1_error_source"] == expected.source
    assert rows["drn_d_107"]["top1_error_pct"] is rows["drn_d_107"]["top1_error_source"] is None


def test_measured_points_are_the_versions_evaluated_on_imagenet(store):
    store("drn_c_26-imagenet", architecture="drn_c_26", data="imagenet", top1_error_pct=25, images=50000)
    store(
        "resnet18-w0.5-imagenet-sample", architecture="resnet18", data="imagenet-sample", top1_error_pct=50, images=96
    )
    store("drn_c_26-imagenette", architecture="drn_c_26", data="imagenette", top1_error_pct=5, images=3925)
    store("drn_c_26-photos", architecture="drn_c_26", data="photos", top1_error_pct=20, images=500)
    store("resnet50-imagenet", architecture="resnet50", data="imagenet")  # never evaluated
    store("vit-imagenet", architecture="vit", data="imagenet", top1_error_pct=20, images=50000)
    narrow, wide = sorted(comparison.measurements(), key=lambda m: m.cost.gmacs)
    assert (wide.cost.name, wide.cost.gmacs, wide.top1_error_pct, wide.images) == ("drn_c_26", 16.97, 25.0, 50000)
    assert narrow.cost.params < 11_689_512 / 3
    assert narrow.margin_pct == pytest.approx(10.0, abs=0.01)  # 1.96 sqrt(.5 * .5 / 96)


def test_models_draws_the_published_and_the_measured_in_one_figure(store, tmp_path, capsys):
    store("drn_c_26-imagenet", architecture="drn_c_26", data="imagenet", top1_error_pct=25, images=50000)
    path = tmp_path / "zoo.svg"
    assert main(["models", "--json", "--plot", str(path)]) == 0
    out, err = capsys.readouterr()
    assert {row["name"] for row in json.loads(out)} > {"resnet18"}
    assert err == f"wrote {path}\n"
    drawn = path.read_text()
    for text in ("ResNet", "DRN-B", "C-58", "measured here (50,000 images; bar: 95 %)"):
        assert f"<!-- {text} -->" in drawn


@pytest.mark.parametrize("reachable", [True, False])
def test_without_measured_points_the_figure_is_drawn_and_one_line_says_why(
    reachable, store, tmp_path, monkeypatch, capsys, caplog
):
    if not reachable:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    path = tmp_path / "zoo.png"
    assert main(["models", "--plot", str(path)]) == 0
    [line] = caplog.messages
    reason = "the registry holds no version" if reachable else "MLflow at http://127.0.0.1:9 cannot be reached"
    assert line.startswith(f"no measured points: {reason}")
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("zoo.gif", "a figure's name ends in .png, .svg, .pdf"),
        ("zoo", "a figure's name ends in .png, .svg, .pdf"),
        ("nowhere/zoo.png", "there is no folder"),
        ("folder.png", "cannot be written"),
    ],
)
def test_a_figure_that_cannot_be_written_is_refused_before_work_starts(name, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "folder.png").mkdir()
    monkeypatch.setattr(comparison, "networks", lambda: pytest.fail("work has started"))
    assert main(["models", "--plot", str(tmp_path / name)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --plot {tmp_path / name}")
    assert message in line


def test_labels_of_the_zoo_do_not_overlap():
    from matplotlib.text import Text

    figure = comparison.draw(comparison.networks(), [])
    figure.draw_without_rendering()
    for axes in figure.axes:
        # Text's own method leaves out the line from a label to its point
        boxes = [Text.get_window_extent(label) for label in axes.texts]
        assert len(boxes) >= 15
        assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]


def test_a_network_that_has_hardly_learned_does_not_squash_the_others():
    networks = comparison.networks()
    hopeless = comparison.Measurement(cost=networks[0].cost, top1_error_pct=99.9, images=500)
    axes = comparison.draw(networks, [hopeless]).axes[0]
    assert axes.get_ylim()[1] < 60
    assert "100 % ↑" in {text.get_text() for text in axes.texts}
