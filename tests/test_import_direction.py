"""Imports point one way: leaderboard, validation → benchmark → explainers, metrics, tasks, which share no import."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "assay"
BELOW: dict[str, set[str]] = {
    "explainers": set(),
    "metrics": set(),
    "tasks": set(),
    "benchmark": {"explainers", "metrics", "tasks"},
    "leaderboard": {"benchmark", "explainers", "metrics", "tasks"},
    "view": {"benchmark", "explainers", "metrics", "tasks"},
    "figures": {"benchmark", "explainers", "metrics", "tasks"},
    "planning": {"benchmark", "explainers", "metrics", "tasks"},
    "validation": {"leaderboard", "benchmark", "explainers", "metrics", "tasks"},
}
# What stands above the rooms although it lies at the root: what a user calls.
DOORS = {"__init__", "api", "command_line", "training", "training_data", "base_models"}


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("assay.")}


def rooms_of(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imported(path)} & set(BELOW)


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert len(files) > 1
    wrong = {str(file.relative_to(PACKAGE)): rooms_of(file) - BELOW[room] - {room} for file in files}
    assert not {file: rooms for file, rooms in wrong.items() if rooms}


def test_what_the_rooms_share_knows_none_of_them() -> None:
    files = [file for file in sorted(PACKAGE.glob("*.py")) if file.stem not in DOORS]
    assert "conversation" in {file.stem for file in files}
    assert not {file.name: rooms_of(file) for file in files if rooms_of(file)}


def test_no_room_imports_what_a_user_calls() -> None:
    for file in (file for room in BELOW for file in (PACKAGE / room).rglob("*.py")):
        assert not {name.split(".")[1] for name in imported(file)} & {"api", "command_line"}, file
