"""`bench loader`: what it measures, and that it says so. How fast anything is depends on the machine."""

import json
import math
import os
import tarfile
import time
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import torch
from noise import encoded, noise
from PIL import Image
from torchvision import transforms

from shared.errors import TrainingError
from trainer.__main__ import main
from trainer.bench import index_cost, loader, loader_table, pictures, streams, turns
from trainer.bench.turns import Contender

RATIOS = {
    "raw_ratio", "packed_ratio", "reference_packed_ratio", "ceiling_share", "packed_ceiling_share",
    "scaling_2", "scaling_2_alone",
}  # fmt: skip
CONTENDERS = {
    "reference_raw", "raw", "packed", "reference_packed", "decoder_raw", "decoder_packed",
    "raw_2", "raw_2_unconnected", "raw_alone",
}  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """20 pictures of noise in two classes, and a damaged one."""
    root = tmp_path_factory.mktemp("images")
    for i in range(20):
        path = root / "ab"[i % 2] / f"{i:02}.JPEG"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(noise(i, (60, 40), mode="L" if i % 5 == 0 else "RGB")))
    (root / "b" / "99.jpg").write_bytes(encoded(noise(20))[:2_000])
    return root


@pytest.fixture(scope="module")
def sets(images, tmp_path_factory) -> pictures.PictureSets:
    return pictures.prepare(images, tmp_path_factory.mktemp("sets"))


@pytest.fixture
def in_a_hurry(monkeypatch):
    monkeypatch.setattr(turns, "WARM_UP_S", 0.05)
    monkeypatch.setattr(turns, "TURN_S", 0.1)
    monkeypatch.setattr(loader, "INDEX_PROCESSES", 1)
    monkeypatch.setattr(index_cost, "ENTRIES", 200_000)


def numbers(found) -> list[float]:
    values = found.values() if isinstance(found, dict) else [found]
    return [n for v in values for n in (numbers(v) if isinstance(v, dict) else [v])]


