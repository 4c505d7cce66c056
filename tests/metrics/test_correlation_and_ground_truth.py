"""Kendall's τ against scipy and a count by hand; ground truth against scikit-learn and cases worked out by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import kendalltau
from sklearn.metrics import average_precision_score

from assay.api import score
from assay.classifier import Classifier
from assay.conversation import Keep
from assay.errors import Undefined
from assay.metrics.correlation import TauLeaveOneOut
from assay.metrics.ground_truth import GroundTruth
from tests import plain
from tests.conversations import SetFunction, table
from tests.metrics.judging import judge, output_of, random_sets

few = st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=9)


def nothing(keep: Keep) -> np.ndarray:
    assert len(keep) == 0, "ground truth asks nothing of the model"
    return np.empty(0)


def effects_are(effects: list[float]) -> SetFunction:
    return lambda keep: 10.0 - (~keep) @ np.array(effects)


@given(few, st.data())
def test_tau_counts_pairs_that_agree_less_pairs_that_do_not(scores: list[float], data: st.DataObject) -> None:
    effects = data.draw(st.lists(st.integers(-3, 3).map(float), min_size=len(scores), max_size=len(scores)))
    assume(len(set(scores)) > 1 and len(set(effects)) > 1)
    found = judge(TauLeaveOneOut(), scores, effects_are(effects)).values["tau_loo"]
    pairs = [
        (np.sign(scores[i] - scores[j]), np.sign(effects[i] - effects[j]))
        for i, j in combinations(range(len(scores)), 2)
    ]
    untied = np.sqrt(sum(a != 0 for a, _ in pairs) * sum(b != 0 for _, b in pairs))
    assert found == pytest.approx(sum(a * b for a, b in pairs) / untied)


def test_tau_equals_scipys_on_the_effects_of_the_definition() -> None:
    values, scores = random_sets(6).astype(np.float32), np.random.default_rng(1).normal(size=6)
    output, everything = output_of(values), frozenset(range(6))
    effects = [output(everything) - output(everything - {feature}) for feature in range(6)]
    found = judge(TauLeaveOneOut(), scores, table(values)).values["tau_loo"]
    assert found == pytest.approx(kendalltau(scores, effects).statistic)


def test_on_a_real_bert_tau_is_that_of_a_loop_of_single_rows(tiny_bert: Classifier) -> None:
    text = ("a dull , lifeless script that never finds its feet .", "unforgettable")
    bert = plain.PlainBert(tiny_bert.model, tiny_bert.tokenizer, text, "word", "delete")
    output, everything = bert.output(bert.predicted()), frozenset(range(bert.n))
    effects = [output(everything) - output(everything - {feature}) for feature in range(bert.n)]
    scores = np.random.default_rng(0).normal(size=bert.n)
    frame = score(tiny_bert, [text], [scores], ["tau_loo"], perturbation="delete")
    assert frame["tau_loo"][0] == pytest.approx(kendalltau(scores, effects).statistic)
    assert score(tiny_bert, [text], [effects], ["tau_loo"], perturbation="delete")["tau_loo"][0] == pytest.approx(1)


def test_tau_of_equal_scores_is_undefined() -> None:
    with pytest.raises(Undefined, match="all scores are equal"):
        judge(TauLeaveOneOut(), [0.5, 0.5], effects_are([1.0, 2.0]))


@given(st.lists(st.tuples(st.integers(0, 4).map(float), st.booleans()), min_size=2, max_size=12))
def test_average_precision_is_scikit_learns(features: list[tuple[float, bool]]) -> None:
    scores, truth = zip(*features, strict=True)
    assume(0 < sum(truth) < len(truth))
    found = judge(GroundTruth(), scores, nothing, rationale=truth).values
    assert found["ground_truth_auprc"] == pytest.approx(average_precision_score(truth, scores))


@pytest.mark.parametrize(
    ("scores", "truth", "precision", "average_precision"),
    [
        ([9, 8, 1, 0], [1, 1, 0, 0], 1.0, 1.0),
        ([0, 1, 8, 9], [1, 1, 0, 0], 0.0, (1 / 3 + 2 / 4) / 2),
        ([9, 1, 8, 0], [1, 1, 0, 0], 0.5, (1 / 1 + 2 / 3) / 2),
        ([-5, -1, -9], [0, 0, 1], 0.0, 1 / 3),
    ],
)
def test_precision_and_average_precision_worked_out_by_hand(
    scores: list[float], truth: list[int], precision: float, average_precision: float
) -> None:
    found = judge(GroundTruth(), scores, nothing, rationale=[flag == 1 for flag in truth]).values
    assert found["ground_truth_precision"] == pytest.approx(precision)
    assert found["ground_truth_auprc"] == pytest.approx(average_precision)


@pytest.mark.parametrize(("truth", "reason"), [([False] * 3, "no feature"), ([True] * 3, "every feature")])
def test_a_rationale_of_nothing_or_everything_is_undefined(truth: list[bool], reason: str) -> None:
    with pytest.raises(Undefined, match=reason):
        judge(GroundTruth(), [1.0, 2.0, 3.0], nothing, rationale=truth)


def test_an_unknown_rationale_is_undefined() -> None:
    with pytest.raises(Undefined, match="unknown"):
        judge(GroundTruth(), [1.0, 2.0], nothing)
