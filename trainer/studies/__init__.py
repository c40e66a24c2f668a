"""Studies: recipes that show something together, as TOML files.

A file has a title, panels (each a list of recipes that are drawn side by side) and overrides for all of them, written
as on the command line. The comment at its head says what it should show.
"""

import tomllib
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from shared.errors import UserError
from trainer import recipes
from trainer.config import FORBID_UNKNOWN, Recipe

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, slots=True, config=FORBID_UNKNOWN)
class Study:
    name: str
    title: str
    panels: dict[str, list[Recipe]]
    """Title -> the recipes drawn there, from shallow to deep or as the title says."""

    @property
    def recipes(self) -> list[Recipe]:
        return [recipe for panel in self.panels.values() for recipe in panel]

    def label(self, recipe: Recipe) -> str:
        """The network's name, or the recipe's where several train the same network."""
        networks = [r.model.name for r in self.recipes]
        return recipe.model.name if networks.count(recipe.model.name) == 1 else recipe.name


@dataclass(frozen=True, kw_only=True, slots=True, config=FORBID_UNKNOWN)
class _File:
    title: str
    panels: dict[str, list[str]]
    overrides: tuple[str, ...] = ()


def names() -> list[str]:
    """The studies that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(study: str, overrides: list[str] | None = None) -> Study:
    """A study by name or path; `overrides` come after its own.

    Raises:
        UserError: unknown study, key or recipe, or recipes that cannot be one study.
    """
    by_path = study.endswith(".toml") or "/" in study
    path = Path(study) if by_path else FOLDER / f"{study}.toml"
    if not path.is_file():
        raise UserError(f"no study {study!r}; there are {', '.join(names())}, or give the path of a .toml file")
    try:
        file = TypeAdapter(_File).validate_python(tomllib.loads(path.read_text()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"study file {path} is not valid TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"study file {path}: {where}: {first['msg']}; it has: title, panels, overrides") from error
    words = [*file.overrides, *(overrides or [])]
    panels = {title: [recipes.load(recipe, words) for recipe in panel] for title, panel in file.panels.items()}
    loaded = Study(name=path.stem, title=file.title, panels=panels)
    _check(loaded, path)
    return loaded


def from_settings(settings: dict[str, Any]) -> Study:
    """A study as `dataclasses.asdict` wrote it."""
    return TypeAdapter(Study).validate_python(settings)


def _check(study: Study, path: Path) -> None:
    found = [recipe.name for recipe in study.recipes]
    if not found:
        raise UserError(f"study file {path} names no recipes in its panels")
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise UserError(f"study file {path} names {', '.join(twice)} twice; a variant needs a recipe file of its own")
    if len({recipe.run.experiment for recipe in study.recipes}) > 1:
        raise UserError(f"study file {path}: its recipes need the same run.experiment")
