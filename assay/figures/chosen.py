"""What a figure is of: the cells of one protocol, one way of hiding, and the names of explainers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assay.benchmark.cell import Cell
from assay.benchmark.selection import one_protocol, select
from assay.benchmark.store import Store
from assay.benchmark.summary import explained_otherwise, told_apart
from assay.errors import AssayError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

Results = str | Path | Sequence[Cell]


def chosen(results: Results, task: str | None, model: str | None, protocol: str | None) -> list[Cell]:
    """The cells to draw, of one protocol.

    Raises:
        AssayError: no such results, damaged ones, or several protocols to choose from.
    """
    cells = Store(results).checked_cells() if isinstance(results, str | Path) else list(results)
    if not cells:
        raise AssayError("There are no cells to draw.")
    return one_protocol(select(cells, task, model, protocol))


def hiding(cells: Sequence[Cell], name: str | None) -> str:
    """A way of hiding of a protocol, by default the first.

    Raises:
        AssayError: no such one.
    """
    known = list(cells[0].protocol["perturbations"])
    if name is not None and name not in known:
        raise unknown_name("perturbation", name, known)
    return str(name or known[0])


def named(frame: pd.DataFrame, cells: Sequence[Cell]) -> list[str]:
    """The explainer of each row of `summarise` or `overall`, as tables name it."""
    names = dict(zip((cell.key for cell in cells), told_apart(cells), strict=True))
    return [
        explained_otherwise(names[row["key"]], row["explained_under"], row["perturbation"])
        for row in frame.to_dict("records")
    ]
