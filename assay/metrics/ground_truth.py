"""Ground truth: are the words that truly decide ranked first, where a task knows them."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score

from assay.conversation import Case, Conversation
from assay.errors import Undefined
from assay.metrics.base import Measure, Metric, Scores


class GroundTruth(Metric):
    """Precision@k and AUPRC against the features that truly decide (Bastings et al. 2022).

    `ground_truth_precision`: share of true features among the k highest ranking, k = how many are true.
    `ground_truth_auprc`: average precision of the scores, the area under the precision-recall curve without
    interpolation. Both in [0, 1], higher is better; a random ranking scores about the share of true features. Only for
    tasks that know the truth.
    """

    needs_rationale = True

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Precision and AUPRC."""
        return (
            Measure("ground_truth_precision", "higher", (0.0, 1.0)),
            Measure("ground_truth_auprc", "higher", (0.0, 1.0)),
        )

    def converse(self, case: Case) -> Conversation[Scores]:
        """Ask nothing of the model."""
        if case.attribution is None or case.ranking is None:
            raise Undefined("there is no attribution to judge")
        if case.rationale is None:
            raise Undefined("the true rationale is unknown")
        k = int(case.rationale.sum())
        if k in (0, case.n):
            raise Undefined(f"{'no' if k == 0 else 'every'} feature is in the true rationale")
        yield np.empty((0, case.n), dtype=np.bool_)
        return Scores(
            {
                "ground_truth_precision": float(case.rationale[case.ranking[:k]].mean()),
                "ground_truth_auprc": float(average_precision_score(case.rationale, case.attribution.scores)),
            }
        )
