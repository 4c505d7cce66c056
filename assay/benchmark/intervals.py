"""The uncertainty of every number: means with bootstrap intervals over examples.

Everything that prints a number takes it from here. What is used where, and why, stands in docs/statistics.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from assay.benchmark.resampling import Floats, bootstrap, contributions, two_level_bootstrap

IntervalMethod = Literal["bca", "percentile"]

# Sums of the same numbers in another order differ by about so much, relatively; scipy's tests allow as much.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A statistic over examples with a bootstrap 95 % interval; `method` says which, and is empty without one."""

    mean: float
    low: float
    high: float
    method: str = ""


UNDEFINED = Estimate(float("nan"), float("nan"), float("nan"))


def estimate(point: float, samples: Floats) -> Estimate:
    """A statistic with the percentile interval of its resamples, [resamples] (Efron 1979); NaN where undefined."""
    return estimates(np.array([point]), samples[:, None])[0]


def estimates(points: Floats, samples: Floats) -> list[Estimate]:
    """As `estimate`, for each column of [resamples, columns]."""
    ordered, counts = _sorted(samples)
    low, high = _quantiles(ordered, counts, np.tile([0.025, 0.975], (len(points), 1)))
    return [
        Estimate(point, bottom, top, "percentile") if count and np.isfinite(point) else UNDEFINED
        for point, count, bottom, top in zip(points.tolist(), counts.tolist(), low.tolist(), high.tolist(), strict=True)
    ]


def _sorted(samples: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Each column of [resamples, columns] in order, [columns, resamples], and how many of it are finite."""
    finite = np.isfinite(samples)
    whole = bool(finite.all())
    ordered = np.sort(samples.T if whole else np.where(finite, samples, np.inf).T, axis=1)
    return ordered, finite.sum(axis=0)


def _quantiles(ordered: Floats, counts: NDArray[np.intp], shares: Floats) -> tuple[Floats, Floats]:
    """Two quantiles of the first `counts` of each row, as `np.percentile` interpolates them; NaN where there are none.

    Args:
        ordered: [columns, resamples].
        counts: [columns].
        shares: [columns, 2], from 0 to 1.
    """
    places = shares * np.maximum(counts - 1, 0)[:, None]
    below = np.minimum(np.floor(places).astype(np.intp), np.maximum(counts - 1, 0)[:, None])
    above = np.minimum(below + 1, np.maximum(counts - 1, 0)[:, None])
    under, over = np.take_along_axis(ordered, below, axis=1), np.take_along_axis(ordered, above, axis=1)
    with np.errstate(invalid="ignore"):
        found = np.where(counts[:, None] > 0, under + (over - under) * (places - below), np.nan)
    return found[:, 0], found[:, 1]


def accelerated(points: Floats, samples: Floats, added: Floats) -> list[Estimate]:
    """Statistics with their bias-corrected and accelerated intervals (BCa; Efron 1987).

    Where all examples agree, or all resamples lie on one side, it does not exist, and the percentile interval is given.

    Args:
        points: the statistics, [columns].
        samples: those of each resample, [resamples, columns].
        added: what each example adds to them, [examples, columns], as `contributions` gives it.
    """
    from scipy.special import ndtr, ndtri

    ordered, counts = _sorted(samples)
    deviations = np.where(np.isfinite(added), added - points, 0.0)
    squares = deviations**2
    variation, examples = squares.sum(axis=0), np.isfinite(added).sum(axis=0)
    # Resamples that equal the statistic are half below it, whatever the last digit of their sums.
    near = (points - ROUNDING * np.abs(points))[:, None], (points + ROUNDING * np.abs(points))[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        below = ((ordered < near[0]).sum(axis=1) + (ordered <= near[1]).sum(axis=1)) / (2 * counts)
        exists = (below > 0) & (below < 1) & (variation > (ROUNDING * np.abs(points)) ** 2 * examples)
        acceleration = (deviations * squares).sum(axis=0) / (6 * variation**1.5)
        bias = ndtri(np.where(exists, below, 0.5))[:, None]
        moved = bias + ndtri([0.025, 0.975])
        shares = ndtr(bias + moved / (1 - acceleration[:, None] * moved))
    shares = np.where(exists[:, None], shares, [0.025, 0.975])
    low, high = _quantiles(ordered, counts, shares)
    return [
        Estimate(point, bottom, top, "BCa" if bca else "percentile") if count and np.isfinite(point) else UNDEFINED
        for point, bca, count, bottom, top in zip(
            points.tolist(), exists.tolist(), counts.tolist(), low.tolist(), high.tolist(), strict=True
        )
    ]


def intervals(points: Floats, samples: Floats, added: Floats, method: IntervalMethod = "bca") -> list[Estimate]:
    """Statistics with the interval of their resamples; of a single example there is none.

    Args:
        points: the statistics, [columns].
        samples: those of each resample, [resamples, columns].
        added: what each example adds to them, [examples, columns], as `contributions` gives it.
        method: of the interval.
    """
    found = accelerated(points, samples, added) if method == "bca" else estimates(points, samples)
    # Drawing from a single example returns it every time: that is ignorance, not certainty.
    alone = np.isfinite(added).sum(axis=0) == 1
    return [replace(UNDEFINED, mean=one.mean) if single else one for one, single in zip(found, alone, strict=True)]


def mean_intervals(values: Floats, per: Floats | None = None, method: IntervalMethod = "bca") -> list[Estimate]:
    """The statistic (see `bootstrap`) and its interval for each column of `values`, [examples, columns]."""
    point, samples = bootstrap(values, per)
    return intervals(point, samples, contributions(values, per), method)


def mean_interval(values: Floats, method: IntervalMethod = "bca") -> Estimate:
    """The mean of the defined values, [examples], and its interval.

    NaN where no value is defined; a single value has a mean and no interval.
    """
    return mean_intervals(np.asarray(values, np.float64)[:, None], method=method)[0] if len(values) else UNDEFINED


def two_level_intervals(draws: Floats) -> list[Estimate]:
    """Means and intervals of a random method, for each column of [examples, draws, columns].

    See `two_level_bootstrap`; a single example has a mean and no interval.
    """
    point, samples = two_level_bootstrap(draws)
    found = intervals(point, samples, draws.mean(axis=1))
    return [replace(one, method=f"{one.method}, two levels") if one.method else one for one in found]
