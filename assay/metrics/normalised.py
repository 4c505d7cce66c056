"""Normalised area over the perturbation curve: where a ranking stands between the worst and the best of its text."""

from __future__ import annotations

import numpy as np

from assay.conversation import Case, Conversation, Objective, highest
from assay.metrics.base import Measure, Metric, Scores
from assay.metrics.paths import judged
from assay.search import Precision, Search

# Answers are single precision: a spread below this is rounding, and what is divided by it noise.
_LEAST_SPREAD = 1e-6


class NormalisedAopc(Metric):
    """Area over the perturbation curve, between the least and the largest that any ranking of the text can have.

    AOPC = 1/n · Σ_{k=1}^{n} f(x) − f(x without k features), one feature a step and every one of them (Edin et al. 2025,
    NAOPC). `normalised_aopc` = (AOPC − lower) / (upper − lower) when the highest ranking features go first, the paper's
    comprehensiveness: higher is better. `normalised_aopc_sufficiency` is the same when the lowest ranking go first, its
    sufficiency: lower is better. In [0, 1] where the bounds are exact; 0.5 is not chance. `lower` and `upper` are over
    all rankings, so both directions share them. The values before they are normalised and the bounds are stored.

    It makes texts and models comparable whose outputs move by more or less; it is sensitive to the perturbation and the
    feature unit, and gives a text on which nothing matters the same weight as any other.

    Bounds are exact up to `exact_up_to` features and found by a beam search above, which may miss them: a score can
    then pass 0 or 1 a little. They cost up to 2^n rows (exact), or about 4 · candidates · width · n (beam), for each
    example once, however many explainers are judged. Undefined where upper = lower: every ranking scores the same, as
    for a single feature or a constant model.

    Args:
        exact_up_to: the most features for which the bounds are exact.
        width: how many beginnings of a ranking the beam search follows (the authors: 5, or 50).
        candidates: the most features that are tried from each of them (all in theirs).
        precision: of the search's arithmetic (`assay.search.Search` says more); the bounds are measured in the model's.

    Raises:
        ValueError: `exact_up_to` is below 0 or above 16, `width` or `candidates` below 1, or an unknown precision.
    """

    def __init__(
        self, exact_up_to: int = 8, width: int = 2, candidates: int = 8, precision: Precision = "model"
    ) -> None:
        self._search = Search(exact_up_to, width, candidates, precision)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Both directions, normalised and not, and the bounds."""
        return (
            Measure("normalised_aopc", "higher", (0.0, 1.0)),
            Measure("normalised_aopc_sufficiency", "lower", (0.0, 1.0)),
            Measure("normalised_aopc_value", "higher", (-1.0, 1.0), headline=False),
            Measure("normalised_aopc_sufficiency_value", "lower", (-1.0, 1.0), headline=False),
            Measure("normalised_aopc_lower", "none", (-1.0, 1.0), headline=False),
            Measure("normalised_aopc_upper", "none", (-1.0, 1.0), headline=False),
        )

    def objective(self, n: int) -> Objective:
        """The area over the curve; normalising it leaves the best ranking of a text the best."""
        weights = np.full(n + 1, -1.0 / n)
        weights[0] = 1.0
        return Objective(weights, hides=True, maximise=True)

    def converse(self, case: Case) -> Conversation[Scores]:
        """Ask for both directions at once, then for the states that the search visits."""
        ranking, n, objective = judged(case), case.n, self.objective(case.n)
        steps = np.arange(n + 1)
        answers = yield np.concatenate([~highest(ranking, steps), highest(ranking, n - steps)])
        falling, rising = np.split(answers[:, case.target].astype(np.float64), 2)
        ends = objective.weights[0] * falling[0] + objective.weights[n] * falling[n]
        lower, upper = yield from self._search.bounds(objective, n, case.target)
        found = {
            "normalised_aopc_value": float(objective.weights @ falling),
            "normalised_aopc_sufficiency_value": float(objective.weights @ rising),
            "normalised_aopc_lower": float(ends + lower),
            "normalised_aopc_upper": float(ends + upper),
        }
        if upper - lower < _LEAST_SPREAD:
            reason = "every ranking has the same area over its curve"
            names = ("normalised_aopc", "normalised_aopc_sufficiency")
            return Scores(found | dict.fromkeys(names, float("nan")), dict.fromkeys(names, reason))
        for name in ("normalised_aopc", "normalised_aopc_sufficiency"):
            share = (found[f"{name}_value"] - found["normalised_aopc_lower"]) / (upper - lower)
            # Past an exact bound is rounding; past one of the beam's is a ranking that the search has missed.
            found[name] = min(max(share, 0.0), 1.0) if n <= self._search.exact_up_to else share
        return Scores(found)
