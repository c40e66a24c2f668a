"""From the final state of a training to a version: the better network, and a card that says which it is."""

import pytest
import torch
from demo_store import copy_of_empty

from shared import registry
from shared.models import create_model
from trainer import recipes, registration
from trainer.checkpoint import State


def weights(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return create_model("lenet5", num_classes=2).state_dict()


@pytest.fixture
def state(tmp_path, monkeypatch) -> State:
    """Of a run whose moving average was the better network."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", copy_of_empty(tmp_path))
    api = registry.client()
    run_id = api.create_run(api.create_experiment("x", artifact_location=tmp_path.as_uri())).info.run_id
    return State(
        run_id=run_id, step=10, best_top1_error_pct=12.5, metrics={"top1_error_pct": 12.5}, classes=["a", "b"],
        data_digest="d", model=weights(0), optimizer={}, ema=weights(1), to_register="ema",
    )  # fmt: skip


def test_a_version_of_the_average_holds_its_weights_and_says_so_on_its_card(state):
    recipe = recipes.load("lenet5", ["optimizer.ema_decay=0.9999", "scaling.num_workers=1"])
    served = registry.load(registration.register(recipe, state).uri)
    assert served.card.weights == "trained, exponential moving average of decay 0.9999"
    assert served.card.metrics == {"top1_error_pct": 12.5}
    loaded = served.model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.ema.items())
    assert registration.register(recipe, state) == served.version  # once for a run
