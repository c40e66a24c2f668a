"""The order of samples: exact, and the same on any number of workers."""

import numpy as np
import pytest

from trainer.data.sampling import COLOUR, GEOMETRY, Plan, Stream, hash64, permuted, uniforms

SAMPLES, BATCH, EPOCHS = 103, 30, 3


def samples_of(stream: Stream, indices) -> list[int]:
    return stream.samples(np.asarray(indices)).tolist()


def a_stream(seed: int = 0, num_samples: int = SAMPLES, batch: int = BATCH, repeats: int = 1) -> Stream:
    return Stream(seed=seed, num_samples=num_samples, global_batch_size=batch, repeats=repeats)


def stream(world_size: int, first_step: int = 0, last_step: int | None = None) -> list[set[int]]:
    """The stream indices of every global batch."""
    last_step = (
        Plan(num_samples=SAMPLES, global_batch_size=BATCH, epochs=EPOCHS).total_steps
        if last_step is None
        else last_step
    )
    shares = [
        a_stream().shares(rank=rank, world_size=world_size, first_step=first_step, last_step=last_step)
        for rank in range(world_size)
    ]
    return [set().union(*parts) for parts in zip(*shares, strict=True)]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 100, 1000, 4097])
def test_a_permutation_contains_everything_once(size):
    assert sorted(permuted(np.arange(size), size, np.full(size, hash64(7)))) == list(range(size))


def test_every_epoch_contains_every_sample_once_in_another_order():
    orders = [samples_of(a_stream(), range(e * SAMPLES, (e + 1) * SAMPLES)) for e in range(EPOCHS)]
    assert all(sorted(order) == list(range(SAMPLES)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_the_seed_changes_order_and_augmentation():
    indices = np.arange(20)
    assert samples_of(a_stream(seed=0), indices) != samples_of(a_stream(seed=1), indices)
    first = uniforms(0, indices, GEOMETRY, 4)
    for other in (uniforms(1, indices, GEOMETRY, 4), uniforms(0, indices, COLOUR, 4)):
        assert not np.isin(first, other).any()
    later = uniforms(0, indices + SAMPLES, GEOMETRY, 4)
    assert not np.isin(first, later).any(), "the same picture is cropped anew every epoch"


def test_random_numbers_are_uniform_and_independent():
    numbers = uniforms(3, np.arange(20_000), GEOMETRY, 3)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    # five standard errors of the mean, the variance and the correlation of 20,000 uniform numbers
    assert numbers.mean(axis=0) == pytest.approx([1 / 2] * 3, abs=5 * (1 / 12 / 20_000) ** 0.5)
    assert numbers.var(axis=0) == pytest.approx([1 / 12] * 3, abs=5 * (1 / 180 / 20_000) ** 0.5)
    neighbours = np.column_stack([numbers[:-1], numbers[1:]])
    assert np.abs(np.corrcoef(neighbours.T) - np.eye(6)).max() < 5 / 20_000**0.5


def test_a_position_depends_on_nothing_but_itself():
    whole = samples_of(a_stream(), range(300))
    numbers = uniforms(0, np.arange(300), GEOMETRY, 5)
    assert [samples_of(a_stream(), [i])[0] for i in range(300)] == whole
    assert np.array_equal(uniforms(0, np.array([217]), GEOMETRY, 2), numbers[217:218, :2])


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
    repeated = a_stream(num_samples=102, batch=12, repeats=3)
    first_epoch = samples_of(repeated, range(102 // 12 * 12))
    assert len(set(first_epoch)) == 32
    assert all(first_epoch.count(sample) == 3 for sample in set(first_epoch))
    shares = [next(repeated.shares(rank=r, world_size=4, first_step=0, last_step=1)) for r in range(4)]
    assert sorted(i for share in shares for i in share) == list(range(12))
    assert all(len(set(samples_of(repeated, share))) == 3 for share in shares)


@pytest.mark.parametrize("batch", [2048, 100, 8])
def test_mixing_hardly_ever_pairs_copies_of_one_sample(batch):
    repeated = a_stream(num_samples=50_000, batch=batch, repeats=3)
    pairs = np.array(samples_of(repeated, range(10 * batch))).reshape(-1, 2)
    assert (pairs[:, 0] != pairs[:, 1]).mean() > 1 - 2 / batch  # where one copy's samples end and the next's begin


def test_an_epoch_smaller_than_a_batch_still_counts():
    plan = Plan(num_samples=10, global_batch_size=32, epochs=4)
    assert plan.total_steps == 2
    assert [plan.epochs_finished_by(s) for s in range(3)] == [0, 3, 4]


def test_the_order_is_well_mixed():
    """Neighbours in the stream are unrelated: their mean distance is that of random pairs, n / 3."""
    size = 2000
    order = permuted(np.arange(size), size, np.full(size, hash64(3))).astype(int)
    mean = np.abs(np.diff(order)).mean()
    assert mean == pytest.approx(size / 3, rel=0.06)  # four standard errors
