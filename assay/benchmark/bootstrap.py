"""Means and skills with bootstrap intervals, from the values of examples alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000

# Blocks of resamples hold at most so many numbers (32 MB), however many examples there are.
_BLOCK = 4_000_000
# A skill needs an oracle that beats chance in all but so small a share of the resamples.
_UNRELIABLE = 0.025


@dataclass(frozen=True)
class Estimate:
    """A mean over examples with a bootstrap 95 % interval (percentile method; Efron 1979)."""

    mean: float
    low: float
    high: float


UNDEFINED = Estimate(float("nan"), float("nan"), float("nan"))


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


def bootstrap(values: Floats) -> tuple[Floats, Floats]:
    """Means of the defined values of each column, [columns], and those of each resample, [resamples, columns].

    The resamples draw examples, that is whole rows of `values`, [examples, columns], so columns stay paired.
    """
    defined = np.isfinite(values)
    filled = np.where(defined, values, 0.0)
    whole = bool(defined.all())
    with np.errstate(invalid="ignore", divide="ignore"):
        point = filled.sum(axis=0) / defined.sum(axis=0)
        samples = [
            (weights @ filled) / (len(values) if whole else weights @ defined) for weights in _weights(len(values))
        ]
    return point, np.concatenate(samples)


def estimate(point: float, samples: Floats) -> Estimate:
    """A statistic, `point`, with the interval that its resamples, [resamples], span; NaN where it is undefined."""
    samples = samples[np.isfinite(samples)]
    if not np.isfinite(point) or not len(samples):
        return UNDEFINED
    low, high = np.percentile(samples, [2.5, 97.5])
    return Estimate(float(point), float(low), float(high))


def mean_intervals(values: Floats) -> list[Estimate]:
    """The mean and its interval for each column of `values`, [examples, columns]."""
    point, samples = bootstrap(values)
    counts = np.isfinite(values).sum(axis=0)
    return [
        # Drawing from a single example returns it every time: that is ignorance, not certainty.
        Estimate(float(mean), np.nan, np.nan) if count == 1 else estimate(mean, column)
        for mean, column, count in zip(point, samples.T, counts, strict=True)
    ]


def mean_interval(values: Floats) -> Estimate:
    """The mean of the defined values, [examples], and its interval.

    NaN where no value is defined; a single value has a mean and no interval.
    """
    return mean_intervals(np.asarray(values, dtype=np.float64)[:, None])[0] if len(values) else UNDEFINED


def skills(values: Floats, random: Floats, oracle: Floats, better: Floats) -> tuple[Floats, Floats]:
    """Skill of each column, [columns], and in each resample, [resamples, columns]; NaN where there is no scale.

    Args:
        values: [examples, columns], the method's scores.
        random: those of the control `random`.
        oracle: those of the control `oracle`.
        better: [columns], 1 where larger values are better, -1 where smaller ones are, 0 where the oracle says it.
    """
    paired = np.stack([values, random, oracle], axis=1)
    paired[~np.broadcast_to(np.isfinite(paired).all(axis=1, keepdims=True), paired.shape)] = np.nan
    point, samples = bootstrap(paired.reshape(len(paired), -1))
    method, floor, ceiling = point.reshape(3, -1)
    methods, floors, ceilings = np.moveaxis(samples.reshape(len(samples), 3, -1), 1, 0)
    better = np.where(better == 0, np.sign(ceiling - floor), better)
    usable = better * (ceilings - floors) > 1e-9
    # A resample that holds no defined example speaks neither for nor against the oracle.
    failed = (np.isfinite(ceilings) & ~usable).mean(axis=0)
    scaled = (better * (ceiling - floor) > 1e-9) & (failed <= _UNRELIABLE)
    point_skill, sample_skills = np.full(method.shape, np.nan), np.full(methods.shape, np.nan)
    np.divide(method - floor, ceiling - floor, out=point_skill, where=scaled)
    np.divide(methods - floors, ceilings - floors, out=sample_skills, where=scaled & usable)
    return point_skill, sample_skills


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
    skill, samples = skills(columns[0], columns[1], columns[2], better)
    return estimate(skill[0], samples[:, 0])


def sign(direction: str) -> float:
    """1 where larger values are better, -1 where smaller ones are, NaN where neither."""
    return {"higher": 1.0, "lower": -1.0}.get(direction, np.nan)
