"""`bench step` and `bench scaling`: what they measure, and that they say so. How fast anything is depends on the
machine.
"""

import json
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import torch
from noise import encoded, noise

from shared.models import create_model
from shared.models.phases import dilated_stages
from trainer.__main__ import main
from trainer.bench import index_cost, networks, pictures, scaling, step, step_table
from trainer.bench.pace import Length, Pace, StepContender, Took
from trainer.bench.step_loops import Place, Setup, bare, real, timms

LENGTH = Length(warm_up=1, timed=2)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """20 pictures of noise in two classes."""
    root = tmp_path_factory.mktemp("images")
    for i in range(20):
        path = root / "ab"[i % 2] / f"{i:02}.JPEG"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(noise(i, (60, 40))))
    return root


@pytest.fixture(scope="module")
def setup(images, tmp_path_factory) -> Setup:
    folder = tmp_path_factory.mktemp("bench")
    sets = pictures.prepare(images, folder / "pictures")
    return Setup(
        network="cifar_resnet20",
        batch_size=2,
        image_size=32,
        device="cpu",
        length=LENGTH,
        packed=step._as_large_as_imagenet(sets.packed, folder / "packed"),
        num_classes=2,
        logs=folder,
        mlflow=False,
        loader_processes=0,
        cores=(0,),
    )


class Parent:
    """The other end of a contender's pipe: tells it to take so many turns, then is gone."""

    def __init__(self, turns: int) -> None:
        self.turns = turns
        self.took: list[Took] = []

    def recv(self) -> bool:
        if self.turns == 0:
            raise EOFError
        self.turns -= 1
        return True

    def send(self, took: Took) -> None:
        self.took.append(took)


def test_a_turn_is_timed_from_asking_for_a_batch_to_asking_for_the_one_after_the_last():
    parent = Parent(3)
    batches = Pace(connection=parent, device=torch.device("cpu"), length=LENGTH).batches(range(100))
    seen = [(batch, len(parent.took)) for batch in islice(batches, 7)]
    assert seen == [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (6, 2)]
    assert all(took.elapsed_s > 0 and took.memory_gb > 0 for took in parent.took)


@pytest.mark.parametrize("contender", [bare, timms, real, partial(real, loads=True)])
def test_every_loop_takes_its_turns(contender, setup):
    parent = Parent(2)
    with pytest.raises(EOFError):
        contender(setup, Place(), parent)
    assert len(parent.took) == 2


def test_the_real_loop_logs_once_a_turn_and_never_evaluates(setup, tmp_path):
    with pytest.raises(EOFError):
        real(replace(setup, logs=tmp_path), Place(), Parent(3))
    (file,) = tmp_path.glob("*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6, 9]
    assert all("train/loss" in line and "val/loss" not in line for line in lines)


def test_where_mlflow_is_the_real_loop_logs_to_it(setup, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # restored afterwards
    with pytest.raises(EOFError):
        real(replace(setup, logs=tmp_path, mlflow=True), Place(), Parent(2))
    from trainer import tracking

    (run,) = tracking.runs.client().search_runs(["1"])
    tracking.RunLog(run.info.run_id).flush()
    assert [point for point, _ in tracking.history(run.info.run_id, "train/loss")] == [3, 6]


def took(elapsed_s: float, cpu_s: float = 1.0) -> Took:
    return Took(elapsed_s=elapsed_s, cpu_s=cpu_s, memory_gb=1.0)


def test_a_ratio_is_the_median_of_the_rounds_own_ratios():
    def contender(processes: int) -> StepContender:
        return StepContender(works=[print] * processes, images_per_step=4)

    compared = {"bare": contender(1), "real": contender(1), "real_2": contender(2)}
    rounds = [
        {"bare": [took(1.0)], "real": [took(2.0, cpu_s=2.0)], "real_2": [took(2.0), took(2.0)]},
        {"bare": [took(3.0)], "real": [took(4.0, cpu_s=1.25)], "real_2": [took(8.0), took(8.0)]},
        {"bare": [took(1.0)], "real": [took(1.0, cpu_s=1.0)], "real_2": [took(1.25), took(1.25)]},
    ]
    found = step._figures(compared, rounds, LENGTH)
    assert found["loop_ratio"] == 0.75
    assert found["spread"]["loop_ratio"] == {"min": 0.5, "max": 1.0}
    assert found["by_processor_time"] == {"loop_ratio": 0.8}
    assert found["scaling_2"] == 0.8, "two workers by twice one"
    assert found["images_per_s"] == {"bare": 8.0, "real": 4.0, "real_2": 8.0}
    assert (found["loader_ratio"], found["loop_ratio_2"]) == (None, None), "not measured"


def test_a_stage_is_recommended_only_where_it_wins_in_every_round(setup, monkeypatch):
    seconds = iter([[1.2, 1.1], [1.3, 1.04], [0.9, 0.8]])
    monkeypatch.setattr(networks, "_ratios", lambda *_: next(seconds))
    rows = networks._stages(replace(setup, network="drn_c_26"), Place(), 2, None)
    assert [(r["stage"], r["dilation"], r["wins"]) for r in rows] == [
        ("layer5", 2, True), ("layer6", 4, False), ("layer7", 2, False),
    ]  # fmt: skip


def test_stages_are_timed_on_the_maps_that_they_get(setup):
    shapes = networks._stage_inputs(replace(setup, network="drn_c_26", image_size=64))
    assert shapes == {"layer5": (2, 128, 8, 8), "layer6": (2, 256, 8, 8), "layer7": (2, 512, 8, 8)}
    stage = create_model("drn_c_26", width=0.125).layer5
    assert all(ratio > 0 for ratio in networks._ratios(stage, (2, 16, 8, 8), setup, 2))


@pytest.mark.slow
def test_the_command_measures_everything_and_prints_one_object(images, monkeypatch, capsys):
    monkeypatch.setattr(step, "IMAGE_SIZE", 32)
    monkeypatch.setattr(step, "LENGTHS", {"cpu": Length(warm_up=0, timed=1)})
    monkeypatch.setattr(step, "has_mlflow", lambda: False)
    monkeypatch.setattr(index_cost, "ENTRIES", 10_000)
    arguments = ["--models", "drn_a_18", "--device", "cpu", "--batch-size", "2", "--rounds", "1"]
    assert main(["bench", "step", *arguments, "--images", str(images), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    two = len(step.machine.cores()) > 1
    assert {"loop_ratio", "loader_ratio", "timm_ratio"} <= found["spread"].keys()
    assert (found["scaling_2"] is None) != two
    assert (found["loop_ratio_2"] is None) != two
    stages = list(dilated_stages(create_model("drn_a_18")))
    assert [(m["name"], m["precision"], m["folded"]) for m in found["models"][1:]] == [
        ("drn_a_18", "fp32", []), ("drn_a_18", found["models"][0]["precision"], stages),
    ]  # fmt: skip
    for row in found["models"]:
        assert {"images_per_s", "step_time_s", "share_of_peak", "memory_gb", "compiled"} < row.keys()
        assert row["images_per_s"] == pytest.approx(2 / row["step_time_s"])
    assert [(s["model"], s["stage"]) for s in found["stages"]] == [("drn_a_18", stage) for stage in stages]
    text = step_table.table(found)
    assert "drn_a_18: " in text
    assert "JSON lines in a file: MLflow is not installed" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["step", "--models", "resnet19"], "unknown model 'resnet19'; did you mean"),
        (["step", "--rounds", "0"], "--rounds 0 is not positive"),
        (["step", "--batch-size", "0"], "--batch-size 0 is not positive"),
        (["step", "--images", "/nowhere"], "--images /nowhere does not exist"),
        (["scaling", "--model", "resnet50"], "--model and --step-time-s belong together"),
        (["scaling", "--model", "resnet50", "--step-time-s", "0"], "--step-time-s 0 and --batch-size 256 should both"),
        (["scaling", "--model", "resnet", "--step-time-s", "1"], "unknown model 'resnet'; did you mean"),
    ],
)
def test_a_mistake_is_answered_in_one_line(arguments, message, capsys):
    assert main(["bench", *arguments]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]


def test_on_paper_an_all_reduce_takes_what_its_bytes_and_messages_take():
    given = scaling.Assumptions(node_gb_s=100, network_share=0.5, hop_s=1e-3, bucket_mb=50)
    # 100 MB in two buckets: 2 x 7/8 of it at 100 GB/s, and 2 x 2 x log2(8) messages
    assert scaling.all_reduce_time_s(100e6, 8, None, given) == pytest.approx(1.75e-3 + 12e-3)
    # 2 x 15/16 at half of 80 Gbit/s, which is 5 GB/s
    assert scaling.all_reduce_time_s(100e6, 16, 80, given) == pytest.approx(37.5e-3 + 16e-3)


def test_on_paper_what_the_backward_pass_does_not_hide_is_lost():
    given = scaling.Assumptions(bucket_mb=50)
    assert scaling._efficiency(1.0, 100e6, 0.5, given) == pytest.approx(1 / 1.25), "the last of two buckets"
    assert scaling._efficiency(1.0, 100e6, 2.0, given) == pytest.approx(1 / (1 + 2 - 2 / 3))


def test_on_paper_each_row_says_what_it_assumes(capsys):
    assert main(["bench", "scaling", "--json"]) == 0
    resnet, drn = json.loads(capsys.readouterr().out)
    assert (resnet["model"], drn["model"]) == ("resnet50", "drn_c_42")
    assert resnet["gradient_mb"] == pytest.approx(102.2, abs=0.1)  # 25,557,032 parameters in fp32
    assert resnet["source"].startswith("published")
    assert drn["source"].startswith("assumed")
    assert [row["gpus"] for row in resnet["rows"]] == [8, *[16] * 3, *[64] * 3, *[256] * 3, *[1024] * 3]
    assert all(0 < row["efficiency"] < 1 for row in resnet["rows"])
    assert main(["bench", "scaling", "--model", "resnet50", "--step-time-s", "0.05", "--batch-size", "128"]) == 0
    assert "resnet50: 0.0500 s for 128 images on one GPU (given)" in capsys.readouterr().out
