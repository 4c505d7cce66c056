"""What stands in a results folder, protocol by protocol, without reading a table."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from assay.benchmark.cell import Cell
from assay.benchmark.migrations import migrated
from assay.benchmark.store import Store
from assay.benchmark.whole_folder import Damaged
from assay.errors import AssayError
from assay.leaderboard.protocol_summary import folder_name

_NEEDED = {
    "key",
    "protocol_key",
    "protocol",
    "explainer",
    "measures",
    "counts",
    "accuracy",
    "majority",
    "cost",
    "command",
}
# What decides how a protocol's pages come out of its cells.
_SOURCES = ("assay.leaderboard", "assay.benchmark")


@dataclass(frozen=True)
class Group:
    """The cells of one protocol.

    Attributes:
        key: the protocol's.
        protocol: all that it fixes.
        paths: of the cells.
        siblings: `key` and `protocol` of each protocol of the same task and model, this one's included.
        fingerprint: of the cells, of the protocols that they are told apart from, and of what makes pages of them.
    """

    key: str
    protocol: Mapping[str, Any]
    paths: Sequence[Path]
    siblings: Sequence[Mapping[str, Any]]
    fingerprint: str

    @property
    def folder(self) -> str:
        """The name of its folder in the site's `protocols`."""
        return folder_name(self.protocol, self.key)


def inventory(results: Path, name: str | None = None) -> list[Group]:
    """The protocols of all finished cells, in the order of task, model and key.

    Args:
        results: the folder.
        name: what the user calls it, if otherwise.

    Raises:
        AssayError: there is no such folder, it has no finished cell, or what says so much of one is damaged.
    """
    protocols: dict[str, Mapping[str, Any]] = {}
    cells: dict[str, list[tuple[str, str, Path]]] = {}
    for path in cell_paths(results):
        cell, sums = _listed(path)
        key = str(cell.meta["protocol_key"])
        protocols.setdefault(key, cell.protocol)
        cells.setdefault(key, []).append((cell.key, sums, path))
    if not cells:
        name = name or str(results)
        raise AssayError(f"There are no finished cells in {name!r}. Run `assay run results={name}` first.")
    subjects: dict[tuple[str, str], list[str]] = {}
    for key, protocol in sorted(protocols.items()):
        subjects.setdefault((str(protocol["task"]["name"]), str(protocol["model"]["name"])), []).append(key)
    groups = []
    for _, keys in sorted(subjects.items()):
        siblings = [{"key": key, "protocol": protocols[key]} for key in keys]
        for key in keys:
            made_of = [siblings, sorted((own, sums) for own, sums, _ in cells[key])]
            stamp = hashlib.sha256(f"{key} {source()} {json.dumps(made_of, sort_keys=True)}".encode()).hexdigest()
            groups.append(Group(key, protocols[key], [path for *_, path in sorted(cells[key])], siblings, stamp))
    return groups


def cell_paths(results: Path) -> Iterator[Path]:
    """The folders of all finished cells, in order.

    Raises:
        AssayError: there is no such folder.
    """
    root = Store(results).root
    if not root.is_dir():
        raise AssayError(f"There is no results folder {str(root)!r}.")
    # Folders that begin with a dot hold work in progress, which comes and goes.
    for task in _folders(root):
        for model in _folders(task):
            for cell in _folders(model):
                if os.path.exists(f"{cell}/cell.json"):
                    yield Path(cell)


def read_cell(path: Path) -> Cell:
    """A cell whose description is what was written.

    Raises:
        AssayError: it is not, or it was written by a newer version of Assay.
    """
    return _listed(path)[0]


@cache
def source() -> str:
    """A digest of everything that pages are made by."""
    found = hashlib.sha256()
    for package in _SOURCES:
        root = Path(str(files(package)))
        for path in sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc"):
            found.update(f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def _folders(path: str | Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(entry.path for entry in entries if not entry.name.startswith(".") and entry.is_dir())


def _listed(path: Path) -> tuple[Cell, str]:
    """A cell, and a digest of the checksums of its files."""
    place = path / "cell.json"
    try:
        # Of 10,000 cells each file is opened once.
        content, sums = place.read_bytes(), (path / "checksums.json").read_bytes()
        cell = Cell(path, migrated(json.loads(content), place))
        lacking = sorted(_NEEDED - set(cell.meta))
        if lacking:
            raise AssayError(f"{place} is damaged: it lacks {', '.join(lacking)}.")
        if hashlib.sha256(content).hexdigest() != json.loads(sums)["cell.json"]:
            raise cell.damaged(Damaged(f"{place} is not what was written"))
        return cell, hashlib.sha256(sums).hexdigest()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssayError(f"{place} is damaged: {error}. Run the same command again to recompute it.") from error
