"""Explainers that fit a linear model to the classifier's answers around one input."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from assay.conversation import Case, Conversation, Keep, Vector
from assay.explainers.base import BlackBoxExplainer, whole_number

# The settings of LimeTextExplainer, which its text distance (cosine distance times 100) is made for.
_KERNEL_WIDTH = 25.0
_RIDGE_PENALTY = 1.0


class Lime(BlackBoxExplainer):
    """Weights of a ridge regression on inputs with random features hidden, near inputs counting more.

    The method of Ribeiro, Singh & Guestrin (2016) with the settings of the authors' LimeTextExplainer: the first row is
    the full input; in each other row the number of hidden features is uniform in 1 … n and they are chosen uniformly;
    a row with k visible features lies at distance d = 100 · (1 − √(k / n)) and has the weight √exp(−d² / 25²); ridge
    penalty 1 with a free intercept. Each feature stands for itself even where a word repeats (`bow=False`), and no
    features are selected beforehand, since every one needs a score.

    Signed; the score is the regression's coefficient, in units of the output. The penalty draws coefficients towards 0,
    less with more samples, and most in texts of one or two words, whose rows nearly all hide most of the text. Where
    words act together, words that do nothing are credited too. Both are the method's, and the authors' code does the
    same. Cost: at most `samples` model rows in one round; for short inputs fewer, since repeats are asked once.

    Args:
        samples: how many rows the regression sees, the full input among them.

    Raises:
        ValueError: `samples` below 2.
    """

    def __init__(self, samples: int = 1000) -> None:
        self.samples = whole_number("samples", samples, at_least=2)

    def converse(self, case: Case) -> Conversation[Vector]:
        """Ask about random inputs; return [n] coefficients."""
        hidden = case.rng.integers(1, case.n + 1, self.samples - 1)
        keep = np.ones((self.samples, case.n), dtype=np.bool_)
        keep[1:] = ~_random_subsets(case.rng, hidden, case.n)
        answers = yield keep
        return lime_coefficients(keep, answers[:, case.target].astype(np.float64))


def lime_coefficients(keep: Keep, outputs: Vector) -> Vector:
    """The coefficients of LIME's weighted ridge regression, [n], given the masks [rows, n] and the outputs [rows]."""
    from sklearn.linear_model import Ridge

    distance = 100 * (1 - np.sqrt(keep.mean(axis=1)))
    weights = np.sqrt(np.exp(-(distance**2) / _KERNEL_WIDTH**2))
    model = Ridge(alpha=_RIDGE_PENALTY).fit(keep.astype(np.float64), outputs, sample_weight=weights)
    coefficients: Vector = np.asarray(model.coef_, dtype=np.float64)
    return coefficients


class KernelShap(BlackBoxExplainer):
    """Shapley values: the average effect of showing a feature, over all orders of showing them.

    Solves the weighted least squares problem of Lundberg & Lee (2017): φ minimises
    Σ_S w(S) · (f(S) − f(∅) − Σ_{i∈S} φ_i)² subject to Σ φ_i = f(x) − f(∅), where f(S) is the target's output with only
    S visible and w(S) = (n − 1) / (C(n, |S|) · |S| · (n − |S|)). Where `samples` covers all 2^n − 2 proper subsets they
    are all asked and the values are exact. Otherwise the sizes that the budget can cover are asked whole, from the
    outside in (1 and n − 1, then 2 and n − 2, …), and the rest is drawn from the remaining sizes in proportion to their
    weight, each subset with its complement (paired sampling, Covert & Lee 2021), until the budget's rows are spent on
    different subsets. The sum holds to rounding either way.

    Signed, in units of the output. Cost: at most `samples` + 2 different model rows in one round.

    Args:
        samples: how many different proper subsets may be asked.

    Raises:
        ValueError: `samples` below 2.
    """

    def __init__(self, samples: int = 512) -> None:
        self.samples = whole_number("samples", samples, at_least=2)

    def converse(self, case: Case) -> Conversation[Vector]:
        """Ask about nothing, everything and subsets in between; return [n] Shapley values."""
        subsets, weights = _coalitions(case.n, self.samples, case.rng)
        ends = np.zeros((2, case.n), dtype=np.bool_)
        ends[1] = True
        answers = yield np.concatenate([ends, subsets])
        outputs = answers[:, case.target].astype(np.float64)
        return _shapley_values(subsets, weights, outputs[2:] - outputs[0], float(outputs[1] - outputs[0]))


