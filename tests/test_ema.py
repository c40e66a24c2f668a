"""The moving average of weights: what it holds, that it survives a stop to the bit, and when it is chosen."""

from pathlib import Path

import pytest
import torch
from recording import WORLD, Recorder, final_state, recipe
from timm.utils import ModelEmaV3
from two_workers import two_workers

from shared.errors import UserError
from shared.models import create_model
from trainer import checkpoint, loop
from trainer.classification import Classification
from trainer.data import open_data
from trainer.ema import Networks, decay_at
from trainer.precision import choose_precision
from trainer.probes import gridding_metrics
from trainer.rollcall import StoppedError
from trainer.validation import Validator, choose

DECAY = "optimizer.ema_decay=0.9"
EPOCHS_END = (4, 7)  # 26 pictures in batches of 8, twice


class Stopped(Recorder):
    """Ends a training after an update, on every worker."""

    def __init__(self, folder: Path, after: int) -> None:
        super().__init__(folder)
        self.after = after

    def log(self, metrics, step):
        super().log(metrics, step)
        if "train/loss" in metrics and step == self.after:
            raise StoppedError("enough")


def train(world, data: Path, recorder: Recorder, resume_from: Path | None = None) -> Recorder:
    settings = ["model.name=resnet18", "run.epochs=2", "run.log_every_steps=1", "data.num_loader_workers=0"]
    state = checkpoint.load(resume_from) if resume_from else None
    loop.train(recipe(data, DECAY, *settings), world, recorder, "run", state)
    return recorder


def train_both(world, data: Path, recorders: list[Recorder], resume_from: Path | None = None) -> Recorder:
    return train(world, data, recorders[world.rank], resume_from)


def last_saved(out: Path) -> Path:
    return max(out.iterdir(), key=lambda path: int(path.name))


def same(first: checkpoint.State, second: checkpoint.State) -> bool:
    return (
        all(torch.equal(first.model[key], value) for key, value in second.model.items())
        and all(torch.equal(first.ema[key], value) for key, value in second.ema.items())
        and (first.step, first.metrics, first.to_register) == (second.step, second.metrics, second.to_register)
        and first.best_top1_error_pct == second.best_top1_error_pct
    )


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    with two_workers(tmp_path_factory.mktemp("workers")) as running:
        yield running


@pytest.fixture(scope="module")
def alone(colour_folder, tmp_path_factory) -> Recorder:
    """An uninterrupted training on one worker."""
    return train(WORLD, colour_folder, Recorder(tmp_path_factory.mktemp("alone")))


def stop(folder: Path, after: int) -> Recorder:
    """What ends a training right after a checkpoint at the end of an epoch, or within one."""
    return Recorder(folder, stop_after=1) if after in EPOCHS_END else Stopped(folder, after)


@pytest.mark.parametrize("after", [4, 5], ids=["at the end of an epoch", "within one"])
def test_a_resumed_average_has_the_bits_of_an_uninterrupted_one(alone, colour_folder, tmp_path, after):
    with pytest.raises((StoppedError, InterruptedError)):
        train(WORLD, colour_folder, stop(tmp_path / "first", after))
    assert checkpoint.load(last_saved(tmp_path / "first")).step == after
    resumed = train(WORLD, colour_folder, Recorder(tmp_path / "second"), last_saved(tmp_path / "first"))
    assert same(final_state(resumed), final_state(alone))


def test_two_workers_resume_an_average_to_the_bit_with_the_statistics_of_each(workers, colour_folder, tmp_path):
    def run(name: str, after: int | None = None, resume_from: Path | None = None) -> Path:
        folders = [tmp_path / name / str(rank) for rank in range(2)]
        recorders = [Recorder(folder) if after is None else stop(folder, after) for folder in folders]
        workers.run(train_both, colour_folder, recorders, resume_from)
        return last_saved(folders[0])

    uninterrupted = checkpoint.load(run("uninterrupted"))
    for after in (4, 5):
        stopped = run(f"stopped after {after}", after)
        assert checkpoint.load(stopped).step == after
        assert same(checkpoint.load(run(f"resumed after {after}", resume_from=stopped)), uninterrupted)
    state = checkpoint.load(stopped)
    own = state.batch_norm
    assert not torch.equal(own[0], own[1])
    means = [value.flatten() for part in (state.model, state.ema) for key, value in part.items() if "running" in key]
    torch.testing.assert_close(torch.cat(means), own.mean(dim=0), msg="the mean of both, up to rounding")


