"""The uncertainty of every number: bootstrap samples, intervals, skill.

Everything that prints a number takes it from here. What is used where, and why, stands in docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    pass

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
IntervalMethod = Literal["bca", "percentile"]

RESAMPLES = 2000

# Blocks of resamples hold at most so many numbers (8 MB), however many examples there are.
_BLOCK = 1_000_000
# Draws of so many numbers at most are kept for the next cell.
_KEPT = 4_000_000
# A skill needs an oracle that beats chance in all but so small a share of the resamples.
_UNRELIABLE = 0.025
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


# Resampling


def _draw(count: int) -> Iterator[Floats]:
    """How often each bootstrap sample holds each example, [resamples, count], in blocks; the same for every cell."""
    rng = np.random.default_rng(0)
    size = max(1, min(RESAMPLES, _BLOCK // count))
    for first in range(0, RESAMPLES, size):
        samples = range(first, min(first + size, RESAMPLES))
        drawn = [np.bincount(rng.integers(0, count, size=count), minlength=count) for _ in samples]
        yield np.stack(drawn).astype(np.float64)


@lru_cache(maxsize=4)
def _kept(count: int) -> tuple[Floats, ...]:
    return tuple(_draw(count))


def _weights(count: int) -> Iterator[Floats]:
    """As `_draw`; what is small is drawn once and kept, because many cells have the same number of examples."""
    yield from _kept(count) if count * RESAMPLES <= _KEPT else _draw(count)


def _draw_within(count: int, draws: int) -> Iterator[tuple[Floats, NDArray[np.int16]]]:
    """Blocks of `_weights`, and how often each draw of each example is in a resample, [resamples, count, draws]."""
    rng = np.random.default_rng(1)
    for weights in _weights(count):
        size = max(1, _BLOCK // (count * draws))
        for first in range(0, len(weights), size):
            often = weights[first : first + size]
            yield often, rng.multinomial((often * draws).astype(np.int64), np.full(draws, 1 / draws)).astype(np.int16)


@lru_cache(maxsize=2)
def _kept_within(count: int, draws: int) -> tuple[tuple[Floats, NDArray[np.int16]], ...]:
    return tuple(_draw_within(count, draws))


def _weights_within(count: int, draws: int) -> Iterator[tuple[Floats, NDArray[np.int16]]]:
    """As `_draw_within`; what is small is drawn once and kept."""
    small = count * draws * RESAMPLES <= 4 * _KEPT
    yield from _kept_within(count, draws) if small else _draw_within(count, draws)


def bootstrap(values: Floats, per: Floats | None = None) -> tuple[Floats, Floats]:
    """The statistic of each column, [columns], and that of each resample, [resamples, columns].

    The statistic is the mean of the defined values, or, with `per`, the ratio of the two means over the examples on
    which both are defined. The resamples draw examples, that is whole rows, so that columns stay paired.

    Args:
        values: [examples, columns].
        per: [examples, columns], what the means are divided by; None for plain means.
    """
    over, under, whole = _parts(values, per)
    partial = np.flatnonzero(~whole)
    samples = np.empty((values.shape[1], RESAMPLES))
    first = 0
    with np.errstate(invalid="ignore", divide="ignore"):
        point = over.sum(axis=0) / under.sum(axis=0)
        for weights in _weights(len(values)):
            # A column lies in one piece, because what follows sorts columns.
            block = samples[:, first : first + len(weights)]
            np.matmul(over.T, weights.T, out=block)
            block[whole] /= len(values)
            block[partial] /= under[:, partial].T @ weights.T
            first += len(weights)
    return point, samples.T


def _parts(values: Floats, per: Floats | None) -> tuple[Floats, Floats, Bools]:
    """Numerators and denominators, 0 where undefined; and which columns are means of values that are all defined."""
    defined = np.isfinite(values) if per is None else np.isfinite(values) & np.isfinite(per)
    under = np.where(defined, 1.0 if per is None else per, 0.0)
    whole: Bools = np.all(defined, axis=0) & (per is None)
    return np.where(defined, values, 0.0), under, whole


def contributions(values: Floats, per: Floats | None = None) -> Floats:
    """What each example adds to the statistic of its column, [examples, columns]; their mean is the statistic.

    For a mean these are the values. For a ratio r = mean(x) / mean(y) they are r + (x − r y) / mean(y), its linear
    approximation (the delta method; Deng, Knoblich & Lu 2018), so that what is defined for means serves
    ratios too. NaN where undefined.
    """
    if per is None:
        return values
    over, under, _ = _parts(values, per)
    defined = np.isfinite(values) & np.isfinite(per)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = over.sum(axis=0) / under.sum(axis=0)
        scale = under.sum(axis=0) / defined.sum(axis=0)
        return np.where(defined, ratio + (over - ratio * under) / scale, np.nan)


def two_level_bootstrap(draws: Floats) -> tuple[Floats, Floats]:
    """Means of a random method, [columns], and those of each resample, [resamples, columns].

    A resample draws examples, and then draws within them. Drawing both with replacement as they are would count the
    randomness of the method twice, since the means of the examples vary with it already (Davison & Hinkley 1997,
    section 3.8). So the means are first drawn together until their variance and that of the draws add up to what was
    seen.

    Args:
        draws: [examples, draws, columns], two draws or more; an example with a NaN is undefined for that column.
    """
    examples, count, columns = draws.shape
    defined: Bools = np.asarray(np.isfinite(draws).all(axis=1))
    filled = np.where(defined[:, None], draws, 0.0)
    means, seen = filled.mean(axis=1), defined.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        point = means.sum(axis=0) / seen
        # Of the residuals one degree of freedom in each example is lost to its mean.
        residuals = (filled - means[:, None]) * np.sqrt(count / (count - 1))
        of_draws = (residuals**2).sum(axis=(0, 1)) / (seen * count**2)
        spread = (np.where(defined, means - point, 0.0) ** 2).sum(axis=0) / seen
        kept = np.sqrt(np.maximum(0.0, 1 - of_draws / spread))
        nearer = np.where(defined, point + np.where(spread > 0, kept, 0.0) * (means - point), 0.0)
        samples = []
        for often, within in _weights_within(examples, count):
            noise = within.reshape(len(often), -1).astype(np.float64) @ residuals.reshape(-1, columns)
            samples.append((often @ nearer + noise / count) / (often @ defined))
    return point, np.concatenate(samples)


# Intervals


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


# Skill


@dataclass(frozen=True)
class Skills:
    """The skill of some columns.

    Attributes:
        point: [columns]; NaN where there is no scale.
        samples: in each resample, [resamples, columns].
        added: what each example adds, [examples, columns]; NaN where one of the three is undefined.
    """

    point: Floats
    samples: Floats
    added: Floats

    def each(self) -> list[Estimate]:
        """Every column's skill with its interval; without one over a single example."""
        return intervals(self.point, self.samples, self.added, "percentile")

    def mean(self, places: Sequence[int]) -> Estimate:
        """The mean over some columns; NaN where one of them has none, and without an interval over a single example."""
        chosen = list(places)
        point = self.point[chosen].mean()
        if self.of_one_example(places):
            return replace(UNDEFINED, mean=float(point))
        return estimate(point, self.mean_samples(places))

    def of_one_example(self, places: Sequence[int]) -> bool:
        """Whether one of some columns is defined for a single example, of which there is no interval."""
        return bool((np.isfinite(self.added[:, list(places)]).sum(axis=0) == 1).any())

    def mean_samples(self, places: Sequence[int]) -> Floats:
        """The mean over some columns in each resample, [resamples]."""
        samples: Floats = self.samples.T[list(places)].mean(axis=0)
        return samples

    def mean_added(self, places: Sequence[int]) -> Floats:
        """What each example adds to the mean over some columns, [examples]; NaN where it is defined for none."""
        chosen = list(places)
        added, point = self.added[:, chosen], self.point[chosen]
        defined = np.isfinite(added)
        known = defined.any(axis=1)
        # An example that a column lacks leaves that column's skill as it is; the others weigh the more.
        moved = np.where(defined, (added - point) * (known.sum() / np.maximum(defined.sum(axis=0), 1)), 0.0)
        return np.where(known, point.mean() + moved.mean(axis=1), np.nan)


