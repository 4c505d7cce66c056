"""Critical-difference diagrams: mean ranks on a line, and bars over methods that cannot be told apart (Demšar 2006)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay.benchmark.resampling import Floats
from assay.benchmark.significance import LEVEL, friedman
from assay.leaderboard.text import amount, clean, number

# More names cannot be read in one diagram: of more methods the leading ones are drawn.
SHOWN = 30

WIDTH = 760
_LEFT, _RIGHT = 240.0, 520.0
_AXIS, _BAR_GAP, _ROW = 46.0, 7.0, 17.0


@dataclass(frozen=True)
class Label:
    """A method's name with the line that leads to its mean rank."""

    name: str
    shown: str
    rank: str
    path: str
    x: float
    y: float
    anchor: str


@dataclass(frozen=True)
class Diagram:
    """A critical-difference diagram as the parts of an SVG.

    Attributes:
        of: what the methods are ranked by.
        reason: why there is no diagram; the rest is then empty.
        test: Friedman's test in words.
        rejected: whether it finds that the methods do not all rank alike; if not, no two are told apart.
        difference: the critical difference.
        examples: how many the ranks are over, and how many were left out because a method has no value there.
        left_out: methods that are not drawn, because others lead them.
        ticks: of the axis, as (place, text).
        scale: both ends of the line that is as long as the critical difference; None where it is longer than the axis.
        labels: the methods, the best first.
        bars: over methods that cannot be told apart: left, right, height.
        height: of the whole.
    """

    of: str
    reason: str
    test: str = ""
    rejected: bool = False
    difference: str = ""
    examples: tuple[str, str] = ("", "")
    left_out: int = 0
    ticks: Sequence[tuple[float, str]] = ()
    scale: tuple[float, float] | None = None
    labels: Sequence[Label] = ()
    bars: Sequence[tuple[float, float, float]] = ()
    height: float = 0.0


def diagram(of: str, names: Sequence[str], values: Floats, better: float = 1.0) -> Diagram:
    """The diagram of some methods on the same examples.

    Ranks are within an example, 1 for the best. Friedman's test comes first: if it does not reject that all methods
    rank alike, one bar spans them all. Else two methods stand under one bar where their mean ranks differ by no more
    than Nemenyi's critical difference, over all methods that were ranked, drawn or not.

    Args:
        of: what they are ranked by, as it is shown.
        names: of the methods.
        values: [examples, methods].
        better: 1 where larger values are better, -1 where smaller ones are.
    """
    found = friedman(values, better, pairs=False)
    if found.reason:
        return Diagram(of, found.reason)
    order = np.argsort(found.mean_ranks, kind="stable")[:SHOWN].tolist()
    ranks = found.mean_ranks[order]
    low, high = int(np.floor(ranks.min())), int(np.ceil(ranks.max()))
    high = max(high, low + 1)
    rejected = found.p <= LEVEL

    def across(rank: float) -> float:
        return round(float(_LEFT + (rank - low) / (high - low) * (_RIGHT - _LEFT)), 1)

    groups = alike(ranks, found.critical_difference) if rejected else [(0, len(order) - 1)]
    levels = _levels(groups)
    bars = [
        (across(ranks[first]) - 3, across(ranks[last]) + 3, _AXIS + 10 + level * _BAR_GAP)
        for (first, last), level in zip(groups, levels, strict=True)
    ]
    top = _AXIS + 24 + (max(levels, default=-1) + 1) * _BAR_GAP
    labels = _labels([clean(names[place]) for place in order], ranks, [across(rank) for rank in ranks], top)
    end = low + found.critical_difference
    return Diagram(
        of,
        "",
        f"Friedman's χ² = {amount(found.statistic)}, p {_probability(found.p)}",
        rejected,
        number(found.critical_difference, 2),
        (f"{found.examples:,}", f"{found.dropped:,}"),
        len(names) - len(order),
        [(across(rank), str(rank)) for rank in _ticks(low, high)],
        (across(low), across(end)) if end <= high else None,
        labels,
        bars,
        max(label.y for label in labels) + 12,
    )


def alike(ranks: Floats, difference: float) -> list[tuple[int, int]]:
    """The longest runs of methods whose mean ranks, [methods] and rising, differ by no more than `difference`.

    Runs as (first, last); one of a single method is none, nor is one that lies within another.
    """
    found: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = int(np.searchsorted(ranks, rank + difference, side="right")) - 1
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def _levels(groups: Sequence[tuple[int, int]]) -> list[int]:
    """For each run the first line that is free there, so that few lines hold all."""
    ends: list[int] = []
    found = []
    for first, last in groups:
        level = next((level for level, end in enumerate(ends) if end < first), len(ends))
        ends[level : level + 1] = [last]
        found.append(level)
    return found


def _labels(names: Sequence[str], ranks: Floats, places: Sequence[float], top: float) -> list[Label]:
    """The better half to the left, the best on top; the others to the right, the worst on top: no two lines cross."""
    half = (len(names) + 1) // 2
    labels = []
    for place, (name, rank, x) in enumerate(zip(names, ranks, places, strict=True)):
        left = place < half
        y = top + _ROW * (place if left else len(names) - 1 - place)
        end = _LEFT - 20 if left else _RIGHT + 20
        shown = name if len(name) <= 28 else f"{name[:27]}…"
        labels.append(
            Label(
                name,
                shown,
                number(float(rank), 2),
                f"M{x} {_AXIS}V{y:.1f}H{end}",
                end - 5 if left else end + 5,
                y + 4,
                "end" if left else "start",
            )
        )
    return labels


def _ticks(low: int, high: int) -> list[int]:
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if (high - low) / step <= 12)
    return [rank for rank in range(low, high + 1) if rank % step == 0 or rank == low]


def _probability(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
