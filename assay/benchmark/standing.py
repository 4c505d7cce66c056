"""Which methods stand apart from each other: ranks that each may have, who leads, and groups by letters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.benchmark.intervals import ROUNDING
from assay.benchmark.resampling import Bools, Floats
from assay.benchmark.significance import FLIPS, LEVEL, all_flips, packed_sign_flips, signs_of

# Beyond so many methods, some 5,000 pairs, fewer flips are drawn, in single precision, and no letters are given: 20,000
# pairs by 4,999 flips for every measure would be most of the time that a leaderboard takes.
MANY = 100
FEWER_FLIPS = 999
# More groups than there are letters nobody can read; the rank intervals say the same.
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Flips are tried in blocks that stay in a processor's cache, of at most so many signs (8 MB).
_BLOCK = 512
_SIGNS = 1_000_000


@dataclass(frozen=True)
class Standing:
    """How methods stand to each other on one measure.

    Attributes:
        low: the best rank that each may have, [methods].
        high: the worst.
        leading: the best method and those that cannot be told apart from it, [methods].
        groups: letters for each; two methods that share one cannot be told apart, and two that share none can. All
            empty where there is one method, where there are more than 100, and where that would take more groups than
            the alphabet has letters, small and capital.
    """

    low: Floats
    high: Floats
    leading: Bools
    groups: list[str]


def stand(values: Floats, better: float = 1.0, level: float = LEVEL) -> Standing:
    """Rank intervals and groups of methods, from paired differences on the same examples.

    Two methods are told apart where `told_apart` says so. A method's best rank is one more than the number of methods
    that are better for certain, its worst that of those which are not worse for certain; all ranks together are right
    with a confidence of 95 % (Mogstad, Romano, Shaikh & Wilhelm 2024). Percentiles of bootstrapped ranks would be too
    narrow where methods are nearly tied, which is where they matter (ibid.). The letters are a compact letter display
    (Piepho 2004).

    Args:
        values: [examples, methods].
        better: 1 where larger values are better, -1 where smaller ones are.
        level: the chance that any two methods that are equally good are told apart.
    """
    count = values.shape[1]
    if count < 2:
        return Standing(np.ones(count), np.ones(count), np.ones(count, bool), [""] * count)
    apart, sums = told_apart(values, level)
    certain = np.where(apart, better * np.sign(sums), 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        goodness = better * np.nansum(values, axis=0) / np.isfinite(values).sum(axis=0)
    ranks = 1 + (goodness[None, :] > goodness[:, None]).sum(axis=1)
    # Where not all examples are shared, the order of the means may not be that of the paired differences.
    low = np.minimum(1 + (certain < 0).sum(axis=1), ranks)
    high = np.maximum(count - (certain > 0).sum(axis=1), ranks)
    order = np.argsort(ranks, kind="stable")
    groups = [""] * count
    if count <= MANY:
        for place, text in zip(order, letters(apart[np.ix_(order, order)]), strict=True):
            groups[place] = text
    return Standing(low.astype(np.float64), high.astype(np.float64), ~apart[order[0]], groups)


def told_apart(values: Floats, level: float = LEVEL) -> tuple[Bools, Floats]:
    """Which methods are told apart, and by what.

    The decisions are those of `sign_flip_test`, corrected for all pairs at once: the step-down of Westfall & Young
    (1993) tells a pair apart if and only if this does, which repeats the test of the largest statistic for the pairs
    that are left until none falls below `level`. Of more than 100 methods 999 flips are drawn instead of 4,999.

    Args:
        values: [examples, methods].
        level: the chance that any two methods that are equally good are told apart.

    Returns:
        Whether each two are, [methods, methods], and the sum of the paired differences of each two, first less second.
    """
    values = values[np.isfinite(values).any(axis=1)]
    examples, count = values.shape
    defined = np.isfinite(values)
    filled = np.where(defined, values, 0.0)
    sums = filled.T @ defined - defined.T.astype(np.float64) @ filled
    apart = np.zeros((count, count), bool)
    if not examples:
        return apart, sums
    norms = _norms(filled, defined)
    observed = np.abs(sums) / norms
    most = FLIPS if count <= MANY else FEWER_FLIPS
    exact = all_flips(examples) <= most
    dtype = np.float64 if exact or count <= MANY else np.float32
    rounding = ROUNDING if dtype == np.float64 else 1e-5
    signs = packed_sign_flips(examples, most)
    extra = 0 if exact else 1
    left = np.triu(np.ones((count, count), bool), 1)
    # In each flip the largest statistic of the pairs that are left. It only falls, so that a flip in which it was below
    # what decides need not be computed again.
    highest = np.full(len(signs), np.inf)
    bound = 0.0
    while left.any():
        again = np.flatnonzero(highest >= bound)
        if len(again):
            highest[again] = np.concatenate(list(_highest(filled, defined, norms, signs, again, left, dtype)))
        ordered = np.sort(highest)
        p_values = (_reaching(ordered, observed * (1 - rounding)) + extra) / (len(signs) + extra)
        certain = left & (observed >= bound) & (p_values <= level)
        apart |= certain
        left &= ~certain
        if not certain.any():
            most_apart = float(observed[left].max())
            if most_apart == 0 or (_reaching(ordered, bound) + extra) / (len(signs) + extra) > level:
                break
            bound = 0.9 * min(bound, most_apart)
        elif bound == 0:
            bound = 0.9 * float(ordered[int((1 - level) * len(ordered))])
    return apart | apart.T, sums


def _reaching(ordered: Floats, values: Floats | float) -> NDArray[np.intp]:
    """How many of some numbers in order are as large as each value or larger."""
    return np.asarray(len(ordered) - np.searchsorted(ordered, values, side="left"))


def _norms(filled: Floats, defined: Bools) -> Floats:
    """The root of the sum of squared paired differences of each two methods; infinite where all are zero."""
    squares = (filled**2).T @ defined
    total = squares + squares.T
    squared = total - 2 * filled.T @ filled
    # Where two methods hardly differ, that is the difference of two large numbers.
    for one, other in zip(*np.nonzero(np.triu(squared < 1e-6 * total, 1)), strict=True):
        both = defined[:, one] & defined[:, other]
        squared[one, other] = squared[other, one] = ((filled[both, one] - filled[both, other]) ** 2).sum()
    squared[squared <= 0] = np.inf
    np.fill_diagonal(squared, np.inf)
    return np.sqrt(squared)


def _highest(
    filled: Floats,
    defined: Bools,
    norms: Floats,
    signs: NDArray[np.uint8],
    flips: NDArray[np.intp],
    left: Bools,
    dtype: type[np.floating[Any]],
) -> Iterator[Floats]:
    """In each of some flips the largest statistic of the pairs that are left, in blocks."""
    whole = defined.all(axis=1)
    scale = (1 / norms).astype(dtype)
    shared, some, has = filled[whole].T.astype(dtype), filled[~whole].astype(dtype), defined[~whole]
    pairs = [np.flatnonzero(others) for others in left]
    size = max(1, min(_BLOCK, _SIGNS // len(filled)))
    for start in range(0, len(flips), size):
        block = signs_of(signs[flips[start : start + size]], len(filled), dtype).T
        sums, rest = shared @ block[whole], block[~whole]
        found = np.zeros(block.shape[1], dtype)
        for one, others in enumerate(pairs):
            if not len(others):
                continue
            # A slice is no copy, and at first all others are left.
            whole_slice = others[-1] - others[0] + 1 == len(others)
            flipped = sums[others[0] : others[-1] + 1] - sums[one] if whole_slice else sums[others] - sums[one]
            if len(some):
                both = has[:, [one]] & has[:, others]
                flipped += np.where(both, some[:, others] - some[:, [one]], 0).T @ rest
            flipped *= scale[one, others, None]
            np.maximum(found, flipped.max(axis=0), out=found)
            np.maximum(found, -flipped.min(axis=0), out=found)
        yield found.astype(np.float64)


def letters(apart: Bools) -> list[str]:
    """The compact letter display of [methods, methods] (Piepho 2004).

    Two methods share a letter if and only if they are not `apart`. The first method has the first letter. A letter is a
    largest set of methods of which no two are apart; where there are more such sets than letters, nobody gets one.
    """
    import networkx

    graph = networkx.Graph()
    graph.add_nodes_from(range(len(apart)))
    graph.add_edges_from(np.argwhere(np.triu(~apart, 1)).tolist())
    sets: list[list[int]] = []
    for clique in networkx.find_cliques(graph):
        sets.append(sorted(clique))
        if len(sets) > len(ALPHABET):
            return [""] * len(apart)
    sets.sort()
    names: list[str] = [""] * len(apart)
    for letter, members in zip(ALPHABET, sets, strict=False):
        for member in members:
            names[member] += letter
    return names
