"""Bootstrap samples of means and of ratios of means; the same draws for every cell."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

RESAMPLES = 2000

# Blocks of resamples hold at most so many numbers (8 MB), however many examples there are.
_BLOCK = 1_000_000
# Draws of so many numbers at most are kept for the next cell.
_KEPT = 4_000_000


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
