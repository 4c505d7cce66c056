"""Features by falling score; equal scores stand in an order that hangs on the example's seed and on nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from assay.conversation import generator, rank
from assay.metrics.erasure import Comprehensiveness
from tests.conversations import run, table
from tests.metrics.judging import case_for, judge, random_sets

tied = st.lists(st.integers(-2, 2).map(float), min_size=1, max_size=12)


@given(tied, st.integers(0, 2**32 - 1))
def test_a_ranking_is_a_permutation_by_falling_score(scores: list[float], seed: int) -> None:
    ranking = rank(np.array(scores), np.random.default_rng(seed))
    assert sorted(ranking) == list(range(len(scores)))
    assert np.all(np.diff(np.array(scores)[ranking]) <= 0)


@given(tied, st.integers(0, 2**16))
def test_the_same_seed_gives_the_same_ranking(scores: list[float], seed: int) -> None:
    one, two = (rank(np.array(scores), generator(seed, "example")) for _ in range(2))
    assert one.tolist() == two.tolist()


def test_zero_and_minus_zero_tie() -> None:
    first = Counter(int(rank(np.array([0.0, -0.0]), generator(seed))[0]) for seed in range(200))
    assert min(first.values()) > 60


def test_each_of_several_tied_features_comes_first_equally_often() -> None:
    scores = np.array([1.0, 5.0, 5.0, 0.0, 5.0])
    first = Counter(int(rank(scores, generator(0, f"example {i}"))[0]) for i in range(3000))
    assert set(first) == {1, 2, 4}
    assert all(abs(count - 1000) < 150 for count in first.values())  # five standard deviations are 129


def test_moving_tied_features_to_other_places_leaves_the_scores_distribution() -> None:
    values = random_sets(4)
    bits = np.arange(16)[:, None] >> np.arange(4) & 1
    order = np.array([2, 0, 3, 1])
    moved = np.empty(16)  # the same model, its feature order[i] now standing at place i
    moved[bits[:, order] @ (1 << np.arange(4))] = values
    scores = np.array([1.0, 0.0, 1.0, 1.0])

    def mean(scores: np.ndarray, values: np.ndarray) -> float:
        case = case_for(scores)
        found = [
            run(
                Comprehensiveness().converse(replace(case, ranking=rank(scores, generator(0, i)))), table(values)
            ).result.values["comprehensiveness"]
            for i in range(1500)
        ]
        return float(np.mean(found))

    here, there = mean(scores, values), mean(scores[order], moved)
    assert abs(here - there) < 0.03
    # A ranking by position would tell them apart.
    by_position = [
        judge(Comprehensiveness(), s - np.arange(4) * 1e-9, table(v)).values["comprehensiveness"]
        for s, v in ((scores, values), (scores[order], moved))
    ]
    assert abs(by_position[0] - by_position[1]) > 0.1


def test_random_numbers_hang_on_every_name_and_on_the_seed() -> None:
    draws = {
        names: generator(*names).integers(2**62)
        for names in [(0,), (1,), (0, "a"), (0, "a", 0), (0, "a", 1), (0, "b", 0), (0, "a", "0"), (0, "a0")]
    }
    assert len(set(draws.values())) == len(draws)
    assert generator(0, "a").integers(2**62) == draws[0, "a"]
