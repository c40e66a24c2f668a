"""Data sets: found, checked and named."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.errors import UserError
from shared.labels import imagenet_index
from trainer import recipes
from trainer.config import DataConfig
from trainer.data import open_data, open_for_evaluation, train_batches
from trainer.data.photos import PhotoSamples


def folder_config(path: Path) -> DataConfig:
    return DataConfig(source="folder", path=str(path), num_loader_workers=0)


def picture(path: Path, size: tuple[int, int] = (40, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path)


def test_photos_train_and_validate_on_different_parts():
    from shared.photos import PHOTO_NAMES
    from trainer.data import photos

    val = PhotoSamples("val")
    for index in range(0, len(val), 5):
        whole = photos._whole(PHOTO_NAMES[val.labels[index]])
        left, top, right, bottom = photos._val_crop(whole, index)
        train_left, train_top, train_right, train_bottom = photos._train_side(whole)
        assert (train_left, train_top) == (0, 0)
        assert left >= train_right or top >= train_bottom
        assert right <= whole.width
        assert bottom <= whole.height


def test_folders_named_by_wordnet_ids_take_imagenets_indices(tmp_path):
    for part in ("train", "val"):
        for wordnet_id in ("n02123045", "n01440764"):
            picture(tmp_path / part / wordnet_id / "a.jpg")
    data = open_data(folder_config(tmp_path))
    assert len(data.train.classes) == 1000
    assert data.train.labels.tolist() == [0, imagenet_index()["n02123045"]]


def test_a_bare_folder_of_class_folders_can_be_evaluated(colour_folder):
    samples = open_for_evaluation(folder_config(colour_folder / "val"), ("blue", "green", "red"))
    assert len(samples) == 7


def test_test_is_accepted_in_place_of_val(tmp_path):
    picture(tmp_path / "train" / "a" / "1.png")
    picture(tmp_path / "test" / "a" / "1.png")
    assert len(open_data(folder_config(tmp_path)).val) == 1


def test_digest_changes_with_the_set(tmp_path):
    picture(tmp_path / "train" / "a" / "1.png")
    picture(tmp_path / "val" / "a" / "1.png")
    before = open_data(folder_config(tmp_path))
    picture(tmp_path / "val" / "a" / "2.png")
    after = open_data(folder_config(tmp_path))
    assert before.train.digest == after.train.digest
    assert before.val.digest != after.val.digest


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "should hold train/ and val/"),
        (["train/a/1.png"], "should hold train/ and val/"),
        (["train/1.png", "val/a/1.png"], "has no class folders"),
        (["train/a/notes.txt", "val/a/1.png"], "holds no pictures"),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png"], "1 classes of .* have no pictures in .*: b"),
        (["train/a/1.png", "val/a/1.png", "val/c/1.png"], r"not among the 1 classes: \['c'\]"),
    ],
)
def test_a_malformed_folder_is_refused_in_one_line(tmp_path, files, message):
    for name in files:
        if name.endswith(".png"):
            picture(tmp_path / name)
        else:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("no picture")
    with pytest.raises(UserError, match=message):
        open_data(folder_config(tmp_path))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DataConfig(source="folder"), "data.path is empty"),
        (DataConfig(source="folder", path="/nowhere"), "data.path=/nowhere is not a folder"),
        (DataConfig(source="cifar11"), "unknown data.source 'cifar11'; there are: photos, folder, shards, mnist"),
    ],
)
def test_missing_data_is_named(config, message):
    with pytest.raises(UserError, match=message):
        open_data(config)


def test_a_torchvision_set_is_read_from_class_folders_too(colour_folder):
    data = open_data(DataConfig(source="cifar10", path=str(colour_folder)))
    assert data.train.classes == ("blue", "green", "red")


def write_idx(folder: Path, part: str, count: int) -> None:
    """MNIST's format: two zero bytes, the type, the number of dimensions, big-endian sizes, then the values."""
    pixels = np.arange(count * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(count, 28, 28)
    labels = (np.arange(count) % 10).astype(np.uint8)
    for name, values in ((f"{part}-images-idx3-ubyte", pixels), (f"{part}-labels-idx1-ubyte", labels)):
        header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4) for size in values.shape)
        (folder / f"{name}.gz").write_bytes(gzip.compress(header + values.tobytes()))


def test_mnist_is_read_from_its_original_files(tmp_path):
    write_idx(tmp_path, "train", 30)
    write_idx(tmp_path, "t10k", 12)
    data = open_data(DataConfig(source="fashion_mnist", path=str(tmp_path)))
    assert (len(data.train), len(data.val), len(data.train.classes)) == (30, 12, 10)
    assert data.train.classes[9] == "Ankle boot"
    assert data.val.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert data.val.picture(1).getpixel((3, 2)) == ((28 * 28 + 2 * 28 + 3) % 256,) * 3
    assert data.train.digest != data.val.digest
    assert len(data.val.probes(16)) == 10


def test_a_damaged_mnist_file_is_named(tmp_path):
    for part in ("train", "t10k"):
        write_idx(tmp_path, part, 12)
    victim = tmp_path / "t10k-images-idx3-ubyte.gz"
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte\.gz is damaged .*get it again"):
        open_data(DataConfig(source="mnist", path=str(tmp_path)))
    victim.unlink()
    with pytest.raises(UserError, match=r"lacks t10k-images-idx3-ubyte or t10k-images-idx3-ubyte\.gz"):
        open_data(DataConfig(source="mnist", path=str(tmp_path)))


def test_grey_networks_get_one_channel(tmp_path):
    write_idx(tmp_path, "train", 30)
    write_idx(tmp_path, "t10k", 12)
    recipe = recipes.load("lenet5", [f"data.path={tmp_path}", "run.global_batch_size=6", "data.num_loader_workers=0"])
    samples = open_data(recipe.data)
    batch = next(train_batches(samples.train, recipe, rank=0, world_size=1, first_step=0, last_step=1, pin=False))
    assert batch.images.shape == (6, 1, 28, 28)
    assert recipe.augment.eval_transform(samples.val.picture(0)).shape == (1, 28, 28)
