"""What the gridding tab says about the pictures, in plain language."""

from collections.abc import Mapping
from math import isnan

from demo.inference import CLASS_MAP

LITTLE_DIFFERENCE = 0.1
"""GHD values closer than this are not told apart: one photograph decides nothing."""

DEFINITION = (
    "<b>GHD</b> (grid harmonic density) compares the energy that all class maps together have at the frequencies of "
    "the dilation lattice, a period of 4 cells, with their energy at all other frequencies. White noise scores 1; "
    "above 1 the lattice dominates; a smooth map is near 0. <b>V</b> (variogram ratio) says how much more neighbouring "
    "cells differ than cells 4 apart; above 1, cells one lattice period apart are more alike than neighbours."
)

_STRIDE_8 = {
    "A": "The last level without dilation. DRN-A opens with max pooling, which passes on strong single cells: the "
    "high frequencies that dilation will spread into a grid.",
    "B": "The last level without dilation. Strided convolutions stand where DRN-A has max pooling, so fewer strong "
    "single cells are passed on.",
    "C": "The last level without dilation; up to here DRN-C is built exactly like DRN-B.",
}
_DILATION_2 = {
    "A": "Almost every convolution skips one cell, so the map splits into 2 x 2 interleaved copies that no longer "
    "exchange values.",
    "B": "Every convolution skips one cell, as in DRN-A: 2 x 2 interleaved copies that no longer exchange values.",
    "C": "The same as DRN-B: 2 x 2 interleaved copies that no longer exchange values.",
}
_DILATION_4 = {
    "A": "Almost every convolution skips three cells: 4 x 4 interleaved copies, each blind to the others. Where they "
    "disagree, a grid with a period of 4 cells appears.",
    "B": "4 x 4 interleaved copies, each blind to the others, as in DRN-A; two degridding levels are still to come.",
    "C": "4 x 4 interleaved copies, each blind to the others, as in DRN-A; two degridding levels are still to come.",
}
_END = {
    "A": "DRN-A ends right after dilation 4. Nothing lets the 4 x 4 interleaved copies of the map talk to each other "
    "again, so whatever grid they left stays in the result.",
    "B": "Two more levels, of dilation 2 and then 1, mix neighbouring cells again and smooth the grid. But their "
    "shortcuts also carry the map past them unsmoothed, so part of the grid can stay.",
    "C": "The same two smoothing levels as DRN-B, without shortcuts: everything has to pass through them, so the grid "
    "has no way round.",
}
EXPLANATIONS: Mapping[str, Mapping[str, str]] = {
    "stride-8 entry": _STRIDE_8,
    "dilation 2": _DILATION_2,
    "dilation 4": _DILATION_4,
    "output": _END,
    CLASS_MAP: _END,
}

_RESPONSES_AT_THE_END = {
    "A": "The lattice of the dilated levels reaches the end: brighter cells 2 and 4 apart, darker ones between.",
    "B": "The last two levels fill the gaps of the lattice; by way of the shortcuts some of it may remain.",
    "C": "The last two levels fill the gaps of the lattice, and no shortcut leads round them.",
}
RESPONSES: Mapping[str, Mapping[str, str]] = {
    "stride-8 entry": dict.fromkeys("ABC", "Nothing is dilated yet: the answer is a small, closed spot."),
    "dilation 2": dict.fromkeys("ABC", "The answer moves in steps of 2 cells: every second cell is favoured."),
    "dilation 4": dict.fromkeys("ABC", "Steps of 4 cells on top of steps of 2: the answer lands on a lattice."),
    "output": _RESPONSES_AT_THE_END,
    CLASS_MAP: _RESPONSES_AT_THE_END,
}


def verdict(ghd: Mapping[str, float], random_weights: bool) -> str:
    """One sentence on the scores of one picture; it promises no order."""
    known = {letter: value for letter, value in ghd.items() if not isnan(value)}
    if len(known) < 2:
        return "There is nothing to compare: the class maps are constant, or only one network is there."
    least, most = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    if random_weights:
        return "With random weights the scores say nothing about gridding: it is learned, so train the networks first."
    if known[most] - known[least] < LITTLE_DIFFERENCE:
        return (
            f"Little difference on this picture: {listed(known)}. Try another one; over many pictures DRN-A has most "
            "gridding and DRN-C least, but a single photograph need not show it."
        )
    return (
        f"On this picture the lattice is strongest in DRN-{most} ({known[most]:.2f}) and weakest in DRN-{least} "
        f"({known[least]:.2f}). Other pictures may order the networks differently."
    )


def listed(ghd: Mapping[str, float]) -> str:
    return ", ".join(f"{letter} {value:.2f}" for letter, value in ghd.items())


def how_to_train(letter: str, architecture: str, data: str) -> str:
    """The command for a network that the comparison lacks."""
    recipe = architecture if data not in ("photos", "cifar10") else f"{_PREFIX[data]}_{architecture}"
    return f"DRN-{letter} has not been trained on {data} yet: python -m trainer train {recipe}"


_PREFIX = {"photos": "tiny", "cifar10": "cifar10"}
