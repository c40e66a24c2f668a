"""A profile of some updates, in the artifacts of a run."""

import gzip
import json

import pytest
from recording import WORLD, Recorder, recipe

from shared.errors import UserError
from trainer import checkpoint, loop, profiling
from trainer.data.sampling import Plan


@pytest.fixture(scope="module")
def profiled(colour_folder, tmp_path_factory):
    recorder = Recorder(tmp_path_factory.mktemp("profiled"), stop_after=1)
    with pytest.raises(InterruptedError):
        loop.train(recipe(colour_folder, "run.profile_steps=[3, 4]"), WORLD, recorder, "run")
    return recorder


def updates(trace: bytes) -> set[str]:
    names = {event.get("name", "") for event in json.loads(gzip.decompress(trace))["traceEvents"]}
    return {name for name in names if name.startswith("update ")}


def test_the_trace_holds_the_updates_asked_for(profiled):
    trace = profiled.files["profile/updates_3_to_4.json.gz"]
    assert updates(trace) == {"update 3", "update 4"}
    names = {event.get("name", "") for event in json.loads(gzip.decompress(trace))["traceEvents"]}
    assert {"aten::conv2d", "aten::convolution_backward"} <= names


def test_a_table_names_the_most_expensive_operations(profiled):
    table = profiled.files["profile/updates_3_to_4.txt"].decode()
    assert "aten::" in table
    assert "Self CPU" in table
    assert len(table.splitlines()) < 50


def test_a_run_that_is_resumed_among_them_profiles_what_is_left(profiled, colour_folder, tmp_path):
    recorder = Recorder(tmp_path, stop_after=1)
    state = checkpoint.load(profiled.saved[-1])  # after update 4
    with pytest.raises(InterruptedError):
        loop.train(recipe(colour_folder, "run.profile_steps=[3, 6]"), WORLD, recorder, "run", resume_from=state)
    assert updates(recorder.files["profile/updates_5_to_6.json.gz"]) == {"update 5", "update 6"}


def test_a_profile_that_cannot_be_kept_ends_no_training(colour_folder, tmp_path, caplog):
    class Full(Recorder):
        def log_file(self, path, folder):  # noqa: ARG002
            raise OSError(28, "No space left on device")

    recorder = Full(tmp_path)
    loop.train(recipe(colour_folder, "run.profile_steps=[1, 1]", "run.epochs=0.5"), WORLD, recorder, "run")
    assert "updates_1_to_1 could not be kept: OSError: [Errno 28] No space left" in caplog.text


@pytest.mark.parametrize(
    ("steps", "line"),
    [
        ("[4]", r"run.profile_steps=\[4\] should be the first and the last update to profile"),
        ("[5, 4]", r"run.profile_steps=\[5, 4\] should be the first and the last update to profile"),
        ("[89, 91]", r"run.profile_steps=\[89, 91\] ends after the last update, 90; profile earlier ones"),
        ("[1, 21]", r"run.profile_steps=\[1, 21\] are 21 updates; a trace should hold at most 20"),
        ("[29, 31]", r"\[29, 31\] would hold the evaluation after update 30; end there, or begin with 31"),
    ],
)
def test_steps_that_cannot_be_profiled_are_refused(colour_folder, steps, line):
    plan = Plan(num_samples=240, global_batch_size=8, epochs=3)
    with pytest.raises(UserError, match=line):
        profiling.check(recipe(colour_folder, f"run.profile_steps={steps}"), plan)


def test_the_first_update_is_1(colour_folder):
    with pytest.raises(UserError, match=r"run.profile_steps=0: input should be greater than 0"):
        recipe(colour_folder, "run.profile_steps=[0, 4]")
