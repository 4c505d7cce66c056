"""Which methods are told apart: the decisions of the step-down test, however many methods there are."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from assay.benchmark import significance, standing
from assay.benchmark.significance import all_flips, packed_sign_flips, sign_flip_test, sign_flips, signs_of
from assay.benchmark.standing import ALPHABET, letters, stand, told_apart


def drawn(seed: int, examples: int, methods: int, holes: float = 0.0, spread: float = 0.4) -> NDArray[np.float64]:
    """Methods whose means differ a little, on examples that differ much."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(examples, 1)) + rng.normal(size=(examples, methods)) + spread * rng.normal(size=methods)
    values[rng.random(values.shape) < holes] = np.nan
    return values


def step_down(values: NDArray[np.float64], flips: int = standing.FLIPS) -> NDArray[np.bool_]:
    count = values.shape[1]
    apart = np.zeros((count, count), bool)
    apart[np.triu_indices(count, 1)] = sign_flip_test(values, flips)[1] <= 0.05
    return apart | apart.T


@pytest.mark.parametrize("holes", [0.0, 0.2])
@pytest.mark.parametrize(("examples", "methods"), [(7, 4), (12, 9), (40, 3), (60, 25), (200, 12)])
def test_the_decisions_are_those_of_the_step_down_test(examples: int, methods: int, holes: float) -> None:
    for seed in range(5):
        values = drawn(seed, examples, methods, holes)
        np.testing.assert_array_equal(told_apart(values)[0], step_down(values))


def test_a_few_pairs_that_decide_all_flips_do_not_hide_the_others() -> None:
    """Without the pairs that are told apart first, all flips may lie far below what told those apart."""
    values = drawn(8, 30, 6)
    far = np.concatenate([values, 1e6 + 1e-3 * drawn(9, 30, 2)], axis=1)
    np.testing.assert_array_equal(told_apart(far)[0], step_down(far))
    same = np.repeat(values[:, :1], 4, axis=1)
    same[:, 3] += 5.0
    np.testing.assert_array_equal(told_apart(same)[0], step_down(same))


def test_methods_that_agree_everywhere_or_nearly_are_never_told_apart_by_rounding() -> None:
    values = drawn(3, 50, 3)
    same = np.concatenate([values, values, values + 1e-13 * drawn(4, 50, 3)], axis=1)
    apart, _ = told_apart(same)
    assert not apart[np.arange(3), np.arange(3, 6)].any()
    np.testing.assert_array_equal(apart[:3, :3], apart[3:6, 3:6])


def test_beyond_a_hundred_methods_fewer_flips_in_single_precision_decide_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    values = drawn(5, 60, standing.MANY + 5, holes=0.02)
    many, _ = told_apart(values)
    np.testing.assert_array_equal(many, step_down(values, standing.FEWER_FLIPS))
    monkeypatch.setattr(standing, "MANY", 1000)
    all_flips, _ = told_apart(values)
    assert (many != all_flips).mean() < 0.01
    assert 0.1 < all_flips.mean() < 0.9


def test_the_level_is_held_beyond_a_hundred_methods() -> None:
    rng = np.random.default_rng(0)
    false = sum(told_apart(rng.normal(size=(30, standing.MANY + 1)))[0].any() for _ in range(60))
    assert false <= 8


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values = drawn(6, 30, 8, holes=0.1)
    apart, _ = told_apart(values)
    for name, value in (("_BLOCK", 37), ("_SIGNS", 5 * len(values))):
        monkeypatch.setattr(standing, name, value)
        np.testing.assert_array_equal(told_apart(values)[0], apart)


@pytest.mark.parametrize("count", [3, 13, 14, 37, 1001])
def test_flips_are_the_same_whatever_their_blocks(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    signs = sign_flips(count)
    if count > 13:
        np.testing.assert_array_equal(signs, 1 - 2 * np.random.default_rng(2).integers(0, 2, signs.shape, np.int8))
    else:
        assert len(np.unique(signs, axis=0)) == len(signs) == all_flips(count)
    monkeypatch.setattr(significance, "_BLOCK", 8 * count)
    packed_sign_flips.cache_clear()
    np.testing.assert_array_equal(signs_of(packed_sign_flips(count), count, np.float32), signs)


def test_more_groups_than_letters_are_not_lettered_and_all_else_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain in which only neighbours cannot be told apart has as many groups as links."""
    count = len(ALPHABET) + 2
    apart = np.abs(np.subtract.outer(np.arange(count), np.arange(count))) > 1
    assert set(letters(apart)) == {""}
    assert letters(apart[:-1, :-1])[1] == "ab"
    values = drawn(7, 40, 10)
    plain = stand(values)
    assert "c" in "".join(plain.groups)
    monkeypatch.setattr(standing, "ALPHABET", "ab")
    found = stand(values)
    assert set(found.groups) == {""}
    for name in ("low", "high", "leading"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))


def test_who_leads_is_the_best_and_what_shares_a_letter_with_it() -> None:
    for better in (1.0, -1.0):
        values = drawn(7, 40, 10)
        found = stand(values, better)
        best = int(np.argmax(better * values.mean(axis=0)))
        shared = [bool(set(group) & set(found.groups[best])) for group in found.groups]
        assert found.leading.tolist() == shared
        assert found.leading[best]
