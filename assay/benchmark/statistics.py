"""The uncertainty of every number: bootstrap intervals, paired tests between methods, ranks and groups.

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
    import pandas as pd

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
IntervalMethod = Literal["bca", "percentile"]

RESAMPLES = 2000
FLIPS = 4999
# The chance that anything at all is told apart in a column where all methods are equally good.
LEVEL = 0.05

# Blocks of resamples hold at most so many numbers (32 MB), however many examples there are.
_BLOCK = 4_000_000
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
    yield from _kept(count) if count * RESAMPLES <= _BLOCK else _draw(count)


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
    small = count * draws * RESAMPLES <= 4 * _BLOCK
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


# Methods against each other


def fewest_examples(level: float = LEVEL) -> int:
    """With fewer pairs than this no signed test can fall below `level`: its smallest p-value for n pairs is 2 / 2^n."""
    return int(np.ceil(np.log2(2 / level)))


def too_few(examples: int, level: float = LEVEL) -> str:
    """Why nothing can be told apart with so many examples; empty where they are enough."""
    if examples >= fewest_examples(level):
        return ""
    if not examples:
        return "no example has a value for both"
    number = "1 example is" if examples == 1 else f"{examples} examples are"
    return f"{number} too few to tell methods apart; a test needs {fewest_examples(level)}"


def all_flips(count: int) -> int:
    """How many ways there are to flip signs, the sign of the whole aside."""
    return int(2 ** (count - 1))


@lru_cache(maxsize=2)
def sign_flips(count: int, most: int = FLIPS) -> NDArray[np.int8]:
    """Signs of each example, [flips, count]: all ways there are if they are few, else `most` by chance."""
    if all_flips(count) <= most:
        bits = (np.arange(all_flips(count))[:, None] >> np.arange(count)) & 1
    else:
        bits = np.random.default_rng(2).integers(0, 2, (most, count), dtype=np.int8)
    return (1 - 2 * bits).astype(np.int8)


def sign_flip_test(values: Floats, flips: int = FLIPS) -> tuple[Floats, Floats]:
    """Whether each two columns of [examples, methods] have one mean: p-values by flipping the signs of differences.

    If two methods are equally good, an example's difference is as likely to be the one as its opposite. All flips are
    tried where they are few, and then the p-value is exact; else `flips` of them, with one added to both counts
    (Phipson & Smyth 2010). The statistic is sum(d) / sqrt(sum(d²)), which orders flips as Student's t does. An example
    without a value for one of the two is left out of that pair.

    Returns:
        For each pair in the order of `np.triu_indices`, the p-value of the pair on its own, and the one that holds for
        all pairs at once: the step-down max-T of Westfall & Young (1993), which unlike Holm's knows how
        pairs hang together, and whose smallest value does not grow with their number.
    """
    values = values[np.isfinite(values).any(axis=1)]
    first, second = np.triu_indices(values.shape[1], 1)
    if not len(values) or not len(first):
        return np.ones(len(first)), np.ones(len(first))
    differences = values[:, first] - values[:, second]
    # Examples that all methods share are summed for methods; only the others must be summed for each pair.
    whole = np.isfinite(values).all(axis=1)
    differences = np.nan_to_num(differences, nan=0.0)
    norm = np.sqrt((differences**2).sum(axis=0))
    norm[norm == 0] = np.inf
    observed = np.abs(differences.sum(axis=0)) / norm * (1 - ROUNDING)
    order = np.argsort(-observed, kind="stable")
    unshared = np.ascontiguousarray(differences[~whole][:, order].T)
    signs = sign_flips(len(values), flips)
    alone, together = np.zeros(len(first)), np.zeros(len(first))
    size = max(1, _BLOCK // len(first))
    for start in range(0, len(signs), size):
        block = signs[start : start + size].T.astype(np.float64)
        sums = values[whole].T @ block[whole]
        flipped = sums[first[order]] - sums[second[order]]
        if not whole.all():
            flipped += unshared @ block[~whole]
        flipped = np.abs(flipped, out=flipped)
        flipped /= norm[order, None]
        alone[order] += np.count_nonzero(flipped >= observed[order, None], axis=1)
        highest = np.maximum.accumulate(flipped[::-1], axis=0)[::-1]
        together[order] += np.count_nonzero(highest >= observed[order, None], axis=1)
    extra = 0 if all_flips(len(values)) <= flips else 1
    alone, together = (alone + extra) / (len(signs) + extra), (together + extra) / (len(signs) + extra)
    together[order] = np.maximum.accumulate(together[order])
    return alone, together


def differences(values: Floats, names: Sequence[str], flips: int = FLIPS) -> pd.DataFrame:
    """Each two methods against each other, on the examples that both have a value for.

    Columns: `first`, `second`, `n` (pairs), `dropped` (examples where one of the two is undefined), `difference` (mean
    of first − second), `ci_low`, `ci_high`, `ci_method`; the effect sizes `d_z` (Cohen 1988: the mean difference over
    the standard deviation of the differences) and `rank_biserial` (of matched pairs; Kerby 2014: the share of the rank
    sum that speaks for `first` less that for `second`); `wilcoxon` (the signed-rank test, zeros ranked and dropped as
    by Pratt 1959) and `sign_flip` (see `sign_flip_test`) with their p-values, each also with `_holm` (Holm 1979) and
    `_bh` (Benjamini & Hochberg 1995) for all pairs; `family_wise`, the p-value by which groups are made; and `reason`,
    which says why no p-value can be small, where that is so.

    Args:
        values: [examples, methods].
        names: of the methods.
        flips: how many are tried in `sign_flip`; no p-value is below 1 / (flips + 1).
    """
    import pandas as pd
    from statsmodels.stats.multitest import multipletests

    first, second = np.triu_indices(len(names), 1)
    paired = values[:, first] - values[:, second]
    either = np.isfinite(values[:, first]) | np.isfinite(values[:, second])
    counts = np.isfinite(paired).sum(axis=0)
    alone, together = sign_flip_test(values, flips)
    found = mean_intervals(paired) if paired.size else [UNDEFINED] * len(first)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.nansum(paired, axis=0) / counts
        spread = np.sqrt(np.nansum((paired - means) ** 2, axis=0) / (counts - 1))
        # Differences that are all the same have no spread to be measured by.
        d_z = np.where(spread > 1e-12 * np.abs(means), means / spread, np.nan)
    signed = [_signed_ranks(column[np.isfinite(column)]) for column in paired.T]
    totals = np.array([np.abs(ranks).sum() for ranks in signed])
    rank_biserial = np.full(len(first), np.nan)
    np.divide([ranks.sum() for ranks in signed], totals, out=rank_biserial, where=totals > 0)
    tests = {
        "wilcoxon": np.array([_wilcoxon(column[np.isfinite(column)]) for column in paired.T]),
        "sign_flip": np.where(counts > 0, alone, np.nan),
    }
    corrected: dict[str, Floats] = {}
    for test, p_values in tests.items():
        corrected[test] = p_values
        for short, method in (("holm", "holm"), ("bh", "fdr_bh")):
            adjusted = p_values.copy()
            given = np.isfinite(p_values)
            # A single one needs no correction, and statsmodels collects garbage in every call, which takes a while.
            if given.sum() > 1:
                adjusted[given] = multipletests(p_values[given], method=method)[1]
            corrected[f"{test}_{short}"] = adjusted
    return pd.DataFrame(
        {
            "first": [names[one] for one in first.tolist()],
            "second": [names[other] for other in second.tolist()],
            "n": counts,
            "dropped": either.sum(axis=0) - counts,
            "difference": [one.mean for one in found],
            "ci_low": [one.low for one in found],
            "ci_high": [one.high for one in found],
            "ci_method": [one.method for one in found],
            "d_z": d_z,
            "rank_biserial": rank_biserial,
            **corrected,
            "family_wise": np.where(counts > 0, together, np.nan),
            "reason": [
                too_few(int(count)) or ("all differences are zero" if total == 0 else "")
                for count, total in zip(counts, totals, strict=True)
            ],
        }
    )


def _signed_ranks(paired: Floats) -> Floats:
    """Ranks of the sizes of differences with their signs; zeros are ranked, and then count for neither (Pratt 1959)."""
    from scipy.stats import rankdata

    return np.asarray(np.sign(paired) * rankdata(np.abs(paired)), np.float64)


def _wilcoxon(paired: Floats) -> float:
    """Wilcoxon's two-sided p-value: exact for few examples, from the normal approximation for many; 1 if all are 0."""
    from scipy.stats import wilcoxon

    if not len(paired):
        return float("nan")
    sizes = np.abs(paired)
    if not sizes.any():
        return 1.0
    if all_flips(len(paired)) <= FLIPS:
        # Tables of the exact distribution know neither ties nor zeros; all flips of the ranks at hand do.
        ranks = _signed_ranks(paired)
        sums = np.abs(sign_flips(len(paired)) @ ranks)
        return float((sums >= abs(ranks.sum()) - 1e-9).mean())
    untied = sizes.all() and len(np.unique(sizes)) == len(sizes) <= 50
    return float(wilcoxon(paired, zero_method="pratt", method="exact" if untied else "asymptotic").pvalue)


