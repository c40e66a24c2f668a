"""A worker whose storage fails, or whose pictures are damaged, stops the others, and nothing that was done is lost."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from recording import WORLD, Recorder, recipe
from two_workers import TwoWorkers, two_workers

from shared.errors import TrainingError
from trainer import checkpoint, loop
from trainer.rollcall import DivergedError, StoppedError, all_or_none

EPOCHS_END = (4, 7, 10)  # 26 pictures in batches of 8


class Vanishing(Recorder):
    """Takes the data away, as a mount goes whose server dies, when `metric` is logged after update `after`."""

    def __init__(self, folder: Path, data: Path, after: int, metric: str = "train/loss") -> None:
        super().__init__(folder)
        self.data = data
        self.moment = (metric, after)

    def log(self, metrics, step):
        super().log(metrics, step)
        if self.moment in {(metric, step) for metric in metrics}:
            self.data.rename(f"{self.data}-away")


class Full(Vanishing):
    """Nothing can be stored from then on, either."""

    def save(self, metrics, folder):
        if not self.data.exists() and any(folder.iterdir()):
            raise OSError(28, "No space left on device")
        super().save(metrics, folder)


def settings(data: Path):
    return recipe(data, "run.log_every_steps=1", "data.retry_s=0.2", "data.num_loader_workers=0")


def train(world, data: Path, out: Path, hooks: Callable[[Path, Path], Recorder] | None = None, victim: int = 0,
          resume_from: Path | None = None):  # fmt: skip
    """Train on this worker's own copy of the data; `hooks` are the victim's, who has only to itself what they do."""
    data, out = data / str(world.rank), out / str(world.rank)
    recorder = hooks(out, data) if hooks and victim == world.rank else Recorder(out)
    return loop.train(settings(data), world, recorder, "run", checkpoint.load(resume_from) if resume_from else None)


def copies(colour_folder: Path, target: Path) -> Path:
    for rank in ("0", "1"):
        shutil.copytree(colour_folder, target / rank)
    return target


def saved(out: Path) -> list[Path]:
    """Rank 0's checkpoints, oldest first."""
    return sorted((out / "0").iterdir(), key=lambda path: int(path.name))


def same_weights(first: checkpoint.State, second: checkpoint.State) -> bool:
    return all(torch.equal(first.model[key], value) for key, value in second.model.items())


def same(first: checkpoint.State, second: checkpoint.State) -> bool:
    moments = zip(first.optimizer["state"].values(), second.optimizer["state"].values(), strict=True)
    return (
        same_weights(first, second)
        and all(torch.equal(a["momentum_buffer"], b["momentum_buffer"]) for a, b in moments)
        and (first.step, first.metrics) == (second.step, second.metrics)
        and first.best_top1_error_pct == second.best_top1_error_pct
    )


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    with two_workers(tmp_path_factory.mktemp("workers")) as running:
        yield running


@pytest.fixture(scope="module")
def uninterrupted(workers: TwoWorkers, colour_folder, tmp_path_factory) -> checkpoint.State:
    folder = tmp_path_factory.mktemp("uninterrupted")
    states = workers.run(train, copies(colour_folder, folder / "data"), folder / "out")
    assert same_weights(*states)
    return checkpoint.load(saved(folder / "out")[-1])


@pytest.mark.parametrize(
    ("victim", "after"),
    [
        pytest.param(1, 2, id="in the first epoch"),
        pytest.param(1, 5, id="in the second epoch"),
        pytest.param(0, 7, id="while evaluating"),  # the seven pictures are one batch, and rank 0's
        pytest.param(0, 10, id="in the last evaluation"),
    ],
)
def test_workers_stop_together_and_a_resumed_run_matches_an_uninterrupted_one(
    workers, uninterrupted, colour_folder, tmp_path, victim, after
):
    data, out = copies(colour_folder, tmp_path / "data"), tmp_path / "out"
    stops = workers.run(train, data, out, partial(Vanishing, after=after), victim)
    assert [type(stop) for stop in stops] == [StoppedError, StoppedError]
    assert str(stops[0]) == str(stops[1])
    assert str(stops[0]).startswith(f"worker {victim}: {data}/{victim}/")
    assert "could not be read for 0.2 s" in str(stops[0])
    last = checkpoint.load(saved(out)[-1])
    assert (last.step, last.metrics) == (after, {})
    assert len(saved(out)) == 1 + sum(end < after for end in EPOCHS_END)

    Path(f"{data}/{victim}-away").rename(data / str(victim))
    workers.run(train, data, tmp_path / "resumed", None, 0, saved(out)[-1])
    assert same(checkpoint.load(saved(tmp_path / "resumed")[-1]), uninterrupted)


