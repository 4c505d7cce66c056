"""Sampling that stops at its own standard error: what the error is, what the scores are, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from assay import registry
from assay.classifier import Classifier
from assay.conversation import Explanation, Vector
from assay.errors import AssayError
from assay.explainers.steady import interleaved, of_strata, rounds, standard_error
from tests.conversations import TARGET, SetFunction, make_case, run, table
from tests.explainers.attributing import BACKGROUND, batch_of, encode
from tests.tiny_models import CORPUS

# The setting that says how many samples there are, and a number of them that does not cover every input.
COUNTS = {
    "kernel_shap": ("samples", 200),
    "permutation_shap": ("permutations", 20),
    "banzhaf": ("samples", 200),
    "rise": ("samples", 600),
    "sobol": ("designs", 64),
    "lime": ("samples", 120),
}
# Whose first samples are those of a run with fewer.
NESTED = ("permutation_shap", "rise")
WHITE_BOX = ("smoothgrad", "vargrad", "squaregrad")


def scores_of(result: Any) -> Vector:
    scores: Vector = np.asarray(result.scores if isinstance(result, Explanation) else result)
    return scores


def a_function(n: int, seed: int) -> SetFunction:
    """A smooth function in which features act in pairs."""
    pairs = np.random.default_rng(seed).normal(size=(n, n)) / 3
    return lambda keep: 1 / (1 + np.exp(-np.einsum("qi,ij,qj->q", keep.astype(float), pairs, keep.astype(float))))


def test_for_a_mean_the_error_is_the_usual_one() -> None:
    values = np.random.default_rng(0).normal(size=(4000, 3))
    found = standard_error(lambda used: values[used].mean(axis=0), np.arange(4000))
    # The standard deviation of ten groups' means is itself known to a quarter only.
    assert found == pytest.approx(values.std(axis=0, ddof=1) / np.sqrt(4000), rel=0.6)
    for groups in (10, 50):
        exact = standard_error(lambda used: values[used].mean(axis=0), np.arange(groups), groups=groups)
        assert exact == pytest.approx(values[:groups].std(axis=0, ddof=1) / np.sqrt(groups))


def test_what_is_not_drawn_has_no_error_and_too_few_draws_have_no_finite_one() -> None:
    values = np.arange(12.0)[:, None]
    assert standard_error(lambda used: values[used].mean(axis=0), np.arange(12), left=0.0).tolist() == [0.0]
    assert np.isinf(standard_error(lambda used: values[used].mean(axis=0), np.arange(3), always=2)).all()
    assert standard_error(lambda used: values[used][:2].sum(axis=0), np.arange(12), always=2).tolist() == [0.0]


def test_rounds_grow_and_end_with_the_last() -> None:
    assert list(rounds(16, 100)) == [16, 24, 36, 54, 81, 100]
    assert list(rounds(16, 64, growth=2)) == [16, 32, 64]
    assert list(rounds(16, 7)) == [7]


def test_every_beginning_holds_its_share_of_each_stratum_and_their_weights() -> None:
    strata = np.repeat([1, 2, 3], [10, 40, 150])
    weights = np.repeat([3.0, 0.5, 0.1], [10, 40, 150])
    order = interleaved(strata, np.random.default_rng(0))
    assert sorted(order) == list(range(200))
    for count in (40, 100, 160):
        assert np.bincount(strata[order[:count]])[1:] == pytest.approx(np.array([10, 40, 150]) * count / 200, abs=1.5)
        used = np.sort(order[:count])
        assert np.bincount(strata[used], of_strata(weights, strata, used))[1:] == pytest.approx([30, 20, 15])
    assert of_strata(weights, strata, np.arange(200)) is weights


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("n", [9, 14])
def test_what_never_gets_steady_has_the_scores_of_all_samples(name: str, n: int) -> None:
    setting, count = COUNTS[name]
    function = a_function(n, n)
    whole = run(registry.build("explainer", name, **{setting: count}).converse(make_case(n)), function)
    turns = run(registry.build("explainer", name, **{setting: count}, tolerance=1e-12).converse(make_case(n)), function)
    assert np.array_equal(scores_of(whole.result), scores_of(turns.result))
    assert len(whole.rounds) == 1
    assert len(turns.rounds) > 1
    asked = [{keep.tobytes() for turn in one.rounds for keep in np.array(turn)} for one in (whole, turns)]
    assert asked[0] == asked[1]
    assert turns.result.report["standard_error"] > 1e-12


@pytest.mark.parametrize("name", COUNTS)
def test_an_error_of_fewer_than_ten_parts_is_not_believed(name: str) -> None:
    setting, count = COUNTS[name]
    built = registry.build("explainer", name, **{setting: count}, tolerance=1e9)
    assert 10 <= run(built.converse(make_case(10)), a_function(10, 1)).result.report["samples"] < count


@pytest.mark.parametrize("name", NESTED)
def test_stopped_early_they_are_those_of_as_many_samples(name: str) -> None:
    setting, count = COUNTS[name]
    function = a_function(10, 3)
    stopped = run(
        registry.build("explainer", name, **{setting: count}, tolerance=0.02).converse(make_case(10)), function
    )
    used = stopped.result.report["samples"]
    assert used < count
    fewer = run(registry.build("explainer", name, **{setting: used}).converse(make_case(10)), function)
    assert scores_of(fewer.result) == pytest.approx(scores_of(stopped.result), abs=1e-12)


@pytest.mark.parametrize("name", COUNTS)
def test_the_looser_the_tolerance_the_fewer_the_rows(name: str) -> None:
    setting, count = COUNTS[name]
    function = a_function(12, 4)
    rows = []
    for tolerance in (10.0, 0.02, 1e-9):
        found = run(
            registry.build("explainer", name, **{setting: count}, tolerance=tolerance).converse(make_case(12)), function
        )
        rows.append(found.rows)
        assert found.result.report["standard_error"] <= tolerance or found.result.report["samples"] == count
    assert rows == sorted(rows)
    assert rows[0] < rows[2] / 1.5


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("permutation_shap", {"permutations": 40, "interactions": False}),
        ("banzhaf", {"samples": 400, "interactions": False}),
        ("rise", {"samples": 1000}),
    ],
)
def test_the_stated_errors_are_honest(name: str, settings: dict[str, Any]) -> None:
    n, weights = 10, 1 << np.arange(10)
    outside = []
    for game in range(6):
        values = a_function(n, game)(np.arange(2**n)[:, None] >> np.arange(n) & 1 == 1)
        exact = reference(name, values, n)
        for seed in range(8):
            case = replace(make_case(n), rng=np.random.default_rng(seed))
            found = run(
                registry.build("explainer", name, **settings, tolerance=0.02).converse(case),
                lambda keep, values=values: values[keep @ weights],
            ).result
            outside.append(np.abs(found.scores - exact) > 2.26 * found.report["standard_error"])
    # The largest error over the features is stated, so that each feature's is within it more often than 19 in 20 times.
    assert np.mean(outside) <= 0.05


def reference(name: str, values: NDArray[np.floating], n: int) -> Vector:
    """What a method's scores come to, from the definition."""
    function = table(values)
    if name == "permutation_shap":
        return scores_of(run(registry.build("explainer", "exact_shapley").converse(make_case(n)), function).result)
    shown = np.arange(2**n)[:, None] >> np.arange(n) & 1 == 1
    with_it = np.array([values[shown[:, feature]].mean() for feature in range(n)])
    return (with_it - values.mean()) * (2 if name == "banzhaf" else 1)


