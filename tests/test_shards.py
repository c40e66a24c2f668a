"""Packed sets are read exactly, from a disk or an object store, whatever goes wrong on the way."""

import json
import multiprocessing
import os
import shutil
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from object_store import CREDENTIALS, object_store

from shared.errors import TrainingError, UserError
from trainer import recipes
from trainer.config import DataConfig
from trainer.data import folder_index, open_data, open_for_evaluation, shards, train_batches
from trainer.data import store as store_module
from trainer.data.cache import Cache
from trainer.data.folder import FolderSamples
from trainer.data.shards import ShardSamples
from trainer.data.store import open_store
from trainer.packing.layout import FORMAT, INDEX_DTYPE
from trainer.packing.pack import Settings, pack

WHOLE_EPOCH = 26 // 2


@pytest.fixture(scope="module")
def packed(colour_folder, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("packed")
    pack(colour_folder, target, Settings(), num_processes=1)
    return target


@pytest.fixture(scope="module")
def store():
    pytest.importorskip("moto")
    with object_store() as running:
        yield running


@pytest.fixture(scope="module")
def address(store, packed) -> str:
    return store.upload(packed, "colours")


def epoch(source: str, path: object, *, num_loader_workers: int = 0, **data: object) -> list[torch.Tensor]:
    """All training batches of one epoch."""
    settings = {"source": source, "path": path, "num_loader_workers": num_loader_workers, **data}
    recipe = recipes.load(
        "tiny_drn_c_26",
        [*(f"data.{key}={value}" for key, value in settings.items()), "augment.train_size=32",
         "augment.eval_resize=32", "augment.eval_size=32", "run.global_batch_size=2"],
    )  # fmt: skip
    samples = open_data(recipe.data).train
    batches = train_batches(samples, recipe, rank=0, world_size=1, first_step=0, last_step=WHOLE_EPOCH, pin=False)
    return [batch.images for batch in batches]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_training_on_shards_equals_training_on_the_folder(colour_folder, packed):
    folder = open_data(DataConfig(source="folder", path=str(colour_folder)))
    packed_set = open_data(DataConfig(source="shards", path=str(packed)))
    for part in ("train", "val"):
        original, copy = getattr(folder, part), getattr(packed_set, part)
        assert copy.classes == original.classes
        assert copy.labels.tolist() == original.labels.tolist()
        assert [copy.encoded(i) for i in range(len(copy))] == [original.encoded(i) for i in range(len(original))]
    assert same(epoch("folder", colour_folder), epoch("shards", packed, num_loader_workers=2))


def test_a_picture_in_a_shard_can_be_found_by_its_name(packed):
    samples = open_data(DataConfig(source="shards", path=str(packed))).train
    assert samples.name(3).endswith("train/000000.tar: 00000003-3.jpg")
    assert len(samples.probes(5)) == 5


def test_shards_take_the_class_indices_of_a_model(packed):
    config = DataConfig(source="shards", path=str(packed))
    samples = open_for_evaluation(config, ("red", "green", "blue", "grey"))
    assert samples.labels.tolist() == [2, 2, 2, 1, 1, 0, 0]
    with pytest.raises(UserError, match=r"not among the 2 of the model: \['red'\]"):
        open_for_evaluation(config, ("blue", "green"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "data.path is empty"),
        ("/nowhere", "data.path=/nowhere is not a folder"),
        ("/", "//train/index.json does not exist; data.path should be a set that"),
        ("gopher://bucket/set", "gopher:// is not known"),
    ],
)
def test_a_missing_set_is_named_at_once(path, message):
    with pytest.raises(UserError, match=message):
        open_data(DataConfig(source="shards", path=path))


def test_an_epoch_from_an_object_store_that_loses_requests_is_exact(store, address, packed, tmp_path):
    store.lose(0.05)
    try:
        remote = epoch("shards", address, num_loader_workers=2, cache_path=tmp_path, retry_s=60)
        again = epoch("shards", address, cache_gb=0, cache_path=tmp_path, retry_s=60)
    finally:
        store.lose(0)
    assert same(epoch("shards", packed), remote)
    assert same(remote, again)