@pytest.mark.slow
def test_every_figure_of_the_contract_is_there(images, in_a_hurry, capsys):
    assert main(["bench", "loader", "--images", str(images), "--rounds", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert set(found) == RATIOS | {
        "spread", "on_the_clock", "images_per_core_s", "images_per_s", "waited_share", "index_open_s",
        "index_memory_mb", "index", "rounds", "processes", "batch_size", "pictures", "hardware", "versions",
    }  # fmt: skip
    assert set(found["spread"]) == set(found["on_the_clock"]) == RATIOS
    assert set(found["images_per_core_s"]) == set(found["images_per_s"]) == CONTENDERS
    for key in (*RATIOS, "spread", "on_the_clock", "images_per_core_s", "images_per_s", "index_open_s", "index"):
        assert all(math.isfinite(value) and value > 0 for value in numbers(found[key])), key
    assert all(found["spread"][name]["min"] <= found[name] <= found["spread"][name]["max"] for name in RATIOS)
    assert 0 <= found["waited_share"] < 1
    assert found["pictures"]["source"] == str(images)
    assert (found["pictures"]["count"], found["pictures"]["undecodable"]) == (20, 1)
    assert (found["rounds"], found["processes"]) == (2, 1)
    assert {"torch", "torchvision", "Pillow", "simplejpeg"} < set(found["versions"])
    assert "round 2 of 2: raw " in err
    table = loader_table.table(found)
    assert all(name in table for name in RATIOS)
    assert "20 pictures (1 that cannot be decoded left out) from" in table


def test_the_reference_is_the_published_recipe(sets):
    data = streams.reference_set(sets.raw / "train")
    crop, flip, _, normalize = data.transform.transforms
    assert [type(step) for step in data.transform.transforms] == [
        transforms.RandomResizedCrop, transforms.RandomHorizontalFlip, transforms.ToTensor, transforms.Normalize,
    ]  # fmt: skip
    assert (crop.size, crop.scale, crop.ratio) == ((224, 224), (0.08, 1.0), (3 / 4, 4 / 3))
    assert (crop.interpolation, flip.p) == (transforms.InterpolationMode.BILINEAR, 0.5)
    assert (normalize.mean, normalize.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    image, label = data[0]
    assert (image.shape, image.dtype, label) == ((3, 224, 224), torch.float32, 0)
    assert isinstance(data.loader(data.samples[0][0]), Image.Image), "torchvision's own loader of PIL pictures"


def test_ours_trains_on_the_same_crops_from_the_same_pictures(sets):
    recipe = streams.loading_recipe("folder", sets.raw, 3)
    augment = recipe.augment
    assert (augment.crop, augment.train_size, augment.min_scale, augment.max_scale) == ("resized", 224, 0.08, 1.0)
    assert (augment.flip, augment.auto_augment, augment.color_jitter, augment.grey) == (True, "", 0, 0)
    assert (recipe.data.num_loader_workers, recipe.data.path) == (3, str(sets.raw))
    packed = streams.open_training(streams.loading_recipe("shards", sets.packed, 1))
    assert (
        len(packed) == len(streams.open_training(recipe)) == len(streams.reference_set(sets.unpacked / "train")) == 20
    )


@pytest.mark.parametrize("stream", ["reference", "folder", "shards", "decoder"])
def test_a_stream_goes_on_after_the_last_picture(stream, sets):
    batches = {
        "reference": partial(streams.reference, sets.raw / "train", 1),
        "folder": partial(streams.ours, "folder", sets.raw, 1),
        "shards": partial(streams.ours, "shards", sets.packed, 1),
        "decoder": partial(streams.decoder, sets.raw, 1, 2),
    }[stream]()
    expected = 1 if stream == "decoder" else streams.BATCH_SIZE
    assert list(islice(batches, 12)) == [expected] * 12
    batches.close()


def test_a_tar_holds_the_same_pictures_as_its_folder(images, sets, tmp_path):
    with tarfile.open(tmp_path / "images.tar.gz", "w:gz") as tar:
        tar.add(images, "set")
    from_tar = pictures.prepare(tmp_path / "images.tar.gz", tmp_path / "sets")
    assert files(from_tar.raw) == files(sets.raw)
    assert len(files(sets.raw)) == 20


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.jpg")}


def test_a_large_set_is_thinned_evenly(images, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "FEWEST", 4)
    monkeypatch.setattr(pictures, "MOST", 7)
    found = pictures.prepare(images, tmp_path)
    assert found.description["count"] == 7
    assert len({path.parent.name for path in found.raw.rglob("*.jpg")}) == 2


def test_without_pictures_some_are_made_of_the_photographs():
    made = list(islice(pictures._made(), 20))
    assert [name for name, _ in made] == ["astronaut"] * 16 + ["brick"] * 4
    assert len({data for _, data in made}) == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "{tmp}/nowhere"], "/nowhere does not exist; give a folder of class folders with JPEGs"),
        (["--images", "{tmp}/empty"], "empty has no class folders"),
        (["--images", "{tmp}/text.tar"], "text.tar is neither a folder nor a tar that can be read"),
        (["--images", "{tmp}/few"], "few holds 1 JPEGs that can be read; give at least 16"),
        (["--images", "{tmp}/damaged"], "damaged holds 0 JPEGs that can be read; give at least 16"),
        (["--processes", "0"], "--processes 0 is not between 1 and the"),
        (["--processes", "100000"], "--processes 100000 is not between 1 and the"),
        (["--rounds", "0"], "--rounds 0 is not positive"),
    ],
)
def test_a_mistake_is_answered_in_one_line(arguments, message, tmp_path, capsys):
    for folder, count in (("few", 1), ("damaged", 20)):
        (tmp_path / folder / "class").mkdir(parents=True)
        for i in range(count):
            content = b"no picture" if folder == "damaged" else encoded(noise(i, (8, 8)))
            (tmp_path / folder / "class" / f"{i}.jpg").write_bytes(content)
    (tmp_path / "few" / "class" / "other.png").write_bytes(encoded(noise(0, (8, 8)), "PNG"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tar").write_text("no tar")
    assert main(["bench", "loader", *(a.format(tmp=tmp_path) for a in arguments)]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]


def idling():
    while True:
        time.sleep(0.01)
        yield 2


def failing():
    yield 1
    raise ValueError("no more\npictures")


def dying():
    yield 1
    os._exit(9)


def test_idle_time_counts_as_core_time(in_a_hurry):
    speed = turns.measure(Contender(streams=[idling], num_processes=1))
    # 2 pictures every 10 ms at most; a tenth for the coarseness of the kernel's accounts
    assert 0 < speed.images_per_core_s < 220
    assert 0 < speed.images_per_s < 220


@pytest.mark.parametrize(
    ("stream", "message"),
    [(failing, r"a measuring process failed \(ValueError: no more pictures\)"), (dying, "was killed")],
)
def test_a_process_that_fails_ends_the_benchmark_in_one_line(stream, message, in_a_hurry):
    with pytest.raises(TrainingError, match=message):
        turns.measure(Contender(streams=[idling, stream], num_processes=2))


def test_the_index_that_is_measured_is_as_large_as_it_says(tmp_path):
    cost = index_cost.index_costs(tmp_path, entries=1_000_000, num_processes=1)
    for source, bytes_per_entry in (("folder", 34 + 8), ("shards", 24)):
        assert cost[source].open_s > 0
        # at least the index itself; 10 MB for what an allocator may keep at one time and not at another
        assert cost[source].memory_mb > bytes_per_entry - 10
