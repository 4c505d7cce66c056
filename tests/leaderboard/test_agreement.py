"""Agreement against scipy, pair by pair and example by example."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from assay.leaderboard.agreement import alike_together, of_explainers, of_measures, of_measures_by_example

LENGTHS = [5, 1, 9, 5, 30, 2]
SIGNED = np.array([True, True, False, True])


def attributions(seed: int = 0) -> NDArray[np.float64]:
    """Four explainers: ties, an example without an attribution, one with all scores equal, and one of magnitudes."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(4, sum(LENGTHS))).round(1)
    scores[1] = scores[0] + rng.normal(scale=0.3, size=scores.shape[1])
    scores[2] = np.abs(scores[2])
    scores[0, :5] = np.nan
    scores[3, 15:20] = 0.25
    return scores


def test_explainers_agree_as_scipy_says_and_magnitudes_are_compared_with_magnitudes() -> None:
    scores = attributions()
    found = of_explainers(scores, LENGTHS, SIGNED)
    ends = np.cumsum(LENGTHS)
    for one in range(4):
        for other in range(4):
            both = SIGNED[one] and SIGNED[other]
            first, second = (scores[place] if both else np.abs(scores[place]) for place in (one, other))
            each = []
            for end, length in zip(ends, LENGTHS, strict=True):
                a, b = first[end - length : end], second[end - length : end]
                if np.isfinite([a, b]).all() and np.ptp(a) > 0 and np.ptp(b) > 0:
                    each.append(spearmanr(a, b).statistic)
            assert found.counts[one, other] == len(each)
            assert found.values[one, other] == pytest.approx(np.mean(each), abs=1e-6)


def test_an_explainer_agrees_with_itself_and_not_with_its_opposite() -> None:
    scores = np.random.default_rng(1).normal(size=(1, sum(LENGTHS)))
    found = of_explainers(np.concatenate([scores, -scores, np.abs(scores)]), LENGTHS, np.array([True, True, False]))
    assert found.values[0, :2] == pytest.approx([1, -1], abs=1e-6)
    assert found.values[1, 2] == pytest.approx(1, abs=1e-6)


def test_what_is_nowhere_defined_has_no_agreement() -> None:
    scores = attributions()
    scores[3] = np.nan
    found = of_explainers(scores, LENGTHS, SIGNED)
    assert np.isnan(found.values[3]).all()
    assert not found.counts[3].any()
    assert np.isfinite(found.values[:3, :3]).all()


def test_measures_agree_as_scipy_says_on_single_examples_and_on_means() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(3, 12, 7)).round(1)
    values[1] = -values[0] + rng.normal(scale=0.2, size=values[1].shape)
    values[2, 4, 3] = np.nan
    better = np.array([1.0, -1.0, 1.0])
    by_example, overall = of_measures_by_example(values, better), of_measures(values.mean(axis=1), better)
    for one in range(3):
        for other in range(3):
            pairs = [(better[one] * values[one, row], better[other] * values[other, row]) for row in range(12)]
            each = [spearmanr(a, b).statistic for a, b in pairs if np.isfinite([a, b]).all()]
            assert by_example.values[one, other] == pytest.approx(np.mean(each), abs=1e-6)
            assert by_example.counts[one, other] == len(each)
            a, b = better[one] * values[one].mean(axis=0), better[other] * values[other].mean(axis=0)
            both = np.isfinite(a) & np.isfinite(b)
            assert overall.values[one, other] == pytest.approx(kendalltau(a[both], b[both]).statistic)
            assert overall.counts[one, other] == both.sum()
    assert by_example.values[0, 1] > 0.8


def test_measures_of_two_methods_or_of_tied_ones_have_no_agreement() -> None:
    better = np.ones(2)
    assert np.isnan(of_measures(np.array([[1.0, 2.0], [2.0, 3.0]]), better).values).all()
    tied = of_measures(np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0]]), better).values
    assert np.isnan(tied[0]).all()
    assert tied[1, 1] == 1


def test_two_families_that_agree_within_stand_together() -> None:
    values = np.full((6, 6), -0.2)
    for family in ([0, 3, 5], [1, 2, 4]):
        values[np.ix_(family, family)] = 0.9
    np.fill_diagonal(values, 1.0)
    values[0, 1] = values[1, 0] = np.nan
    order = alike_together(values)
    assert sorted(order[:3]) in ([0, 3, 5], [1, 2, 4])
    assert sorted(order) == list(range(6))