@dataclass(frozen=True)
class Friedman:
    """Whether all methods rank alike over the examples, and which two do not.

    Attributes:
        statistic: Friedman's chi-square, ties corrected.
        p: its p-value; NaN where the test is not defined.
        examples: on which all methods have a value; `dropped`, the others.
        dropped: examples where one method or more is undefined.
        mean_ranks: of each method, [methods]; 1 is best.
        nemenyi: p-values of each two methods, [methods, methods]; NaN where the test is not defined or not asked for.
        critical_difference: two mean ranks that differ by more are told apart.
        reason: why there is no p-value; empty where there is one.
    """

    statistic: float
    p: float
    examples: int
    dropped: int
    mean_ranks: Floats
    nemenyi: Floats
    critical_difference: float
    reason: str = ""


def friedman(values: Floats, better: float = 1.0, level: float = LEVEL, pairs: bool = True) -> Friedman:
    """Friedman's test with Nemenyi's for each two methods (Demšar 2006, section 3.2.2), on ranks within an example.

    Args:
        values: [examples, methods].
        better: 1 where larger values are better, -1 where smaller ones are.
        level: that of the critical difference.
        pairs: whether to give Nemenyi's p-values too, which take long for hundreds of methods.
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    whole = values[np.isfinite(values).all(axis=1)]
    examples, count = whole.shape
    dropped = int(np.isfinite(values).any(axis=1).sum()) - examples
    ranks = rankdata(-better * whole, axis=1) if whole.size else np.full((0, count), np.nan)
    mean_ranks = ranks.mean(axis=0) if examples else np.full(count, np.nan)
    nemenyi = np.full((count, count), np.nan)
    reason = ""
    if count < 3:
        reason = f"Friedman's test needs three methods or more, not {count}"
    elif examples < 2:
        reason = f"Friedman's test needs two examples that every method has a value for, not {examples}"
    if reason:
        return Friedman(np.nan, np.nan, examples, dropped, mean_ranks, nemenyi, np.nan, reason)
    if (ranks == ranks[:, :1]).all():
        return Friedman(0.0, 1.0, examples, dropped, mean_ranks, np.ones((count, count)), np.nan)
    if pairs:
        from scikit_posthocs import posthoc_nemenyi_friedman

        nemenyi = posthoc_nemenyi_friedman(whole).to_numpy(np.float64)
    result = friedmanchisquare(*whole.T)
    return Friedman(
        float(result.statistic),
        float(result.pvalue),
        examples,
        dropped,
        mean_ranks,
        nemenyi,
        float(studentized_range.ppf(1 - level, count, np.inf) * np.sqrt(count * (count + 1) / (12 * examples))),
    )
