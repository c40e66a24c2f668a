"""Data sets: found, checked, read in exact order, and robust against damaged pictures."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as v1

from shared.errors import UserError
from shared.labels import imagenet_index
from shared.transforms import EvalTransform
from trainer import recipes
from trainer.config import DataConfig
from trainer.data import EvalBatches, open_data, open_for_evaluation, train_batches
from trainer.data.photos import PhotoSamples


def folder_config(path: Path) -> DataConfig:
    return DataConfig(source="folder", path=str(path), num_loader_workers=0)


def picture(path: Path, size: tuple[int, int] = (40, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path)


def colours_recipe(colour_folder: Path, **data: object):
    overrides = [f"data.{key}={value}" for key, value in data.items()]
    return recipes.load(
        "tiny_drn_c_26",
        ["data.source=folder", f"data.path={colour_folder}", "augment.train_size=32", "augment.eval_resize=32",
         "augment.eval_size=32", "run.global_batch_size=12", *overrides],
    )  # fmt: skip


def all_training_batches(recipe, *, world_size: int = 1, first_step: int = 0, last_step: int = 5):
    samples = open_data(recipe.data).train
    shares = [
        train_batches(
            samples, recipe, rank=rank, world_size=world_size, first_step=first_step, last_step=last_step, pin=False
        )
        for rank in range(world_size)
    ]
    return [torch.cat([batch.images for batch in parts]) for parts in zip(*shares, strict=True)]


def test_training_pictures_do_not_depend_on_workers_or_loader_processes(colour_folder):
    reference = all_training_batches(colours_recipe(colour_folder, num_loader_workers=0))
    for world_size, processes in ((1, 2), (2, 0), (3, 1)):
        recipe = colours_recipe(colour_folder, num_loader_workers=processes)
        for a, b in zip(reference, all_training_batches(recipe, world_size=world_size), strict=True):
            assert torch.equal(a, b)


def test_training_pictures_do_not_depend_on_where_one_starts(colour_folder):
    recipe = colours_recipe(colour_folder, num_loader_workers=0)
    whole = all_training_batches(recipe)
    rest = all_training_batches(recipe, first_step=3)
    assert all(torch.equal(a, b) for a, b in zip(whole[3:], rest, strict=True))


def test_augmentation_leaves_the_global_random_generator_alone(colour_folder):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    all_training_batches(colours_recipe(colour_folder, num_loader_workers=0), last_step=1)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_counts_every_image_once(colour_folder, world_size):
    samples = open_data(folder_config(colour_folder)).val
    labels = [
        label
        for rank in range(world_size)
        for batch in EvalBatches(
            samples,
            EvalTransform(resize=32, crop=32),
            folder_config(colour_folder),
            batch_size=2,
            rank=rank,
            world_size=world_size,
            pin=False,
        )
        for label in batch.labels.tolist()
    ]
    assert sorted(labels) == sorted(samples.labels.tolist())


def test_evaluation_preprocessing_equals_torchvisions_published_one():
    random = np.random.default_rng(0)
    for size in ((300, 400), (257, 256), (500, 333)):
        source = Image.fromarray(random.integers(0, 255, (*size, 3), dtype=np.uint8))
        reference = v1.Compose([
            v1.Resize(256), v1.CenterCrop(224), v1.ToTensor(),
            v1.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ])  # fmt: skip
        assert torch.equal(EvalTransform().pixels(source), v1.PILToTensor()(v1.CenterCrop(224)(v1.Resize(256)(source))))
        torch.testing.assert_close(EvalTransform()(source), reference(source))


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


@pytest.fixture
def damaged_folder(tmp_path):
    """200 training and 110 validation pictures; one of each is cut off."""
    for part, count in (("train", 200), ("val", 110)):
        for i in range(count):
            picture(tmp_path / part / "ab"[i % 2] / f"{i:03}.jpg", (32 + i % 3, 32))
    for part in ("train", "val"):
        victim = tmp_path / part / "a" / "010.jpg"
        victim.write_bytes(victim.read_bytes()[:300])
    return tmp_path


def test_a_damaged_training_picture_is_replaced_by_the_next_of_its_class(damaged_folder):
    recipe = colours_recipe(damaged_folder, num_loader_workers=0)
    samples = open_data(recipe.data).train
    batches = list(train_batches(samples, recipe, rank=0, world_size=1, first_step=0, last_step=17, pin=False))
    damaged = {sample for batch in batches for sample in batch.damaged}
    assert {samples.name(sample) for sample in damaged} == {str(damaged_folder / "train" / "a" / "010.jpg")}
    assert all(len(batch.images) == 12 for batch in batches)


def test_a_damaged_validation_picture_counts_in_no_figure(damaged_folder):
    samples = open_data(folder_config(damaged_folder)).val
    arguments = {"batch_size": 16, "rank": 0, "world_size": 1, "pin": False}
    config = folder_config(damaged_folder)
    batches = list(EvalBatches(samples, EvalTransform(resize=32, crop=32), config, **arguments))
    assert sum((batch.labels < 0).sum().item() for batch in batches) == 1
    assert sum(len(batch.damaged) for batch in batches) == 1


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
