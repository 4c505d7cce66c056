"""Correlation: does the order of the scores agree with the effect of each feature on its own."""

from __future__ import annotations

import numpy as np
from scipy.stats import kendalltau

from assay.conversation import Case, Conversation
from assay.errors import Undefined
from assay.metrics.base import Measure, Metric, Scores


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
        if case.attribution is None:
            raise Undefined("there is no attribution to judge")
        if case.n < 2:
            raise Undefined("a single feature has no order")
        keep = np.concatenate([np.ones((1, case.n), dtype=np.bool_), ~np.eye(case.n, dtype=np.bool_)])
        answers = yield keep
        outputs = answers[:, case.target].astype(np.float64)
        effects = outputs[0] - outputs[1:]
        scores = case.attribution.scores
        for name, values in (("scores", scores), ("effects of leaving one feature out", effects)):
            if np.all(values == values[0]):
                raise Undefined(f"all {name} are equal")
        return Scores({"tau_loo": float(kendalltau(scores, effects).statistic)})
