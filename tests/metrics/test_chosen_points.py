"""Points of a curve chosen where it bends: closed forms, what the stated error means, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from assay import registry
from assay.benchmark.records import Records
from assay.benchmark.scoring import add_scores
from assay.errors import AssayError
from assay.metrics.base import Curve, Scores
from assay.metrics.chosen_points import ChosenPoints
from assay.metrics.curves import Deletion, Insertion, MorfLerf, SymmetricRelevanceGain
from assay.metrics.paths import PathCurve
from tests.conversations import SetFunction
from tests.metrics.judging import judge, transcript, two_classes

CURVES: dict[str, Any] = {
    "deletion": Deletion,
    "insertion": Insertion,
    "srg": SymmetricRelevanceGain,
    "morf_lerf": MorfLerf,
}


def chosen(outputs: NDArray[np.floating], tolerance: float) -> ChosenPoints:
    curve = ChosenPoints(np.linspace(0, 1, len(outputs)), tolerance)
    while len(wanted := curve.wanted()):
        assert not set(wanted.tolist()) & set(curve.known)
        curve.learn({place: float(outputs[place]) for place in wanted.tolist()})
    return curve


def area(outputs: NDArray[np.floating]) -> float:
    return float(np.trapezoid(outputs, np.linspace(0, 1, len(outputs))))


def off(curve: ChosenPoints, outputs: NDArray[np.floating]) -> float:
    return abs(area(curve.everywhere()) - area(outputs))


def by_place(outputs: NDArray[np.floating], hides: bool = True) -> SetFunction:
    """The output that a curve has, whatever order features go in: it hangs on how many are left."""

    def function(keep: NDArray[np.bool_]) -> NDArray[np.floating]:
        left = keep.sum(axis=1)
        return np.asarray(outputs[keep.shape[1] - left if hides else left])

    return two_classes(function)


def test_a_level_curve_takes_the_first_points_alone() -> None:
    curve = chosen(np.full(41, 0.3), 0.005)
    assert len(curve.known) == 7
    assert curve.error == 0.0
    assert area(curve.everywhere()) == pytest.approx(0.3, abs=1e-12)


@pytest.mark.parametrize("at", [1, 7, 20, 33, 40])
def test_the_one_step_of_a_curve_is_found_by_halving(at: int) -> None:
    outputs = np.where(np.arange(41) < at, 1.0, 0.0)
    curve = chosen(outputs, 0.005)
    assert off(curve, outputs) < 1e-12
    assert {at - 1, at} <= set(curve.known)
    assert len(curve.known) <= 20


def test_a_straight_curve_has_its_area_at_once() -> None:
    outputs = np.linspace(1, 0, 49)
    assert off(chosen(outputs, 0.2), outputs) < 1e-12
    assert len(chosen(outputs, 0.2).known) == 7


@given(st.lists(st.floats(0, 1), min_size=2, max_size=60), st.sampled_from([0.001, 0.005, 0.02, 0.1]))
@settings(deadline=None, max_examples=100)
def test_it_ends_at_the_tolerance_and_knows_what_it_says(outputs: list[float], tolerance: float) -> None:
    values = np.array(outputs)
    curve = chosen(values, tolerance)
    assert curve.error <= tolerance
    assert {0, len(values) - 1} <= set(curve.known)
    assert all(values[place] == output for place, output in curve.known.items())
    if len(curve.known) == len(values):
        assert curve.error == 0.0
        assert off(curve, values) < 1e-12


@given(st.integers(2, 60), st.floats(0.5, 8), st.floats(-5, 5))
@settings(deadline=None, max_examples=50)
def test_the_stated_error_is_in_units_of_the_output(n: int, scale: float, shift: float) -> None:
    outputs = np.random.default_rng(n).random(n + 1)
    one, other = chosen(outputs, 0.02), chosen(scale * outputs + shift, 0.02 * scale)
    # What rounds to either side of a threshold may be asked or not.
    if one.known.keys() == other.known.keys():
        assert other.error == pytest.approx(scale * one.error, rel=1e-6, abs=1e-9)
    assert ChosenPoints(one.x, 1.0).wanted().tolist() == ChosenPoints(other.x, 1.0).wanted().tolist()


def falling(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Between one and four falls, some steep, and small ones everywhere."""
    falls = rng.exponential(0.002, n)
    falls[rng.choice(n, rng.integers(1, 5), replace=False)] += rng.exponential(0.3)
    return 1 - np.concatenate([[0.0], np.cumsum(falls)]) / max(1.0, falls.sum())


