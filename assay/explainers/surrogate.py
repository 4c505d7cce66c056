"""Explainers that fit a simple model to the classifier's answers around one input, and read that model."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import comb, factorial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from assay.checks import whole_number
from assay.conversation import Case, Conversation, Explanation, Keep, Vector
from assay.explainers.base import BlackBoxExplainer
from assay.explainers.interpolation import MOST_ROWS, Interpolation, signs, true_or_false
from assay.explainers.steady import interleaved, known_tolerance, of_strata, until_steady
from assay.subsets import all_subsets

if TYPE_CHECKING:
    from sklearn.tree import DecisionTreeRegressor

# The settings of LimeTextExplainer, which its text distance (cosine distance times 100) is made for.
_KERNEL_WIDTH = 25.0
_RIDGE_PENALTY = 1.0
_DRAWS = 5000

# What is asked before a standard error is looked at.
_FIRST_ROWS = 32

# The regression over predicted answers sees all inputs of up to 12 words.
_PREDICTED_ROWS = 4096


class Lime(BlackBoxExplainer):
    """Weights of a ridge regression on inputs with random features hidden, near inputs counting more.

    The method of Ribeiro, Singh & Guestrin (2016) with the settings of the authors' LimeTextExplainer: the first row is
    the full input; in each other row the number of hidden features is uniform in 1 … n and they are chosen uniformly;
    a row with k visible features lies at distance d = 100 · (1 − √(k / n)) and has the weight √exp(−d² / 25²); ridge
    penalty 1 with a free intercept, against the weight of 5,000 rows (the authors' default), or of `samples` if that is
    more. Each feature stands for itself even where a word repeats (`bow=False`), and no features are selected
    beforehand, since every one needs a score.

    The rows are not drawn one by one but laid out: what would be drawn often is asked once and counted by its
    probability, numbers of hidden features that the budget can cover are asked whole, and in the others each feature is
    hidden about equally often. With `interactions`, the regression also sees inputs that were not asked (all of them up
    to 12 features), with the answers that a Gaussian process through the asked ones predicts. Both lower the chance in
    the scores, not what they converge to, which is what LimeTextExplainer converges to. On texts of 10 words, 128 rows
    give rankings as stable across seeds as more than 1,000 rows of LimeTextExplainer do, and 64 rows as about 256.

    Signed; the score is the regression's coefficient, in units of the output. The penalty draws coefficients towards 0,
    most in texts of one or two words, whose rows nearly all hide most of the text. Where words act together, words that
    do nothing are credited too. Both are the method's, and the authors' code does the same. Cost: at most `samples`
    different model rows in one round. Reports `rows`, how many different inputs were asked, and `r_squared`, the
    weighted share of the variance of their answers that the regression explains (None where they are all the same).

    Args:
        samples: how many different inputs may be asked, the full input among them.
        interactions: whether the regression also sees predicted answers; used up to 2,048 samples.
        tolerance: the standard error at which no more inputs are drawn; None for all of them.

    Raises:
        ValueError: `samples` below 2, or `interactions` neither true nor false, or `tolerance` not above 0.
    """

    def __init__(self, samples: int = 256, interactions: bool = True, tolerance: float | None = None) -> None:
        self.samples = whole_number("samples", samples, at_least=2)
        self.interactions = true_or_false("interactions", interactions)
        self.tolerance = known_tolerance(tolerance)

    def converse(self, case: Case) -> Conversation[Explanation]:
        """Ask about inputs with features hidden; return [n] coefficients."""
        draws = max(_DRAWS, self.samples)
        keep, weights = neighbourhood(case.n, self.samples, draws, case.rng)
        wider = lru_cache(1)(lambda: neighbourhood(case.n, _PREDICTED_ROWS, draws, case.rng))
        if self.tolerance is None:
            answers = yield keep
            outputs = answers[:, case.target].astype(np.float64)
            coefficients, intercept = self._fit(keep, outputs, weights, wider)
            r_squared = _r_squared(outputs, intercept + keep @ coefficients, weights)
            return Explanation(coefficients, {"rows": len(keep), "r_squared": r_squared})
        hidden = (~keep).sum(axis=1)
        known = np.empty(len(keep))

        def fit(used: NDArray[np.intp]) -> tuple[Vector, float]:
            return self._fit(keep[used], known[used], of_strata(weights, hidden, used), wider)

        found = yield from until_steady(
            # The full input comes first, and is no draw.
            np.concatenate([[0], 1 + interleaved(hidden[1:], case.rng.spawn(1)[0])]),
            lambda new: keep[new],
            known.__setitem__,
            lambda used: fit(used)[0],
            self.tolerance,
            case.target,
            first=max(2 * case.n, _FIRST_ROWS),
            always=1,
            population=max(1, 2**case.n - 1),
        )
        used = found.used
        coefficients, intercept = fit(used)
        fitted = intercept + keep[used] @ coefficients
        r_squared = _r_squared(known[used], fitted, of_strata(weights, hidden, used))
        report = {"rows": len(used), "r_squared": r_squared, **found.report(len(used))}
        return Explanation(coefficients, report)

    def _fit(
        self, keep: Keep, outputs: Vector, weights: Vector, wider: Callable[[], tuple[Keep, Vector]]
    ) -> tuple[Vector, float]:
        """The regression's coefficients, [n], and its intercept; `wider` gives inputs to predict the answers to."""
        coefficients, intercept = ridge(keep, outputs, weights)
        left = outputs - intercept - keep @ coefficients
        all_asked = len(keep) >= 2 ** keep.shape[1]
        if self.interactions and not all_asked and len(keep) <= MOST_ROWS and left.any():
            fit = Interpolation(signs(keep), left, coefficients, odd=False)
            more, more_weights = wider()
            predicted = intercept + more @ coefficients + fit.predict(signs(more))
            coefficients, intercept = ridge(more, predicted, more_weights)
        return coefficients, intercept


class TreeSurrogate(BlackBoxExplainer):
    """The share of each feature in a small decision tree fitted to the answers around the input.

    A regression tree (scikit-learn's DecisionTreeRegressor, squared error) learns the target's output from which
    features are visible, on LIME's inputs with LIME's weights: trees as explanations go back to Craven & Shavlik
    (1996). A tree gives no coefficients, and impurity importances have no sign. The score is therefore the exact
    Shapley value of the tree itself between nothing and everything visible: with g(S) the tree's prediction, a leaf
    that is reached where all of A are visible and all of B are hidden adds its value times (|A| − 1)! |B|! / (|A| +
    |B|)! to each feature of A, and takes its value times |A|! (|B| − 1)! / (|A| + |B|)! from each of B (as in Lundberg
    et al. 2020, interventional). The scores sum to g(x) − g(∅), which is what the short tree has learned and not
    exactly f(x) − f(∅); features that the tree does not ask about score 0, and tie.

    Signed, in units of the output. Cost: at most `samples` different model rows in one round. Reports `rows`,
    `r_squared`, the weighted share of the variance of their answers that the tree explains (None where they are all the
    same), and its `depth`.

    Args:
        samples: how many different inputs may be asked, the full input among them.
        depth: the most questions that the tree asks on the way to a leaf.

    Raises:
        ValueError: `samples` below 2, or `depth` below 1.
    """

    def __init__(self, samples: int = 512, depth: int = 4) -> None:
        self.samples = whole_number("samples", samples, at_least=2)
        self.depth = whole_number("depth", depth, at_least=1)

    def converse(self, case: Case) -> Conversation[Explanation]:
        """Ask about inputs with features hidden; return [n] Shapley values of a tree fitted to the answers."""
        from sklearn.tree import DecisionTreeRegressor

        keep, weights = neighbourhood(case.n, self.samples, self.samples, case.rng)
        answers = yield keep
        outputs = answers[:, case.target].astype(np.float64)
        # Of equal splits the tree takes one at random, which is the example's seed's to decide.
        tree = DecisionTreeRegressor(max_depth=self.depth, random_state=int(case.rng.integers(2**31)))
        tree.fit(keep.astype(np.float64), outputs, sample_weight=weights)
        r_squared = _r_squared(outputs, tree.predict(keep.astype(np.float64)), weights)
        report = {"rows": len(keep), "r_squared": r_squared, "depth": int(tree.get_depth())}
        return Explanation(tree_shapley(tree, case.n), report)


def ridge(keep: Keep, outputs: Vector, weights: Vector) -> tuple[Vector, float]:
    """LIME's weighted ridge regression: the coefficients, [n], and the intercept."""
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=_RIDGE_PENALTY).fit(keep.astype(np.float64), outputs, sample_weight=weights)
    return np.asarray(model.coef_, dtype=np.float64), float(model.intercept_)