def test_a_run_that_stops_right_after_a_checkpoint_saves_no_other(workers, colour_folder, tmp_path):
    data, out = copies(colour_folder, tmp_path / "data"), tmp_path / "out"
    stops = workers.run(train, data, out, partial(Vanishing, after=4, metric="val/loss"), 1)
    assert [type(stop) for stop in stops] == [StoppedError, StoppedError]
    assert [checkpoint.load(folder).step for folder in saved(out)] == [4]


def test_a_storage_that_takes_nothing_either_is_in_the_line_and_older_checkpoints_stay(
    workers, colour_folder, tmp_path
):
    data, out = copies(colour_folder, tmp_path / "data"), tmp_path / "out"
    stops = workers.run(train, data, out, partial(Full, after=5), 0)
    assert str(stops[0]) == str(stops[1])
    assert str(stops[0]).startswith(f"worker 0: {data}/0/")
    end = "; worker 0: update 5 could not be saved (OSError: [Errno 28] No space left on device)"
    assert str(stops[0]).endswith(end)
    assert [checkpoint.load(folder).step for folder in saved(out)] == [4]


def test_damage_that_one_worker_finds_stops_the_others(workers, colour_folder, tmp_path):
    data, out = copies(colour_folder, tmp_path / "data"), tmp_path / "out"
    for rank in ("0", "1"):
        path = data / rank / "train" / "red" / "0.jpg"
        path.write_bytes(path.read_bytes()[:200])
    stops = workers.run(train, data, out)
    assert [type(stop) for stop in stops] == [StoppedError, StoppedError]
    assert str(stops[0]) == str(stops[1])
    assert "1 of 26 training pictures are damaged, more than 1%" in str(stops[0])


def diverge(world, data: Path, out: Path, state: Path):
    config = recipe(data / str(world.rank), "optimizer.base_lr=1e30", "run.log_every_steps=2")
    recorder = Recorder(out / str(world.rank))
    return loop.train(config, world, recorder, "run", checkpoint.load(state))


def test_workers_whose_loss_is_not_finite_stop_together_and_save_nothing(workers, colour_folder, tmp_path):
    data, out = copies(colour_folder, tmp_path / "data"), tmp_path / "out"
    workers.run(train, data, out, partial(Vanishing, after=5), 1)
    Path(f"{data}/1-away").rename(data / "1")
    stops = workers.run(diverge, data, tmp_path / "diverged", saved(out)[-1])
    assert [type(stop) for stop in stops] == [DivergedError, DivergedError]
    assert str(stops[0]) == str(stops[1])
    assert not (tmp_path / "diverged").exists()


def test_one_worker_alone_saves_what_it_did(colour_folder, tmp_path):
    data = copies(colour_folder, tmp_path / "data")
    uninterrupted = train(WORLD, data, tmp_path / "uninterrupted")
    with pytest.raises(StoppedError) as caught:
        train(WORLD, data, tmp_path / "out", partial(Vanishing, after=5))
    assert str(caught.value).startswith(f"{data}/0/train/")
    Path(f"{data}/0-away").rename(data / "0")
    assert same(train(WORLD, data, tmp_path / "resumed", resume_from=saved(tmp_path / "out")[-1]), uninterrupted)


def test_a_checkpoint_of_two_workers_within_an_epoch_is_resumed_by_one(workers, colour_folder, tmp_path):
    data, out = copies(colour_folder, tmp_path / "data"), tmp_path / "out"
    workers.run(train, data, out, partial(Vanishing, after=9), 1)
    last = checkpoint.load(saved(out)[-1])
    statistics = [value.flatten() for key, value in last.model.items() if "running" in key]
    torch.testing.assert_close(torch.cat(statistics), last.batch_norm.mean(dim=0), msg="the mean of both")
    assert train(WORLD, data, tmp_path / "resumed", resume_from=saved(out)[-1]).step == 10


def fail(world, ranks: tuple[int, ...], line: str):
    def work() -> int:
        if world.rank in ranks:
            raise TrainingError(line)
        return 10 + world.rank

    return all_or_none(work)


@pytest.mark.parametrize(
    ("ranks", "line"),
    [((1,), "worker 1: no space"), ((0,), "worker 0: no space"), ((0, 1), "no space")],
    ids=["one", "the first", "all alike"],
)
def test_the_line_names_the_worker_that_failed(workers, ranks, line):
    assert [str(stop) for stop in workers.run(fail, ranks, "no space")] == [line, line]


def test_work_that_succeeds_everywhere_returns_what_it_found(workers):
    assert workers.run(fail, (), "") == [10, 11]
