"""Where results go beside the store: Weights & Biases, or nowhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from assay.benchmark.store import Cell


class Tracker(Protocol):
    """What a run tells of its cells."""

    def log(self, fresh: Sequence[Cell], all_cells: Sequence[Cell], config: Mapping[str, Any]) -> None:
        """Report cells that were just computed; `all_cells` are those of the same job, controls included."""


class NoTracker:
    """Tells nobody."""

    def log(self, fresh: Sequence[Cell], all_cells: Sequence[Cell], config: Mapping[str, Any]) -> None:
        """Do nothing."""
