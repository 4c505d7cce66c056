"""Correlation: do the scores rise and fall with the effect of hiding what they are given to."""

from __future__ import annotations

from math import ceil, comb

import numpy as np
from numpy.typing import NDArray

from assay.checks import whole_number
from assay.conversation import Case, Conversation, Keep, Vector
from assay.errors import Undefined
from assay.metrics.base import Measure, Metric, Scores
from assay.metrics.rounding import rounding
from assay.subsets import all_subsets, random_subsets


def _judged(case: Case) -> Vector:
    """The scores, [n].

    Raises:
        Undefined: they order nothing.
    """
    if case.attribution is None:
        raise Undefined("there is no attribution to judge")
    if case.n < 2:
        raise Undefined("a single feature has no order")
    scores = case.attribution.scores
    if np.all(scores == scores[0]):
        raise Undefined("all scores are equal")
    return scores


def _ranking(case: Case) -> NDArray[np.intp]:
    """The features by falling score, [n].

    Raises:
        Undefined: there is no ranking.
    """
    if case.ranking is None:
        raise Undefined("there is no ranking to judge")
    return case.ranking


def _left_out(n: int) -> Keep:
    """The full input, then each feature left out, [n + 1, n]."""
    return np.concatenate([np.ones((1, n), dtype=np.bool_), ~np.eye(n, dtype=np.bool_)])


def _effects(outputs: NDArray[np.floating], cause: str) -> Vector:
    """How far the output falls from the full input's, which is the first, to each of the others.

    Raises:
        Undefined: all effects are equal.
    """
    outputs = outputs.astype(np.float64)
    effects: Vector = outputs[0] - outputs[1:]
    if np.ptp(effects) <= rounding(outputs):
        raise Undefined(f"all effects of {cause} are equal")
    return effects


def _pearson(scores: Vector, effects: Vector) -> float:
    """Pearson's correlation.

    Raises:
        Undefined: all scores are equal.
    """
    if np.ptp(scores) <= 1e-12 * np.abs(scores).max():
        raise Undefined("all scores of what was hidden are equal")
    # Divided by the largest, so that squares of tiny scores do not vanish.
    scores, effects = ((values - values.mean()) / np.ptp(values) for values in (scores, effects))
    return float(np.clip(scores @ effects / np.sqrt((scores @ scores) * (effects @ effects)), -1, 1))


class TauLeaveOneOut(Metric):
    """Kendall's τ-b of the scores with the effect of leaving each feature out (Jain & Wallace 2019).

    The effect of feature i is f(x) − f(x∖i), with its sign. Higher is better; in [−1, 1]. Undefined for one feature and
    where all scores, or all effects, are equal. It is 1 by construction for `leave_one_out`, and a method that gives
    magnitudes only cannot reach 1 where some features speak against the target.
    """

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The correlation."""
        return (Measure("tau_loo", "higher", (-1.0, 1.0)),)

    def converse(self, case: Case) -> Conversation[Scores]:
        """Ask for the full input and for each feature left out."""
        from scipy.stats import kendalltau

        scores = _judged(case)
        answers = yield _left_out(case.n)
        effects = _effects(answers[:, case.target], "leaving one feature out")
        return Scores({"tau_loo": float(kendalltau(scores, effects).statistic)})


class FaithfulnessCorrelation(Metric):
    """Pearson's correlation of the score of random subsets with the effect of hiding them (Bhatt et al. 2020).

    corr over subsets S of one size of (Σ_{i∈S} score_i, f(x) − f(x∖S)). Higher is better; in [−1, 1]. Where there are
    no more than `samples` subsets of that size, each is taken once, and nothing is random.

    Sensitive to the subset size (subsets of one feature are `faithfulness_estimate`; with large ones the output may be
    down already, whatever they hold), to the perturbation, and to the number of subsets: over 100 of them a correlation
    of 0 has a standard error of 0.1. Adding a constant to all scores, or multiplying them by a positive one, changes
    nothing. A method that gives magnitudes only cannot reach 1 where some features speak against the target. Undefined
    for one feature, where all scores or all effects are equal, and where a subset would hold every feature.
    """

    def __init__(self, subset_size: float = 0.2, samples: int = 100) -> None:
        """Set what is hidden.

        Args:
            subset_size: how many features a subset has: a whole number of at least 1, or a share of the features in
                (0, 1), rounded up, but never all of them. The paper fixes a number for each data set.
            samples: how many subsets are drawn at most, at least 2.

        Raises:
            ValueError: a setting out of its range.
        """
        number = isinstance(subset_size, int | float) and not isinstance(subset_size, bool)
        if not number or not (0 < subset_size < 1 or (isinstance(subset_size, int) and subset_size >= 1)):
            raise ValueError(
                f"subset_size must be a share in (0, 1) or a whole number of at least 1, not {subset_size!r}"
            )
        self.subset_size = subset_size
        self.samples = whole_number("samples", samples, at_least=2)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The correlation."""
        return (Measure("faithfulness_correlation", "higher", (-1.0, 1.0)),)

    def count(self, n: int) -> int:
        """How many of n features a subset holds.

        Raises:
            Undefined: all of them.
        """
        if isinstance(self.subset_size, int):
            if self.subset_size >= n:
                raise Undefined(f"a subset of {self.subset_size} features would hold all {n}")
            return self.subset_size
        # Rounding first keeps 0.07 · 100 = 7.000000000000001 from becoming 8.
        return min(ceil(round(self.subset_size * n, 9)), n - 1)

    def converse(self, case: Case) -> Conversation[Scores]:
        """Ask for the full input and for each subset hidden."""
        scores = _judged(case)
        size = self.count(case.n)
        if comb(case.n, size) <= self.samples:
            hidden = all_subsets(case.n, size)
        else:
            hidden = random_subsets(case.rng, np.full(self.samples, size), case.n)
        answers = yield np.concatenate([np.ones((1, case.n), dtype=np.bool_), ~hidden])
        effects = _effects(answers[:, case.target], f"hiding subsets of {size}")
        return Scores({"faithfulness_correlation": _pearson(hidden @ scores, effects)})


