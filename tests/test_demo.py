import http.client
import json
import os
import urllib.error
import urllib.request

import gradio as gr
import numpy as np
import pytest
import torch
from demo_store import copy_of_empty, copy_of_trio, free_port, publish_tiny, running_demo, wait_until
from gradio.data_classes import ImageData
from PIL import Image

from demo import inference
from demo.header import banner, header, safe_ui_address
from demo.inference import Passes
from demo.page import comparer
from demo.pictures import heat_map
from demo.serving import Serving, choose_trio
from demo.tabs.gridding import MEAN, ONE
from demo.upload import PictureInput, read_upload
from demo.words import verdict
from shared import registry, store
from shared.errors import UserError
from shared.photos import photo
from shared.registry import Version

CAT = photo("cat")


@pytest.fixture
def trio_store(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", copy_of_trio(tmp_path))


@pytest.fixture
def empty_store(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", copy_of_empty(tmp_path))


@pytest.fixture
def following():
    """Makes a Serving that looks often and ends with the test."""
    made = []

    def make(reference: str | None = None) -> Serving:
        made.append(Serving(reference, poll_s=0.2))
        made[-1].start()
        return made[-1]

    yield make
    for serving in made:
        serving.stop()


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", copy_of_trio(folder))
        with running_demo(folder) as (address, _):
            yield address


def served_uri(serving: Serving) -> str | None:
    served = serving.state.served
    return served.version.uri if served and served.version else None


def words_on_header(serving: Serving) -> str:
    return header(serving.state, "cpu", None)


# What is served


@pytest.mark.usefixtures("trio_store")
def test_the_newest_version_is_served_and_named(following):
    serving = following()
    assert served_uri(serving) == "models:/drn_c_26-four/1"
    shown = header(serving.state, "cpu", "http://127.0.0.1:5000")
    for words in ("drn_c_26-four, version 1", "champion", "validation error 50.0 % on four", "run in MLflow"):
        assert words in shown


@pytest.mark.usefixtures("trio_store")
def test_a_version_registered_later_is_served_without_a_restart(following):
    serving = following()
    later = publish_tiny("drn_a_18", error_pct=40, seed=7)
    wait_until(lambda: served_uri(serving) == later.uri)
    wait_until(lambda: serving.state.trio["A"].version.uri == later.uri)


@pytest.mark.usefixtures("trio_store")
def test_a_chosen_version_stays_when_newer_ones_appear(following):
    serving = following("models:/drn_b_26-four@champion")
    publish_tiny("drn_b_26", error_pct=90)
    serving.refresh()
    assert served_uri(serving) == "models:/drn_b_26-four/1"


@pytest.mark.usefixtures("trio_store")
def test_the_old_network_answers_while_the_registry_is_gone(following, monkeypatch):
    serving = following()
    there = os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    wait_until(lambda: serving.state.unreachable_since)
    assert "The registry has not answered since" in words_on_header(serving)
    assert len(inference.classify(serving.state.served, CAT).top) == 4
    monkeypatch.setenv("MLFLOW_TRACKING_URI", there)
    wait_until(lambda: not serving.state.unreachable_since)


@pytest.mark.usefixtures("trio_store")
def test_a_damaged_version_is_named_and_not_tried_again_at_once(following, monkeypatch):
    serving = following()
    wait_until(lambda: len(serving.state.trio) == 3)
    tried = []

    def damaged(version: Version) -> None:
        tried.append(version.uri)
        raise UserError(f"{version.uri}: weights.safetensors does not match the digest in its card")

    monkeypatch.setattr(registry, "load_version", damaged)
    broken = publish_tiny("drn_c_26", seed=3)
    wait_until(lambda: serving.state.failures)
    serving.refresh()
    serving.refresh()
    assert tried == [broken.uri]
    assert f"Could not be loaded: {broken.uri}" in words_on_header(serving)
    assert served_uri(serving) == "models:/drn_c_26-four/1"
    assert serving.state.trio["C"].version.uri == "models:/drn_c_26-four/1"


@pytest.mark.usefixtures("empty_store")
def test_an_empty_registry_says_what_to_run_and_starts_serving_by_itself(following):
    serving = following()
    assert "python -m trainer quickstart" in words_on_header(serving)
    html, _, _ = comparer(serving, Passes())(CAT, "class map", MEAN, 1, "", False)
    assert "python -m trainer train tiny_drn_b_26" in html
    first = publish_tiny("drn_a_18")
    wait_until(lambda: served_uri(serving) == first.uri and serving.state.trio)
    html, _, _ = comparer(serving, Passes())(CAT, "class map", MEAN, 1, "", False)
    assert "DRN-B has not been trained on four yet" in html


def test_the_compared_networks_share_one_data_set():
    def version(architecture: str, data: str, created_ms: int) -> Version:
        return Version(
            name=f"{architecture}-{data}",
            number=1,
            run_id="",
            source="",
            created_ms=created_ms,
            aliases=(),
            tags={"architecture": architecture, "data": data},
        )

    complete = [version(a, "photos", 1) for a in ("drn_a_18", "drn_b_26", "drn_c_26")]
    newer = [version("drn_c_42", "imagenet", 2), version("drn_a_50", "imagenet", 2)]
    data, chosen = choose_trio([*newer, *complete])
    assert data == "photos"
    assert [chosen[letter][0].architecture for letter in "ABC"] == ["drn_a_18", "drn_b_26", "drn_c_26"]


@pytest.mark.usefixtures("empty_store")
def test_random_weights_carry_a_banner_and_fill_the_comparison(following):
    serving = following("drn_c_26")
    wait_until(lambda: serving.state.trio)
    for networks in ([serving.state.served], list(serving.state.trio.values())):
        assert "Random weights" in banner(networks)
    assert "random weights" in words_on_header(serving)


@pytest.mark.usefixtures("trio_store")
def test_trained_weights_carry_no_banner(following):
    assert banner([following().state.served]) == ""


def test_a_link_to_mlflow_never_shows_its_password():
    assert safe_ui_address("https://me:secret@mlflow.example.org:8443/base/") == "https://mlflow.example.org:8443/base"
    assert safe_ui_address("sqlite:////tmp/mlflow.db") is None


# From picture to result


@pytest.mark.usefixtures("trio_store")
def test_demo_and_trainer_preprocess_an_image_identically(following, tmp_path):
    """The trainer's validation decodes with Pillow and applies the EvalTransform of the card."""
    file = tmp_path / "large.jpg"
    CAT.resize((2600, 1900)).save(file, quality=90)
    served = following().state.served
    expected = served.card.transform(Image.open(file).convert("RGB"))
    assert torch.equal(inference.network_input(served, read_upload(file, "large.jpg"))[0].cpu(), expected)
    crop = inference.classify(served, read_upload(file, "large.jpg")).crop
    assert torch.equal(served.card.transform.normalize(torch.from_numpy(np.array(crop)).permute(2, 0, 1)), expected)


@pytest.mark.usefixtures("trio_store")
def test_moving_level_channel_or_class_runs_no_forward_pass(following):
    serving = following()
    wait_until(lambda: len(serving.state.trio) == 3)
    passes = []
    for served in serving.state.trio.values():
        served.model.conv1.register_forward_hook(lambda *_: passes.append(1))
    show = comparer(serving, Passes())
    show(CAT, "class map", MEAN, 1, "", False)
    assert len(passes) == 6  # three networks; the picture, and one bright pixel
    for level in (*inference.LEVELS, inference.CLASS_MAP):
        for rank, class_name in ((1, ""), (3, "rocket")):
            show(CAT, level, ONE, rank, class_name, True)
    assert len(passes) == 6


@pytest.mark.usefixtures("trio_store")
def test_the_gridding_tab_names_each_networks_layer_and_scores_all_class_maps(following):
    serving = following()
    wait_until(lambda: len(serving.state.trio) == 3)
    html, below, scores = comparer(serving, Passes())(CAT, "dilation 4", MEAN, 1, "", False)
    assert [scores[letter]["layer"] for letter in "ABC"] == ["layer4", "layer6", "layer6"]
    assert html.count("28 &times; 28 cells") == below.count("28 &times; 28 cells") == 3
    assert html.count('alt="Heat map of DRN-') == 3
    assert "GHD over the probe pictures of four: 0.25" in html


@pytest.mark.usefixtures("trio_store")
def test_a_plain_picture_has_no_score_rather_than_a_wrong_one(following):
    serving = following()
    wait_until(lambda: len(serving.state.trio) == 3)
    for size in ((1, 1), (40, 2)):
        html, _, scores = comparer(serving, Passes())(Image.new("RGB", size, "red"), "class map", MEAN, 1, "", False)
        assert html.count("<img") == 3
        json.dumps(scores, allow_nan=False)


def test_close_scores_are_called_little_difference_and_no_order_is_promised():
    assert "Little difference" in verdict({"A": 0.31, "B": 0.28, "C": 0.30}, random_weights=False)
    assert "strongest in DRN-C" in verdict({"A": 0.1, "B": 0.3, "C": 0.9}, random_weights=False)


def test_a_heat_map_has_square_cells_of_exact_colours():
    values = np.arange(28 * 28).reshape(28, 28)
    pixels = np.asarray(heat_map(values, low=0, high=783))
    cells = pixels[:560, :560, :3].reshape(28, 20, 28, 20, 3)
    assert (cells == cells[:, :1, :, :1]).all()
    brightness = pixels[10:560:20, 10:560:20, :3].sum(axis=2).ravel().astype(int)
    assert brightness[-1] > brightness[392] > brightness[0]


# What strangers send


@pytest.mark.parametrize("name", ["strip.png", "text.png"])
def test_a_picture_that_cannot_be_used_is_one_clear_message(name, tmp_path):
    file = tmp_path / name
    if name == "strip.png":
        Image.new("RGB", (20_000, 2)).save(file)
    else:
        file.write_text("no picture")
    with pytest.raises(gr.Error, match=name) as caught:
        PictureInput(type="pil").preprocess(ImageData(path=str(file), orig_name=name))
    assert not caught.value.print_exception


def test_a_data_url_is_refused():
    with pytest.raises(gr.Error, match="as a file"):
        PictureInput(type="pil").preprocess(ImageData(path=None, url="data:image/png;base64,AAAA"))


def test_defining_the_picture_input_leaves_no_stub_file_behind():
    assert not list((store.ROOT / "demo").glob("*.pyi"))


def status(url: str, body: bytes | None = None) -> int:
    try:
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_health_route_names_the_served_version(live):
    with urllib.request.urlopen(f"{live}/healthz", timeout=20) as answer:
        health = json.load(answer)
    assert health["status"] == "serving"
    assert health["version"] == "models:/drn_c_26-four/1"


def test_neither_monitoring_nor_unqueued_calls_nor_huge_requests_are_answered(live):
    assert status(f"{live}/") == 200
    assert status(f"{live}/monitoring/summary") >= 400
    assert status(f"{live}/gradio_api/run/classify", b'{"data": [null]}') == 404
    connection = http.client.HTTPConnection(live.removeprefix("http://"), timeout=20)
    connection.putrequest("POST", "/gradio_api/queue/join")
    connection.putheader("Content-Length", "22000000")
    connection.endheaders()
    assert connection.getresponse().status == 413


def test_gradio_client_gets_classes_and_scores(live, tmp_path):
    from gradio_client import Client, handle_file

    CAT.save(tmp_path / "cat.png")
    client = Client(live, verbose=False, download_files=str(tmp_path))
    classes, _, note = client.predict(handle_file(tmp_path / "cat.png"), api_name="/classify")
    assert {c["label"] for c in classes["confidences"]} == {"tabby", "coffee cup", "rocket", "coin"}
    assert "64 &times; 64 pixels" in note
    *_, scores = client.predict(
        handle_file(tmp_path / "cat.png"), "class map", MEAN, 1, "rocket", False, api_name="/gridding"
    )
    assert set(scores) == {"A", "B", "C"}
