"""Which sample comes when: a pure function of (seed, stream index), so that a run can stop anywhere and go on.

Training reads one endless stream of samples: epoch 0 in a random order, then epoch 1 in another, and so on. Update s
uses the stream indices [s * G, (s + 1) * G) for a global batch of G, and worker r of W the r-th W-th of them. Nothing
depends on loader processes, and the set of samples in a global batch does not depend on W. No batch is ever partial,
none is padded, and every sample comes exactly once per epoch; a batch may hold the end of one epoch and the beginning
of the next. (With repeated augmentation a part of the samples comes several times, on different workers.)
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

_ROUNDS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Where a stream index lies."""

    epoch: int
    sample: int
    """Which of the data set's samples, 0 to n - 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Steps and epochs of a training."""

    num_samples: int
    global_batch_size: int
    epochs: float

    @property
    def total_steps(self) -> int:
        """Updates until every sample of every epoch was used. The last one may borrow from the epoch after it."""
        # rounded first: 163.84 * 50,000 / 128 is 64,000, whatever the last bit says
        return math.ceil(round(self.epochs * self.steps_per_epoch, 6))

    @property
    def steps_per_epoch(self) -> float:
        return self.num_samples / self.global_batch_size

    def epochs_finished_by(self, step: int) -> int:
        """Whole epochs contained in the first `step` updates."""
        return min(int(self.epochs), step * self.global_batch_size // self.num_samples)

    def evaluates_after(self, step: int) -> bool:
        """Whether the first `step` updates end with an evaluation: at the end of each epoch and of the training."""
        return step == self.total_steps or self.epochs_finished_by(step) > self.epochs_finished_by(step - 1)


def position(seed: int, stream_index: int, num_samples: int, repeats: int = 1) -> Position:
    """The sample at an index of the training stream, in O(1) time and memory.

    Args:
        repeats: so many indices in a row stand for the same sample (repeated augmentation).
    """
    epoch, index = divmod(stream_index, num_samples)
    return Position(epoch=epoch, sample=permuted(index // repeats, num_samples, hash64(seed, epoch)))


def augmentation_seed(seed: int, stream_index: int) -> int:
    """Seed of the random numbers that augment this one sample; below 2^63."""
    return hash64(seed, stream_index, 1) >> 1


def worker_batches(
    *, global_batch_size: int, rank: int, world_size: int, first_step: int, last_step: int, repeats: int = 1
) -> Iterator[list[int]]:
    """The stream indices of one worker, a list per update."""
    share = global_batch_size // world_size
    for step in range(first_step, last_step):
        start = step * global_batch_size
        if repeats > 1:  # dealt out like cards: copies of a sample are neighbours, and go to different workers
            yield list(range(start + rank, start + global_batch_size, world_size))
        else:
            yield list(range(start + rank * share, start + (rank + 1) * share))


def permuted(index: int, size: int, key: int) -> int:
    """Where `index` goes in a pseudo-random permutation of range(size) chosen by `key`.

    A balanced Feistel network over the smallest even number of bits that holds `size`; results outside the range are
    encrypted again until they fall inside ("cycle walking", Black and Rogaway 2002), at most 4 rounds on average.
    """
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half_bits) - 1
    while True:
        left, right = index >> half_bits, index & mask
        for i in range(_ROUNDS):
            left, right = right, left ^ (hash64(key, i, right) & mask)
        index = left << half_bits | right
        if index < size:
            return index


def hash64(*values: int) -> int:
    """Mix integers to 64 well-spread bits: splitmix64's finalizer (Steele et al. 2014), chained."""
    state = 0x9E3779B97F4A7C15
    for value in values:
        state = (state ^ value) & 0xFFFFFFFFFFFFFFFF
        state = (state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ state >> 27) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state
