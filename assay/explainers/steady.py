"""Samples asked in rounds until the scores' own standard error is small enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.checks import above_zero
from assay.conversation import Conversation, Keep, Vector

# Groups of samples that are left out in turn; more of them know the error better, and cost as many estimates.
GROUPS = 10
GROUPS_OF_MEANS = 50
_GROWTH = 1.5

Places = NDArray[np.intp]
Estimate = Callable[[Places], Vector]


@dataclass(frozen=True)
class Steady:
    """What sampling came to.

    Attributes:
        scores: [n].
        used: the samples that they are made of, rising.
        standard_error: the largest over the features.
    """

    scores: Vector
    used: Places
    standard_error: float

    def report(self, samples: int) -> dict[str, Any]:
        """What a method says of it, whose setting counts so many samples; no standard error of too few samples."""
        known = np.isfinite(self.standard_error)
        return {"samples": samples, "standard_error": self.standard_error if known else None}


def known_tolerance(value: float | None) -> float | None:
    """The setting of a sampling method: the standard error to reach, None for as many samples as are said.

    Raises:
        ValueError: it is not above 0.
    """
    return None if value is None else above_zero("tolerance", value)


def rounds(first: int, most: int, growth: float = _GROWTH) -> Iterator[int]:
    """How many samples there are after each round: `first`, then half as many again, up to `most`."""
    count = min(first, most)
    while count < most:
        yield count
        count = int(np.ceil(count * growth))
    yield most


def standard_error(
    estimate: Estimate, used: Places, always: int = 0, left: float = 1.0, groups: int = GROUPS
) -> Vector:
    """The standard error of each score, [n] or [1] for all, by leaving out a part of the samples at a time.

    The grouped jackknife (Quenouille 1956; Shao & Tu 1995, section 2.1): with v_g the scores without group g of G, the
    variance is (G − 1)/G · Σ_g (v_g − mean v)². For a mean it is the usual standard error; it holds for any smooth
    function of the samples, such as the weights of a regression.

    Args:
        estimate: the scores from some samples.
        used: the samples, in the order in which they were drawn.
        always: how many of them, the first ones, were not drawn at random and so are never left out.
        left: the share of what could have been sampled that was not; where nothing is left there is no error.
        groups: how many parts.
    """
    groups = min(groups, len(used) - always)
    if left == 0:
        return np.zeros(1)
    if groups < 2:
        return np.full(1, np.inf)
    member = np.concatenate([np.full(always, -1), np.arange(len(used) - always) % groups])
    without = np.array([estimate(np.sort(used[member != group])) for group in range(groups)])
    spread: Vector = np.square(without - without.mean(axis=0)).sum(axis=0)
    error: Vector = np.sqrt(left * (groups - 1) / groups * spread)
    return error


def until_steady(
    order: Places,
    keep: Callable[[Places], Keep],
    learn: Callable[[Places, Vector], None],
    estimate: Estimate,
    tolerance: float,
    target: int,
    first: int,
    always: int = 0,
    population: float = np.inf,
    growth: float = _GROWTH,
    groups: int = GROUPS,
) -> Conversation[Steady]:
    """Ask for more samples until the largest standard error is no more than the tolerance, or there are no more.

    Args:
        order: the samples in the order in which they are asked.
        keep: the keep-masks of some samples, [samples · rows of each, n].
        learn: takes in the target's output for them.
        estimate: the scores from some samples, numbered as in `order`, rising.
        tolerance: the standard error to reach.
        target: the class whose output is asked.
        first: how many samples the first round has.
        always: how many samples, the first ones, are not drawn at random; they are part of the first round.
        population: how many different ones could be drawn, where none is drawn twice.
        growth: by what factor each round adds to the samples so far.
        groups: how many parts of the samples are left out in turn for the standard error.
    """
    before = 0
    scores, error = np.empty(0), np.inf
    for count in rounds(always + first, len(order), growth):
        new = order[before:count]
        answers = yield keep(new)
        learn(new, answers[:, target].astype(np.float64))
        before = count
        scores = estimate(np.sort(order[:count]))
        left = max(0.0, 1 - (count - always) / population)
        error = float(standard_error(estimate, order[:count], always, left, groups).max())
        if error <= tolerance:
            break
    return Steady(scores, np.sort(order[:before]), error)


def interleaved(strata: NDArray[np.intp], rng: np.random.Generator) -> Places:
    """An order of samples in which each beginning holds about the same share of each stratum, [samples].

    Args:
        strata: [samples], which one each belongs to.
        rng: what decides which of a stratum comes first.
    """
    place = np.empty(len(strata))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        place[members] = (rng.permutation(len(members)) + rng.random()) / len(members)
    return np.argsort(place, kind="stable")


def of_strata(weights: Vector, strata: NDArray[np.intp], used: Places) -> Vector:
    """The weights of the samples that are used, [used], as large in each stratum as those of all its samples."""
    if len(used) == len(weights):
        return weights
    count = int(strata.max(initial=0)) + 1
    whole, part = (np.bincount(strata[some], weights[some], count) for some in (slice(None), used))
    more = np.divide(whole, part, out=np.ones(count), where=part > 0)
    scaled: Vector = weights[used] * more[strata[used]]
    return scaled
