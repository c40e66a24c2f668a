"""The training loop in one process, without Ray."""

import shutil
from pathlib import Path

import pytest
import torch
from recording import WORLD, Recorder, final_state, recipe

from shared.errors import TrainingError
from trainer import checkpoint, loop
from trainer.meters import check_validation
from trainer.rollcall import DivergedError


@pytest.fixture(scope="module")
def trained(colour_folder, tmp_path_factory):
    recorder = Recorder(tmp_path_factory.mktemp("trained"))
    loop.train(recipe(colour_folder), WORLD, recorder, "run")
    return recorder


def test_every_epoch_is_evaluated_logged_and_saved(trained):
    assert list(trained.values("val/top1_error_pct")) == [4, 7, 10]  # 26 pictures in batches of 8
    assert trained.values("val/images") == {4: 7, 7: 7, 10: 7}
    assert trained.images == [("class_maps", 4), ("class_maps", 7), ("class_maps", 10)]
    assert len(trained.saved) == 3
    assert final_state(trained).step == 10


def test_gridding_is_logged_every_epoch(trained):
    assert list(trained.values("gridding/ghd")) == [4, 7, 10]
    assert final_state(trained).metrics["ghd"] == trained.values("gridding/ghd")[10]


def test_training_metrics_are_logged_at_the_interval(trained):
    assert list(trained.values("train/loss")) == [2, 4, 6, 8, 10]
    assert not trained.values("train/image_size"), "crops have the size of the recipe"
    assert {"train/lr", "perf/images_per_s", "perf/step_time_s", "perf/data_wait_pct"} < {k for k, _ in trained.logged}
    assert trained.news[-1].step == trained.news[-1].total_steps == 10


def test_a_resumed_run_matches_an_uninterrupted_run(trained, colour_folder, tmp_path):
    first = Recorder(tmp_path / "first", stop_after=1)
    with pytest.raises(InterruptedError):
        loop.train(recipe(colour_folder), WORLD, first, "run")
    second = Recorder(tmp_path / "second")
    loop.train(recipe(colour_folder), WORLD, second, "run", resume_from=checkpoint.load(first.saved[-1]))
    resumed, uninterrupted = final_state(second), final_state(trained)
    assert resumed.step == uninterrupted.step
    assert resumed.best_top1_error_pct == uninterrupted.best_top1_error_pct
    assert all(torch.equal(resumed.model[key], value) for key, value in uninterrupted.model.items())


def test_a_run_of_growing_crops_shows_their_size_and_goes_on_with_it(colour_folder, tmp_path):
    growing = recipe(colour_folder, "augment.start_size=16", "augment.size_step=8", "augment.grow_from=0.1")
    whole, first, second = (Recorder(tmp_path / name) for name in ("whole", "first", "second"))
    loop.train(growing, WORLD, whole, "run")
    assert whole.values("train/image_size") == {2: 16, 4: 24, 6: 24, 8: 32, 10: 32}
    first.stop_after = 2
    with pytest.raises(InterruptedError):
        loop.train(growing, WORLD, first, "run")
    loop.train(growing, WORLD, second, "run", resume_from=checkpoint.load(first.saved[-1]))
    assert second.values("train/image_size") == {8: 32, 10: 32}
    resumed, uninterrupted = final_state(second), final_state(whole)
    assert all(torch.equal(resumed.model[key], value) for key, value in uninterrupted.model.items())


def test_a_resnet_has_no_gridding_score(colour_folder, tmp_path):
    recorder = Recorder(tmp_path)
    loop.train(recipe(colour_folder, "model.name=resnet18", "run.epochs=1"), WORLD, recorder, "run")
    assert "ghd" not in final_state(recorder).metrics


def test_a_loss_that_explodes_stops_the_run_with_the_step(colour_folder, tmp_path):
    with pytest.raises(TrainingError, match=r"the loss became nan within the 2 updates before step \d+; lower"):
        loop.train(recipe(colour_folder, "optimizer.base_lr=1e30"), WORLD, Recorder(tmp_path), "run")


def test_a_loss_above_its_limit_stops_the_run_with_the_step(colour_folder, tmp_path):
    with pytest.raises(TrainingError, match=r"updates before step 2 is [\d.]+, above run.max_loss=0.5; lower"):
        loop.train(recipe(colour_folder, "run.max_loss=0.5"), WORLD, Recorder(tmp_path), "run")


def test_weights_that_are_lost_replace_no_checkpoint(trained, colour_folder, tmp_path):
    state = checkpoint.load(trained.saved[0])
    config = recipe(colour_folder, "optimizer.base_lr=1e30", "run.log_every_steps=1000")
    recorder = Recorder(tmp_path)
    with pytest.raises(DivergedError, match=r"the loss became nan within the \d updates before step 7; lower"):
        loop.train(config, WORLD, recorder, "run", resume_from=state)  # step 7 ends an epoch
    assert recorder.saved == []


def test_a_validation_loss_that_is_not_finite_ends_the_run():
    check_validation(2.5, step=7)
    with pytest.raises(DivergedError, match="the validation loss after step 7 is nan"):
        check_validation(float("nan"), step=7)


def copy_with_damage(source: Path, target: Path, victims: int) -> Path:
    shutil.copytree(source, target)
    for path in sorted((target / "train" / "red").iterdir())[:victims]:
        path.write_bytes(path.read_bytes()[:200])
    return target


def test_more_than_one_percent_of_damaged_pictures_stops_the_run_and_names_them(colour_folder, tmp_path):
    folder = copy_with_damage(colour_folder, tmp_path / "data", victims=1)
    with pytest.raises(TrainingError, match=r"1 of 26 training pictures are damaged, more than 1% .*red/0\.jpg"):
        loop.train(recipe(folder), WORLD, Recorder(tmp_path / "out"), "run")


def test_a_few_damaged_pictures_are_counted_and_named(colour_folder, tmp_path, caplog):
    folder = tmp_path / "many"
    shutil.copytree(colour_folder, folder)
    good = folder / "train" / "blue" / "0.jpg"
    for i in range(100):
        shutil.copy(good, folder / "train" / "blue" / f"copy{i}.jpg")
    (folder / "train" / "blue" / "copy50.jpg").write_bytes(b"not a picture")
    recorder = Recorder(tmp_path / "out")
    loop.train(recipe(folder, "run.epochs=1"), WORLD, recorder, "run")
    assert recorder.tags["damaged_pictures"] == f"1: {folder}/train/blue/copy50.jpg"
    assert "skipped a damaged training picture" in caplog.text


def test_a_network_with_auxiliary_classifiers_and_one_without_class_maps_are_trained(colour_folder, tmp_path):
    for name, overrides in (("googlenet", []), ("lenet5", ["augment.mean=[0.5]", "augment.std=[0.5]"])):
        recorder = Recorder(tmp_path / name)
        config = recipe(colour_folder, f"model.name={name}", "model.width=1", "run.epochs=0.5", *overrides)
        state = loop.train(config, WORLD, recorder, "run")
        assert state.step == 2
        assert recorder.values("val/images") == {2: 7}
        assert bool(recorder.images) == (name == "googlenet")


def test_the_training_error_is_logged_beside_the_loss(trained):
    errors = trained.values("train/top1_error_pct")
    assert list(errors) == [2, 4, 6, 8, 10]
    assert all(0 <= error <= 100 for error in errors.values())


def test_without_a_decay_there_is_no_average(trained):
    assert final_state(trained).ema is None
    assert not [name for name, _ in trained.logged if name.endswith("_ema")]
