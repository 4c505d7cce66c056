"""How far explainers, and metrics, say the same: rank correlations over the same examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Counts = NDArray[np.int64]

# A sum of squares of ranks that all tie is 0 up to rounding; the least of others is above a half.
_TIED = 0.25


@dataclass(frozen=True)
class Agreement:
    """Each two of some things.

    Attributes:
        values: [things, things], mean rank correlations in [-1, 1]; NaN where there is none, 1 of a thing with itself.
        counts: [things, things], on how many examples each stands.
    """

    values: Floats
    counts: Counts


def of_explainers(scores: Floats, lengths: Sequence[int], signed: Bools) -> Agreement:
    """How alike explainers rank the features of a text: Spearman's correlation in each example, mean over examples.

    The scores of two signed explainers are compared as they are; where one of the two gives magnitudes only, they are
    compared with the other's magnitudes. An example is left out of a pair if one of the two has no attribution for it,
    or the same score for every feature.

    Args:
        scores: [explainers, features], those of all examples one after the other; NaN where there is no attribution.
        lengths: how many features each example has.
        signed: [explainers], whether the sign of a score has a meaning.
    """
    sizes = np.abs(scores)
    by_size, count = _products(_standard_ranks(sizes, lengths), lengths)
    if signed.any():
        chosen = np.ix_(signed, signed)
        own, own_count = _products(_standard_ranks(scores[signed], lengths), lengths)
        by_size[chosen], count[chosen] = own, own_count
    return _means(by_size, count)


def of_measures_by_example(values: Floats, better: Floats) -> Agreement:
    """How alike measures rank the methods on a single example: Spearman's correlation in each, mean over examples.

    An example is left out of a pair if a method has no value for it on one of the two, or all have the same.

    Args:
        values: [measures, examples, methods].
        better: [measures], 1 where larger values are better, -1 where smaller ones are.
    """
    measures, examples, methods = values.shape
    turned = (better[:, None, None] * values).reshape(measures, examples * methods)
    lengths = [methods] * examples
    return _means(*_products(_standard_ranks(turned, lengths), lengths))


def of_measures(means: Floats, better: Floats) -> Agreement:
    """How alike the leaderboards of measures are: Kendall's tau-b of the methods' means (Kendall 1945).

    The counts are methods that have a mean on both; a pair with fewer than three, or with all means tied, has no value.

    Args:
        means: [measures, methods].
        better: [measures], 1 where larger values are better, -1 where smaller ones are.
    """
    from scipy.stats import kendalltau

    size = len(means)
    found, counts = np.full((size, size), np.nan), np.zeros((size, size), dtype=np.int64)
    for one in range(size):
        for other in range(one, size):
            both = np.isfinite(means[one]) & np.isfinite(means[other])
            first, second = better[one] * means[one, both], better[other] * means[other, both]
            counts[one, other] = counts[other, one] = both.sum()
            if both.sum() >= 3 and np.ptp(first) > 0 and np.ptp(second) > 0:
                found[one, other] = found[other, one] = kendalltau(first, second).statistic
    return Agreement(found, counts)


def alike_together(values: Floats) -> list[int]:
    """An order in which what agrees stands together: the leaves of an average linkage (Sokal & Michener 1958).

    The distance is 1 less the agreement, that of an unknown one 1.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(values) < 3:
        return list(range(len(values)))
    distances = 1 - np.nan_to_num(values, nan=0.0)
    np.fill_diagonal(distances, 0.0)
    condensed = squareform(np.maximum((distances + distances.T) / 2, 0.0), checks=False)
    return [int(leaf) for leaf in leaves_list(linkage(condensed, "average", optimal_ordering=True))]


def _standard_ranks(scores: Floats, lengths: Sequence[int]) -> NDArray[np.float32]:
    """Ranks within each example, centred and of length 1, so that products of two are Spearman's correlations.

    Where an example's scores are unknown or all the same, they are 0.
    """
    from scipy.stats import rankdata

    sizes = np.asarray(lengths, dtype=np.intp)
    starts = np.cumsum(sizes) - sizes
    found = np.zeros(scores.shape, dtype=np.float32)
    # Examples of one length are ranked together.
    for size in np.unique(sizes[sizes > 1]):
        places = starts[sizes == size][:, None] + np.arange(size)
        part = scores[:, places]
        known = np.isfinite(part).all(axis=-1, keepdims=True)
        ranks = rankdata(np.where(known, part, 0.0), axis=-1) - (size + 1) / 2
        length = (ranks**2).sum(axis=-1, keepdims=True)
        found[:, places] = np.where(length > _TIED, ranks / np.sqrt(np.maximum(length, _TIED)), 0.0)
    return found


def _products(ranks: NDArray[np.float32], lengths: Sequence[int]) -> tuple[Floats, Counts]:
    """The sum of the correlations of each two over all examples, and how many examples have one."""
    sizes = np.asarray(lengths, dtype=np.intp)
    starts = (np.cumsum(sizes) - sizes)[sizes > 0]
    if not len(starts):
        return np.zeros((len(ranks), len(ranks))), np.zeros((len(ranks), len(ranks)), dtype=np.int64)
    defined = (np.add.reduceat(ranks**2, starts, axis=1) > 0).astype(np.float64)
    together = defined @ defined.T
    return (ranks @ ranks.T).astype(np.float64), together.astype(np.int64)


def _means(sums: Floats, counts: Counts) -> Agreement:
    values = np.full(sums.shape, np.nan)
    np.divide(sums, counts, out=values, where=counts > 0)
    return Agreement(np.clip(values, -1.0, 1.0), counts)