def test_every_block_is_fetched_once_over_several_epochs(store, address, tmp_path):
    config = DataConfig(source="shards", path=address, cache_path=str(tmp_path), num_loader_workers=0)
    samples = open_data(config).train
    before = store.requests()
    for _ in range(3):
        for index in range(len(samples)):
            samples.encoded(index)
    assert store.requests() - before == 1, "all of it is one block"


def test_a_set_larger_than_the_cache_is_read_picture_by_picture(store, address, packed, tmp_path, monkeypatch):
    local = open_data(DataConfig(source="shards", path=str(packed))).train
    size = sum(path.stat().st_size for path in (packed / "train").glob("*.tar"))
    config = DataConfig(source="shards", path=address, cache_path=str(tmp_path), cache_gb=size / 4e9)
    samples = ShardSamples(config, "train")
    for _ in range(2):
        assert all(samples.encoded(i) == local.encoded(i) for i in range(len(local)))
    kept = [path.stat().st_size for path in (tmp_path / "blocks").rglob("*") if path.is_file()]
    assert 0 < sum(kept) <= size / 4
    assert len(kept) > 1


def test_shards_are_read_over_http_too(store, address, packed, tmp_path):
    local = open_data(DataConfig(source="shards", path=str(packed))).train
    web = ShardSamples(DataConfig(source="shards", path=f"{store.address}/colours", cache_path=str(tmp_path)), "train")
    assert web.digest == local.digest
    assert web.encoded(5) == local.encoded(5)


def test_pictures_over_the_edge_of_a_block_are_whole(store, address, packed, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "BLOCK_BYTES", 1000)
    local = open_data(DataConfig(source="shards", path=str(packed))).train
    samples = ShardSamples(DataConfig(source="shards", path=address, cache_path=str(tmp_path)), "train")
    assert all(samples.encoded(i) == local.encoded(i) for i in range(len(local)))


@pytest.mark.parametrize("num_loader_workers", [0, 1])
def test_a_store_that_stays_away_ends_the_run_with_one_line(address, tmp_path, monkeypatch, num_loader_workers):
    config = ["data.source=shards", f"data.path={address}", f"data.cache_path={tmp_path}", "data.retry_s=0.3",
              f"data.num_loader_workers={num_loader_workers}", "run.global_batch_size=2"]  # fmt: skip
    recipe = recipes.load("tiny_drn_c_26", config)
    samples = open_data(recipe.data).train
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    samples._shards.store._process = -1  # connects anew, to where nobody answers
    batches = train_batches(samples, recipe, rank=0, world_size=1, first_step=0, last_step=3, pin=False)
    with pytest.raises(TrainingError) as caught:
        next(batches)
    assert str(caught.value).startswith(f"{address}/train/000000.tar could not be read for 0.3 s (")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_a_store_that_accepts_and_never_answers_is_no_hang(monkeypatch, scheme):
    monkeypatch.setattr(store_module, "ANSWER_S", 0.2)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        store = open_store("s3://bucket/set" if scheme == "s3" else address, retry_s=0.5)
        started = time.monotonic()
        with pytest.raises(TrainingError, match=r"x.tar could not be read for 0.5 s \("):
            store.range("x.tar", 0, 10)
        assert time.monotonic() - started < 10


@pytest.mark.parametrize("source", ["folder", "shards"])
def test_a_mount_that_comes_back_is_waited_for(colour_folder, packed, tmp_path, source):
    shutil.copytree(colour_folder if source == "folder" else packed, tmp_path / "mount")
    samples = open_data(DataConfig(source=source, path=str(tmp_path / "mount"), retry_s=20)).train
    (tmp_path / "mount").rename(tmp_path / "away")
    back = threading.Timer(0.5, (tmp_path / "away").rename, [tmp_path / "mount"])
    back.start()
    assert samples.encoded(0)[:2] == b"\xff\xd8"
    back.join()


@pytest.mark.parametrize("source", ["folder", "shards"])
def test_a_mount_that_stays_away_is_not_damage(colour_folder, packed, tmp_path, source):
    shutil.copytree(colour_folder if source == "folder" else packed, tmp_path / "mount")
    samples = open_data(DataConfig(source=source, path=str(tmp_path / "mount"), retry_s=0.2)).train
    (tmp_path / "mount").rename(tmp_path / "away")
    with pytest.raises(TrainingError, match=r"could not be read for 0.2 s .* go on with --resume"):
        samples.picture(0)


