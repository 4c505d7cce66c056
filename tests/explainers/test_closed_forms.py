"""Functions simple enough that the right attribution is known."""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest

from assay import registry
from assay.conversation import Explanation
from tests.conversations import TARGET, make_case, run, table
from tests.explainers.attributing import encode, explain
from tests.explainers.linear_model import linear_classifier

ASKING = ("leave_one_out", "lime", "kernel_shap", "banzhaf", "exact_shapley", "permutation_shap", "tree_surrogate")
# Each solves its regression, or walks enough orders, so that a weighted sum comes out exactly.
SHARING = ("kernel_shap", "banzhaf", "permutation_shap", "partition_shap")


def scores(name, n, function, seed=0, **settings):
    result = run(registry.build("explainer", name, **settings).converse(make_case(n, seed)), function).result
    return result.scores if isinstance(result, Explanation) else result


def shapley(function, n):
    """Shapley values from the definition."""
    bits = 1 << np.arange(n)
    values = function((np.arange(2**n)[:, None] & bits) > 0)
    found = np.zeros(n)
    for feature in range(n):
        for subset in range(2**n):
            if not subset & bits[feature]:
                size = subset.bit_count()
                weight = factorial(size) * factorial(n - size - 1) / factorial(n)
                found[feature] += weight * (values[subset | bits[feature]] - values[subset])
    return found


def banzhaf(function, n):
    """Banzhaf values from the definition."""
    sets = (np.arange(2**n)[:, None] & (1 << np.arange(n))) > 0
    values = function(sets)
    return np.array([values[with_it].mean() - values[~with_it].mean() for with_it in sets.T])


@pytest.mark.parametrize("n", [1, 2, 7, 15])
@pytest.mark.parametrize(
    ("name", "settings", "tolerance"),
    [
        ("leave_one_out", {}, 1e-6),
        *((name, {}, 1e-6) for name in SHARING),
        ("kernel_shap", {"interactions": False}, 1e-6),
        ("exact_shapley", {"exact_up_to": 15}, 1e-6),
        ("lime", {}, 1e-2),
        ("lime", {"samples": 20000}, 3e-3),
    ],
)
def test_a_weighted_sum_of_words_gives_the_weights(n, name, settings, tolerance):
    if name == "lime" and n <= 2:
        pytest.skip("very short texts are a trap of their own, tested below")
    weights = np.random.default_rng(0).normal(size=n)
    found = scores(name, n, lambda keep: 0.3 + keep @ weights, **settings)
    np.testing.assert_allclose(found, weights, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "settings", "tolerance"),
    [
        ("leave_one_out", {}, 1e-5),
        *((name, {}, 1e-5) for name in (*SHARING, "exact_shapley", "trans_shap")),
        ("lime", {"samples": 20000}, 2e-2),
        ("gradient_x_input", {}, 1e-5),
        ("integrated_gradients", {"baseline": "zero", "steps": 3}, 1e-5),
        ("integrated_gradients", {"baseline": "mask", "steps": 3}, 1e-5),
        ("integrated_gradients", {"baseline": "pad", "steps": 3}, 1e-5),
    ],
)
def test_a_linear_bag_of_words_gives_each_words_share(name, settings, tolerance):
    model = linear_classifier()
    texts = [("the film is unbelievable",), ("a day in the park",), ("a good meal", "not a good film at all")]
    found = explain(registry.build("explainer", name, **settings), model, texts)
    share_of_token = (model.model.embedding.weight @ model.model.classes.weight[TARGET]).detach().numpy()
    for encoding, attribution in zip(encode(model, texts), found, strict=True):
        shares = np.zeros(encoding.n)
        real = encoding.feature_of_token >= 0
        np.add.at(shares, encoding.feature_of_token[real], share_of_token[encoding.row.ids[real]])
        np.testing.assert_allclose(attribution, shares, atol=tolerance)


def test_the_gradient_of_a_linear_bag_of_words_is_the_same_for_every_token():
    model = linear_classifier()
    (found,) = explain(registry.build("explainer", "gradient"), model, [("the film is good",)])
    np.testing.assert_allclose(found, model.model.classes.weight[TARGET].norm().item(), rtol=1e-5)


def both(keep):
    return (keep[:, 0] & keep[:, 1]).astype(float)


def either(keep):
    return (keep[:, 0] | keep[:, 1]).astype(float)


def one_of(keep):
    return (keep[:, 0] ^ keep[:, 1]).astype(float)


@pytest.mark.parametrize(
    ("name", "function", "expected"),
    [
        ("leave_one_out", both, 1.0),  # each word alone is to blame for everything: the scores sum to 2
        ("leave_one_out", either, 0.0),  # the trap: neither is missed while the other is there
        ("leave_one_out", one_of, -1.0),  # hiding one makes it true
        *(
            (name, function, expected)
            for name in ("kernel_shap", "banzhaf", "permutation_shap", "partition_shap", "exact_shapley")
            for function, expected in ((both, 0.5), (either, 0.5), (one_of, 0.0))
        ),
    ],
)
def test_two_words_that_act_together(name, function, expected):
    found = scores(name, 4, function)
    np.testing.assert_allclose(found, [expected, expected, 0, 0], atol=1e-6)


