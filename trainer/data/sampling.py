"""Which sample comes when, and with which random numbers: pure functions of (seed, stream index), so that a run can
stop anywhere and go on.

Training reads one endless stream of samples: epoch 0 in a random order, then epoch 1 in another, and so on. Update s
uses the stream indices [s * G, (s + 1) * G) for a global batch of G, and worker r of W the r-th W-th of them. Nothing
depends on loader processes, and the set of samples in a global batch does not depend on W. No batch is ever partial,
none is padded, and every sample comes exactly once per epoch; a batch may hold the end of one epoch and the beginning
of the next. (With repeated augmentation a part of the samples comes several times, mostly on different workers.)
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

GEOMETRY, COLOUR, ERASING, MIXING = 1, 2, 3, 4
"""What random numbers are for: see `uniforms`."""

_ROUNDS = 8
_MASK = (1 << 64) - 1


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

    def share_done(self, step: int) -> float:
        """The first `step` updates as a share of all; more than 1 for steps after the last."""
        return step / self.total_steps

    def epochs_finished_by(self, step: int) -> int:
        """Whole epochs contained in the first `step` updates."""
        return min(int(self.epochs), step * self.global_batch_size // self.num_samples)

    def evaluates_after(self, step: int) -> bool:
        """Whether the first `step` updates end with an evaluation: at the end of each epoch and of the training."""
        return step == self.total_steps or self.epochs_finished_by(step) > self.epochs_finished_by(step - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """The training stream of one run."""

    seed: int
    num_samples: int
    global_batch_size: int
    repeats: int = 1
    """So many samples of an epoch in a row are the same one (repeated augmentation). Within a global batch the copies
    are dealt far apart: first one of each sample, then the next of each. So they go to different workers, and
    neighbours, which mixing pairs, are different pictures."""

    def samples(self, indices: np.ndarray) -> np.ndarray:
        """(B,) stream indices -> (B,) samples, 0 to n - 1; in O(B) time and memory."""
        if self.repeats > 1:
            step, slot = np.divmod(indices, self.global_batch_size)
            dealt = np.argsort(np.arange(self.global_batch_size) % self.repeats, kind="stable")
            indices = step * self.global_batch_size + dealt[slot]
        epochs, places = np.divmod(indices, self.num_samples)
        return permuted(places // self.repeats, self.num_samples, hash64(self.seed, epochs)).astype(np.int64)

    def shares(self, *, rank: int, world_size: int, first_step: int, last_step: int) -> Iterator[range]:
        """The stream indices of one worker, a range per update."""
        share = self.global_batch_size // world_size
        for step in range(first_step, last_step):
            start = step * self.global_batch_size + rank * share
            yield range(start, start + share)


def uniforms(seed: int, indices: np.ndarray, purpose: int, count: int) -> np.ndarray:
    """Independent random numbers for each of B stream indices, always the same ones.

    Args:
        purpose: GEOMETRY, COLOUR, ERASING or MIXING: each has numbers of its own.

    Returns:
        (B, count), float64 in [0, 1).
    """
    keys = hash64(seed, indices, purpose)
    # the upper 53 bits are what a float64 can hold
    return (hash64(keys[:, None], np.arange(count)) >> np.uint64(11)) / 2.0**53


def permuted(indices: np.ndarray, size: int, keys: np.ndarray) -> np.ndarray:
    """Where each of `indices` goes in a pseudo-random permutation of range(size), chosen by its key.

    A balanced Feistel network over the smallest even number of bits that holds `size`; results outside the range are
    encrypted again until they fall inside ("cycle walking", Black and Rogaway 2002), at most 4 times on average.

    Args:
        indices: (B,) of them.
        keys: (B,), uint64.

    Returns:
        (B,), uint64.
    """
    half_bits = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    result = indices.astype(np.uint64)
    round_keys = np.stack([hash64(keys, i) for i in range(_ROUNDS)])
    outside = np.arange(len(result))
    while len(outside):
        left, right = result[outside] >> half_bits, result[outside] & mask
        for round_key in round_keys[:, outside]:
            left, right = right, left ^ (_mixed(round_key, right) & mask)
        result[outside] = left << half_bits | right
        outside = outside[result[outside] >= size]
    return result


def hash64(*values: int | np.ndarray) -> np.ndarray:
    """Mix integers, broadcast against each other, to 64 well-spread bits: splitmix64's finalizer (Steele et al. 2014),
    chained. uint64.
    """
    state: Any = np.uint64(0x9E3779B97F4A7C15)
    for value in values:
        state = _mixed(state, np.uint64(value & _MASK) if isinstance(value, int) else value.astype(np.uint64))
    return state


def _mixed(state: Any, number: Any) -> Any:
    with np.errstate(over="ignore"):  # modulo 2^64 is what is meant
        state = (state ^ number) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ state >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ state >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        return state ^ state >> np.uint64(31)
