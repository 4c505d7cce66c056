"""Critical-difference diagrams against scikit-posthocs, and as they are drawn."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numpy.typing import NDArray
from scikit_posthocs import posthoc_nemenyi_friedman
from scipy.stats import friedmanchisquare, rankdata

from assay.leaderboard.critical_difference import SHOWN, alike, diagram


def values(methods: int, spread: float, examples: int = 40, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return spread * np.arange(methods) + rng.normal(size=(examples, methods))


@pytest.mark.parametrize("better", [1.0, -1.0])
def test_two_methods_share_a_bar_exactly_where_nemenyi_s_test_does_not_tell_them_apart(better: float) -> None:
    scores = values(9, 0.25)
    names = [f"m{place}" for place in range(9)]
    drawn = diagram("skill", names, scores, better)
    assert drawn.rejected
    assert f"{friedmanchisquare(*scores.T).statistic:.0f}" in drawn.test
    mean_ranks = rankdata(-better * scores, axis=1).mean(axis=0)
    order = np.argsort(mean_ranks)
    assert [label.name for label in drawn.labels] == [names[place] for place in order]
    assert [label.rank for label in drawn.labels] == [f"{rank:.2f}" for rank in mean_ranks[order]]
    apart = posthoc_nemenyi_friedman(scores).to_numpy()[np.ix_(order, order)] < 0.05
    places = [float(re.match(r"M([\d.]+)", label.path)[1]) for label in drawn.labels]  # type: ignore[index]
    for one in range(9):
        for other in range(one + 1, 9):
            shared = any(left < places[one] and places[other] < right for left, right, _ in drawn.bars)
            assert shared == (not apart[one, other])


def test_bars_are_the_longest_runs_and_none_lies_within_another() -> None:
    assert alike(np.array([1.0, 1.5, 2.0, 3.4, 3.5, 9.0]), 1.1) == [(0, 2), (3, 4)]
    assert alike(np.array([1.0, 2.0, 3.0]), 1.0) == [(0, 1), (1, 2)]
    assert alike(np.array([1.0, 5.0]), 1.0) == []


def test_where_friedman_s_test_finds_nothing_one_bar_spans_all() -> None:
    drawn = diagram("skill", ["a", "b", "c"], values(3, 0.0, seed=3))
    assert not drawn.rejected
    assert len(drawn.bars) == 1
    tied = diagram("skill", ["a", "b", "c"], np.ones((10, 3)))
    assert not tied.rejected
    assert len(tied.bars) == 1
    assert tied.difference == "—"


def test_without_a_test_the_reason_is_told() -> None:
    assert diagram("skill", ["a", "b"], values(2, 1.0)).reason == "Friedman's test needs three methods or more, not 2"
    lacking = values(3, 1.0)
    lacking[1:, 2] = np.nan
    assert "needs two examples" in diagram("skill", ["a", "b", "c"], lacking).reason


def test_of_many_methods_the_leading_ones_are_drawn_and_no_two_names_stand_on_one_line() -> None:
    drawn = diagram("skill", [f"method {place}" for place in range(45)], values(45, 0.05))
    assert len(drawn.labels) == SHOWN
    assert drawn.left_out == 45 - SHOWN
    assert len({(label.x, label.y) for label in drawn.labels}) == SHOWN
    assert drawn.height > max(label.y for label in drawn.labels) > max(height for *_, height in drawn.bars)


def test_examples_that_a_method_lacks_are_counted() -> None:
    scores = values(4, 0.5)
    scores[:3, 1] = np.nan
    assert diagram("skill", list("abcd"), scores).examples == ("37", "3")


def test_names_are_cut_to_fit_and_lose_what_turns_text_round() -> None:
    drawn = diagram("skill", ["\u202eevil", "x" * 70, "c"], values(3, 1.0))
    assert all("\u202e" not in label.name and len(label.shown) <= 28 for label in drawn.labels)
