"""The command line: exit codes, JSON, and one clear line for every mistake."""

import json

import pytest

from shared.models import ARCHITECTURES
from trainer.__main__ import main


def test_models_are_listed_with_the_keys_of_the_contract(capsys):
    assert main(["models", "--json"]) == 0
    models = json.loads(capsys.readouterr().out)
    assert [m["name"] for m in models] == list(ARCHITECTURES)
    assert set(models[0]) == {
        "name", "params", "gmacs", "output_stride", "image_size", "source", "top1_error_pct", "top1_error_source",
    }  # fmt: skip


def test_recipes_are_listed_with_the_keys_of_the_contract(capsys):
    assert main(["recipes", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert set(rows[0]) == {"name", "model", "data", "expected"}
    assert "tiny_drn_c_26" in {row["name"] for row in rows}


def test_both_lists_are_readable_without_json(capsys):
    assert main(["models"]) == 0
    assert main(["recipes"]) == 0
    assert "21,126,584" in capsys.readouterr().out


def test_evaluating_untrained_weights_on_a_folder_of_wordnet_ids(tmp_path, capsys):
    from PIL import Image

    for wordnet_id in ("n01440764", "n02123045"):
        (tmp_path / wordnet_id).mkdir()
        for i in range(2):
            Image.new("L" if i else "RGB", (300, 260), 40 * i).save(tmp_path / wordnet_id / f"{i}.JPEG")
    assert main(["evaluate", "resnet18", f"data.path={tmp_path}", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 4
    assert result["weights"] == "random"
    assert {"top1_error_pct", "top5_error_pct", "loss", "gridding"} <= set(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "no recipe given"),
        (["train", "drn_c_62"], "unknown recipe 'drn_c_62'"),
        (["train", "tiny_drn_c_26", "run.epoch=1"], "unknown key run.epoch"),
        (["train", "drn_c_26"], "data.path is empty"),
        (["train", "drn_c_26", "data.path=/nowhere"], "data.path=/nowhere is not a folder"),
        (
            ["train", "vgg11", "data.source=photos", "augment.start_size=16", "augment.size_step=16"],
            "vgg11 does not take pictures of 16 x 16 px",
        ),
        (["train", "tiny_drn_c_26", "--resume", "x"], "--resume goes on with the recipe of the run"),
        (["train", "--resume", "0" * 32], "no run '0000"),
        (["evaluate", "drn_c_62"], "unknown model 'drn_c_62'"),
        (
            ["evaluate", "models:/nothing/1"],
            "no registered version 'models:/nothing/1'; there is: the registry is empty",
        ),
        (["evaluate", "drn_c_26"], "data.path is empty"),
        (["evaluate", "drn_c_26", "data.source=photos"], "evaluate it on its own data set"),
    ],
)
def test_a_mistake_is_answered_with_one_line_and_exit_code_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if line]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert message in lines[0]


def test_mlflow_that_does_not_answer_is_named_before_anything_starts(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main(["train", "tiny_drn_c_26"]) == 2
    assert "MLflow at http://127.0.0.1:9 cannot be reached" in capsys.readouterr().err


def test_ray_that_does_not_answer_is_named(monkeypatch, tmp_path, capsys):
    import ray

    if ray.is_initialized():
        pytest.skip("another test's Ray runs in this process")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    assert main(["train", "tiny_drn_c_26"]) == 2
    assert "no Ray answers at RAY_ADDRESS=127.0.0.1:9" in capsys.readouterr().err
