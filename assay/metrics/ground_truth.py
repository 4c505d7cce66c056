"""Ground truth: are the words that truly decide ranked first, where a task knows them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay.conversation import Case, Conversation, Vector
from assay.errors import Undefined
from assay.metrics.base import Measure, Metric, Scores


class GroundTruth(Metric):
    """Precision@k, rank and AUPRC against the features that truly decide (Bastings et al. 2022).

    `ground_truth_precision`: share of true features among the k highest ranking, k = how many are true. Higher is
    better, in [0, 1]; a random ranking scores the share of true features, k/n.
    `ground_truth_depth`: how far down the ranking one must go to have met every true feature, in features, from k to n;
    the paper's "mean rank" is its mean over the examples. Lower is better.
    `ground_truth_rank`: the same freed of the length of the text, (depth − k) / (n − k). Lower is better, in [0, 1]: 0
    where the true features come first, 1 where one of them comes last; a random ranking scores k/(k + 1) on average.
    `ground_truth_auprc`: average precision of the scores, the area under the precision-recall curve without
    interpolation. Higher is better, in [0, 1]; a random ranking scores about k/n.

    Sensitive to the feature unit: a word of several tokens is as many true features. The rank hangs on the worst placed
    true feature alone, AUPRC on all of them. Undefined where no feature is true or every one.
    """

    needs_rationale = True

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Precision, rank and AUPRC."""
        return (
            Measure("ground_truth_precision", "higher", (0.0, 1.0)),
            Measure("ground_truth_rank", "lower", (0.0, 1.0)),
            Measure("ground_truth_auprc", "higher", (0.0, 1.0)),
            Measure("ground_truth_depth", "lower", (1.0, float("inf")), headline=False),
        )

    def converse(self, case: Case) -> Conversation[Scores]:
        """Ask nothing of the model."""
        from sklearn.metrics import average_precision_score

        ranking, rationale, scores = _known(case)
        yield np.empty((0, case.n), dtype=np.bool_)
        k = int(rationale.sum())
        depth = int(np.flatnonzero(rationale[ranking])[-1]) + 1
        return Scores(
            {
                "ground_truth_precision": float(rationale[ranking[:k]].mean()),
                "ground_truth_rank": (depth - k) / (case.n - k),
                "ground_truth_auprc": float(average_precision_score(rationale, scores)),
                "ground_truth_depth": float(depth),
            }
        )


class PointingGame(Metric):
    """Whether the highest ranking feature is one of those that truly decide (Poerner et al. 2018).

    1 for a hit, 0 for a miss; higher is better. In a `hybrid` text the true features are the words of the sentences of
    the explained class, so a hit is a word from a sentence of that class. The mean over the examples is the paper's
    pointing game accuracy; a random ranking hits by the share of true features.

    Sensitive to the sign: what speaks most against the class must not come first, so methods that give magnitudes only
    are at a disadvantage that is their own. Which of equal highest scores counts is drawn by the example's seed.
    Undefined where no feature is true (the explained class has no sentence: the paper leaves such texts out as well) or
    every one.
    """

    needs_rationale = True

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Hit or miss."""
        return (Measure("pointing_game", "higher", (0.0, 1.0)),)

    def converse(self, case: Case) -> Conversation[Scores]:
        """Ask nothing of the model."""
        ranking, rationale, _ = _known(case)
        yield np.empty((0, case.n), dtype=np.bool_)
        return Scores({"pointing_game": float(rationale[ranking[0]])})


def _known(case: Case) -> tuple[NDArray[np.intp], NDArray[np.bool_], Vector]:
    """The ranking, the true rationale and the scores, each [n].

    Raises:
        Undefined: there is nothing to judge, or nothing to tell apart.
    """
    if case.attribution is None or case.ranking is None:
        raise Undefined("there is no attribution to judge")
    if case.rationale is None:
        raise Undefined("the true rationale is unknown")
    if case.rationale.all() or not case.rationale.any():
        raise Undefined(f"{'every' if case.rationale.any() else 'no'} feature is in the true rationale")
    return case.ranking, case.rationale, case.attribution.scores