class FaithfulnessEstimate(Metric):
    """Pearson's correlation of each score with the effect of hiding its feature (Alvarez-Melis & Jaakkola 2018).

    corr over features i of (score_i, f(x) − f(x∖i)). Higher is better; in [−1, 1]. In groups, the features are taken by
    falling score, `group_size` at a time and the last group with what is left; a group has the sum of its scores.

    It asks what `tau_loo` asks, but of the scores rather than of their order. Sensitive to the perturbation, and to a
    single feature with a large effect, which can make up all of the correlation; what features do together it does not
    see. One at a time, adding a constant to all scores, or multiplying them by a positive one, changes nothing. It is 1
    by construction for `leave_one_out`, and a method that gives magnitudes only cannot reach 1 where some features
    speak against the target. Undefined for one feature or a single group, and where all scores, or all effects, are
    equal.
    """

    def __init__(self, group_size: int = 1) -> None:
        """Set how many features are hidden at a time: 1 in the paper.

        Raises:
            ValueError: it is no whole number of at least 1.
        """
        self.group_size = whole_number("group_size", group_size, at_least=1)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The correlation."""
        return (Measure("faithfulness_estimate", "higher", (-1.0, 1.0)),)

    def converse(self, case: Case) -> Conversation[Scores]:
        """Ask for the full input and for each group hidden."""
        scores = _judged(case)
        if case.n <= self.group_size:
            raise Undefined(f"one group of {self.group_size} features holds all {case.n}")
        group = np.empty(case.n, dtype=np.intp)
        group[_ranking(case)] = np.arange(case.n) // self.group_size
        hidden = group[None, :] == np.arange(group.max() + 1)[:, None]
        answers = yield np.concatenate([np.ones((1, case.n), dtype=np.bool_), ~hidden])
        effects = _effects(answers[:, case.target], "hiding one feature" if self.group_size == 1 else "hiding a group")
        return Scores({"faithfulness_estimate": _pearson(hidden @ scores, effects)})


class Monotonicity(Metric):
    """Does the output never fall while features are shown one after another, least important first (Arya et al. 2019).

    Features are added to the fully hidden input by rising score. Of the outputs after 1 … n of them, `monotonicity` is
    1 where none is below the one before, else 0, as in AIX360; `monotonicity_share` is the share of the n − 1 steps
    that do not fall. Higher is better; both in [0, 1].

    The order is that of the scores with their signs, as AIX360 has it; Quantus takes magnitudes. Adding what speaks
    against the target lowers the output even where the explanation says so: a text with two such features seldom counts
    as monotone. For more than a few words, 0 or 1 is nearly always 0: read the share, of which a random order gets
    about a half. Neither asks how far the output moves, or whether the later steps are the larger. Sensitive to the
    perturbation: the path starts from the fully hidden input. Undefined for one feature, and where all scores, or all
    outputs on the way, are equal.
    """

    @property
    def measures(self) -> tuple[Measure, ...]:
        """All or nothing, and the share of the steps."""
        return (
            Measure("monotonicity", "higher", (0.0, 1.0)),
            Measure("monotonicity_share", "higher", (0.0, 1.0)),
        )

    def converse(self, case: Case) -> Conversation[Scores]:
        """Ask for the 1 … n lowest ranking features alone."""
        _judged(case)
        place = np.empty(case.n, dtype=np.intp)
        place[_ranking(case)[::-1]] = np.arange(case.n)
        answers = yield place[None, :] <= np.arange(case.n)[:, None]
        outputs = answers[:, case.target].astype(np.float64)
        noise = rounding(outputs)
        if np.ptp(outputs) <= noise:
            raise Undefined("the output is the same at every step")
        held = np.diff(outputs) >= -noise
        return Scores({"monotonicity": float(held.all()), "monotonicity_share": float(held.mean())})


class MonotonicityCorrelation(Metric):
    """Spearman's correlation of a score's magnitude with the loss of hiding its feature (Nguyen & Martínez 2020).

    ρ_S over features i of (|score_i|, e_i); the paper's e_i is the expected loss E[l(f(x), f(x with feature i drawn
    anew))]. Here the loss is the squared error, the draw is what the perturbation puts in place of the feature, and so
    e_i = (f(x) − f(x∖i))². Higher is better; in [−1, 1].

    Signs play no part: it suits methods that give magnitudes only, and is blind to a reversed sign. Only the order of
    the magnitudes matters. Sensitive to the perturbation; under one of several draws (`infill`) the outputs are
    averaged before the loss is taken, so that e_i lacks the variance between the draws. Undefined for one feature, and
    where all magnitudes, or all losses, are equal.
    """

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The correlation."""
        return (Measure("monotonicity_correlation", "higher", (-1.0, 1.0)),)

    def converse(self, case: Case) -> Conversation[Scores]:
        """Ask for the full input and for each feature left out."""
        from scipy.stats import rankdata

        magnitudes = np.abs(_judged(case))
        if np.all(magnitudes == magnitudes[0]):
            raise Undefined("the magnitudes of all scores are equal")
        answers = yield _left_out(case.n)
        outputs = answers[:, case.target].astype(np.float64)
        losses = (outputs[0] - outputs[1:]) ** 2
        if np.ptp(np.sqrt(losses)) <= rounding(outputs):
            raise Undefined("all losses of leaving one feature out are equal")
        return Scores({"monotonicity_correlation": _pearson(rankdata(magnitudes), rankdata(losses))})
