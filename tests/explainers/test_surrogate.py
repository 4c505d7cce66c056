"""Trees and rules fitted around one input, and what the surrogates report about themselves."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from assay import registry
from assay.explainers.surrogate import neighbourhood, tree_shapley
from tests.conversations import make_case, run, table
from tests.explainers.test_closed_forms import both, interacting, shapley


def explanation(name, n, function, seed=0, **settings):
    return run(registry.build("explainer", name, **settings).converse(make_case(n, seed)), function)


def test_lime_reports_how_well_its_regression_fits():
    straight = explanation("lime", 8, lambda keep: keep @ np.arange(8.0)).result.report
    assert straight["rows"] == 256  # all of them, and so no prediction
    assert straight["r_squared"] == pytest.approx(1, abs=1e-3)
    bent = explanation("lime", 8, both).result.report
    assert 0.3 < bent["r_squared"] < 0.9
    assert explanation("lime", 8, lambda keep: np.full(len(keep), 0.7)).result.report["r_squared"] is None


@pytest.mark.parametrize("interactions", [True, False])
def test_more_samples_bring_lime_to_the_regression_over_all_inputs(interactions):
    n = 11
    errors = []
    for samples in (32, 128, 512):
        errors.append([])
        for number in range(3):
            function = interacting(n, number)
            whole = explanation("lime", n, function, samples=2**n).result.scores
            found = [
                explanation("lime", n, function, seed, samples=samples, interactions=interactions).result.scores
                for seed in range(3)
            ]
            errors[-1].append(np.mean((np.array(found) - whole) ** 2))
    errors = np.sqrt(np.mean(errors, axis=1))
    print(errors)
    assert (np.diff(errors) < 0).all()
    assert errors[0] > (10 if interactions else 4) * errors[-1]


@pytest.mark.parametrize("n", [1, 2, 13, 60, 300])
@pytest.mark.parametrize("samples", [2, 3, 50, 400])
def test_the_neighbourhood_has_as_many_different_inputs_as_it_may(n, samples):
    keep, weights = neighbourhood(n, samples, 5000, np.random.default_rng(0))
    assert keep[0].all()
    assert not keep[1:].all(axis=1).any()
    assert len(keep) == len(weights) == len(np.unique(keep, axis=0)) == min(samples, 2**n)
    assert (weights > 0).all()


@pytest.mark.parametrize("depth", [1, 3, 6])
def test_the_trees_shares_are_the_shapley_values_of_its_predictions(depth):
    from sklearn.tree import DecisionTreeRegressor

    n, rng = 8, np.random.default_rng(depth)
    keep = rng.random((200, n)) < 0.5
    tree = DecisionTreeRegressor(max_depth=depth, random_state=0).fit(keep.astype(float), rng.normal(size=200))
    expected = shapley(lambda masks: tree.predict(masks.astype(float)), n)
    np.testing.assert_allclose(tree_shapley(tree, n), expected, atol=1e-12)


def test_a_tree_that_is_deep_enough_learns_a_rule_exactly():
    result = explanation("tree_surrogate", 6, both).result
    np.testing.assert_allclose(result.scores, [0.5, 0.5, 0, 0, 0, 0], atol=1e-12)
    assert result.report == {"rows": 64, "r_squared": pytest.approx(1), "depth": 2}
    shallow = explanation("tree_surrogate", 6, both, depth=1).result
    assert shallow.report["depth"] == 1
    assert shallow.report["r_squared"] < 0.9
    assert np.count_nonzero(shallow.scores) == 1


def classes(holds):
    """A set function of two classes: the first is predicted where the rule holds."""

    def ask(keep):
        first = np.where(holds(keep), 0.9, 0.2)
        return np.stack([first, 1 - first], axis=1)

    return ask


def brute_force_precision(holds, rule, n):
    """Over all completions of a rule."""
    inputs = (np.arange(2**n)[:, None] & (1 << np.arange(n))) > 0
    return holds(inputs[inputs[:, rule].all(axis=1)]).mean()


RULES = {
    "one word": (lambda keep: keep[:, 2], [2]),
    "two words": (lambda keep: keep[:, 1] & keep[:, 4], [1, 4]),
    "three of a kind": (lambda keep: keep[:, [0, 3, 5]].all(axis=1), [0, 3, 5]),
    "always": (lambda keep: np.ones(len(keep), dtype=bool), []),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("n", "samples"), [(8, 2048), (14, 2048), (40, 4000)])
def test_anchors_find_the_rule(rule, n, samples):
    holds, expected = RULES[rule]
    transcript = explanation("anchors", n, classes(holds), samples=samples)
    result = transcript.result
    assert result.report == {"rule": expected, "precision": 1.0, "coverage": 0.5 ** len(expected)}
    outside = np.setdiff1d(np.arange(n), expected)
    length = len(expected)
    assert sorted(result.scores[expected]) == pytest.approx(np.arange(2, length + 2) / (length + 1))
    assert (result.scores[outside] <= 1 / (length + 1)).all()
    assert transcript.rows <= samples + 1
    assert len(transcript.rounds) == 1 or n > 11


def test_anchors_precisions_are_those_of_brute_force():
    n = 9
    for seed in range(6):
        noise = table(np.random.default_rng(seed).random(2**n))

        def holds(keep, noise=noise):
            return (noise(keep) + 2 * keep[:, :3].mean(axis=1) > 1.2) | keep.all(axis=1)

        exact = explanation("anchors", n, classes(holds), seed).result.report
        assert exact["precision"] == pytest.approx(brute_force_precision(holds, exact["rule"], n))
        assert exact["precision"] >= 0.95
        if exact["rule"]:  # no shorter rule would do
            shorter = combinations(range(n), len(exact["rule"]) - 1)
            assert max(brute_force_precision(holds, list(rule), n) for rule in shorter) < 0.95
        sampled = explanation("anchors", n, classes(holds), seed, samples=2**n - 1).result.report
        assert sampled["precision"] == pytest.approx(brute_force_precision(holds, sampled["rule"], n), abs=0.15)


@pytest.mark.parametrize("samples", [1, 30, 300, 3000])
def test_anchors_come_to_an_end(samples):
    n = 40
    draws = np.random.default_rng(0)
    for function in (lambda keep: keep.all(axis=1), lambda keep: (draws.random(len(keep)) < 0.5) | keep.all(axis=1)):
        transcript = explanation("anchors", n, classes(function), samples=samples)
        assert transcript.rows <= samples + 1
        assert np.isfinite(transcript.result.scores).all()
        assert (transcript.result.scores >= 0).all()
        assert 0 <= transcript.result.report["precision"] <= 1


def test_anchors_are_precise_as_often_as_promised():
    """With a true precision just short of what is wanted, few rules pass that should not."""
    n, wrong = 30, 0
    for seed in range(20):
        noise = np.random.default_rng(seed)

        def holds(keep, noise=noise):
            # Word 0 alone holds it 70 % of the time, with word 1 always.
            return keep[:, 0] & (keep[:, 1] | (noise.random(len(keep)) < 0.4)) | keep.all(axis=1)

        wrong += explanation("anchors", n, classes(holds), seed).result.report["rule"] != [0, 1]
    assert wrong <= 4


def test_a_large_budget_needs_no_interpolation():
    result = explanation("lime", 14, interacting(14), samples=3000).result
    assert result.report["rows"] == 3000
    result = explanation("kernel_shap", 14, interacting(14), samples=5000).result
    plain = explanation("kernel_shap", 14, interacting(14), samples=5000, interactions=False).result
    np.testing.assert_allclose(result.scores, plain.scores, atol=1e-12)