def test_an_average_lags_behind_by_its_closed_form():
    model = torch.nn.Linear(1, 1)
    networks = Networks(model, 0.9)
    expected = None
    for done in range(1, 8):
        with torch.no_grad():
            model.weight.fill_(float(done))
        networks.update_average(done)
        decay = min(0.9, 1 - done ** (-2 / 3))
        expected = done if expected is None else decay * expected + (1 - decay) * done
        assert networks["ema"].weight.item() == pytest.approx(expected, rel=1e-6)
    assert 1 < networks["ema"].weight.item() < 7


def test_the_decay_grows_from_nothing_to_the_recipes():
    assert [decay_at(done, 0.99) for done in (1, 8, 1000, 10**6)] == pytest.approx([0, 0.75, 0.99, 0.99])


def test_an_average_is_timms_to_the_bit():
    torch.manual_seed(0)
    model = create_model("resnet18", width=0.125, num_classes=3)
    networks, peer = Networks(model, 0.5), ModelEmaV3(model, decay=0.5, use_warmup=True)
    for done in range(1, 6):
        model.train()(torch.randn(4, 3, 32, 32))  # changes the running statistics and the counters
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        networks.update_average(done)
        peer.update(model, step=done)
    state = networks["ema"].state_dict()
    assert state["bn1.num_batches_tracked"] == 5
    assert all(torch.equal(state[key], value) for key, value in peer.module.state_dict().items())


def test_a_network_without_batch_norm_is_averaged():
    networks = Networks(create_model("lenet5"), 0.9)
    networks.update_average(1)
    networks.update_average(2)


def test_both_networks_are_evaluated_and_the_better_one_would_be_registered(alone):
    raw, ema = alone.values("val/top1_error_pct"), alone.values("val/top1_error_pct_ema")
    assert list(raw) == list(ema) == list(alone.values("val/top5_error_pct_ema")) == list(EPOCHS_END)
    assert alone.values("val/loss") != alone.values("val/loss_ema")
    assert alone.values("val/top1_error_pct_best")[7] == min(*raw.values(), *ema.values())
    state = final_state(alone)
    assert state.to_register == ("ema" if ema[7] < raw[7] else "raw")
    assert state.metrics["top1_error_pct"] == min(raw[7], ema[7])
    assert any(not torch.equal(state.model[key], value) for key, value in state.ema.items())


def test_gridding_is_that_of_the_network_that_would_be_registered(colour_folder):
    config = recipe(colour_folder, DECAY, "data.num_loader_workers=0")
    data = open_data(config.data)
    networks = Networks(loop.build_model(config, data, pretrained=False), 0.9)
    for parameter in networks["raw"].parameters():
        parameter.data *= 1.1
    validator = Validator(config, WORLD, data, choose_precision("fp32", WORLD.device))
    evaluation = validator.run(networks, "title")
    ghd = {name: gridding_metrics(net, validator.probes.class_maps(net))["ghd"] for name, net in networks.items()}
    assert ghd["raw"] != ghd["ema"]
    assert evaluation.metrics["ghd"] == ghd[evaluation.to_register]


def result(top1_error_pct: float) -> Classification:
    return Classification(images=8, top1_error_pct=top1_error_pct, top5_error_pct=0.0, loss=1.0, damaged=())


@pytest.mark.parametrize(("raw", "ema", "chosen"), [(10, 9, "ema"), (9, 10, "raw"), (9, 9, "raw")])
def test_an_average_is_chosen_where_it_is_better(raw, ema, chosen):
    assert choose({"raw": result(raw), "ema": result(ema)}) == chosen


def test_a_checkpoint_from_before_averages_still_loads(alone, tmp_path):
    checkpoint.save(tmp_path, final_state(alone))
    path = tmp_path / checkpoint.FILE_NAME
    content = torch.load(path, weights_only=True)
    del content["ema"], content["to_register"]
    torch.save(content, path)
    state = checkpoint.load(tmp_path)
    assert (state.ema, state.to_register) == (None, "raw")
    assert state.weights_to_register is state.model


def test_a_decay_that_is_none_is_answered_in_one_clear_line():
    for decay in ("1", "1.5", "-0.1", "nan"):
        with pytest.raises(
            UserError, match=rf"optimizer\.ema_decay={decay}.*: an average moves .*; try 0\.9999"
        ) as caught:
            recipe(Path(), f"optimizer.ema_decay={decay}")
        assert "\n" not in str(caught.value)
