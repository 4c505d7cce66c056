"""What the validated method costs beside the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from assay.benchmark.cell import Cell
from assay.benchmark.summary import CONTROLS, told_apart


@dataclass(frozen=True)
class Cost:
    """What a method takes for one example, on average; NaN where it is unknown, as for attributions from a file.

    Attributes:
        explainer: the method.
        rows: that the model answers, forward and backward.
        tokens: in those rows.
        seconds: its share of the batches that its rows are in, and its own computing.
        rows_ratio: the validated method's rows over this one's; NaN where this one asks nothing.
        tokens_ratio: likewise.
        seconds_ratio: likewise.
    """

    explainer: str
    rows: float
    tokens: float
    seconds: float
    rows_ratio: float = math.nan
    tokens_ratio: float = math.nan
    seconds_ratio: float = math.nan


def costs(cells: Sequence[Cell], subject: str) -> list[Cost]:
    """What each method of one protocol takes, the validated one first and without ratios; the controls left out."""
    methods = [cell for cell in cells if cell.explainer not in CONTROLS]
    spent = {
        name: (
            _sum(cell, "forward_rows", "backward_rows"),
            _sum(cell, "forward_tokens", "backward_tokens"),
            _sum(cell, "seconds"),
        )
        for name, cell in zip(told_apart(methods), methods, strict=True)
    }
    own = spent.pop(subject)
    ratios = {
        name: [_ratio(mine, other) for mine, other in zip(own, each, strict=True)] for name, each in spent.items()
    }
    return [Cost(subject, *own), *(Cost(name, *each, *ratios[name]) for name, each in spent.items())]


def _sum(cell: Cell, *names: str) -> float:
    found = [cell.meta["cost"][name] for name in names]
    return math.nan if None in found else float(sum(found))


def _ratio(mine: float, other: float) -> float:
    return mine / other if other > 0 else math.nan
