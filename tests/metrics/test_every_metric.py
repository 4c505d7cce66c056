"""What holds for every metric, one row each. A new metric is one more row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from assay import registry
from assay.errors import AssayError, Undefined
from assay.metrics.base import Metric
from tests.conversations import run, table
from tests.metrics.judging import case_for, judge, random_sets, transcript


@dataclass(frozen=True)
class Row:
    """A metric under test.

    Attributes:
        name: its name on the command line.
        directions: which values of each headline measure are better.
        constant: what each headline measure must be where the model always answers 0.25, or why it is undefined.
        single: why it is undefined for a single feature, if it is.
        bad: settings that it must refuse, and what the message names.
    """

    name: str
    directions: dict[str, str]
    constant: dict[str, float] | str
    single: str | None = None
    bad: tuple[tuple[dict[str, Any], str], ...] = ()


FRACTIONS = (
    ({"fractions": []}, "fractions must lie in"),
    ({"fractions": [0.0]}, "fractions must lie in"),
    ({"fractions": [0.5, 1.5]}, "fractions must lie in"),
    ({"fractions": [0.1, 0.1]}, "more than once"),
    ({"fractions": 0.1}, "fractions must be a list"),
    ({"fractions": ["a"]}, "could not convert string to float: 'a'"),
)
POINTS = (
    ({"max_points": 0}, "max_points must be"),
    ({"max_points": 2.5}, "max_points must be"),
    ({"max_poinst": 5}, "Did you mean 'max_points'"),
)
COST = {"forward_rows": 3.0, "backward_rows": 1.0, "seconds": 0.5}
ROWS = (
    Row("comprehensiveness", {"comprehensiveness": "higher"}, {"comprehensiveness": 0.0}, bad=FRACTIONS),
    Row("sufficiency", {"sufficiency": "lower"}, {"sufficiency": 0.0}, bad=FRACTIONS),
    Row("deletion", {"deletion": "lower"}, {"deletion": 0.25}, bad=POINTS),
    Row("insertion", {"insertion": "higher"}, {"insertion": 0.25}, bad=POINTS),
    Row("tau_loo", {"tau_loo": "higher"}, "all effects of leaving one feature out are equal", "no order"),
    Row(
        "ground_truth",
        {"ground_truth_precision": "higher", "ground_truth_auprc": "higher"},
        {"ground_truth_precision": 1.0, "ground_truth_auprc": 1.0},
        "every feature is in the true rationale",
    ),
    Row("cost", dict.fromkeys(COST, "lower"), COST),
)
every_metric = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def build(row: Row) -> Metric:
    metric: Metric = registry.build("metric", row.name)
    return metric


def test_every_metric_has_a_row() -> None:
    assert sorted(row.name for row in ROWS) == registry.names("metric")


@every_metric
def test_headline_measures_and_their_directions_are_the_declared_ones(row: Row) -> None:
    assert {m.name: m.direction for m in build(row).measures if m.headline} == row.directions


@every_metric
@pytest.mark.parametrize("n", [2, 3, 8])
def test_what_is_declared_is_returned_and_lies_in_its_range(row: Row, n: int) -> None:
    metric = build(row)
    rng = np.random.default_rng(n)
    for seed in range(20):
        scores = judge(metric, rng.normal(size=n), table(random_sets(n, seed)), rationale=[True] + [False] * (n - 1))
        assert set(scores.values) == {measure.name for measure in metric.measures}
        assert not scores.undefined
        for measure in metric.measures:
            low, high = measure.range
            assert low <= scores.values[measure.name] <= high, measure.name
        for name, curve in scores.curves.items():
            assert name in scores.values
            assert curve.x[0] == 0
            assert curve.x[-1] == 1
            assert np.all(np.diff(curve.x) > 0)
            assert curve.x.shape == curve.y.shape


@every_metric
def test_a_model_that_always_answers_the_same_gives_a_neutral_value(row: Row) -> None:
    scores, rationale = [3.0, 1.0, 2.0, 0.0], [True, False, False, False]

    def always(keep: Any) -> Any:
        return np.full(len(keep), 0.25)

    if isinstance(row.constant, str):
        with pytest.raises(Undefined, match=row.constant):
            judge(build(row), scores, always, rationale=rationale)
    else:
        values = judge(build(row), scores, always, rationale=rationale).values
        assert {name: values[name] for name in row.constant} == pytest.approx(row.constant, abs=1e-12)


@every_metric
@pytest.mark.filterwarnings("error")
def test_a_single_feature_has_a_value_or_a_reason(row: Row) -> None:
    if row.single:
        with pytest.raises(Undefined, match=row.single):
            judge(build(row), [0.5], table(np.array([0.2, 0.9])), rationale=[True])
    else:
        scores = judge(build(row), [0.5], table(np.array([0.2, 0.9])), rationale=[True])
        assert all(np.isfinite(value) for value in scores.values.values())


@every_metric
@pytest.mark.filterwarnings("error")
def test_equal_scores_divide_by_nothing(row: Row) -> None:
    equal, truth = [0.0] * 4, [True, False, False, False]
    if row.name == "tau_loo":
        with pytest.raises(Undefined, match="all scores are equal"):
            judge(build(row), equal, table(random_sets(4)), rationale=truth)
    else:
        scores = judge(build(row), equal, table(random_sets(4)), rationale=truth)
        assert all(np.isfinite(value) for value in scores.values.values())


@every_metric
def test_what_is_handed_in_is_not_changed(row: Row) -> None:
    case = case_for([3.0, 1.0, 2.0], rationale=[True, False, False])
    assert case.attribution is not None
    assert case.ranking is not None
    assert case.rationale is not None
    for array in (case.attribution.scores, case.ranking, case.rationale):
        array.setflags(write=False)
    run(build(row).converse(case), table(random_sets(3)))


@every_metric
def test_a_metric_asks_once_at_most_n_plus_two_questions(row: Row) -> None:
    said = transcript(build(row), [3.0, 1.0, 2.0, 0.0, 5.0], table(random_sets(5)), rationale=[True] + [False] * 4)
    assert len(said.rounds) == 1
    assert said.rows <= 5 + 1


@pytest.mark.parametrize(
    ("row", "settings", "message"),
    [(row, settings, message) for row in ROWS for settings, message in row.bad],
    ids=lambda value: value.name if isinstance(value, Row) else str(value),
)
def test_settings_that_make_no_sense_are_refused(row: Row, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(AssayError, match=message):
        registry.build("metric", row.name, **settings)


def test_no_measure_name_is_used_twice() -> None:
    names = [measure.name for row in ROWS for measure in build(row).measures]
    assert len(names) == len(set(names))
