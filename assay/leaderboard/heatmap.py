"""Agreement as a table whose cells are coloured by their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay.leaderboard.agreement import Agreement, alike_together
from assay.leaderboard.protocols import MISSING
from assay.leaderboard.text import clean, number

# Shades of a colour, for agreement and for opposition; what lies near 0 has none.
SHADES = 8


@dataclass(frozen=True)
class Square:
    """One pair: its number, its shade (such as `p3` or `n8`; empty near 0) and what it stands on, in words."""

    text: str
    shade: str
    told: str


@dataclass(frozen=True)
class Heatmap:
    """A table with a row and a column for each name; the squares of the diagonal are None."""

    names: Sequence[str]
    rows: Sequence[Sequence[Square | None]]
    left_out: int = 0


def heatmap(
    names: Sequence[str], below: Agreement, above: Agreement, of: tuple[str, str], left_out: int = 0
) -> Heatmap | None:
    """The table, in an order in which what agrees stands together; None if no two have a number.

    Args:
        names: of what agrees or not.
        below: shown below the diagonal; the order follows it.
        above: shown above.
        of: what the counts of each count, in the plural.
        left_out: how many more there are.
    """
    apart = ~np.eye(len(names), dtype=np.bool_)
    if not (np.isfinite(below.values[apart]).any() or np.isfinite(above.values[apart]).any()):
        return None
    order = alike_together(below.values)
    told = [clean(names[place]) for place in order]
    rows: list[list[Square | None]] = []
    for row, one in enumerate(order):
        squares: list[Square | None] = []
        for column, other in enumerate(order):
            shown, counted = (below, of[0]) if row > column else (above, of[1])
            value, count = float(shown.values[one, other]), int(shown.counts[one, other])
            squares.append(None if row == column else _square(told[row], told[column], value, count, counted))
        rows.append(squares)
    return Heatmap(told, rows, left_out)


def _square(one: str, other: str, value: float, count: int, counted: str) -> Square:
    if not np.isfinite(value):
        return Square(MISSING, "none", f"{one} and {other}: undefined ({count:,} {counted})")
    level = round(abs(value) * SHADES)
    shade = f"{'p' if value > 0 else 'n'}{level}" if level else ""
    text = number(value, 2).replace("0.", ".", 1) if abs(value) < 0.995 else number(value, 0)
    return Square(text, shade, f"{one} and {other}: {number(value, 2)} over {count:,} {counted}")