def test_no_random_number_hangs_on_the_others() -> None:
    explainer = registry.build("explainer", "kernel_shap", tolerance=0.02)
    function = a_function(12, 5)
    first, again = (run(explainer.converse(make_case(12)), function).result for _ in range(2))
    assert np.array_equal(first.scores, again.scores)
    assert first.report == again.report
    other = run(explainer.converse(make_case(12, seed=1)), function).result
    assert not np.array_equal(first.scores, other.scores)


@pytest.mark.parametrize("name", [*COUNTS, "trans_shap", *WHITE_BOX, "expected_gradients"])
@pytest.mark.parametrize("tolerance", [0, -0.1, float("nan"), "small", True])
def test_a_tolerance_that_is_none_is_refused(name: str, tolerance: Any) -> None:
    with pytest.raises(AssayError, match="tolerance must be a number above 0"):
        registry.build("explainer", name, tolerance=tolerance)


def test_only_methods_that_sample_take_one() -> None:
    with pytest.raises(AssayError, match="has no setting 'tolerance'"):
        registry.build("explainer", "leave_one_out", tolerance=0.01)


def attributed(model: Classifier, name: str, **settings: Any) -> tuple[NDArray[np.floating], Any]:
    """Scores of four texts of different lengths in one batch, padding and special tokens as 0, and the report."""
    encodings = encode(model, [(line,) for line in CORPUS[:4]])
    explainer = registry.build("explainer", name, **settings)
    explainer.prepare(model, BACKGROUND)
    batch = batch_of(model, encodings, "logit", 0)
    with model.at_work():
        found = explainer.attribute(model, batch, torch.full((4,), TARGET))
    report = {key: value.tolist() for key, value in found.report.items()} if isinstance(found, Explanation) else {}
    scores = found.scores if isinstance(found, Explanation) else found
    return torch.where(batch.eligible, scores, 0.0).numpy(), report


@pytest.mark.parametrize("name", [*WHITE_BOX, "expected_gradients"])
def test_what_looks_inside_stops_each_example_for_itself(name: str, tiny_bert: Classifier) -> None:
    whole, _ = attributed(tiny_bert, name, samples=40)
    never, report = attributed(tiny_bert, name, samples=40, tolerance=1e-30)
    assert never == pytest.approx(whole, rel=1e-3, abs=1e-6 * float(np.abs(whole).max()))
    assert report["samples"] == [40] * 4
    _, first = attributed(tiny_bert, name, samples=40, tolerance=1e30)
    assert first["samples"] == [10] * 4
    between = float(np.sort(first["standard_error"])[1])
    _, some = attributed(tiny_bert, name, samples=40, tolerance=between)
    assert sorted(some["samples"])[:2] == [10, 10]
    assert max(some["samples"]) > 10
    assert all(
        error <= between or used == 40
        for error, used in zip(*(some[key] for key in ("standard_error", "samples")), strict=True)
    )


def test_gradients_that_hardly_vary_keep_their_variance(tiny_bert: Classifier) -> None:
    whole, _ = attributed(tiny_bert, "vargrad", samples=20, noise=1e-4)
    never, _ = attributed(tiny_bert, "vargrad", samples=20, noise=1e-4, tolerance=1e-30)
    assert never == pytest.approx(whole, rel=1e-4, abs=1e-4 * float(np.abs(whole).max()))


@pytest.mark.parametrize("name", WHITE_BOX)
def test_stopped_noise_is_that_of_as_many_samples(name: str, tiny_bert: Classifier) -> None:
    fewer, _ = attributed(tiny_bert, name, samples=10)
    stopped, _ = attributed(tiny_bert, name, samples=40, tolerance=1e30)
    assert stopped == pytest.approx(fewer, rel=1e-3, abs=1e-6 * float(np.abs(fewer).max()))