def kernel(visible: NDArray[np.number], n: int) -> Vector:
    """LIME's weight of an input with so many of its n features visible."""
    distance = 100 * (1 - np.sqrt(visible / n))
    weights: Vector = np.sqrt(np.exp(-(distance**2) / _KERNEL_WIDTH**2))
    return weights


def neighbourhood(n: int, samples: int, draws: int, rng: np.random.Generator) -> tuple[Keep, Vector]:
    """Inputs near the full one, [rows, n], the full one first, and LIME's weight of each, [rows].

    Args:
        n: the number of features.
        samples: the most inputs.
        draws: how many inputs drawn at random, the full one among them, those weights stand for.
        rng: what decides which inputs.
    """
    hidden = np.arange(1, n + 1)
    counts = np.array([comb(n, int(size)) for size in hidden], dtype=np.float64)
    weight = kernel(n - hidden, n) * (draws - 1) / n  # of all inputs with so many hidden
    budget = samples - 1
    wanted = np.zeros(n)
    left = np.ones(n, dtype=np.bool_)
    while left.any():
        share = np.where(left, weight, 0.0)
        wanted = np.where(left, budget * share / share.sum(), wanted)
        whole = left & (wanted >= counts)
        if not whole.any():
            break
        wanted[whole] = counts[whole]
        budget -= int(counts[whole].sum())
        left &= ~whole
    # Whole numbers that add up, each as large as wanted on average: steps of a sum with a random start.
    steps = np.floor(np.cumsum(np.where(left, wanted, 0.0)) + rng.random())
    rows = np.where(left, np.diff(steps, prepend=0.0), wanted).astype(np.intp)
    asked = [np.zeros((1, n), dtype=np.bool_)]
    weights = [np.ones(1)]
    for size in np.flatnonzero(rows):
        asked.append(_balanced_subsets(n, int(hidden[size]), int(rows[size]), rng))
        weights.append(np.full(rows[size], weight[size] / wanted[size]))
    return ~np.concatenate(asked), np.concatenate(weights)