def test_a_shard_that_is_gone_is_not_damage(packed, tmp_path):
    shutil.copytree(packed, tmp_path / "set")
    samples = open_data(DataConfig(source="shards", path=str(tmp_path / "set"))).train
    (tmp_path / "set" / "train" / "000000.tar").unlink()
    with pytest.raises(TrainingError, match=r"000000.tar does not exist; restore it"):
        samples.picture(0)


def _fill(folder: Path, process: int) -> None:
    cache = Cache(folder, limit_bytes=100_000)
    for block in range(60):
        cache.write(f"{process}/{block}", bytes(4_000))


def size_now(path: Path) -> int:
    """0 for a block that another process has just forgotten."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_the_cache_stays_within_its_limit_with_several_processes(tmp_path):
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_fill, args=(tmp_path, i)) for i in range(3)]
    for process in processes:
        process.start()
    most = 0
    while any(process.is_alive() for process in processes):
        most = max(most, sum(map(size_now, (tmp_path / "blocks").glob("*/*"))))
        time.sleep(0.005)
    # a block that gets its name while one counts may be counted twice
    assert 50_000 < most <= 100_000 + 3 * 4_000


def test_the_cache_forgets_what_was_used_longest_ago(tmp_path):
    cache = Cache(tmp_path, limit_bytes=10_000)
    for number in range(9):
        cache.write(f"a/{number}", bytes(1_000))
        os.utime(tmp_path / "blocks" / "a" / str(number), (number, number))
    assert cache.read("a/0", 1_000, 0, 10) == bytes(10)  # and now it is the newest
    cache.write("a/9", bytes(1_500))
    assert cache.read("a/0", 1_000, 0, 10) is not None
    assert cache.read("a/1", 1_000, 0, 10) is None
    assert cache.read("a/9", 1_500, 1_490, 10) == bytes(10)
    assert cache.read("a/9", 1_400, 0, 10) is None, "a block of another length is not the one asked for"


def test_a_cache_that_cannot_be_written_does_not_stop_anything(tmp_path, caplog):
    (tmp_path / "blocks").write_text("in the way")
    cache = Cache(tmp_path, limit_bytes=10_000)
    cache.write("a/1", bytes(10))
    cache.write("a/2", bytes(10))
    assert cache.read("a/1", 10, 0, 10) is None
    assert len(caplog.records) == 1


def test_imagenets_index_opens_in_a_moment_and_without_python_objects(tmp_path):
    count = 1_281_167
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        index = np.zeros(count, dtype=INDEX_DTYPE)
        index["label"] = np.arange(count) * 1000 // count
        np.save(tmp_path / part / "index.npy", index)
        content = {"format": FORMAT, "pictures": count, "classes": [f"class {i}" for i in range(1000)],
                   "digest": "", "index_sha256": "", "shards": [{"bytes": 1, "sha256": "0" * 64}] * 1000}  # fmt: skip
        (tmp_path / part / "index.json").write_text(json.dumps(content))
    started = time.perf_counter()
    data = open_data(DataConfig(source="shards", path=str(tmp_path)))
    assert time.perf_counter() - started < 3
    assert len(data.train) == count
    assert isinstance(data.train.labels.base, np.memmap), "mapped: all processes share it"


def test_a_large_folder_is_listed_once(colour_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("DEGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(folder_index, "REMEMBERED_FROM", 1)
    monkeypatch.setattr(folder_index, "SETTLED_S", 0)
    root = tmp_path / "train"
    shutil.copytree(colour_folder / "train", root)
    first = FolderSamples(root)
    listed = []
    monkeypatch.setattr(folder_index, "_listed", lambda *arguments: listed.append(arguments))
    again = FolderSamples(root)
    assert not listed
    assert isinstance(again._paths.base, np.memmap)
    assert (again.digest, again.labels.tolist(), again.name(7)) == (first.digest, first.labels.tolist(), first.name(7))
    monkeypatch.undo()
    monkeypatch.setenv("DEGRID_CACHE", str(tmp_path / "cache"))
    (root / "red" / "new.jpg").write_bytes((root / "red" / "0.jpg").read_bytes())
    assert len(FolderSamples(root)) == len(first) + 1, "a new file is noticed"


def test_a_store_says_its_address_without_the_password():
    assert open_store("https://user:secret@example.com/set?token=1").root == "https://example.com/set"
