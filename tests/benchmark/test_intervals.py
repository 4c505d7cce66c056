"""Intervals cover, tests hold their level, and both agree with scipy, statsmodels and worked examples."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from assay.benchmark import resampling
from assay.benchmark.intervals import IntervalMethod, mean_interval, mean_intervals, two_level_intervals
from assay.benchmark.resampling import Floats, bootstrap, contributions, two_level_bootstrap
from assay.benchmark.significance import differences, friedman, sign_flip_test, too_few
from assay.benchmark.skill import skills
from assay.benchmark.standing import letters, stand

HOLES = st.sampled_from([0.0, 0.3])


def skewed(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).gamma(1.2, size=shape)


# Intervals


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("count", [2, 17, 80])
def test_an_interval_is_scipy_s_to_the_last_digit_on_the_same_resamples(method: IntervalMethod, count: int) -> None:
    values = skewed(count, count)
    ours = mean_interval(values, method)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=resampling.RESAMPLES, method=method, rng=np.random.default_rng(0)
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)


@pytest.mark.parametrize(("method", "off"), [("percentile", 1e-12), ("bca", 0.02)])
def test_the_interval_of_a_ratio_of_means_is_scipy_s(method: IntervalMethod, off: float) -> None:
    """For BCa scipy leaves examples out one by one, where ours takes the linear approximation: 2 % of the width."""
    over, under = skewed(1, 60), skewed(2, 60) + 1
    ours = mean_intervals(over[:, None], under[:, None], method)[0]
    theirs = stats.bootstrap(
        (over, under),
        lambda x, y, axis: x.mean(axis) / y.mean(axis),
        paired=True,
        n_resamples=resampling.RESAMPLES,
        method=method,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert ours.mean == pytest.approx(over.mean() / under.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=off * (theirs.high - theirs.low))


def test_where_bca_does_not_exist_the_percentile_interval_is_given_and_named() -> None:
    same = mean_interval(np.full(9, 0.25))
    assert (same.mean, same.low, same.high, same.method) == (0.25, 0.25, 0.25, "percentile")
    assert mean_interval(skewed(0, 9)).method == "BCa"
    assert mean_interval(np.array([0.3, np.nan])).method == ""


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda rng: rng.normal(size=60), 0.0),
        (lambda rng: rng.beta(0.4, 1.2, size=60), 0.25),
        (lambda rng: (rng.random(60) < 0.3).astype(np.float64), 0.3),
    ],
    ids=["normal", "skewed", "yes or no"],
)
def test_intervals_cover_the_truth_about_as_often_as_they_say(
    draw: Callable[[np.random.Generator], Floats], truth: float
) -> None:
    rng = np.random.default_rng(5)
    intervals = mean_intervals(np.stack([draw(rng) for _ in range(600)], axis=1))
    assert 0.92 < np.mean([one.low <= truth <= one.high for one in intervals]) < 0.975


def test_the_interval_of_a_ratio_covers_it() -> None:
    rng = np.random.default_rng(6)
    under = rng.gamma(4.0, size=(60, 600))
    over = 0.5 * under + rng.normal(scale=0.8, size=under.shape)
    intervals = mean_intervals(over, under)
    assert 0.92 < np.mean([one.low <= 0.5 <= one.high for one in intervals]) < 0.975


@pytest.mark.parametrize(("between", "within"), [(1.0, 0.3), (1.0, 2.0), (0.0, 1.0)])
def test_two_levels_cover_about_as_often_as_they_say(between: float, within: float) -> None:
    rng = np.random.default_rng(7)
    draws = between * rng.normal(size=(50, 1, 500)) + within * rng.normal(size=(50, 5, 500))
    intervals = two_level_intervals(draws)
    assert 0.91 < np.mean([one.low <= 0 <= one.high for one in intervals]) < 0.98
    assert {one.method for one in intervals} == {"BCa, two levels"}


def test_draws_are_not_counted_twice() -> None:
    """Drawing examples and draws as they are overstates the variance, here by nearly two (Davison & Hinkley 1997)."""
    rng = np.random.default_rng(8)
    draws = rng.normal(size=(200, 5, 1))
    truth = 1 / (200 * 5)
    samples = two_level_bootstrap(draws)[1]
    examples, within = rng.integers(0, 200, (1000, 200, 1)), rng.integers(0, 5, (1000, 200, 5))
    nested = draws[examples, within, 0].mean(axis=(1, 2))
    assert samples.var() == pytest.approx(truth, rel=0.25)
    assert nested.var() > 1.5 * truth


def test_draws_that_agree_leave_the_bootstrap_over_examples() -> None:
    values = skewed(3, 40)
    values[7] = np.nan
    point, samples = two_level_bootstrap(np.repeat(values[:, None, None], 4, axis=1))
    expected_point, expected = bootstrap(values[:, None])
    assert point == pytest.approx(expected_point)
    np.testing.assert_allclose(samples, expected)


def test_an_example_with_an_undefined_draw_is_left_out() -> None:
    draws = skewed(4, 30, 3)
    holed = draws.copy()
    holed[:4, 1] = np.nan
    assert two_level_intervals(holed[:, :, None])[0].mean == pytest.approx(draws[4:].mean())


def test_contributions_add_up_to_the_ratio_and_move_as_it_does() -> None:
    over, under = skewed(5, 300, 1), skewed(6, 300, 1) + 2
    over[3] = under[8] = np.nan
    added = contributions(over, under)[:, 0]
    both = np.isfinite(over[:, 0]) & np.isfinite(under[:, 0])
    x, y = over[both, 0], under[both, 0]
    assert (np.isfinite(added) == both).all()
    assert np.nanmean(added) == pytest.approx(x.sum() / y.sum())
    left_out = (x.sum() - x) / (y.sum() - y)
    assert added[both] - added[both].mean() == pytest.approx(
        len(x) * (x.sum() / y.sum() - left_out), rel=0.02, abs=1e-3
    )


def test_contributions_to_a_skill_add_up_to_it_and_spread_as_it_does() -> None:
    rng = np.random.default_rng(9)
    random = rng.normal(0.1, 0.1, size=(200, 2))
    oracle, values = random + rng.gamma(9.0, 0.1, size=(200, 2)), random + rng.gamma(4.0, 0.1, size=(200, 2))
    values[5, 0] = np.nan
    found = skills(values, random, oracle, np.ones(2))
    added = found.mean_added([0, 1])
    assert added.mean() == pytest.approx(found.point.mean())
    assert added.std() / np.sqrt(200) == pytest.approx(found.samples.mean(axis=1).std(), rel=0.1)


def test_the_skill_of_a_single_example_has_no_interval() -> None:
    """Every resample is that example again: that is ignorance, not certainty."""
    values = np.array([[0.5], [np.nan]])
    found = skills(values, np.zeros((2, 1)), np.ones((2, 1)), np.ones(1)).mean([0])
    assert found.mean == 0.5
    assert np.isnan([found.low, found.high]).all()
    assert not found.method


# Tests of two methods


def pair(values: Floats) -> dict[str, float]:
    return dict(differences(values, ["a", "b"]).iloc[0])


@pytest.mark.parametrize("count", [2, 5, 9])
def test_few_sign_flips_are_tried_all_as_scipy_does(count: int) -> None:
    values = skewed(10 + count, count, 2)
    theirs = stats.permutation_test(
        (values[:, 0] - values[:, 1],), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=False
    ).pvalue
    assert sign_flip_test(values)[0] == pytest.approx(theirs)


def test_many_sign_flips_are_sampled() -> None:
    values = np.random.default_rng(11).normal(size=(200, 2)) + np.array([0.13, 0.0])
    theirs = stats.ttest_rel(values[:, 0], values[:, 1]).pvalue
    assert 0.01 < theirs < 0.5
    assert sign_flip_test(values)[0][0] == pytest.approx(theirs, abs=0.02)


@pytest.mark.parametrize("count", [8, 12, 30, 200])
def test_wilcoxon_is_scipy_s(count: int) -> None:
    values = skewed(count, count, 2) + np.array([0.3, 0.0])
    method = "exact" if count <= 50 else "asymptotic"
    assert pair(values)["wilcoxon"] == pytest.approx(stats.wilcoxon(*values.T, method=method).pvalue)


@pytest.mark.parametrize("count", [6, 9])
def test_wilcoxon_with_ties_and_zeros_on_few_examples_is_exact(count: int) -> None:
    values = np.random.default_rng(count).integers(0, 3, size=(count, 2)).astype(np.float64)
    theirs = stats.wilcoxon(*values.T, zero_method="pratt", method=stats.PermutationMethod(n_resamples=np.inf))
    assert pair(values)["wilcoxon"] == pytest.approx(theirs.pvalue)


def test_effect_sizes_are_those_of_the_textbooks() -> None:
    values = np.random.default_rng(12).normal(size=(25, 2)) + np.array([0.4, 0.0])
    row, paired = pair(values), values[:, 0] - values[:, 1]
    assert row["difference"] == pytest.approx(paired.mean())
    assert row["d_z"] == pytest.approx(stats.ttest_rel(*values.T).statistic / 5)
    ranks = stats.rankdata(np.abs(paired))
    for_first, for_second = ranks[paired > 0].sum(), ranks[paired < 0].sum()
    assert row["rank_biserial"] == pytest.approx((for_first - for_second) / (for_first + for_second))
    swapped = pair(values[:, ::-1])
    assert [swapped["d_z"], swapped["rank_biserial"]] == pytest.approx([-row["d_z"], -row["rank_biserial"]])
    assert swapped["wilcoxon"] == pytest.approx(row["wilcoxon"])


def test_corrections_are_holm_s_and_benjamini_and_hochberg_s() -> None:
    values = np.random.default_rng(13).normal(size=(40, 4)) + np.array([0.6, 0.3, 0.2, 0.0])
    table = differences(values, list("abcd"))
    for test in ("wilcoxon", "sign_flip"):
        p_values = np.sort(table[test].to_numpy())
        holm = np.minimum(1, np.maximum.accumulate(p_values * np.arange(6, 0, -1)))
        hochberg = np.minimum.accumulate((p_values * 6 / np.arange(1, 7))[::-1])[::-1]
        assert np.sort(table[f"{test}_holm"]) == pytest.approx(holm)
        assert np.sort(table[f"{test}_bh"]) == pytest.approx(hochberg)


def test_undefined_values_are_dropped_in_pairs_and_counted() -> None:
    values = skewed(14, 12, 3)
    values[:3, 0] = np.nan
    values[11] = np.nan
    table = differences(values, list("abc")).set_index(["first", "second"])
    assert table.loc[("a", "b"), ["n", "dropped"]].tolist() == [8, 3]
    assert table.loc[("b", "c"), ["n", "dropped"]].tolist() == [11, 0]
    alone = pair(values[3:11, :2])
    for column in ("difference", "d_z", "rank_biserial", "wilcoxon", "sign_flip"):
        assert table.loc[("a", "b"), column] == pytest.approx(alone[column])


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_too_few_examples_give_a_number_and_a_reason_and_never_a_difference(count: int) -> None:
    values = np.arange(2.0 * count).reshape(count, 2) * [1.0, 9.0] + np.array([100.0, 0.0])
    row = pair(values)
    assert row["n"] == count
    assert ("too few" if count else "no example") in str(row["reason"])
    assert np.isfinite(row["difference"]) == (count > 0)
    assert not row["wilcoxon"] <= 0.05
    assert not row["sign_flip"] <= 0.05
    assert stand(values).groups == ["a", "a"]
    assert not too_few(6)


def test_methods_that_agree_everywhere_are_said_to() -> None:
    values = np.repeat(skewed(15, 30, 1), 2, axis=1)
    row = pair(values)
    assert [row["difference"], row["wilcoxon"], row["sign_flip"], row["family_wise"]] == [0.0, 1.0, 1.0, 1.0]
    assert np.isnan(row["d_z"])
    assert row["reason"] == "all differences are zero"


def test_one_method_alone_has_nothing_to_be_compared_with() -> None:
    one = skewed(16, 20, 1)
    assert len(differences(one, ["a"])) == 0
    standing = stand(one)
    assert [standing.low.tolist(), standing.high.tolist(), standing.groups] == [[1.0], [1.0], [""]]
    assert "three methods" in friedman(one).reason


# All methods at once


def test_the_level_is_held_for_one_pair_and_for_all() -> None:
    """Five methods that are equally good on examples of different difficulty, and skewed differences."""
    rng = np.random.default_rng(17)
    pairs_wrong, any_wrong = [], []
    for _ in range(300):
        values = rng.normal(size=(30, 1)) + rng.laplace(size=(30, 5))
        alone, together = sign_flip_test(values)
        pairs_wrong.append(np.mean(alone <= 0.05))
        any_wrong.append((together <= 0.05).any())
    assert 0.03 < np.mean(pairs_wrong) < 0.07
    assert 0.02 < np.mean(any_wrong) < 0.08


def test_the_family_wise_level_is_held_where_some_methods_do_differ() -> None:
    rng = np.random.default_rng(18)
    wrong = []
    for _ in range(300):
        values = rng.normal(size=(30, 5)) + np.array([0.0, 0.0, 0.0, 2.0, 4.0])
        apart = sign_flip_test(values)[1] <= 0.05
        equal = [one < 3 and other < 3 for one, other in combinations(range(5), 2)]
        wrong.append(apart[equal].any())
        assert apart[np.logical_not(equal)].all()
    assert np.mean(wrong) < 0.085


def test_for_one_pair_the_family_is_the_pair_and_a_larger_family_asks_for_more() -> None:
    values = np.random.default_rng(19).normal(size=(40, 4)) + np.array([0.5, 0.3, 0.0, 0.0])
    alone, together = sign_flip_test(values[:, :2])
    assert together == pytest.approx(alone)
    alone, together = sign_flip_test(values)
    assert (together >= alone).all()
    assert together.max() > alone.max() - 1e-12


def test_the_order_of_methods_does_not_matter() -> None:
    values = skewed(20, 25, 4) + np.array([0.9, 0.4, 0.2, 0.0])
    values[2, 3] = np.nan
    turned = stand(values[:, ::-1])
    straight = stand(values)
    assert turned.low[::-1].tolist() == straight.low.tolist()
    assert turned.high[::-1].tolist() == straight.high.tolist()
    assert [set(one) for one in turned.groups[::-1]] == [set(one) for one in straight.groups]


def test_methods_far_apart_have_certain_ranks_and_letters_of_their_own() -> None:
    values = np.random.default_rng(21).normal(scale=0.1, size=(30, 3)) + np.array([1.0, 3.0, 2.0])
    up, down = stand(values, 1.0), stand(values, -1.0)
    assert up.groups == ["c", "a", "b"]
    assert up.low.tolist() == up.high.tolist() == [3.0, 1.0, 2.0]
    assert down.groups == ["a", "c", "b"]
    assert down.low.tolist() == down.high.tolist() == [1.0, 3.0, 2.0]


def test_rank_intervals_hold_all_true_ranks_at_once() -> None:
    """With methods that are tied, bootstrapped ranks would leave the truth out far more often than in one of twenty."""
    rng = np.random.default_rng(22)
    truth = np.array([0.5, 0.5, 0.5, 0.2, 0.0])
    held = []
    for _ in range(300):
        standing = stand(rng.normal(size=(40, 1)) + truth + 0.7 * rng.normal(size=(40, 5)))
        best = 1 + (truth[None, :] > truth[:, None]).sum(axis=1)
        worst = 5 - (truth[None, :] < truth[:, None]).sum(axis=1)
        held.append(((standing.low <= best) & (standing.high >= worst)).all())
    assert np.mean(held) > 0.92


@given(st.integers(1, 7).flatmap(lambda n: st.lists(st.booleans(), min_size=n * n, max_size=n * n)))
def test_two_methods_share_a_letter_if_and_only_if_they_are_not_apart(drawn: list[bool]) -> None:
    size = int(np.sqrt(len(drawn)))
    upper: NDArray[np.bool_] = np.triu(np.array(drawn).reshape(size, size), 1)
    apart = upper | upper.T
    texts = letters(apart)
    assert all(texts)
    assert "a" in texts[0]
    for one, other in combinations(range(size), 2):
        assert bool(set(texts[one]) & set(texts[other])) != apart[one, other]


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 12), st.integers(2, 5), HOLES, st.integers(0, 10_000))
def test_ranks_lie_within_their_intervals_and_letters_follow_the_tests(
    count: int, methods: int, holes: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, methods)).round(1) + np.arange(methods)
    values[rng.random(values.shape) < holes] = np.nan
    values[0] = 0.0
    standing = stand(values)
    goodness = np.nanmean(values, axis=0)
    ranks = 1 + (goodness[None, :] > goodness[:, None]).sum(axis=1)
    assert (standing.low <= ranks).all()
    assert (ranks <= standing.high).all()
    for (one, other), p_value in zip(combinations(range(methods), 2), sign_flip_test(values)[1], strict=True):
        assert bool(set(standing.groups[one]) & set(standing.groups[other])) == (p_value > 0.05)


# Demšar (2006), table 6: areas under the curve of four variants of C4.5 on fourteen data sets.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        # The paper ranks by more digits than it prints.
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def test_friedman_and_nemenyi_give_demsar_s_worked_example() -> None:
    """The paper's 9.28 leaves ties uncorrected; scipy divides by 1 − Σ(t³ − t) / (N (k³ − k)), and so do we."""
    found = friedman(DEMSAR)
    assert found.mean_ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    ties = sum((count**3 - count) for row in DEMSAR for count in np.unique(row, return_counts=True)[1].tolist())
    assert found.statistic * (1 - ties / (14 * (4**3 - 4))) == pytest.approx(9.28, abs=0.01)
    # Table 5 of the paper has q = 2.569 for four classifiers.
    assert found.critical_difference == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    far = np.abs(found.mean_ranks[:, None] - found.mean_ranks[None, :]) > found.critical_difference
    assert ((found.nemenyi < 0.05) == far).all()


def test_friedman_s_ranks_follow_the_direction_and_whole_examples_are_counted() -> None:
    values = DEMSAR.copy()
    values[3, 1] = np.nan
    up, down = friedman(values, 1.0), friedman(values, -1.0)
    assert up.mean_ranks + down.mean_ranks == pytest.approx(5.0)
    assert (up.examples, up.dropped) == (13, 1)
    assert up.p == pytest.approx(stats.friedmanchisquare(*np.delete(DEMSAR, 3, axis=0).T).pvalue)


def test_where_friedman_s_test_is_not_defined_it_says_why() -> None:
    assert "not 2" in friedman(DEMSAR[:, :2]).reason
    assert "two examples" in friedman(DEMSAR[:1]).reason
    ties = friedman(np.repeat(DEMSAR[:, :1], 3, axis=1))
    assert (ties.p, ties.reason) == (1.0, "")
