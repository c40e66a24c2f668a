"""Where an export goes: checked before any work is done for it."""

import os
from importlib.util import find_spec
from pathlib import Path

from shared.errors import UserError

PACKAGES: dict[str, tuple[str, ...]] = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "pt2": ()}
"""Format -> the packages beyond this project's own that writing and checking it needs."""


def check(output: str, form: str, overwrite: bool) -> Path:
    """The file to write.

    Raises:
        UserError: an unknown format, a package that it needs is missing, a name that does not end in the format, a
            folder that is missing or cannot be written, or a file that is there already.
    """
    if form not in PACKAGES:
        raise UserError(f"--format {form} is unknown; choose {' or '.join(PACKAGES)}")
    if missing := [package for package in PACKAGES[form] if find_spec(package) is None]:
        raise UserError(f"--format {form} needs {', '.join(missing)}; install with: pip install {' '.join(missing)}")
    path = Path(output)
    if path.suffix != f".{form}":
        raise UserError(f"--output {output}: with --format {form} a name ends in .{form}")
    if not path.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {path.parent}; create it or choose another")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(f"--output {output} cannot be written; choose another file")
    for there in (path, card_path(path)):
        if there.exists() and not overwrite:
            raise UserError(f"{there} exists; choose another --output, or replace it with --overwrite")
    return path


def card_path(path: Path) -> Path:
    """net.onnx -> net.onnx.card.json: several exports share a folder."""
    return path.with_name(f"{path.name}.card.json")
