"""What choosing the points of a curve saves, and how often its stated error is kept: replayed over stored curves.

    python benchmarks/fewer_rows.py RESULTS [TOLERANCE ...]

RESULTS holds cells with `deletion` or `insertion` curves of all points (the default). Each is asked again as
`metrics.deletion.tolerance=TOLERANCE` would ask it. Texts of fewer than 20 features are left out. The last line is what
nobody can have who does not know the curve beforehand: the fewest points between which the curve departs from straight
lines by no more than 0.005 in all, stretch by stretch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assay.benchmark.mean_curves import curves_of
from assay.benchmark.store import Store
from assay.metrics.chosen_points import ChosenPoints

Floats = NDArray[np.float64]
LEAST_FEATURES = 20
TOLERANCES = (0.005, 0.01, 0.02, 0.05, 0.1)


def whole_curves(results: Path) -> Iterator[tuple[str, Floats, Floats]]:
    """The cell, x and y of every stored curve of a long text, each once."""
    seen = set()
    for cell in Store(results).cells():
        for (perturbation, measure), curves in curves_of(cell).items():
            if measure not in ("deletion", "insertion") or any(
                metric.get("tolerance") for metric in cell.protocol["metrics"].values()
            ):
                continue
            ends = np.cumsum(curves.lengths)
            for example, start, end in zip(curves.examples, ends - curves.lengths, ends, strict=True):
                y = curves.y[start:end]
                key = (cell.protocol["model"]["name"], perturbation, measure, example, y.round(6).tobytes())
                if end - start > LEAST_FEATURES and key not in seen:
                    seen.add(key)
                    yield f"{cell.meta['protocol_key']} {cell.explainer} {measure}", curves.x[start:end], y


def replayed(x: Floats, y: Floats, tolerance: float) -> tuple[int, float, float]:
    """How many points are asked, by how much the area is off, and the stated error."""
    curve = ChosenPoints(x, tolerance)
    while len(wanted := curve.wanted()):
        curve.learn({place: float(y[place]) for place in wanted.tolist()})
    return len(curve.known), float(np.trapezoid(curve.everywhere() - y, x)), curve.error


def in_hindsight(x: Floats, y: Floats, tolerance: float) -> int:
    """How few points leave stretches whose areas are off by no more than the tolerance in all; chosen greedily."""
    area = np.concatenate([[0.0], np.cumsum((y[1:] + y[:-1]) / 2 * np.diff(x))])

    def off(first: int, last: int) -> float:
        return abs(float(area[last] - area[first] - (y[first] + y[last]) / 2 * (x[last] - x[first])))

    places = [0, len(x) - 1]
    while sum(off(first, last) for first, last in pairwise(places)) > tolerance:
        gains = {
            middle: off(first, last) - off(first, middle) - off(middle, last)
            for first, last in pairwise(places)
            for middle in range(first + 1, last)
        }
        places = sorted([*places, max(gains, key=lambda middle: gains[middle])])
    return len(places)


def main(results: Path, tolerances: tuple[float, ...]) -> None:
    """Print the table of one results folder."""
    curves = list(whole_curves(results))
    if not curves:
        sys.exit(f"{results} holds no deletion or insertion curve of a text of {LEAST_FEATURES} features or more.")
    points = sum(len(x) for _, x, _ in curves)
    print(f"{len(curves)} curves, {points / len(curves):.1f} points each")
    print(
        "| tolerance | rows saved | within tolerance | within stated error | 95 % off by less than | means of cells |"
    )
    print("|---|---|---|---|---|---|")
    for tolerance in tolerances:
        found = np.array([replayed(x, y, tolerance) for _, x, y in curves])
        off, cells = np.abs(found[:, 1]), np.array([cell for cell, _, _ in curves])
        means = [found[cells == cell, 1].mean() for cell in np.unique(cells)]
        print(
            f"| {tolerance:g} | × {points / found[:, 0].sum():.2f} | {np.mean(off <= tolerance):.1%} "
            f"| {np.mean(off <= found[:, 2] + 1e-9):.1%} | {np.quantile(off, 0.95):.4f} "
            f"| off by {np.sqrt(np.mean(np.square(means))):.4f} |"
        )
    hindsight = sum(in_hindsight(x, y, 0.005) for _, x, y in curves)
    print(f"In hindsight, to 0.005: × {points / hindsight:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), tuple(map(float, sys.argv[2:])) or TOLERANCES)
