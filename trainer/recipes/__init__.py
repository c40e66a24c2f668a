"""Recipes as TOML files, read, merged with overrides, and checked.

A file may extend another one (`extends = "_imagenet"`): a file whose name starts with an underscore is only a base.
"""

import difflib
import tomllib
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from shared.errors import UserError
from trainer.config import Recipe
from trainer.recipes.rules import check

FOLDER = Path(__file__).parent
SECTIONS = {f.name: f.type for f in fields(Recipe) if is_dataclass(f.type)}
# `expected` states the published result of the recipe as shipped; it is not a setting.
SETTABLE = [name for name in SECTIONS if name != "expected"]


def names() -> list[str]:
    """The recipes that come with the project."""
    return sorted(p.stem for p in FOLDER.glob("*.toml") if not p.stem.startswith("_"))


def load(recipe: str, overrides: list[str] | None = None) -> Recipe:
    """A recipe by name or path, with `section.key=value` overrides (values in TOML; bare words are strings).

    Raises:
        UserError: unknown recipe or key, a value out of its range, or settings that contradict each other.
    """
    path = _find(recipe)
    loaded = from_settings(_read(path), name=path.stem, overrides=overrides or [])
    check(loaded)
    return loaded


def settings_for(architecture: str) -> dict[str, Any]:
    """The sections of an architecture's recipe as plain values; of what all ImageNet recipes share if it has none."""
    if architecture in names():
        return asdict(load(architecture))
    expected = {"source": f"{architecture} has no recipe of its own"}
    return _read(FOLDER / "_imagenet.toml") | {"model": {"name": architecture}, "expected": expected}


def from_settings(settings: dict[str, Any], *, name: str, overrides: list[str]) -> Recipe:
    """A recipe from its sections as plain values, each checked by itself; rules that span fields are left out.

    Raises:
        UserError: unknown key, or a value out of its range.
    """
    settings = {key: dict(value) if isinstance(value, dict) else value for key, value in settings.items()}
    for override in overrides:
        _apply(settings, override)
    settings["name"] = name
    try:
        return TypeAdapter(Recipe).validate_python(settings)
    except ValidationError as error:
        raise UserError(f"recipe {name}: {_explain(error)}") from error


def known(settings: dict[str, Any]) -> dict[str, Any]:
    """What the present code knows of the settings that an older version of it wrote into a card."""
    sections = {name: {f.name for f in fields(section)} for name, section in SECTIONS.items()}
    return {
        name: {key: value for key, value in values.items() if key in sections[name]}
        for name, values in settings.items()
        if name in sections
    }


def _find(recipe: str) -> Path:
    if recipe.endswith(".toml") or "/" in recipe:
        path = Path(recipe)
        if not path.is_file():
            raise UserError(f"recipe file {recipe} does not exist; `python -m trainer recipes` lists those by name")
        return path
    if recipe not in names():
        near = difflib.get_close_matches(recipe, names(), n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else "`python -m trainer recipes` lists them"
        raise UserError(f"unknown recipe {recipe!r}; {hint}")
    return FOLDER / f"{recipe}.toml"


def _read(path: Path) -> dict[str, Any]:
    try:
        settings = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"recipe file {path} is not valid TOML: {error}") from error
    base = settings.pop("extends", None)
    if base is None:
        return settings
    base_path = next((p for p in (path.parent / f"{base}.toml", FOLDER / f"{base}.toml") if p.is_file()), None)
    if base_path is None:
        raise UserError(f"recipe file {path} extends {base!r}, which is neither beside it nor a recipe of the project")
    return _merged(_read(base_path), settings)


def _merged(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    both_tables = {k for k, v in top.items() if isinstance(v, dict) and isinstance(base.get(k), dict)}
    both_tables.discard("expected")  # what the base reaches says nothing about a recipe that states its own
    return base | top | {k: base[k] | top[k] for k in both_tables}


def _apply(settings: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    section, dot, key = path.partition(".")
    if not equals or not dot:
        raise UserError(f"{override!r} is neither a recipe nor a setting; settings look like run.epochs=10")
    if section not in SETTABLE:
        raise UserError(f"unknown section {section!r} in {override!r}; there are: {', '.join(SETTABLE)}")
    settings.setdefault(section, {})[key] = value_of(text)


def value_of(text: str) -> Any:
    """What stands right of a setting's equals sign: a value in TOML, or a bare word, which is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"] if part in SECTIONS or not isinstance(part, int))
    if first["type"] == "unexpected_keyword_argument":
        section = str(first["loc"][0])
        if section in SECTIONS and len(first["loc"]) > 1:
            valid = [f.name for f in fields(SECTIONS[section])]
            return f"unknown key {path}; {section} has: {', '.join(valid)}"
        return f"unknown section {path}; there are: {', '.join(SECTIONS)}"
    if first["type"] in ("missing", "missing_argument"):
        return f"{path} is missing"
    return f"{path}={first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"
