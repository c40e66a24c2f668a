"""Published weights: every layout finds its place, everything else is one line and registers nothing."""

import hashlib
import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from file_server import file_server
from PIL import Image
from published import assert_same, official_state, trained_like

from shared import registry
from shared.errors import UserError
from shared.models import create_model
from trainer import importing
from trainer.__main__ import main
from trainer.importing import catalogue, checksums, download

NARROW = ("model.width=0.125", "augment.eval_resize=72", "augment.eval_size=64")


class Code:
    """Pickled, it creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def damaged_files(folder: Path) -> dict[str, str]:
    """Name of a file -> what is said about it."""
    state = {"a": torch.randn(5000), "b": torch.ones(2)}
    torch.save(state, folder / "new.pth")
    torch.save(state, folder / "old.pth", _use_new_zipfile_serialization=False)
    new, old = (folder / "new.pth").read_bytes(), (folder / "old.pth").read_bytes()
    (folder / "new_cut.pth").write_bytes(new[: len(new) // 2])
    (folder / "old_cut.pth").write_bytes(old[: len(old) // 2])
    position = new.index(state["a"].numpy().tobytes()) + 800
    (folder / "flipped.pth").write_bytes(new[:position] + bytes([new[position] ^ 1]) + new[position + 1 :])
    (folder / "empty.pth").write_bytes(b"")
    (folder / "page.pth").write_text("<html>")
    torch.save({"a": Code(folder / "ran")}, folder / "code.pth")
    torch.save({"a": Code(folder / "ran")}, folder / "old_code.pth", _use_new_zipfile_serialization=False)
    (folder / "plain_code.pth").write_bytes(pickle.dumps({"a": Code(folder / "ran")}, protocol=2))
    torch.save({"a": 1}, folder / "number.pth")
    torch.save({"a": torch.tensor([1.0, float("nan")])}, folder / "nan.pth")
    return {
        "new_cut.pth": "damaged, incomplete or no weights file",
        "old_cut.pth": "damaged, incomplete or no weights file",
        "flipped.pth": "bad CRC-32",
        "empty.pth": "damaged, incomplete or no weights file",
        "page.pth": "damaged, incomplete or no weights file",
        "code.pth": "holds more than tensors (posix.mkdir)",
        "old_code.pth": "holds more than tensors (posix.mkdir)",
        "plain_code.pth": "plain_code.pth",  # not even PyTorch's format
        "number.pth": "holds a int at 'a'",
        "nan.pth": "not finite in 1 tensors (first a)",
    }


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    return tmp_path_factory.mktemp("importing")


@pytest.fixture
def store(empty_store, tmp_path, monkeypatch):
    """A registry of this module, and a cache of this test."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{empty_store / 'mlflow.db'}")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(download, "RETRY_WAIT_S", 0.0)


def refused(arguments: list[str], capsys) -> str:
    """The one line of a command that is refused and registers nothing."""
    before = registry.versions(), len(registry.client().search_runs(["0", "1"]))
    capsys.readouterr()
    assert main(["import", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert (registry.versions(), len(registry.client().search_runs(["0", "1"]))) == before
    [line] = [line for line in err.splitlines() if line]
    assert line.startswith("error: ")
    return line


def test_files_that_cannot_be_trusted_are_refused_in_one_line(store, tmp_path, capsys):
    for name, message in damaged_files(tmp_path).items():
        assert message in refused(["drn_c_26", str(tmp_path / name)], capsys)
    assert not (tmp_path / "ran").exists()


def test_mistakes_are_refused_in_one_line(store, tmp_path, capsys):
    torch.save(create_model("resnet18", width=0.125).state_dict(), tmp_path / "resnet18.pth")
    file = str(tmp_path / "resnet18.pth")
    assert "no weights 'torchvision' for drn_c_26; there are: official, mirror" in refused(
        ["drn_c_26", "torchvision"], capsys
    )
    assert "unknown model 'drn_c_62'" in refused(["drn_c_62", file], capsys)
    assert "SOURCE 'nothing.pth' is no file" in refused(["drn_c_26", "nothing.pth"], capsys)
    assert "needs ARCH and SOURCE" in refused(["drn_c_26"], capsys)
    assert "unknown key run.epoch" in refused(["resnet18", file, "run.epoch=1"], capsys)
    assert "data.path=/nowhere is not a folder" in refused(["resnet18", file, "data.path=/nowhere"], capsys)
    assert "is no drn_c_26" in refused(["drn_c_26", file, *NARROW], capsys)
    assert "should begin with 12345678" in refused(["resnet18", file, *NARROW, "--checksum", "12345678"], capsys)
    assert "--checksum xyz" in refused(["resnet18", file, "--checksum", "xyz"], capsys)


@pytest.fixture
def narrow_file(tmp_path) -> Path:
    """An eighth of an old official file; its name ends with its digest."""
    state = official_state(trained_like("drn_c_26", width=0.125), "drn_c_26", counters=False)
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=False)
    content = buffer.getvalue()
    path = tmp_path / f"drn_c_26-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def two_cats(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cats")
    for wordnet_id in ("n02123045", "n02123159"):
        (folder / wordnet_id).mkdir()
        Image.new("RGB", (90, 80), (len(os.listdir(folder)) * 60, 90, 40)).save(folder / wordnet_id / "0.jpg")
    return folder


