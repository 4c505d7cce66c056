"""What holds for every explainer, one row each. A new explainer is one more row."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pkgutil import iter_modules

import numpy as np
import pytest
import torch

from assay import registry
from assay.errors import AssayError
from assay.explainers.base import WhiteBoxExplainer
from tests.explainers import rows
from tests.explainers.attributing import BACKGROUND, batch_of, encode, explain
from tests.explainers.linear_model import WIDTH, linear_classifier
from tests.tiny_models import ARCHITECTURES, CORPUS, tiny_classifier, tiny_model, tiny_prompted

SINGLE = (("a dull , unforgettable script",), ("good",), (CORPUS[3],), ("nobody plays in the park",))
PAIRS = (("two men play", "nobody is outside"), ("good", "good"), ("how do i learn", "how to cook ?"))

PROMPTED = ("prompted-gpt2", "prompted-llama")
TEMPLATES = {1: "read : {text} so it is", 2: "first {first} then {second} so"}

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


def classifier(architecture, texts_per_example=1):
    if architecture in PROMPTED:
        return tiny_prompted(architecture.removeprefix("prompted-"), TEMPLATES[texts_per_example])
    return tiny_classifier(architecture)


def build(row):
    return registry.build("explainer", row.name, **row.quick)


def test_every_explainer_has_a_row():
    # What has no defaults answers from a file, and the laws are about what is asked.
    assert [row.name for row in sorted(ROWS, key=lambda row: row.name)] == registry.names_with_defaults("explainer")


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
        for architecture in (*ARCHITECTURES, *PROMPTED)
        if architecture.removeprefix("prompted-") not in row.unsupported
        and (is_white_box(row) or architecture in ("bert", "prompted-gpt2"))
    ],
    ids=lambda value: getattr(value, "name", value),
)
@pytest.mark.parametrize("texts", [SINGLE, PAIRS], ids=["single", "pair"])
def test_one_finite_score_a_feature_that_depends_on_neither_the_batch_nor_the_run(row, architecture, texts):
    model, explainer = classifier(architecture, len(texts[0])), build(row)
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


@pytest.mark.parametrize(
    ("row", "architecture"),
    [(row, name) for row in ROWS for name in row.unsupported if name != "linear"],
    ids=lambda value: getattr(value, "name", value),
)
def test_where_it_has_no_definition_it_says_so_before_the_work(row, architecture):
    with pytest.raises(AssayError):
        build(row).check(tiny_classifier(architecture))


@every_explainer
def test_another_target_gives_a_signed_method_another_answer(row, tiny_bert):
    if row.signed and row.asks:
        one, two = (explain(build(row), tiny_bert, [(CORPUS[1],)], target=target)[0] for target in (0, 1))
        assert not np.allclose(one, two, rtol=1e-3)


@every_white_box
def test_a_contrast_is_part_of_what_is_explained(row, tiny_bert):
    """Of the target's class alone, and of that class rather than another, a signed method says different things."""
    if not row.signed:
        return
    explainer, encodings = build(row), encode(tiny_bert, [(CORPUS[1],)])
    explainer.prepare(tiny_bert, BACKGROUND[: explainer.background])
    batch = batch_of(tiny_bert, encodings)
    found = []
    for foil in (None, torch.tensor([0])):
        with tiny_bert.at_work():
            scores = explainer.attribute(tiny_bert, replace(batch, foil=foil, memo={}), torch.tensor([1]))
        found.append(getattr(scores, "scores", scores).numpy())
    assert not np.allclose(*found, rtol=1e-3)


@every_explainer
def test_the_seed_decides_what_is_random_and_nothing_else(row, tiny_bert):
    text = [(CORPUS[5],)]
    first, again, other = (explain(build(row), tiny_bert, text, seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other) is not row.random


@every_explainer
def test_a_constant_model_gives_nothing_to_explain(row):
    if row.signed and row.asks and "linear" not in row.unsupported:
        constant = linear_classifier(torch.zeros(3, WIDTH))
        for scores in explain(build(row), constant, [*SINGLE, *PAIRS]):
            np.testing.assert_allclose(scores, 0, atol=1e-12)


@every_explainer
@pytest.mark.parametrize("length", [1, 200])
def test_short_and_long_texts(row, length, tiny_bert):
    if length > row.longest:
        pytest.skip(f"it is for texts of at most {row.longest} words")
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
    explain(build(row), model, SINGLE)

    assert all(module.training for module in network.modules())
    assert [parameter for parameter in network.parameters() if not parameter.requires_grad] == [frozen]
    assert all(parameter.grad is None for parameter in network.parameters())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    assert not any(getattr(module, kind) for module in network.modules() for kind in hooks)
    assert network.config._attn_implementation == attention
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["integrated_gradients", "attention"])
def test_padding_scores_nothing_where_a_method_is_complete(name, tiny_bert):
    (row,) = (row for row in ROWS if row.name == name)
    encodings = encode(tiny_bert, [("good",), (CORPUS[0],)])
    batch = batch_of(tiny_bert, encodings)
    with tiny_bert.at_work():
        found = build(row).attribute(tiny_bert, batch, torch.tensor([1, 1]))
    scores = getattr(found, "scores", found)
    assert (scores[batch.attention_mask == 0] == 0).all()
    if name == "integrated_gradients":
        assert (scores[~batch.eligible] == 0).all()
