"""The house keeps its shape: who may import whom, and how large a file may grow."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [path for package in ("trainer", "demo", "shared") for path in sorted((ROOT / package).rglob("*.py"))]


def imported_packages(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_only_what_its_package_may(path):
    package = path.relative_to(ROOT).parts[0]
    forbidden = {
        "trainer": {"demo", "gradio"},
        "demo": {"trainer", "ray"},
        "shared": {"trainer", "demo", "ray", "gradio"},
    }[package]
    assert not imported_packages(path) & forbidden


def test_one_package_knows_ray():
    assert {p.parent.name for p in FILES if "ray" in imported_packages(p)} == {"launch"}


def test_mlflow_is_known_to_tracking_and_registry_alone():
    knows = {str(p.relative_to(ROOT)) for p in FILES if "mlflow" in imported_packages(p)}
    assert {name for name in knows if not name.startswith("trainer/tracking/")} == {
        "shared/registry.py",
        "shared/versions.py",
    }


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_can_be_read_at_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 250