def skills(values: Floats, random: Floats, oracle: Floats, better: Floats, per: Floats | None = None) -> Skills:
    """Skill = (score − random) / (oracle − random) of each column.

    Args:
        values: [examples, columns], the method's scores.
        random: those of the control `random`.
        oracle: those of the control `oracle`.
        better: [columns], 1 where larger values are better, -1 where smaller ones are, 0 where the oracle says it.
        per: [3, examples, columns], what the means of the three are divided by; None for plain means.
    """
    paired = np.stack([values, random, oracle], axis=1)
    under = None if per is None else np.moveaxis(per, 0, 1)
    defined = np.isfinite(paired) if under is None else np.isfinite(paired) & np.isfinite(under)
    paired[~np.broadcast_to(defined.all(axis=1, keepdims=True), paired.shape)] = np.nan
    flat, flat_under = paired.reshape(len(paired), -1), None if under is None else under.reshape(len(paired), -1)
    point, samples = bootstrap(flat, flat_under)
    three = np.moveaxis(samples.T.reshape(3, -1, len(samples)), 2, 1)
    added = np.moveaxis(contributions(flat, flat_under).reshape(paired.shape), 1, 0)
    return relative(point.reshape(3, -1), list(three), list(added), better)


def relative(points: Floats, samples: Sequence[Floats], added: Sequence[Floats], better: Floats) -> Skills:
    """The skill of each column, of statistics that are there already, over the same examples and resamples.

    Args:
        points: [3, columns], those of the method, of `random` and of `oracle`.
        samples: of the three in each resample, [resamples, columns].
        added: what each example adds to the three, [examples, columns].
        better: as in `skills`.
    """
    method, floor, ceiling = points
    # A column lies in one piece.
    methods, floors, ceilings = (one.T for one in samples)
    better = np.where(better == 0, np.sign(ceiling - floor), better)
    width = ceilings - floors
    usable = better[:, None] * width > 1e-9
    # A resample that holds no defined example speaks neither for nor against the oracle.
    failed = (np.isfinite(ceilings) & ~usable).mean(axis=1)
    scaled = (better * (ceiling - floor) > 1e-9) & (failed <= _UNRELIABLE)
    point, found = np.full(method.shape, np.nan), np.full(methods.shape, np.nan)
    np.divide(method - floor, ceiling - floor, out=point, where=scaled)
    np.divide(methods - floors, width, out=found, where=scaled[:, None] & usable)
    of_method, of_floor, of_ceiling = added
    each = np.full(of_method.shape, np.nan)
    above = (of_method - of_floor) - point * (of_ceiling - of_floor)
    np.divide(above, ceiling - floor, out=each, where=scaled)
    return Skills(point, found.T, point + each)


def skill_interval(
    values: Floats, random: Floats, oracle: Floats, direction: Literal["higher", "lower"] | None = None
) -> Estimate:
    """Skill = (score − random) / (oracle − random): 0 is chance, 1 the best ranking that was found.

    A ratio of means over the examples on which all three are defined; the bootstrap draws examples, so the three stay
    paired. NaN where the oracle does not beat chance, or fails to in more than one resample of forty, because there is
    then no scale to read a score on.

    Args:
        values: [examples], the method's scores.
        random: [examples], those of the control `random`.
        oracle: [examples], those of the control `oracle`.
        direction: which values are better; None: those on the oracle's side of chance.
    """
    if not len(values):
        return UNDEFINED
    better = np.array([0.0 if direction is None else sign(direction)])
    columns = [np.asarray(part, np.float64)[:, None] for part in (values, random, oracle)]
    return skills(columns[0], columns[1], columns[2], better).mean([0])


def sign(direction: str) -> float:
    """1 where larger values are better, -1 where smaller ones are, NaN where neither."""
    return {"higher": 1.0, "lower": -1.0}.get(direction, np.nan)
