"""The order of samples: exact, and the same on any number of workers."""

from itertools import pairwise

import pytest

from trainer.data.sampling import Plan, augmentation_seed, permuted, position, worker_batches

SAMPLES, BATCH, EPOCHS = 103, 30, 3


def stream(world_size: int, first_step: int = 0, last_step: int | None = None) -> list[set[int]]:
    """The stream indices of every global batch."""
    plan = Plan(num_samples=SAMPLES, global_batch_size=BATCH, epochs=EPOCHS)
    shares = [
        worker_batches(
            global_batch_size=BATCH,
            rank=rank,
            world_size=world_size,
            first_step=first_step,
            last_step=plan.total_steps if last_step is None else last_step,
        )
        for rank in range(world_size)
    ]
    return [set().union(*parts) for parts in zip(*shares, strict=True)]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 100, 1000, 4097])
def test_a_permutation_contains_everything_once(size):
    assert sorted(permuted(i, size, key=7) for i in range(size)) == list(range(size))


def test_every_epoch_contains_every_sample_once_in_another_order():
    orders = [[position(0, epoch * SAMPLES + i, SAMPLES).sample for i in range(SAMPLES)] for epoch in range(EPOCHS)]
    assert all(sorted(order) == list(range(SAMPLES)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_the_seed_changes_order_and_augmentation():
    assert [position(0, i, SAMPLES) for i in range(20)] != [position(1, i, SAMPLES) for i in range(20)]
    assert augmentation_seed(0, 5) != augmentation_seed(1, 5)
    assert augmentation_seed(0, 5) != augmentation_seed(0, 5 + SAMPLES), "the same picture is cropped anew every epoch"


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_a_global_batch_is_the_same_set_on_any_number_of_workers(world_size):
    assert stream(world_size) == stream(1)


def test_stopping_anywhere_and_going_on_with_other_workers_changes_nothing():
    whole = stream(1)
    for stop in range(len(whole)):
        assert stream(2, last_step=stop) + stream(3, first_step=stop) == whole


def test_no_batch_is_partial_and_all_epochs_are_complete():
    batches = stream(1)
    assert {len(b) for b in batches} == {BATCH}
    used = sorted(i for b in batches for i in b)
    assert used == list(range(len(used)))
    assert EPOCHS * SAMPLES <= len(used) < EPOCHS * SAMPLES + BATCH


def test_an_epoch_ends_with_the_batch_that_holds_its_last_sample():
    plan = Plan(num_samples=SAMPLES, global_batch_size=BATCH, epochs=EPOCHS)
    ends = [step for step in range(1, plan.total_steps + 1) if plan.evaluates_after(step)]
    assert ends == [4, 7, 11]  # 103, 206 and 309 samples in batches of 30
    assert plan.total_steps == 11


def test_a_training_may_end_within_an_epoch_and_is_evaluated_there():
    """He et al. train CIFAR-10 for 64,000 updates of 128 images, and drop the rate after 32,000 and 48,000."""
    plan = Plan(num_samples=50_000, global_batch_size=128, epochs=163.84)
    assert plan.total_steps == 64_000
    assert [step for step in range(63_000, 64_001) if plan.evaluates_after(step)] == [63_282, 63_672, 64_000]


def test_repeated_augmentation_gives_a_sample_to_different_workers():
    first_epoch = [position(0, i, 102, repeats=3) for i in range(102)]
    assert sorted(p.sample for p in first_epoch) == sorted([p.sample for p in first_epoch[::3]] * 3)
    assert len({p.sample for p in first_epoch}) == 34
    shares = [
        next(worker_batches(global_batch_size=12, rank=rank, world_size=4, first_step=0, last_step=1, repeats=3))
        for rank in range(4)
    ]
    assert sorted(i for share in shares for i in share) == list(range(12))
    for share in shares:
        assert len({position(0, i, 102, repeats=3).sample for i in share}) == 3


def test_an_epoch_smaller_than_a_batch_still_counts():
    plan = Plan(num_samples=10, global_batch_size=32, epochs=4)
    assert plan.total_steps == 2
    assert [plan.epochs_finished_by(s) for s in range(3)] == [0, 3, 4]


def test_the_order_is_well_mixed():
    """Neighbours in the stream are unrelated: their mean distance is that of random pairs, n / 3."""
    size = 2000
    order = [permuted(i, size, key=3) for i in range(size)]
    mean = sum(abs(a - b) for a, b in pairwise(order)) / (size - 1)
    assert mean == pytest.approx(size / 3, rel=0.06)  # four standard errors
