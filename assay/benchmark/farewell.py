"""What an interrupted command says at its end: what is kept, and how to go on."""

from __future__ import annotations

import shlex
import sys
from contextlib import suppress
from pathlib import Path

from assay.interruption import Interrupted


def farewell(end: Interrupted, arguments: list[str]) -> str:
    """What is kept, and how to go on, in a line.

    Args:
        end: how the program was interrupted.
        arguments: of the command.
    """
    command = shlex.join(["assay", *arguments])
    if arguments[:1] != ["run"]:
        return f"Interrupted ({end.name}): {command}"
    kept = _kept(arguments[1:])
    return f"Interrupted ({end.name}). {kept} To go on: {command}"


def _kept(arguments: list[str]) -> str:
    """How much of a run is in its results folder."""
    # Where the store was not even imported, nothing had begun.
    if "assay.benchmark.store" not in sys.modules:
        return "Nothing had begun."
    from assay.benchmark import launch
    from assay.benchmark.store import Store
    from assay.errors import AssayError

    with suppress(AssayError):
        results = launch.compose("run", [text for text in arguments if not text.startswith("-")]).results
        root = Path(Store(results).root)
        cells = len(list(root.glob("*/*/*/cell.json")))
        shards = len(list(root.glob(".partial/*/[0-9]*-[0-9]*/checksums.json")))
        return f"Kept in {results}: {cells} finished cells, and {shards} shards of others."
    return "Nothing had begun."