def _balanced_subsets(n: int, size: int, count: int, rng: np.random.Generator) -> Keep:
    """Different random subsets of one size, [count, n], in which the features are about equally frequent."""
    if comb(n, size) <= 4 * count:
        every = all_subsets(n, size)
        return every if count == len(every) else every[rng.choice(len(every), count, replace=False)]
    smaller = min(size, n - size)
    subsets = np.empty((0, n), dtype=np.bool_)
    while len(subsets) < count:
        # Neighbouring stretches of one random order have no feature in common.
        orders = 1 + count // (n // smaller)
        place = rng.permuted(np.tile(np.arange(n), (orders, 1)), axis=1)
        starts = smaller * np.arange(n // smaller)[:, None]
        stretches = (place[:, None, :] >= starts) & (place[:, None, :] < starts + smaller)
        new = np.concatenate([subsets, stretches.reshape(-1, n)])
        _, first = np.unique(new, axis=0, return_index=True)
        subsets = new[np.sort(first)]
    subsets = subsets[:count]
    return subsets if smaller == size else ~subsets


def tree_shapley(tree: DecisionTreeRegressor, n: int) -> Vector:
    """The Shapley values of a fitted tree over n features between all 0 and all 1, [n]."""
    nodes = tree.tree_
    values = np.zeros(n)
    todo: list[tuple[int, tuple[int, ...], tuple[int, ...]]] = [(0, (), ())]
    while todo:
        node, visible, hidden = todo.pop()
        feature = int(nodes.feature[node])
        if feature >= 0:
            todo.append((int(nodes.children_left[node]), visible, (*hidden, feature)))
            todo.append((int(nodes.children_right[node]), (*visible, feature), hidden))
            continue
        value, a, b = float(nodes.value[node, 0, 0]), len(visible), len(hidden)
        if visible:
            values[list(visible)] += value * factorial(a - 1) * factorial(b) / factorial(a + b)
        if hidden:
            values[list(hidden)] -= value * factorial(a) * factorial(b - 1) / factorial(a + b)
    return values


def _r_squared(outputs: Vector, fitted: Vector, weights: Vector) -> float | None:
    """The weighted share of the outputs' variance that is explained; None where they do not vary."""
    variance = np.average((outputs - np.average(outputs, weights=weights)) ** 2, weights=weights)
    if variance <= (np.finfo(np.float32).eps * np.abs(outputs).max()) ** 2:
        return None
    return float(1 - np.average((outputs - fitted) ** 2, weights=weights) / variance)
