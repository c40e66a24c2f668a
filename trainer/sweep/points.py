"""The points of a sweep: from words of the command line to one checked recipe for each."""

import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any, get_args, get_origin

from pydantic import TypeAdapter

from shared.errors import UserError
from trainer import recipes
from trainer.config import Recipe

MAX_POINTS = 256
"""More are a mistake in writing rather than an experiment: each takes a training."""

LOG_FACTOR = 10
"""Ranges of positive numbers that span it are drawn from evenly by order of magnitude, as learning rates need it."""

SHARED_BY_ALL = ("run.experiment", "run.storage_path")
EXAMPLE = "optimizer.base_lr=0.1,0.2,0.4"

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    name: str
    keys: tuple[str, ...]
    """The settings that vary, as section.key."""
    recipes: tuple[Recipe, ...]
    """One for each point, named after it."""

    def point(self, recipe: Recipe) -> tuple[Any, ...]:
        """Its values of `keys`."""
        sections = (key.split(".") for key in self.keys)
        return tuple(getattr(getattr(recipe, section), name) for section, name in sections)


@dataclass(frozen=True, kw_only=True, slots=True)
class Values:
    """A setting and its values, as written."""

    key: str
    texts: tuple[str, ...]

    def draw(self, source: random.Random) -> str:
        return source.choice(self.texts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """A setting and the numbers between which it is drawn, both included."""

    key: str
    low: float
    high: float
    whole: bool
    """The setting takes integers."""

    def draw(self, source: random.Random) -> str:
        # an integer stands for the interval that is rounded down to it
        low, high = self.low, self.high + 1 if self.whole else self.high
        if self.low > 0 and self.high / self.low >= LOG_FACTOR:
            value = math.exp(source.uniform(math.log(low), math.log(high)))
            value = float(f"{value:.4g}")  # few digits: a name shows all of them
        else:
            value = source.uniform(low, high)
            value = round(value, 4 - math.floor(math.log10(high - low)))
        value = math.floor(value) if self.whole else value
        return repr(min(max(value, self.low), self.high))


def from_settings(settings: dict[str, Any]) -> Sweep:
    """A sweep as `dataclasses.asdict` wrote it."""
    return TypeAdapter(Sweep).validate_python(settings)


def read(words: Sequence[str], samples: int | None = None, seed: int = 0) -> Sweep:
    """A recipe and its settings -> all combinations of their values, or `samples` different ones at random.

    The first points drawn are the same, however many are.

    Raises:
        UserError: nothing varies, or a value, a range or a combination cannot be.
    """
    names = [word for word in words if "=" not in word]
    if len(names) != 1:
        raise UserError(
            f"name one recipe (given: {', '.join(names) or 'none'}); several networks are a setting that varies: "
            "model.name=resnet18,resnet34"
        )
    settings = [read_setting(word) for word in words if "=" in word]
    varying = [setting for setting in settings if isinstance(setting, Range) or len(setting.texts) > 1]
    fixed = [f"{s.key}={s.texts[0]}" for s in settings if isinstance(s, Values) and len(s.texts) == 1]
    _check(varying, settings, samples)
    if samples is None:
        points = _grid([setting for setting in varying if isinstance(setting, Values)])
    else:
        points = _drawn(varying, samples, seed)
    keys = tuple(setting.key for setting in varying)
    loaded = [_load(names[0], fixed, keys, point) for point in points]
    short = _short(keys)
    labels = (" ".join(f"{key}={text}" for key, text in zip(short, point, strict=True)) for point in points)
    return Sweep(
        name=f"{loaded[0].name}: {', '.join(short)}",
        keys=keys,
        recipes=tuple(replace(r, name=f"{r.name} {label}") for r, label in zip(loaded, labels, strict=True)),
    )


def read_setting(word: str) -> Values | Range:
    """`section.key=` and what follows: one value, several between commas, or LOW..HIGH.

    Commas within brackets and quotes belong to a value.

    Raises:
        UserError: a value is empty or comes twice, or a range is none.
    """
    key, _, text = word.partition("=")
    if ends := _RANGE.fullmatch(text):
        return _range(word, key, *ends.groups())
    texts = tuple(piece.strip() for piece in _split(text))
    if len(texts) > 1 and "" in texts:
        raise UserError(f"{word}: a value between the commas is empty; write it as {EXAMPLE}")
    values = [recipes.value_of(text) for text in texts]
    if twice := [text for i, text in enumerate(texts) if values[i] in values[:i]]:
        raise UserError(f"{word}: {twice[0]} comes twice; one training for each value is enough")
    return Values(key=key, texts=texts)


def _range(word: str, key: str, low: str, high: str) -> Range:
    kind = _number_type(key)
    if kind is None:
        raise UserError(f"{word}: {key} is not a number, so it has no range; name its values, as in {EXAMPLE}")
    try:
        ends = kind(low), kind(high)
    except ValueError as error:
        raise UserError(f"{word}: {key} takes integers, so both ends of its range should be") from error
    if ends[0] >= ends[1]:
        raise UserError(f"{word}: a range goes from the smaller number to the larger one, as in {key}={high}..{low}")
    return Range(key=key, low=ends[0], high=ends[1], whole=kind is int)


def _number_type(key: str) -> type[int] | type[float] | None:
    """What a setting's field takes; float where there is no such field: loading the recipe will say so."""
    section, _, name = key.partition(".")
    found = [f.type for f in fields(recipes.SECTIONS[section]) if f.name == name] if section in recipes.SECTIONS else []
    types = _members(found[0]) if found else {float}
    return float if float in types else int if int in types else None


def _members(hint: Any) -> set[Any]:
    """Annotated[int, ...] | None -> {int, None}."""
    if get_origin(hint) is tuple or not get_args(hint):
        return {hint}
    arguments = get_args(hint)[:1] if hasattr(hint, "__metadata__") else get_args(hint)
    return set().union(*(_members(argument) for argument in arguments))


def _split(text: str) -> Iterator[str]:
    """At the commas that are outside of brackets and quotes."""
    piece, depth, quote = "", 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        depth += 0 if quote else (character in "[{") - (character in "]}")
        if character == "," and not depth and not quote:
            yield piece
            piece = ""
        else:
            piece += character
    yield piece


def _check(varying: Sequence[Values | Range], settings: Sequence[Values | Range], samples: int | None) -> None:
    if not varying:
        raise UserError(f"nothing varies; give a setting several values, as in {EXAMPLE}")
    keys = [setting.key for setting in settings]
    for setting in varying:
        if keys.count(setting.key) > 1:
            raise UserError(f"{setting.key} is given {keys.count(setting.key)} times; write its values once")
        if setting.key in SHARED_BY_ALL:
            raise UserError(f"{setting.key} cannot vary: the trainings of a sweep share it")
        if isinstance(setting, Range) and samples is None:
            raise UserError(
                f"{setting.key}={setting.low}..{setting.high} is a range, from which points are drawn: add --samples 20"
            )
    if samples is not None and samples < 1:
        raise UserError(f"--samples {samples} is below 1")
    count = samples or math.prod(len(setting.texts) for setting in varying if isinstance(setting, Values))
    if count > MAX_POINTS:
        raise UserError(
            f"{count:,} points are more than the {MAX_POINTS} that a sweep may have; vary less"
            + ("" if samples else ", or draw some with --samples 50")
        )


def _grid(axes: Sequence[Values]) -> list[tuple[str, ...]]:
    return list(product(*(axis.texts for axis in axes)))


def _drawn(axes: Sequence[Values | Range], count: int, seed: int) -> list[tuple[str, ...]]:
    source = random.Random(seed)
    points: dict[tuple[str, ...], None] = {}  # a set that keeps its order
    for _ in range(100 * count):
        points[tuple(axis.draw(source) for axis in axes)] = None
        if len(points) == count:
            return list(points)
    raise UserError(f"--samples {count}: drawing found only {len(points)} different points; lower it")


def _load(recipe: str, fixed: Sequence[str], keys: Sequence[str], point: Sequence[str]) -> Recipe:
    settings = [f"{key}={text}" for key, text in zip(keys, point, strict=True)]
    try:
        return recipes.load(recipe, [*fixed, *settings])
    except UserError as error:
        raise UserError(f"with {' '.join(settings)}: {error}") from error


def _short(keys: Sequence[str]) -> list[str]:
    """The keys without their sections, where that leaves them telling."""
    names = [key.rpartition(".")[2] for key in keys]
    names_alone = {name for name in names if names.count(name) == 1} - {"name"}
    return [name if name in names_alone else key for key, name in zip(keys, names, strict=True)]