def rough(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """A random walk, squeezed between 0 and 1."""
    walk = np.concatenate([[0.0], np.cumsum(rng.normal(0, rng.uniform(0.05, 1), n))])
    squeezed: NDArray[np.float64] = 1 / (1 + np.exp(-walk - rng.normal()))
    return squeezed


@pytest.mark.parametrize("kind", [falling, rough])
@pytest.mark.parametrize("tolerance", [0.005, 0.02, 0.05])
def test_the_area_is_within_the_tolerance_in_95_of_100_curves(kind: Any, tolerance: float) -> None:
    rng = np.random.default_rng(0)
    kept, stated, asked, all_points = [], [], 0, 0
    for _ in range(300):
        outputs = kind(rng, int(rng.integers(20, 51)))
        curve = chosen(outputs, tolerance)
        kept.append(off(curve, outputs) <= tolerance)
        stated.append(off(curve, outputs) <= curve.error + 1e-12)
        asked, all_points = asked + len(curve.known), all_points + len(outputs)
    assert np.mean(kept) >= 0.95
    # It ends where the stated error happens to be small, so that this one is kept less often; least on random walks.
    assert np.mean(stated) >= 0.87
    assert asked < all_points


@pytest.mark.parametrize("name", CURVES)
def test_without_a_tolerance_every_point_is_asked_at_once(name: str) -> None:
    rng = np.random.default_rng(1)
    scores, outputs = rng.normal(size=30).tolist(), rng.random(31)
    function = by_place(outputs)
    plain, given_null = (transcript(metric, scores, function) for metric in (CURVES[name](), CURVES[name](50, None)))
    assert plain.result.values == given_null.result.values
    assert len(plain.rounds) == 1
    assert list(plain.result.values) == [measure.name for measure in CURVES[name]().measures]


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("n", [1, 3, 24, 50, 80])
def test_with_all_points_asked_the_values_are_those_of_the_whole_curve(name: str, n: int) -> None:
    rng = np.random.default_rng(n)
    scores, function = rng.normal(size=n).tolist(), by_place(rng.random(n + 1))
    whole, turns = judge(CURVES[name](), scores, function), judge(CURVES[name](tolerance=1e-12), scores, function)
    assert {key: turns.values[key] for key in whole.values} == pytest.approx(whole.values, abs=1e-12)
    assert turns.values[f"{name}_error"] == 0.0
    assert turns.values[f"{name}_points"] == (1 if name in ("deletion", "insertion") else 2) * (min(n, 50) + 1)
    for key, curve in whole.curves.items():
        assert np.array_equal(curve.x, turns.curves[key].x)
        assert turns.curves[key].y == pytest.approx(curve.y, abs=1e-12)


def test_fewer_rows_are_asked_in_several_turns_and_the_curve_has_those_points() -> None:
    n = 40
    outputs = np.where(np.arange(n + 1) < 13, 0.9, 0.1)
    scores = np.random.default_rng(2).normal(size=n).tolist()
    found = transcript(Deletion(tolerance=0.005), scores, by_place(outputs))
    assert len(found.rounds) > 1
    asked = found.rows
    assert found.result.values["deletion_points"] == asked == len(found.result.curves["deletion"].x)
    assert asked < n / 2
    curve = found.result.curves["deletion"]
    assert found.result.values["deletion"] == pytest.approx(np.trapezoid(curve.y, curve.x), abs=1e-12)
    assert curve.y.tolist() == pytest.approx(outputs[np.round(curve.x * n).astype(int)].tolist())


def test_the_gain_has_the_points_of_its_two_curves() -> None:
    n = 45
    rng = np.random.default_rng(3)
    scores, weights = rng.normal(size=n).tolist(), rng.normal(size=n)
    function = two_classes(lambda keep: 1 / (1 + np.exp(-(keep @ weights))))
    gain, deletion, insertion = (
        transcript(kind(tolerance=0.01), scores, function) for kind in (SymmetricRelevanceGain, Deletion, Insertion)
    )
    values = gain.result.values
    assert values["srg_mif"] == pytest.approx(deletion.result.values["deletion"], abs=1e-12)
    assert values["srg_lif"] == pytest.approx(insertion.result.values["insertion"], abs=1e-12)
    rows = [{keep.tobytes() for turn in one.rounds for keep in np.array(turn)} for one in (gain, deletion, insertion)]
    assert rows[0] == rows[1] | rows[2]
    errors = deletion.result.values["deletion_error"], insertion.result.values["insertion_error"]
    assert values["srg_error"] == pytest.approx(np.hypot(*errors))
    assert len(gain.result.curves["srg"].x) < n + 1


@pytest.mark.parametrize("kind", [Deletion, Insertion])
def test_what_the_search_looks_for_stays_the_whole_curve(kind: type[PathCurve]) -> None:
    one, other = kind().objective(30), kind(tolerance=0.05).objective(30)
    assert one.weights.tolist() == other.weights.tolist()
    assert [one.hides, one.maximise] == [other.hides, other.maximise]


@pytest.mark.parametrize("tolerance", [0, -1, float("nan"), float("inf"), "small", True])
def test_a_tolerance_that_is_none_is_refused(tolerance: Any) -> None:
    with pytest.raises(AssayError, match="tolerance must be a number above 0"):
        registry.build("metric", "deletion", tolerance=tolerance)


def test_draws_with_other_points_have_their_mean_on_all_of_them() -> None:
    records = Records()
    one = Curve(np.array([0.0, 0.5, 1.0]), np.array([1.0, 0.0, 0.0]))
    other = Curve(np.array([0.0, 0.25, 1.0]), np.array([1.0, 1.0, 0.0]))
    scores = {
        number: Scores({"deletion": 0.5}, curves={"deletion": curve}) for number, curve in enumerate((one, other))
    }
    add_scores(records, {"example": "a", "perturbation": "mask"}, Deletion(), scores)
    (curve,) = records.curves
    assert curve["x"] == [0.0, 0.25, 0.5, 1.0]
    assert curve["y"] == pytest.approx([1.0, 0.75, 1 / 3, 0.0])
