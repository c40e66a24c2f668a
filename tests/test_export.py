"""`export`: a file that computes what the network does, at any batch and picture size, or no file."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from shared import registry
from shared.card import Card, read_card
from shared.models import class_maps
from shared.transforms import EvalTransform
from trainer.__main__ import main
from trainer.export import formats, target

DRN = ("drn_c_26", 0.125)
SIZES = ((48, 48), (61, 53))
"""Of the check: the card's, and one that is no multiple of a stride."""

needs_onnx = pytest.mark.skipif(
    not all(map(find_spec, target.PACKAGES["onnx"])), reason="needs the extra onnx: pip install degrid[onnx]"
)


def card(architecture: str, width: float) -> Card:
    channels = 1 if architecture == "lenet5" else 3
    side = 28 if architecture == "lenet5" else 48
    return Card(
        architecture=architecture, width=width, classes=("a", "b", "c"),
        transform=EvalTransform(resize=side, crop=side, mean=(0.5,) * channels, std=(0.25,) * channels),
        weights="trained", weights_sha256="", data="test", data_digest="d", metrics={"top1_error_pct": 12.5},
        recipe={}, code_version="", created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


@pytest.fixture
def served(monkeypatch):
    """A small network in the place of the one that the registry would rebuild."""

    def use(architecture: str = "cifar_resnet_small", width: float = 0.5) -> torch.nn.Module:
        torch.manual_seed(0)
        made = card(architecture, width)
        network = registry.Served(model=made.build(), card=made, version=None)
        monkeypatch.setattr(registry, "load", lambda _: network)
        return network.model

    return use


def export(*arguments: object) -> int:
    return main(["export", "net", *map(str, arguments)])


@pytest.mark.parametrize("dense", [False, True])
def test_a_pt2_file_agrees_with_the_network_at_sizes_that_were_not_traced(served, dense, tmp_path, capsys):
    network, path = served(*DRN if dense else ()), tmp_path / "net.pt2"
    assert export("--format", "pt2", "--output", path, "--json", *["--dense"] * dense) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["sizes"] == "any"
    assert result["returns"] == ("class_maps" if dense else "logits")
    assert result["max_difference"] <= 1e-5 * result["largest_output"]  # rounding
    assert {(shape[0], *shape[2:]) for shape in result["checked"]} == {(b, *s) for b in (1, 3) for s in SIZES}
    images = torch.randn(2, 3, 80, 57)
    with torch.inference_mode():
        found = torch.export.load(path).module()(images)
        expected = class_maps(network, images) if dense else network(images)
    assert found.shape == ((2, 3, 10, 8) if dense else (2, 3))  # stride 8
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)  # other kernels


@needs_onnx
@pytest.mark.parametrize("dense", [False, True])
def test_an_onnx_file_agrees_with_the_network_at_sizes_that_were_not_traced(served, dense, tmp_path):
    import onnxruntime

    network, path = served(*DRN if dense else ()), tmp_path / "net.onnx"
    assert export("--format", "onnx", "--output", path, *["--dense"] * dense) == 0
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
    assert session.get_outputs()[0].name == ("class_maps" if dense else "logits")
    images = torch.randn(5, 3, 80, 57)
    found = session.run(None, {"images": images.numpy()})[0]
    with torch.inference_mode():
        expected = class_maps(network, images) if dense else network(images)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4)  # other kernels
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.onnx", "net.onnx.card.json"]


@needs_onnx
def test_a_network_that_onnx_can_only_hold_for_one_size_says_so(served, tmp_path, capsys):
    served("lenet5", 1.0)  # its pooling to a fixed number of cells
    assert export("--format", "onnx", "--output", tmp_path / "net.onnx", "--json") == 0
    out, _ = capsys.readouterr()
    assert json.loads(out)["sizes"] == "28 x 28 px only"
    assert json.loads(out)["checked"] == [[1, 1, 28, 28], [3, 1, 28, 28]]


def test_the_card_lies_beside_the_file(served, tmp_path):
    served()
    path = tmp_path / "net.pt2"
    assert export("--format", "pt2", "--output", path) == 0
    assert read_card(tmp_path / "net.pt2.card.json") == card("cifar_resnet_small", 0.5)


def test_a_card_with_another_transform_has_no_metrics_that_were_not_measured_with_it(served, tmp_path):
    served()
    path = tmp_path / "net.pt2"
    assert export("--format", "pt2", "--output", path, "augment.eval_size=40") == 0
    made = read_card(target.card_path(path))
    assert made.transform.crop == 40
    assert made.metrics == {}


def test_a_file_that_computes_something_else_is_not_kept(served, tmp_path, monkeypatch, capsys):
    network = served()
    monkeypatch.setattr(formats, "open_run", lambda *_: lambda images: network(images) * 1.01)
    path = tmp_path / "net.pt2"
    path.write_text("the one before")
    assert export("--format", "pt2", "--output", path, "--overwrite") == 1
    assert "differ by up to" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt2"]
    assert path.read_text() == "the one before"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "tflite", "--output", "net.tflite"], "--format tflite is unknown; choose onnx or pt2"),
        (["--format", "pt2", "--output", "net.onnx"], "with --format pt2 a name ends in .pt2"),
        (["--format", "pt2", "--output", "none/net.pt2"], "there is no folder none; create it"),
        (["--format", "pt2", "--output", "old.pt2"], "old.pt2 exists; choose another --output, or replace it with"),
        (["--format", "pt2", "--output", "net.pt2", "--dense"], "--dense: lenet5 has no class maps"),
        (["--format", "pt2", "--output", "net.pt2", "model.width=0.5"], "an export takes augment.eval_resize"),
        (["--format", "pt2", "--output", "net.pt2", "augment.eval_sise=32"], "unknown key augment.eval_sise"),
    ],
)
def test_bad_input_is_answered_in_one_line(arguments, message, served, tmp_path, monkeypatch, capsys):
    served("lenet5", 1.0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.pt2").write_text("x")
    assert export(*arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["old.pt2"]


def test_a_missing_package_is_named_with_the_way_to_install_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(target, "find_spec", lambda _: None)
    assert export("--format", "onnx", "--output", tmp_path / "net.onnx") == 2
    assert "needs onnx, onnxscript, onnxruntime; install with: pip install onnx" in capsys.readouterr().err
