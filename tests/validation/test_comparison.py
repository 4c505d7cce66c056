"""Where the right verdict is known, it is the one that is given; and the numbers behind it are others' numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from assay.benchmark.summary import MEAN_SKILL, Contest
from assay.validation import comparison
from assay.validation.comparison import Comparison, compare
from assay.validation.cost import costs
from tests.validation.made_up import COST, good_and_bad, write_cell

RNG = np.random.default_rng(11)
HARD = RNG.normal(size=40)


def compared(root: Path, scores: Mapping[str, Mapping[str, ArrayLike]], *metrics: str) -> list[Comparison]:
    cells = [write_cell(root, name, columns) for name, columns in scores.items()]
    return compare(cells, "mine", metrics or ["comprehensiveness"])


def noise(scale: float) -> np.ndarray:
    return RNG.normal(scale=scale, size=40)


@pytest.mark.parametrize(("metric", "verdict"), [("comprehensiveness", "better"), ("deletion", "worse")])
def test_a_known_difference_is_found_in_its_right_direction(tmp_path: Path, metric: str, verdict: str) -> None:
    """Higher is better for one, lower for the other; the method's values are higher by 0.1 in both."""
    (one,) = compared(tmp_path, {"mine": {metric: HARD + 0.1 + noise(0.1)}, "lime": {metric: HARD}}, metric)
    assert (one.other, one.verdict, one.examples) == ("lime", verdict, 40)
    assert one.advantage == pytest.approx(0.1 if verdict == "better" else -0.1, abs=0.05)
    assert one.value - one.other_value == pytest.approx(abs(one.advantage))
    assert np.sign([one.d_z, one.rank_biserial]).tolist() == [np.sign(one.advantage)] * 2
    assert one.low < one.advantage < one.high


def test_a_method_that_is_a_baseline_cannot_be_told_from_it(tmp_path: Path) -> None:
    values = {"comprehensiveness": HARD}
    (one,) = compared(tmp_path, {"mine": values, "lime": values})
    assert (one.verdict, one.advantage, one.p_corrected, one.seen) == ("not distinguishable", 0.0, 1.0, 0.0)


def test_what_is_nearly_the_oracle_is_better_than_random_and_what_is_nearly_random_is_not(tmp_path: Path) -> None:
    for level, verdict in ((0.48, "better"), (0.1, "not distinguishable")):
        found = compared(
            tmp_path / verdict[:3], good_and_bad(subject=level), MEAN_SKILL, "comprehensiveness", "deletion"
        )
        floor = {one.metric: one for one in found if one.other == "random"}
        assert [one.verdict for one in floor.values()] == [verdict] * 3
        assert floor[MEAN_SKILL].advantage == pytest.approx((level - 0.1) / 0.4, abs=0.1)
        assert {one.other for one in found} == {"lime", "random"}, "the oracle is nobody's rival"


def test_the_p_values_are_those_of_scipy_and_their_correction_that_of_statsmodels(tmp_path: Path) -> None:
    mine, others = HARD + noise(0.3), {f"method_{number}": HARD + noise(0.3) + 0.1 * number for number in range(4)}
    scores = {name: {"comprehensiveness": values} for name, values in {"mine": mine, **others}.items()}
    found = compared(tmp_path, scores)
    by_ranks = [stats.wilcoxon(mine - values).pvalue for values in others.values()]
    assert [one.wilcoxon for one in found] == pytest.approx(by_ranks)
    by_flips = [
        stats.permutation_test(
            (mine - values,), np.mean, permutation_type="samples", n_resamples=20_000, vectorized=True, rng=0
        ).pvalue
        for values in others.values()
    ]
    np.testing.assert_allclose([one.p for one in found], by_flips, atol=0.025)  # both draw flips
    for name in ("p", "wilcoxon"):
        given = [getattr(one, name) for one in found]
        corrected = multipletests(given, method="holm")[1]
        assert [getattr(one, f"{name}_corrected") for one in found] == pytest.approx(corrected.tolist())
    assert {one.family for one in found} == {4}


def test_effect_size_and_the_difference_that_could_have_been_seen_are_their_closed_forms(tmp_path: Path) -> None:
    apart = noise(0.4)
    (one,) = compared(tmp_path, {"mine": {"comprehensiveness": HARD + apart}, "lime": {"comprehensiveness": HARD}})
    assert one.spread == pytest.approx(apart.std(ddof=1))
    assert one.d_z == pytest.approx(apart.mean() / apart.std(ddof=1))
    effect = TTestPower().solve_power(nobs=40, power=0.8, alpha=0.05, alternative="two-sided")
    assert one.seen == pytest.approx(effect * apart.std(ddof=1), rel=1e-3)