def _shapley_values(subsets: Keep, weights: Vector, gains: Vector, total: float) -> Vector:
    """Solve the constrained least squares problem; `gains` is f(S) − f(∅), `total` is f(x) − f(∅)."""
    n = subsets.shape[1]
    even_share = total / n
    if len(subsets) == 0:
        return np.full(n, even_share)
    # Deviations from an even split sum to 0, so a row's mean can be taken off the design; the solution of least norm
    # is then free of a constant part and the constraint holds by itself. No feature is singled out, as by substitution.
    design = subsets - subsets.mean(axis=1, keepdims=True)
    residual = gains - even_share * subsets.sum(axis=1)
    root = np.sqrt(weights)
    deviation = np.linalg.lstsq(root[:, None] * design, root * residual, rcond=None)[0]
    values: Vector = even_share + deviation - deviation.mean()
    return values


def _coalitions(n: int, budget: int, rng: np.random.Generator) -> tuple[Keep, Vector]:
    """Proper subsets to ask, [rows, n], and their weights in the regression, [rows]."""
    sizes = np.arange(1, n)
    mass = 1.0 / (sizes * (n - sizes)) if n > 1 else np.empty(0)  # the Shapley kernel's weight of a whole size
    subsets: list[Keep] = [np.empty((0, n), dtype=np.bool_)]
    weights: list[Vector] = [np.empty(0)]
    left = np.ones(len(sizes), dtype=np.bool_)
    exact = 2**n - 2 <= budget
    for size in range(1, n // 2 + 1):
        pair = sorted({size, n - size})
        count = sum(comb(n, each) for each in pair)
        share = mass[[each - 1 for each in pair]].sum() / mass[left].sum()
        # A size is worth asking whole where as many of its subsets would be drawn anyway.
        if not exact and budget * share < count:
            break
        for each in pair:
            whole = _all_subsets(n, each)
            subsets.append(whole)
            weights.append(np.full(len(whole), mass[each - 1] / len(whole)))
            left[each - 1] = False
        budget -= count
    if left.any() and budget >= 2:
        drawn = _random_subsets(rng, rng.choice(sizes[left], 2 * budget, p=mass[left] / mass[left].sum()), n)
        drawn = drawn[: _reach(drawn, budget // 2)]
        subsets += [drawn, ~drawn]
        weights.append(np.full(2 * len(drawn), mass[left].sum() / (2 * len(drawn))))
    return np.concatenate(subsets), np.concatenate(weights)


def _reach(drawn: Keep, distinct: int) -> int:
    """How many draws to keep so that no more than `distinct` different pairs are among them.

    Repeats cost no model row, so a budget of rows affords more draws than rows; this lowers the error by a fifth where
    repeats are frequent.
    """
    one_of_pair = np.where(drawn[:, :1], drawn, ~drawn)
    firsts = np.sort(np.unique(one_of_pair, axis=0, return_index=True)[1])
    return int(firsts[distinct]) if len(firsts) > distinct else len(drawn)


def _all_subsets(n: int, size: int) -> Keep:
    """Every subset of one size, [C(n, size), n]."""
    members = np.array(list(combinations(range(n), size)), dtype=np.intp)
    subsets = np.zeros((len(members), n), dtype=np.bool_)
    np.put_along_axis(subsets, members, True, axis=1)
    return subsets


def _random_subsets(rng: np.random.Generator, sizes: NDArray[np.integer], n: int) -> Keep:
    """For each size a subset drawn uniformly among those of that size, [rows, n]."""
    place = rng.random((len(sizes), n)).argsort(axis=1).argsort(axis=1)
    subsets: Keep = place < sizes[:, None]
    return subsets
