"""Functions simple enough that the right attribution is known."""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest

from assay import registry
from tests.conversations import TARGET, make_case, run, table
from tests.explainers.attributing import encode, explain
from tests.explainers.linear_model import linear_classifier

ASKING = ("leave_one_out", "lime", "kernel_shap")


def scores(name, n, function, seed=0, **settings):
    return run(registry.build("explainer", name, **settings).converse(make_case(n, seed)), function).result


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


@pytest.mark.parametrize("n", [1, 2, 7, 15])
@pytest.mark.parametrize(
    ("name", "settings", "tolerance"),
    [("leave_one_out", {}, 1e-6), ("kernel_shap", {}, 1e-6), ("lime", {"samples": 20000}, 2e-3)],
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
        ("kernel_shap", {}, 1e-5),
        ("lime", {"samples": 20000}, 1e-2),
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
        ("kernel_shap", both, 0.5),
        ("kernel_shap", either, 0.5),
        ("kernel_shap", one_of, 0.0),
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
    # One row shows the word and all others hide it with a weight of exp(-8) each; the regression wants more than one.
    assert 0.1 < scores("lime", 1, lambda keep: keep[:, 0].astype(float))[0] < 0.3


@pytest.mark.parametrize("n", range(1, 10))
def test_kernel_shap_is_exact_where_all_subsets_fit(n):
    function = table(np.random.default_rng(n).random(2**n))
    transcript = run(registry.build("explainer", "kernel_shap").converse(make_case(n)), function)
    np.testing.assert_allclose(transcript.result, shapley(function, n), atol=1e-6)
    assert transcript.rows == 2**n
    assert len(transcript.rounds) == 1


def test_sampled_kernel_shap_comes_closer_with_more_samples_and_always_keeps_the_sum():
    n = 11
    rng = np.random.default_rng(0)
    # Words of different weight, with interactions of all orders.
    function = table(
        ((np.arange(2**n)[:, None] & (1 << np.arange(n))) > 0) @ rng.normal(size=n) + rng.normal(size=2**n) / 2
    )
    exact = shapley(function, n)
    errors = []
    for samples in (32, 128, 512, 1500):
        found = [scores("kernel_shap", n, function, seed, samples=samples) for seed in range(8)]
        np.testing.assert_allclose(np.sum(found, axis=1), exact.sum(), atol=1e-5)
        errors.append(np.sqrt(np.mean((np.array(found) - exact) ** 2)))
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < errors[0] / 2.5


@pytest.mark.parametrize("samples", [2, 7, 64, 512])
@pytest.mark.parametrize("n", [1, 2, 10, 60])
def test_the_budget_is_kept(n, samples):
    for name, extra in (("kernel_shap", 2), ("lime", 0)):
        explainer = registry.build("explainer", name, samples=samples)
        transcript = run(explainer.converse(make_case(n)), lambda keep: keep.mean(1))
        asked = {keep.tobytes() for keep in transcript.rounds[0]}
        assert len(asked) <= samples + extra
        assert np.isfinite(transcript.result).all()


def test_lime_hides_every_number_of_words_equally_often():
    transcript = run(
        registry.build("explainer", "lime", samples=20001).converse(make_case(5)), lambda keep: keep.sum(1)
    )
    (keep,) = transcript.rounds
    assert keep[0].all()
    counts = np.bincount((~keep[1:]).sum(1), minlength=6)
    assert counts[0] == 0
    np.testing.assert_allclose(counts[1:] / 20000, 0.2, atol=0.015)
    np.testing.assert_allclose(keep[1:].mean(0), 0.4, atol=0.015)


@pytest.mark.parametrize("name", ASKING)
def test_renaming_the_words_renames_the_scores(name):
    n, order = 6, np.array([3, 0, 5, 1, 4, 2])
    function = table(np.random.default_rng(1).random(2**n))
    plain = scores(name, n, function, samples=20000) if name == "lime" else scores(name, n, function)
    back = np.argsort(order)

    def renamed(keep):
        return function(keep[:, back])

    found = scores(name, n, renamed, samples=20000) if name == "lime" else scores(name, n, renamed)
    np.testing.assert_allclose(found, plain[order], atol=0.02 if name == "lime" else 1e-6)
