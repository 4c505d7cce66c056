"""What holds for every explainer, one row each. A new explainer is one more row."""

from __future__ import annotations

import importlib
from pkgutil import iter_modules

import numpy as np
import pytest
import torch

from assay import registry
from assay.errors import AssayError
from assay.explainers.base import WhiteBoxExplainer
from tests.explainers import rows
from tests.explainers.attributing import batch_of, encode, explain, token_scores
from tests.explainers.linear_model import WIDTH, linear_classifier
from tests.tiny_models import ARCHITECTURES, CORPUS, tiny_classifier, tiny_model

SINGLE = (("a dull , unforgettable script",), ("good",), (CORPUS[3],), ("nobody plays in the park",))
PAIRS = (("two men play", "nobody is outside"), ("good", "good"), ("how do i learn", "how to cook ?"))


# A row is added to the file of its family.
ROWS = tuple(
    row
    for family in iter_modules(rows.__path__)
    for row in importlib.import_module(f"{rows.__name__}.{family.name}").ROWS
)
every_explainer = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def is_white_box(row):
    return isinstance(registry.build("explainer", row.name), WhiteBoxExplainer)


every_white_box = pytest.mark.parametrize("row", [row for row in ROWS if is_white_box(row)], ids=lambda row: row.name)


def build(row):
    return registry.build("explainer", row.name, **row.quick)


def test_every_explainer_has_a_row():
    assert [row.name for row in sorted(ROWS, key=lambda row: row.name)] == registry.names("explainer")


@every_explainer
def test_its_settings_are_those_of_its_class_and_bad_ones_are_refused(row):
    explainer = registry.build("explainer", row.name)
    assert explainer.signed is row.signed
    first_line = type(explainer).__doc__.splitlines()[0]
    assert 30 < len(first_line) < 120
    content = registry.settings("explainer", row.name)
    for name, value in content.items():
        if name != "_target_":
            assert getattr(explainer, name) == value
    assert vars(type(explainer)()) == vars(explainer), "the YAML file and the class have different defaults"
    for settings, message in row.bad:
        with pytest.raises(AssayError, match=message):
            registry.build("explainer", row.name, **settings)


@pytest.mark.parametrize(
    ("row", "architecture"),
    [
        (row, architecture)
        for row in ROWS
        for architecture in ARCHITECTURES
        if architecture not in row.unsupported and (is_white_box(row) or architecture == "bert")
    ],
    ids=lambda value: getattr(value, "name", value),
)
@pytest.mark.parametrize("texts", [SINGLE, PAIRS], ids=["single", "pair"])
def test_one_finite_score_a_feature_that_depends_on_neither_the_batch_nor_the_run(row, architecture, texts):
    model, explainer = tiny_classifier(architecture), build(row)
    together = explain(explainer, model, texts)
    for text, scores in zip(texts, together, strict=True):
        assert scores.shape == (sum(len(part.split()) for part in text),)
        assert np.isfinite(scores).all()
        np.testing.assert_allclose(scores, explain(explainer, model, [text])[0], rtol=1e-5, atol=1e-5)
        if not row.signed:
            assert (scores >= 0).all()
    backwards = explain(explainer, model, texts[::-1])[::-1]
    for scores, again in zip(together, backwards, strict=True):
        np.testing.assert_allclose(scores, again, rtol=1e-5, atol=1e-5)


@every_explainer
def test_the_seed_decides_what_is_random_and_nothing_else(row, tiny_bert):
    text = [(CORPUS[5],)]
    first, again, other = (explain(build(row), tiny_bert, text, seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other) is not row.random


@every_explainer
def test_a_constant_model_gives_nothing_to_explain(row):
    if row.signed and row.asks:
        constant = linear_classifier(torch.zeros(3, WIDTH))
        for scores in explain(build(row), constant, [*SINGLE, *PAIRS]):
            np.testing.assert_allclose(scores, 0, atol=1e-12)


@every_explainer
@pytest.mark.parametrize("length", [1, 200])
def test_short_and_long_texts(row, length, tiny_bert):
    if row.name == "oracle" and length == 200:
        pytest.skip("its greedy search is tested on set functions")
    words = " ".join(CORPUS).split()
    text = " ".join(words[index % len(words)] for index in range(length))
    (scores,) = explain(build(row), tiny_bert, [(text,)])
    assert len(scores) == length
    assert np.isfinite(scores).all()


@every_white_box
@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_the_model_is_left_as_it_was(row, architecture):
    from assay.classifier import Classifier

    network, tokenizer = tiny_model(architecture)
    network.train()
    frozen = next(network.parameters()).requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    attention = network.config._attn_implementation
    model = Classifier(network, tokenizer)
    token_scores(build(row), model, encode(model, SINGLE))

    assert all(module.training for module in network.modules())
    assert [parameter for parameter in network.parameters() if not parameter.requires_grad] == [frozen]
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in network.modules())
    assert network.config._attn_implementation == attention
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@every_white_box
def test_special_tokens_are_the_callers_to_drop_and_padding_scores_nothing_for_signed_methods(row, tiny_bert):
    encodings = encode(tiny_bert, [("good",), (CORPUS[0],)])
    batch = batch_of(tiny_bert, encodings)
    with tiny_bert.at_work():
        scores = build(row).attribute(tiny_bert, batch, torch.tensor([1, 1]))
    padding = batch.attention_mask == 0
    if row.name in ("integrated_gradients", "attention"):
        assert (scores[padding] == 0).all()
    if row.name == "integrated_gradients":
        assert (scores[~batch.eligible] == 0).all()
