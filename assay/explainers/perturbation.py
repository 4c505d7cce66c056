"""Explainers that hide one part of the input and watch the output."""

from __future__ import annotations

import numpy as np

from assay.conversation import Case, Conversation, Vector
from assay.explainers.base import BlackBoxExplainer


class LeaveOneOut(BlackBoxExplainer):
    """How much the output falls when one feature is hidden.

    score_i = f(x) − f(x∖i), in units of the output; f is the target's output and x∖i the input with feature i hidden
    by the run's perturbation (Li, Monroe & Jurafsky 2016, "Understanding Neural Networks through Representation
    Erasure"). Signed. Cost: n + 1 model rows in one round.
    """

    def converse(self, case: Case) -> Conversation[Vector]:
        """Ask about the full input and about each feature hidden alone; return [n] differences."""
        keep = np.concatenate([np.ones((1, case.n), dtype=np.bool_), ~np.eye(case.n, dtype=np.bool_)])
        answers = yield keep
        outputs = answers[:, case.target].astype(np.float64)
        scores: Vector = outputs[0] - outputs[1:]
        return scores
