"""The search for both ends of an objective against all orders; for the best ranking see the tests of the oracle."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.conversation import Objective, Rough
from assay.search import Search
from tests.conversations import TARGET, run, table

exact = Search(exact_up_to=6)
everything = Search(exact_up_to=0, width=20, candidates=6)  # 20 sets of 3 among 6: the beam drops nothing


def sum_without_ends(objective: Objective, order: tuple[int, ...], function: Any) -> float:
    inner = np.arange(1, len(order))
    outputs = function(objective.path(np.array(order), inner)).astype(np.float32).astype(np.float64)
    return float(objective.weights[inner] @ outputs)


@given(st.integers(1, 5), st.integers(0, 2**32 - 1), st.booleans(), st.booleans(), st.sampled_from([exact, everything]))
@settings(max_examples=60, deadline=None)
def test_bounds_are_the_least_and_the_largest_sum_of_all_orders(
    n: int, seed: int, hides: bool, maximise: bool, search: Search
) -> None:
    rng = np.random.default_rng(seed)
    function = table(rng.random(2**n))
    objective = Objective(rng.normal(size=n + 1) * (rng.random(n + 1) < 0.7), hides, maximise)
    said = run(search.bounds(objective, n, TARGET), function)
    sums = [sum_without_ends(objective, order, function) for order in permutations(range(n))]
    assert said.result == pytest.approx((min(sums), max(sums)), abs=1e-6)
    asked = [keep.tobytes() for round_ in said.rounds for keep in round_]
    assert len(asked) == len(set(asked))


@given(st.integers(2, 6), st.integers(0, 2**32 - 1), st.sampled_from([exact, everything]))
@settings(max_examples=40, deadline=None)
def test_what_a_rough_search_finds_is_measured_in_full_precision(n: int, seed: int, search: Search) -> None:
    rng = np.random.default_rng(seed)
    function = table(rng.random(2**n))
    objective = Objective(rng.normal(size=n + 1), bool(seed % 2), True)
    said = run(replace(search, precision="float16").bounds(objective, n, TARGET), function)
    sums = [sum_without_ends(objective, order, function) for order in permutations(range(n))]
    for found, true in zip(said.result, (min(sums), max(sums)), strict=True):
        # A sum that some order has, and as good as the best but for the rounding of n outputs to eleven bits.
        assert min(abs(found - one) for one in sums) < 1e-9
        assert abs(found - true) <= 2 * np.abs(objective.weights).sum() * 2**-11
    assert all(isinstance(asked, Rough) for asked in said.rounds[:-1])
    assert isinstance(said.rounds[-1], np.ndarray)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown precision 'float8'"):
        Search(precision="float8")  # type: ignore[arg-type]
