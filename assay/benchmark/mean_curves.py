"""The curves of a cell, and their means with bands on a common grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from assay.benchmark.cell import Cell
from assay.benchmark.resampling import Floats, bootstrap
from assay.benchmark.score_table import Column, coded
from assay.errors import AssayError

if TYPE_CHECKING:
    import pandas as pd

GRID = np.linspace(0.0, 1.0, 51)
# From so many examples on, the percentiles of the bootstrap are taken from their expansion, which needs no resamples.
EXPANDED_FROM = 100
_NORMAL = 1.959963984540054


@dataclass(frozen=True)
class Curves:
    """The curves of one measure, those of all examples one after the other.

    Attributes:
        examples: their names, as they are stored.
        lengths: points of each example's curve, [examples].
        x: of all points, from 0 to 1.
        y: of all points.
    """

    examples: list[str]
    lengths: NDArray[np.intp]
    x: Floats
    y: Floats


def curves_of(cell: Cell, only: Column | None = None) -> dict[Column, Curves]:
    """The curves of each perturbation and measure that has some.

    Args:
        cell: it.
        only: the perturbation and measure that are asked for; None for all.

    Raises:
        AssayError: the file is not what was written.
    """
    table = cell.arrow("curves", ["example", "perturbation", "metric"])
    if not len(table):
        return {}
    codes, names = zip(*(coded(table[name]) for name in ("example", "perturbation", "metric")), strict=True)
    lists = [table[name].combine_chunks() for name in ("x", "y")]
    if not lists[0].value_lengths().equals(lists[1].value_lengths()) or lists[0].null_count:
        raise AssayError(f"{cell.path / 'curves.parquet'} is damaged: a curve has more shares than values, or fewer.")
    x, y = (one.flatten().to_numpy(zero_copy_only=False) for one in lists)
    lengths = lists[0].value_lengths().to_numpy(zero_copy_only=False).astype(np.intp)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    found = {}
    pair = codes[1] * len(names[2]) + codes[2]
    kinds, first = np.unique(pair, return_index=True)
    for kind in kinds[np.argsort(first)].tolist():
        column = (names[1][kind // len(names[2])], names[2][kind % len(names[2])])
        if only not in (None, column):
            continue
        rows = np.flatnonzero(pair == kind)
        points = np.repeat(starts[rows] - np.cumsum(lengths[rows]) + lengths[rows], lengths[rows])
        points += np.arange(len(points))
        examples = [names[0][code] for code in codes[0][rows].tolist()]
        found[column] = Curves(examples, lengths[rows], x[points], y[points])
    return found


def mean_curves(cell: Cell) -> pd.DataFrame:
    """The mean curve of each measure on a common grid, with a bootstrap 95 % band.

    Columns: `perturbation`, `metric`, `x` (51 points from 0 to 1), `mean`, `low`, `high`. Between its own points an
    example's curve is interpolated linearly, as the trapezoid rule does.
    """
    import pandas as pd

    frames = []
    for (perturbation, metric), curves in curves_of(cell).items():
        mean, low, high = _mean_with_band(_on_grid(curves))
        about = {"perturbation": perturbation, "metric": metric}
        frames.append(pd.DataFrame({**about, "x": GRID, "mean": mean, "low": low, "high": high}))
    columns = ["perturbation", "metric", "x", "mean", "low", "high"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _on_grid(curves: Curves) -> Floats:
    """Every example's curve at the points of the grid, [examples, points]."""
    below, above, share = _places(curves.lengths.tobytes(), curves.x.tobytes())
    return curves.y[below] * (1 - share) + curves.y[above] * share


@lru_cache(maxsize=8)
def _places(lengths: bytes, x: bytes) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Of each example and point of the grid the two points that it lies between, and how far towards the second.

    All explainers have the curves of a measure over the same shares, so this is computed once for them all.
    """
    sizes, places = np.frombuffer(lengths, np.intp), np.frombuffer(x, np.float64)
    last = np.cumsum(sizes) - 1
    # Shares lie between 0 and 1, so that with the examples two apart all of them are one ascending list.
    apart = np.repeat(2.0 * np.arange(len(sizes)), sizes)
    asked = 2.0 * np.arange(len(sizes))[:, None] + GRID
    below = np.searchsorted(places + apart, asked, side="right") - 1
    below = np.clip(below, (last - sizes + 1)[:, None], last[:, None])
    above = np.minimum(below + 1, last[:, None])
    width = places[above] - places[below]
    share = np.zeros(below.shape)
    np.divide(GRID - places[below], width, out=share, where=width > 0)
    return below, above, np.clip(share, 0.0, 1.0)


def _mean_with_band(curves: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, lower and upper limit at each point, of [examples, points]; no limits of a single example."""
    count = len(curves)
    if count >= EXPANDED_FROM and np.isfinite(curves).all():
        # The percentiles of the mean's bootstrap distribution by their expansion in its first three moments (Cornish &
        # Fisher 1938; Hall 1992, section 3.3): next to the spread of 2,000 resamples what is left out is nothing.
        mean = curves.mean(axis=0)
        deviations = curves - mean
        squares = deviations**2
        variance = squares.mean(axis=0)
        spread = np.sqrt(variance / count)
        skewness = np.zeros_like(mean)
        np.divide((deviations * squares).mean(axis=0), variance**1.5 * np.sqrt(count), out=skewness, where=variance > 0)
        moved = mean + spread * skewness * (_NORMAL**2 - 1) / 6
        return mean, moved - _NORMAL * spread, moved + _NORMAL * spread
    mean, samples = bootstrap(curves)
    low, high = np.percentile(samples, [2.5, 97.5], axis=0) if count > 1 else np.full((2, len(GRID)), np.nan)
    return mean, low, high
