"""The rooms of the package: imports point down only, and heavy packages stay in their files."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "openllm"

ORDER = (
    ("__init__", "errors"),
    ("formats", "parent", "servers"),
    ("recipes", "machine", "chat"),
    ("weights", "memory"),
    ("plan",),
    ("engines",),
    ("runner",),
    ("fleet", "batches"),
    ("api",),
    ("cli",),
    ("__main__",),
)
LEVELS = {name: level for level, names in enumerate(ORDER) for name in names}
HEAVY = {"torch", "transformers", "vllm", "openvino", "openvino_genai"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def test_every_room_has_a_level() -> None:
    assert {room(path) for path in modules()} <= LEVELS.keys()


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    here = room(path)
    for name in imports(path):
        package, _, rest = name.partition(".")
        there = rest.partition(".")[0]
        if package == "openllm" and there in LEVELS and there != here:
            assert LEVELS[there] < LEVELS[here], f"{here} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_engine_packages_are_imported_in_engines_only(path: Path) -> None:
    heavy = {name.partition(".")[0] for name in imports(path)} & HEAVY
    assert not heavy or room(path) == "engines"


@pytest.mark.parametrize("entry", ["openllm.cli.main", "openllm.api.server", "openllm.fleet.supply"])
def test_the_front_imports_no_engine(entry: str) -> None:
    code = f"import sys, {entry}; print(*sorted({HEAVY!r} & sys.modules.keys()))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []
