"""Versions: complete, champion only when better, refused when tampered with."""

import json
from pathlib import Path

import mlflow
import pytest
import torch

from shared import registry
from shared.card import Card
from shared.errors import UserError
from shared.transforms import EvalTransform


def card(error: float, digest: str = "d1") -> Card:
    return Card(
        architecture="drn_c_26", width=0.125, classes=("a", "b"), transform=EvalTransform(resize=64, crop=64),
        weights="trained", weights_sha256="", data="test", data_digest=digest, metrics={"top1_error_pct": error},
        recipe={}, code_version="", created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Four versions with errors 50, 60, 40 and, on other data, 10."""
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        api = registry.client()
        run_id = api.create_run(api.create_experiment("x", artifact_location=folder.as_uri())).info.run_id
        models, champions = [], []
        for error, digest in ((50.0, "d1"), (60.0, "d1"), (40.0, "d1"), (10.0, "d2")):
            torch.manual_seed(len(models))
            model = card(error).build()
            registry.publish(model, card(error, digest), name="net-test", run_id=run_id)
            models.append(model)
            champions.append(registry.resolve("models:/net-test@champion").number)
        yield models, champions, run_id


def test_champion_moves_only_to_a_lower_error_on_the_same_data(published):
    assert published[1] == [1, 1, 3, 3]


def test_a_loaded_version_computes_what_the_published_one_did(published):
    models, _, run_id = published
    images = torch.randn(2, 3, 64, 64)
    for reference, model in (("models:/net-test/2", models[1]), ("models:/net-test@champion", models[2])):
        served = registry.load(reference)
        with torch.inference_mode():
            assert torch.equal(served.model(images), model(images))
    assert registry.load(run_id).version.number == 4


def test_the_pt2_graph_for_other_tools_agrees_at_other_sizes(published):
    graph = mlflow.pytorch.load_model("models:/net-test/1")
    images = torch.randn(3, 3, 96, 80)
    with torch.inference_mode():
        torch.testing.assert_close(graph(images), published[0][0](images), rtol=1e-4, atol=1e-5)  # other kernels


def test_versions_come_newest_first_with_their_figures(published):
    versions = registry.versions()
    assert [v.number for v in versions] == [4, 3, 2, 1]
    assert versions[1].top1_error_pct == 40.0
    assert versions[1].aliases == ("champion",)
    assert versions[1].architecture == "drn_c_26"


def test_an_unknown_version_is_answered_with_what_there_is(published):
    with pytest.raises(UserError, match="no registered version 'models:/net-test/9'; there is: models:/net-test/4"):
        registry.load("models:/net-test/9")


def files_of(number: int) -> Path:
    return Path(mlflow.artifacts.download_artifacts(f"models:/net-test/{number}/extra_files"))


def test_tampered_weights_are_refused(published):
    weights = files_of(2) / registry.WEIGHTS_FILE
    original = weights.read_bytes()
    try:
        weights.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
        with pytest.raises(UserError, match="does not match the digest in its card"):
            registry.load("models:/net-test/2")
    finally:
        weights.write_bytes(original)


def test_a_card_with_a_foreign_architecture_is_refused(published):
    path = files_of(2) / "card.json"
    original = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(original) | {"architecture": "os.system"}))
        with pytest.raises(UserError, match=r"unknown model 'os\.system'"):
            registry.load("models:/net-test/2")
    finally:
        path.write_text(original)


def test_a_server_that_does_not_answer_is_named_within_seconds(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"MLflow at http://127\.0\.0\.1:9 cannot be reached .* MLFLOW_TRACKING_URI"):
        registry.check_reachable()


def test_an_architecture_is_served_with_random_weights_that_are_always_the_same():
    served = registry.load("drn_a_18")
    assert served.version is None
    assert served.card.weights == "random"
    again = registry.load("drn_a_18").model.state_dict()
    assert all(torch.equal(again[key], value) for key, value in served.model.state_dict().items())
