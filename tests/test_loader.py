"""Batches: every sample once, in exact order, on any number of workers and loader processes."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torchvision import transforms as v1

from shared.errors import UserError
from shared.transforms import EvalTransform
from trainer import recipes
from trainer.config import DataConfig
from trainer.data import EvalBatches, loader, open_data, train_batches
from trainer.data.sampling import Stream


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
         "augment.eval_size=32", "run.global_batch_size=30", "scaling.num_workers=1", *overrides],
    )  # fmt: skip


def all_training_batches(recipe, *, world_size: int = 1, first_step: int = 0, last_step: int = 5):
    """The global batches, put together from what each worker gets: (images, labels, positions) each."""
    samples = open_data(recipe.data).train
    shares = [
        train_batches(
            samples, recipe, rank=rank, world_size=world_size, first_step=first_step, last_step=last_step, pin=False
        )
        for rank in range(world_size)
    ]
    return [
        (
            torch.cat([batch.images for batch in parts]),
            torch.cat([batch.labels for batch in parts]),
            [position for batch in parts for position in batch.indices],
        )
        for parts in zip(*shares, strict=True)
    ]


def same(a, b) -> bool:
    return all(torch.equal(x[0], y[0]) and torch.equal(x[1], y[1]) and x[2] == y[2] for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def reference_batches(colour_folder):
    """Of one worker without loader processes: 26 pictures in batches of 30, for a bit more than five epochs."""
    return all_training_batches(colours_recipe(colour_folder, num_loader_workers=0))


@pytest.mark.parametrize("processes", [0, 1, 2])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_training_batches_do_not_depend_on_workers_or_loader_processes(
    colour_folder, reference_batches, world_size, processes
):
    recipe = colours_recipe(colour_folder, num_loader_workers=processes)
    assert same(all_training_batches(recipe, world_size=world_size), reference_batches)


def test_every_picture_is_used_once_an_epoch(colour_folder, reference_batches):
    positions = [position for batch in reference_batches for position in batch[2]]
    assert positions == list(range(150))
    stream = Stream(seed=0, num_samples=26, global_batch_size=30)
    for epoch in range(5):
        assert sorted(stream.samples(np.arange(26 * epoch, 26 * (epoch + 1)))) == list(range(26))


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_stopping_after_any_batch_and_going_on_with_other_workers_changes_nothing(
    colour_folder, reference_batches, stop
):
    recipe = colours_recipe(colour_folder, num_loader_workers=0)
    before = all_training_batches(recipe, world_size=3, last_step=stop)
    after = all_training_batches(recipe, world_size=2, first_step=stop)
    assert same(before + after, reference_batches)


def test_batches_come_channels_last_and_lie_in_shared_memory(colour_folder):
    for processes in (0, 1):
        recipe = colours_recipe(colour_folder, num_loader_workers=processes)
        samples = open_data(recipe.data).train
        batch = next(train_batches(samples, recipe, rank=0, world_size=1, first_step=0, last_step=1, pin=False))
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.images.is_shared() == (processes > 0)


def test_too_little_shared_memory_is_named_before_work_starts(colour_folder, monkeypatch):
    monkeypatch.setattr(loader.shutil, "disk_usage", lambda _: SimpleNamespace(free=64_000_000))
    recipe = colours_recipe(colour_folder, num_loader_workers=2, prefetch_mb=1e6)
    samples = open_data(recipe.data).train
    arguments = {"rank": 0, "world_size": 1, "first_step": 0, "last_step": 1, "pin": False}
    next(train_batches(samples, recipe, **arguments))  # at most eight batches a process are fetched in advance
    big = replace(recipe, augment=replace(recipe.augment, train_size=4000))
    with pytest.raises(UserError, match=r"/dev/shm has 64 MB free, .* 23040 MB; start the container with more"):
        next(train_batches(samples, big, **arguments))


def test_validation_keeps_its_loader_processes(colour_folder):
    config = DataConfig(source="folder", path=str(colour_folder), num_loader_workers=1)
    batches = EvalBatches(
        open_data(config).val, EvalTransform(resize=32, crop=32), config, batch_size=2, rank=0, world_size=1, pin=False
    )
    before = children()
    first = [batch.images for batch in batches]
    running = children() - before
    second = [batch.images for batch in batches]
    assert len(running) == 1
    assert children() - before == running
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def children() -> set[int]:
    return {process.pid for process in psutil.Process().children()}


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
    batches = list(train_batches(samples, recipe, rank=0, world_size=1, first_step=0, last_step=7, pin=False))
    damaged = {sample for batch in batches for sample in batch.damaged}
    assert {samples.name(sample) for sample in damaged} == {str(damaged_folder / "train" / "a" / "010.jpg")}
    assert all(len(batch.images) == 30 for batch in batches)


def test_a_damaged_validation_picture_counts_in_no_figure(damaged_folder):
    samples = open_data(folder_config(damaged_folder)).val
    arguments = {"batch_size": 16, "rank": 0, "world_size": 1, "pin": False}
    config = folder_config(damaged_folder)
    batches = list(EvalBatches(samples, EvalTransform(resize=32, crop=32), config, **arguments))
    assert sum((batch.labels < 0).sum().item() for batch in batches) == 1
    assert sum(len(batch.damaged) for batch in batches) == 1


def test_memory_does_not_grow_over_epochs(colour_folder):
    """Of this process and its loader process, over 100 updates and 10 evaluations, after as many to warm up.

    15 MB may come and go with what is prefetched; keeping the pixels of 100 updates would take 300 MB.
    """
    recipe = colours_recipe(colour_folder, num_loader_workers=1)
    recipe = replace(recipe, augment=replace(recipe.augment, train_size=184, eval_resize=184, eval_size=184))
    data = open_data(recipe.data)
    batches = train_batches(data.train, recipe, rank=0, world_size=1, first_step=0, last_step=10**6, pin=False)
    evaluation = EvalBatches(
        data.val, recipe.augment.eval_transform, recipe.data, batch_size=4, rank=0, world_size=1, pin=False
    )

    def megabytes_after_100_updates() -> float:
        for _ in range(10):
            for _ in range(10):
                next(batches)
            assert len(list(evaluation)) == 2
        processes = [psutil.Process(), *psutil.Process().children()]
        return sum(process.memory_full_info().pss for process in processes) / 1e6

    before = megabytes_after_100_updates()
    assert megabytes_after_100_updates() < before + 15
