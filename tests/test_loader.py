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
from trainer.classification import classify
from trainer.config import DataConfig
from trainer.data import EvalBatches, loader_processes, open_data, train_batches
from trainer.data.loader import SKIPPED
from trainer.data.sampling import Stream
from trainer.step import Precision


def folder_config(path: Path) -> DataConfig:
    return DataConfig(source="folder", path=str(path), num_loader_workers=0)


def picture(path: Path, size: tuple[int, int] = (40, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path)


def colours_recipe(colour_folder: Path, *overrides: str, **data: object):
    overrides = (*overrides, *(f"data.{key}={value}" for key, value in data.items()))
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


GROWING = ["augment.start_size=16", "augment.size_step=8", "augment.grow_from=0.2", "augment.grow_until=0.8"]


@pytest.mark.parametrize("crop", ["resized", "padded", "centre"])
def test_crops_grow_with_the_update_alike_on_all_workers_and_loader_processes(colour_folder, crop):
    def batches(processes: int, **part: int):
        overrides = [*GROWING, f"augment.crop={crop}", "run.epochs=5"]  # five updates
        return all_training_batches(colours_recipe(colour_folder, *overrides, num_loader_workers=processes), **part)

    alone = batches(0)
    assert [images.shape[2:] for images, *_ in alone] == [(side, side) for side in (16, 16, 24, 24, 32)]
    for world_size, processes in ((1, 2), (3, 0), (2, 1)):
        assert same(batches(processes, world_size=world_size), alone)
    assert same(batches(0, world_size=2, last_step=2) + batches(1, world_size=5, first_step=2), alone)


def test_memory_is_reserved_for_the_largest_crops(colour_folder, monkeypatch):
    monkeypatch.setattr(loader_processes.shutil, "disk_usage", lambda _: SimpleNamespace(free=64_000_000))
    sizes = ["augment.train_size=4000", "augment.start_size=40", "augment.size_step=3960"]
    recipe = colours_recipe(colour_folder, *sizes, num_loader_workers=2, prefetch_mb=1e6)
    samples = open_data(recipe.data).train
    with pytest.raises(UserError, match=r"prefetched batches take up to 23040 MB"):
        next(train_batches(samples, recipe, rank=0, world_size=1, first_step=0, last_step=1, pin=False))


def test_batches_come_channels_last_and_lie_in_shared_memory(colour_folder):
    for processes in (0, 1):
        recipe = colours_recipe(colour_folder, num_loader_workers=processes)
        samples = open_data(recipe.data).train
        batch = next(train_batches(samples, recipe, rank=0, world_size=1, first_step=0, last_step=1, pin=False))
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.images.is_shared() == (processes > 0)


def test_too_little_shared_memory_is_named_before_work_starts(colour_folder, monkeypatch):
    monkeypatch.setattr(loader_processes.shutil, "disk_usage", lambda _: SimpleNamespace(free=64_000_000))
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


def evaluation(folder: Path, batch_size: int, world_size: int = 1) -> list:
    """The batches of all workers, in the order of the samples, of seven pictures."""
    config = folder_config(folder)
    shares = [
        EvalBatches(
            open_data(config).val, EvalTransform(resize=32, crop=32), config, batch_size=batch_size, rank=rank,
            world_size=world_size, pin=False,
        )
        for rank in range(world_size)
    ]  # fmt: skip
    return sorted((batch for share in shares for batch in share), key=lambda batch: batch.indices[0])


@pytest.mark.parametrize("batch_size", [2, 3, 7, 64])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_counts_every_image_once(colour_folder, world_size, batch_size):
    """On three workers in batches of 3 and more, one of them has no batch, or two."""
    labels = torch.cat([batch.labels for batch in evaluation(colour_folder, batch_size, world_size)])
    assert labels[:7].tolist() == open_data(folder_config(colour_folder)).val.labels.tolist()
    assert (labels[7:] == SKIPPED).all()


@pytest.mark.parametrize(("batch_size", "shapes"), [(2, [2] * 4), (3, [3] * 3), (7, [7]), (64, [7])])
def test_evaluation_batches_all_have_the_same_shape(colour_folder, batch_size, shapes):
    """So that no network is compiled again for the last one; black pictures, which never count, fill it."""
    batches = evaluation(colour_folder, batch_size)
    assert [tuple(batch.images.shape) for batch in batches] == [(size, 3, 32, 32) for size in shapes]
    assert not torch.cat([batch.images for batch in batches])[7:].any()
    assert not any(batch.damaged for batch in batches)


def test_what_fills_the_last_batch_changes_no_figure(colour_folder):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 3))
    precision = Precision(device=torch.device("cpu"), dtype=torch.float32)

    def figures(batch_size: int, world_size: int):
        batches = evaluation(colour_folder, batch_size, world_size)
        [found] = classify([model], batches, EvalTransform(resize=32, crop=32), precision)
        return found

    unfilled = figures(batch_size=7, world_size=1)
    assert (unfilled.images, unfilled.damaged) == (7, ())
    for batch_size in (2, 3, 4):
        filled = figures(batch_size, world_size=1)
        # a product of matrices of another size may add up in another order
        assert filled.loss == pytest.approx(unfilled.loss, abs=2e-6)
        assert replace(filled, loss=unfilled.loss) == unfilled
        assert all(figures(batch_size, world_size) == filled for world_size in (2, 3))


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
    assert sum((batch.labels >= 0).sum().item() for batch in batches) == 109
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
