"""Plausibility: do the highest ranking words agree with what people marked. It says nothing about faithfulness."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from assay.conversation import Case, Conversation, Feature, Vector
from assay.errors import Undefined
from assay.metrics.base import Measure, Metric, Scores

MATCH = 0.5  # intersection over union from which two spans are the same one (DeYoung et al. 2020, section 4)

Span = tuple[int, int]  # the first feature and the one after the last


class Plausibility(Metric):
    """Agreement with human highlights, as ERASER defines it (DeYoung et al. 2020, section 4).

    It tells how convincing an explanation is and not whether it is true of the model: a model that decides by other
    words than people would is explained well only by an explanation that is not plausible (Jacovi & Goldberg 2020). So
    it has no objective for the oracle, no skill, and no part in any mean of faithfulness.

    Let R be the k highest ranking features and H the highlighted ones:

    - `plausibility_token_precision` |R ∩ H| / |R|, `plausibility_token_recall` |R ∩ H| / |H|, and their harmonic mean
      `plausibility_token_f1` = 2 |R ∩ H| / (|R| + |H|);
    - `plausibility_iou` |R ∩ H| / |R ∪ H|, which ferret calls IOU F1;
    - `plausibility_iou_precision`: the share of the spans (features in a row) of R whose intersection over union with
      some span of H is at least 0.5; `plausibility_iou_recall` the share of the spans of H that are so matched;
      `plausibility_iou_f1` their harmonic mean;
    - `plausibility_auprc`: area under the precision-recall curve of the scores by the trapezoid rule.

    All in [0, 1], higher is better. Only features that were put before an annotator count. With several annotators each
    value is the mean over them, those left out who marked nothing or everything that they saw.

    Where ERASER's scorer differs: it scores the two texts of a pair as two documents, here they are one. Its macro
    token F1 is the mean of `plausibility_token_f1`, its macro IOU F1 the harmonic mean of the means of
    `plausibility_iou_precision` and `plausibility_iou_recall`, not the mean of `plausibility_iou_f1`.

    Sensitive to k, and to the feature unit: a word of several tokens is as many features. `plausibility_auprc` takes no
    k; it is optimistic where scores are equal, since a straight line joins the points on either side of them.
    Undefined where nobody marked anything, or everybody everything.

    Args:
        k: how many features R has: a whole number; or a share of those that were put before the annotator, rounded up
            (ERASER: the mean share that people highlighted in the data set); or None for as many as the annotators of
            the example highlighted on average, rounded, at least 1, so that an example depends on itself alone. ferret
            takes 5.
        positive_only: whether features without a positive score can be in R, and count as 0 in the curve (ferret).
            Such a rationale may be empty; its F1 is 0.

    Raises:
        ValueError: a k that is no positive whole number and no share between 0 and 1.
    """

    needs_highlights = True

    def __init__(self, k: float | None = None, positive_only: bool = False) -> None:
        whole = isinstance(k, int) and not isinstance(k, bool) and k > 0
        if k is not None and not whole and not (isinstance(k, float) and 0 < k < 1):
            raise ValueError(f"k must be a whole number above 0, a share between 0 and 1, or null, not {k!r}")
        self.k = k
        self.positive_only = positive_only

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Token F1, IOU F1 and AUPRC; what the first two are made of, and ferret's IOU."""
        shown = ("token_f1", "iou_f1", "auprc")
        stored = ("token_precision", "token_recall", "iou_precision", "iou_recall", "iou")
        return tuple(
            Measure(f"plausibility_{name}", "higher", (0.0, 1.0), headline=name in shown) for name in (*shown, *stored)
        )

    def converse(self, case: Case) -> Conversation[Scores]:
        """Ask nothing of the model."""
        if case.attribution is None or case.ranking is None:
            raise Undefined("there is no attribution to judge")
        if case.highlights is None:
            raise Undefined("nobody marked what they found to decide")
        marks = [row for row in case.highlights if np.any(row == 1) and np.any(row == 0)]
        if not marks:
            everything = np.any(case.highlights == 1)
            raise Undefined(f"{'every' if everything else 'no'} feature is highlighted")
        yield np.empty((0, case.n), dtype=np.bool_)
        usual = max(1, round(float(np.mean([np.sum(row == 1) for row in marks]))))
        found = [self._against(row, usual, case.ranking, case.attribution.scores, case.features) for row in marks]
        return Scores({f"plausibility_{name}": float(np.mean([one[name] for one in found])) for name in found[0]})

    def _against(
        self, marks: Vector, usual: int, ranking: NDArray[np.intp], scores: Vector, features: tuple[Feature, ...]
    ) -> dict[str, float]:
        """The values against one annotator's marks, [n]."""
        from sklearn.metrics import auc, precision_recall_curve

        seen, highlighted = ~np.isnan(marks), marks == 1
        # Rounding first keeps 0.07 · 100 = 7.000000000000001 from becoming 8.
        k = math.ceil(round(self.k * seen.sum(), 9)) if isinstance(self.k, float) else self.k or usual
        candidates = seen & (scores > 0) if self.positive_only else seen
        taken = np.zeros(len(marks), dtype=np.bool_)
        taken[[feature for feature in ranking if candidates[feature]][:k]] = True
        both, size, due = int((taken & highlighted).sum()), int(taken.sum()), int(highlighted.sum())
        spans, truths = _spans(taken, features), _spans(highlighted, features)
        matched = [max((_overlap(span, truth) for truth in truths), default=0.0) >= MATCH for span in spans]
        met = [max((_overlap(span, truth) for span in spans), default=0.0) >= MATCH for truth in truths]
        iou_precision, iou_recall = (sum(matched) / len(spans) if spans else 0.0), sum(met) / len(truths)
        curve = np.where(scores > 0, scores, 0.0) if self.positive_only else scores
        precision, recall, _ = precision_recall_curve(highlighted[seen], curve[seen])
        return {
            "token_f1": 2 * both / (size + due),
            "iou_f1": 2 * iou_precision * iou_recall / (iou_precision + iou_recall) if any(matched) else 0.0,
            "auprc": float(auc(recall, precision)),
            "token_precision": both / size if size else 0.0,
            "token_recall": both / due,
            "iou_precision": iou_precision,
            "iou_recall": iou_recall,
            "iou": both / (size + due - both),
        }


def _spans(chosen: NDArray[np.bool_], features: tuple[Feature, ...]) -> list[Span]:
    """Runs of chosen features that are neighbours in one text."""
    found: list[Span] = []
    for index in np.flatnonzero(chosen).tolist():
        here = features[index]
        if found and found[-1][1] == index:
            before = features[index - 1]
            if (before.segment, before.position + 1) == (here.segment, here.position):
                found[-1] = (found[-1][0], index + 1)
                continue
        found.append((index, index + 1))
    return found


def _overlap(one: Span, other: Span) -> float:
    """Intersection over union of two spans, in [0, 1]."""
    common = max(0, min(one[1], other[1]) - max(one[0], other[0]))
    return common / (one[1] - one[0] + other[1] - other[0] - common)