def test_imports_become_versions_and_a_measured_one_becomes_champion(store, narrow_file, two_cats, capsys):
    command = ["import", "drn_c_26", str(narrow_file), *NARROW, "--json"]
    champions = []
    for more in ([], [f"data.path={two_cats}"], []):
        assert main([*command, *more]) == 0
        result = json.loads(capsys.readouterr().out)
        champions.append(registry.resolve("models:/drn_c_26-w0.125-imagenet@champion").number)
    assert champions == [1, 2, 2]

    first, second = (registry.load(f"models:/drn_c_26-w0.125-imagenet/{n}") for n in (1, 2))
    assert_same(first.model, trained_like("drn_c_26", width=0.125))
    assert first.card.weights == narrow_file.name
    assert first.card.metrics == {}
    assert first.version.top1_error_pct is None
    assert first.card.classes[281] == "n02123045"
    assert second.card.metrics["images"] == 2
    assert second.version.top1_error_pct is not None
    assert result["source_sha256"] == hashlib.sha256(narrow_file.read_bytes()).hexdigest()
    assert second.version.tags["source_sha256"] == result["source_sha256"]
    assert "sha256 of the file" in second.version.tags["source_verified_by"]
    run = registry.client().get_run(second.version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["source"] == str(narrow_file)
    assert run.data.metrics["val/images"] == 2


def test_a_resnet_file_becomes_a_drn_a_that_says_so_once(store, tmp_path):
    resnet = trained_like("resnet18", width=0.125)
    torch.save(resnet.state_dict(), tmp_path / "resnet18.pth")
    version = importing.import_weights("drn_a_18", str(tmp_path / "resnet18.pth"), NARROW)
    assert version.tags["weights"] == "ResNet weights, a-trous (resnet18.pth)"
    assert registry.load(version.uri).card.weights == version.tags["weights"]
    assert importing.ensure("drn_a_18", str(tmp_path / "resnet18.pth")) == version


def test_a_zip_from_the_web_is_held_to_the_digest_of_what_is_inside(store, narrow_file, capsys):
    content = narrow_file.read_bytes()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("drnc26.pth", content)
    with file_server() as server:
        server.files["drnc26.pth.zip"] = packed.getvalue()
        command = ["drn_c_26", server.url("drnc26.pth.zip"), *NARROW, "--checksum"]
        wrong = hashlib.sha1(b"").hexdigest()
        assert f"should begin with {wrong}, but its sha256 is" in refused([*command, wrong], capsys)
        assert main(["import", *command, hashlib.sha1(content).hexdigest(), "--json"]) == 0
        address = server.url("drnc26.pth.zip")
    version = registry.resolve(json.loads(capsys.readouterr().out)["version"])
    assert version.tags["source"] == address
    assert version.tags["source_verified_by"].startswith("sha1 of drnc26.pth inside: ")


def test_failures_of_the_web_register_nothing(store, narrow_file, capsys):
    with file_server() as server:
        server.files[narrow_file.name] = narrow_file.read_bytes()[:-1]
        url = server.url(narrow_file.name)
        assert "should begin with" in refused(["drn_c_26", url, *NARROW], capsys)
        assert "404 Not Found" in refused(["drn_c_26", server.url("other.pth")], capsys)
        server.cut_after = 150_000
        assert "run the command again to go on" in refused(["drn_c_26", url, *NARROW], capsys)


def test_a_published_file_is_known_by_its_digest_whatever_it_is_called():
    official = {checksums.OF_FILE: "ddedf421" + "0" * 56}
    offer = catalogue.recognise("drn_c_26", official, "x.pth")
    assert offer is not None
    assert (offer.weights, offer.top1_error_pct) == ("official DRN, drn_c_26-ddedf421.pth", 24.86)
    # B and C have the same tensors
    with pytest.raises(UserError, match=r"x\.pth is the published drn_c_26"):
        catalogue.recognise("drn_b_26", official, "x.pth")


def test_a_name_promises_a_digest_but_a_date_does_not():
    assert checksums.in_name("resnet18-f37072fd.pth") == "f37072fd"
    assert checksums.in_name("vgg13-19584684.pth") == "19584684"
    assert checksums.in_name("drnc26-0755-35405bd5.pth.zip") == "35405bd5"
    assert checksums.in_name("mine-20240131.pth") == ""
    assert checksums.in_name("mine.pth") == ""


def test_what_can_be_had_is_listed_with_errors_and_sizes(capsys):
    assert main(["import", "--list", "--json"]) == 0
    rows = {(row["architecture"], row["source"]): row for row in json.loads(capsys.readouterr().out)}
    assert rows["resnet18", "torchvision:IMAGENET1K_V1"]["top1_error_pct"] == 30.242
    assert rows["drn_c_42", "official"]["url"].endswith("/drn_c_42-9d336e8c.pth")
    assert rows["drn_c_42", "mirror"]["url"].endswith("/v0.0.116/drnc42-0657-7c99c460.pth.zip")
    a_trous = rows["drn_a_18", "torchvision:IMAGENET1K_V1"]
    assert a_trous["top1_error_pct"] is None
    assert a_trous["weights"].startswith("ResNet weights, a-trous")
    assert ("drn_a_18", "timm:tv_in1k") in rows
    assert main(["import", "resnet18", "--list"]) == 0
    assert "timm:a2_in1k" in capsys.readouterr().out


def test_inputs_are_prepared_as_the_weights_expect():
    assert catalogue.find("resnet50", "torchvision:IMAGENET1K_V2").transform.resize == 232
    inception = catalogue.find("inception_v3", "torchvision").transform
    assert (inception.resize, inception.crop, inception.mean) == (342, 299, (0.5, 0.5, 0.5))
    assert catalogue.find("resnet18", "timm").transform.interpolation == "bicubic"