@pytest.mark.parametrize("function", [both, either, one_of])
def test_lime_treats_two_words_that_act_together_alike(function):
    found = scores("lime", 4, function, samples=20000)
    assert found[0] == pytest.approx(found[1], abs=0.02)
    assert found[2] == pytest.approx(found[3], abs=0.02)
    # The trap: its rows hide many words or few at once, so words that do nothing are credited with what goes with them.
    assert 0.05 < abs(found[2]) < 0.2


def test_limes_penalty_shrinks_the_only_word_of_a_text():
    # One row shows the word and 4,999 hide it with a weight of exp(-8) each; the penalty counts as much as one row.
    hidden = 4999 * np.exp(-8)
    spread = hidden / (1 + hidden)
    assert scores("lime", 1, lambda keep: keep[:, 0].astype(float))[0] == pytest.approx(spread / (spread + 1))


@pytest.mark.parametrize("n", range(1, 10))
def test_shapley_and_banzhaf_values_are_exact_where_all_subsets_fit(n):
    function = table(np.random.default_rng(n).random(2**n))
    for name, truth in (("kernel_shap", shapley), ("exact_shapley", shapley), ("banzhaf", banzhaf)):
        transcript = run(registry.build("explainer", name).converse(make_case(n)), function)
        result = transcript.result
        if isinstance(result, Explanation):
            assert result.report == {"rows": 2**n, "exact": True}
            result = result.scores
        np.testing.assert_allclose(result, truth(function, n), atol=1e-6)
        assert transcript.rows == 2**n
        assert len(transcript.rounds) == 1


def interacting(n, seed=0):
    """Words of different weight, with interactions of two and three words and a squashed sum."""
    rng = np.random.default_rng(seed)
    sets = (np.arange(2**n)[:, None] & (1 << np.arange(n))) > 0
    pairs, threes = rng.normal(size=(n, n)) / 4, rng.integers(0, n, (2 * n, 3))
    sums = sets @ rng.normal(size=n) + ((sets @ pairs) * sets).sum(1) + sets[:, threes].all(2) @ rng.normal(size=2 * n)
    return table(1 / (1 + np.exp(-sums / 2)))


@pytest.mark.parametrize(
    ("name", "setting", "budgets", "ratio", "settings"),
    [
        ("kernel_shap", "samples", (32, 128, 512, 1500), 10, {}),
        ("kernel_shap", "samples", (32, 128, 512, 1500), 4, {"interactions": False}),
        ("permutation_shap", "permutations", (2, 8, 32, 64), 10, {}),
        ("permutation_shap", "permutations", (2, 8, 32, 128), 5, {"interactions": False}),
        ("banzhaf", "samples", (32, 128, 512, 1500), 10, {}),
        ("banzhaf", "samples", (32, 128, 512, 1500), 4, {"interactions": False}),
    ],
)
def test_more_samples_come_closer_to_the_exact_value(name, setting, budgets, ratio, settings):
    n = 11
    functions = [interacting(n, seed) for seed in range(3)]
    exact = [(banzhaf if name == "banzhaf" else shapley)(function, n) for function in functions]
    errors = []
    for budget in budgets:
        errors.append(0.0)
        for function, truth in zip(functions, exact, strict=True):
            found = np.array([scores(name, n, function, seed, **{setting: budget}, **settings) for seed in range(3)])
            errors[-1] += np.mean((found - truth) ** 2)
            if name != "banzhaf":
                np.testing.assert_allclose(found.sum(axis=1), truth.sum(), atol=1e-5)
    errors = np.sqrt(errors)
    print(name, settings, errors / errors[0])
    assert (np.diff(errors) < 0).all()
    assert errors[0] > ratio * errors[-1]


@pytest.mark.parametrize("samples", [2, 7, 64, 512])
@pytest.mark.parametrize("n", [1, 2, 10, 60])
def test_the_budget_is_kept(n, samples):
    budgets = (("kernel_shap", 2), ("lime", 0), ("tree_surrogate", 0), ("banzhaf", 0), ("partition_shap", 0))
    for name, extra in budgets:
        explainer = registry.build("explainer", name, samples=samples)
        transcript = run(explainer.converse(make_case(n)), lambda keep: keep.mean(1))
        asked = {keep.tobytes() for keep in np.concatenate(transcript.rounds)}
        assert transcript.rows == len(asked) == transcript.result.report["rows"] <= samples + extra
        assert np.isfinite(transcript.result.scores).all()


# So many samples that chance plays no part, or hardly any.
QUIET = {"permutation_shap": {"permutations": 2000}}


@pytest.mark.parametrize("name", ASKING)
def test_renaming_the_words_renames_the_scores(name):
    n, order = 6, np.array([3, 0, 5, 1, 4, 2])
    function = table(np.random.default_rng(1).random(2**n))
    plain = scores(name, n, function, **QUIET.get(name, {}))
    back = np.argsort(order)

    def renamed(keep):
        return function(keep[:, back])

    found = scores(name, n, renamed, **QUIET.get(name, {}))
    np.testing.assert_allclose(found, plain[order], atol=0.02 if name == "permutation_shap" else 1e-6)
