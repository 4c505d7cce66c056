"""Methods against each other: paired tests, effect sizes, corrections for many pairs, Friedman's test.

What is used where, and why, stands in docs/statistics.md. Who is told apart from whom in a table: `standing`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from assay.benchmark.intervals import ROUNDING, UNDEFINED, mean_intervals
from assay.benchmark.resampling import Floats

if TYPE_CHECKING:
    import pandas as pd

Number = TypeVar("Number", np.int8, np.float32, np.float64)

FLIPS = 4999
# The chance that anything at all is told apart in a column where all methods are equally good.
LEVEL = 0.05
# Blocks of flips hold at most so many numbers (8 MB), however many pairs or examples there are.
_BLOCK = 1_000_000


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


def sign_flips(count: int, most: int = FLIPS) -> NDArray[np.int8]:
    """Signs of each example, [flips, count]: all ways there are if they are few, else `most` by chance."""
    return signs_of(packed_sign_flips(count, most), count, np.int8)


@lru_cache(maxsize=2)
def packed_sign_flips(count: int, most: int = FLIPS) -> NDArray[np.uint8]:
    """As `sign_flips`, eight signs a byte; `signs_of` unpacks some of its rows."""
    return np.concatenate(list(_packed_flips(count, most)))


def signs_of(packed: NDArray[np.uint8], count: int, dtype: type[Number]) -> NDArray[Number]:
    """Signs of each example, [flips, count], in the type asked for."""
    signs = np.unpackbits(packed, axis=1, count=count).astype(dtype)
    signs *= -2
    signs += 1
    return signs


def _packed_flips(count: int, most: int) -> Iterator[NDArray[np.uint8]]:
    """Bits that are set for a negative sign, eight examples a byte, in blocks."""
    every = all_flips(count)
    if every <= most:
        yield np.packbits((np.arange(every)[:, None] >> np.arange(count)) & 1, axis=1)
        return
    rng = np.random.default_rng(2)
    # Numbers are drawn four at a time, so that blocks of a multiple of four are what one block would be.
    size = 4 * max(1, _BLOCK // (4 * count))
    for first in range(0, most, size):
        yield np.packbits(rng.integers(0, 2, (min(size, most - first), count), dtype=np.int8), axis=1)


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
    signs = packed_sign_flips(len(values), flips)
    alone, together = np.zeros(len(first)), np.zeros(len(first))
    size = max(1, _BLOCK // max(len(first), len(values)))
    for start in range(0, len(signs), size):
        block = signs_of(signs[start : start + size], len(values), np.float64).T
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