def test_undefined_examples_are_counted_and_too_few_of_them_give_no_verdict(tmp_path: Path) -> None:
    some, most = HARD + 1 + noise(0.1), HARD + 1 + noise(0.1)
    some[:4], most[:30] = np.nan, np.nan
    scores = {"lime": {"comprehensiveness": HARD}, "random": {"comprehensiveness": HARD - 3}}
    first = compared(tmp_path / "some", {"mine": {"comprehensiveness": some}, **scores})
    assert [(one.verdict, one.examples, one.dropped) for one in first] == [("better", 36, 4)] * 2
    second = compared(tmp_path / "most", {"mine": {"comprehensiveness": most}, **scores})
    assert [one.verdict for one in second] == ["no verdict"] * 2
    assert second[0].reason == "mine has a value on 10 of 40 examples, too few to stand for the others"
    assert math.isnan(second[0].p)
    assert math.isnan(second[0].p_corrected)
    third = compared(tmp_path / "none", {"mine": {"comprehensiveness": np.full(40, np.nan)}, **scores})
    assert {one.reason for one in third} == {"mine has no value on any example"}
    few = {name: {"comprehensiveness": columns["comprehensiveness"][:5]} for name, columns in scores.items()}
    fourth = compared(tmp_path / "few", {"mine": {"comprehensiveness": HARD[:5] + 9}, **few})
    assert {one.reason for one in fourth} == {"5 examples are too few to tell methods apart; a test needs 6"}


def test_a_large_family_leaves_room_for_a_small_p_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 199 flips no p-value is below 0.005, and no difference would survive a correction for 12."""
    monkeypatch.setattr(comparison, "FLIPS", 199)
    scores = {f"method_{number}": {"comprehensiveness": HARD - 5 + noise(0.1)} for number in range(12)}
    found = compared(tmp_path, {"mine": {"comprehensiveness": HARD}, **scores})
    assert {one.verdict for one in found} == {"better"}


def test_a_random_method_in_disguise_is_called_better_or_worse_no_more_often_than_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 60 validations of a method as good as its four rivals on two measures, some three say so wrongly."""
    monkeypatch.setattr("gc.collect", lambda: 0)  # statsmodels collects in each call
    rng = np.random.default_rng(3)
    names = ["mine", "lime", "attention", "gradient", "random"]

    def made(cells: object, metric: str, controls: object) -> list[Contest]:
        values = rng.gamma(0.5, size=(30, 1)) + rng.gamma(0.5, size=(30, 5))
        return [Contest("key", "mask", metric, 1.0, names, names, values)]

    monkeypatch.setattr(comparison, "contests", made)
    wrong = 0
    for _ in range(60):
        found = compare([], "mine", ["comprehensiveness", "insertion"])
        assert len(found) == 8
        wrong += any(one.verdict != "not distinguishable" for one in found)
    assert wrong <= 6  # of 60 with a chance of 0.05 each: more in 3 % of studies


def test_cost_is_read_beside_the_baselines_and_unknown_where_it_is(tmp_path: Path) -> None:
    scores = {"comprehensiveness": HARD}
    cells = [
        write_cell(tmp_path, "lime", scores, cost={**COST, "forward_rows": 5.0, "backward_rows": 5.0}),
        write_cell(tmp_path, "mine", scores),
        write_cell(tmp_path, "length", scores, cost={**COST, "forward_rows": 0.0, "forward_tokens": 0.0}),
        write_cell(tmp_path, "random", scores),
    ]
    mine, lime, length = costs(cells, "mine")
    assert (mine.explainer, mine.rows, mine.tokens, mine.seconds) == ("mine", 20.0, 400.0, 0.5)
    assert (lime.rows, lime.rows_ratio, lime.tokens_ratio, lime.seconds_ratio) == (10.0, 2.0, 1.0, 1.0)
    assert (length.rows, length.seconds_ratio) == (0.0, 1.0)
    assert math.isnan(length.rows_ratio)
    unknown = write_cell(tmp_path / "file", "mine", scores, cost=dict.fromkeys(COST, math.nan))
    assert math.isnan(costs([unknown, cells[0]], "mine")[0].rows)
