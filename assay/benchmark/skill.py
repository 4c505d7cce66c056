"""Skill: how far a method is on the way from the control `random`, 0, to the control `oracle`, 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from assay.benchmark.intervals import UNDEFINED, Estimate, estimate, intervals
from assay.benchmark.resampling import Floats, bootstrap, contributions

# A skill needs an oracle that beats chance in all but so small a share of the resamples.
_UNRELIABLE = 0.025


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
