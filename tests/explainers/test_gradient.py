from __future__ import annotations

import numpy as np
import pytest
import torch

from assay import registry
from assay.errors import AssayError
from tests.conversations import TARGET
from tests.explainers.attributing import batch_of, encode, token_scores
from tests.tiny_models import ARCHITECTURES, CORPUS, tiny_classifier

TEXTS = [(CORPUS[1],), ("good",), (CORPUS[6], CORPUS[2])]


def completeness_error(model, output="probability", **settings):
    explainer = registry.build("explainer", "integrated_gradients", **settings)
    batch = batch_of(model, encode(model, TEXTS), output)
    target = torch.full((len(TEXTS),), TARGET)
    with model.at_work():
        scores = explainer.attribute(model, batch, target)
        return explainer.completeness_error(model, batch, target, scores).max().item()


# Where nothing is added to a zero embedding before it is normalised, the output jumps there and no quadrature helps.
SMOOTH = [name for name in ARCHITECTURES if name not in ("deberta_v1", "modernbert", "llama", "qwen2", "falcon")]


@pytest.mark.parametrize("architecture", SMOOTH)
@pytest.mark.parametrize("baseline", ["mask", "pad", "zero"])
def test_integrated_gradients_sum_to_what_they_split(architecture, baseline):
    model = tiny_classifier(architecture)
    few, many = (completeness_error(model, steps=steps, baseline=baseline) for steps in (4, 64))
    assert many < 2e-2
    assert many < few


def test_the_error_is_zero_for_a_quadratic_from_two_steps_on(monkeypatch, tiny_bert):
    def square(batch, target, embeddings=None):
        return (embeddings**2).sum((1, 2))

    monkeypatch.setattr(tiny_bert, "output", square)
    assert completeness_error(tiny_bert, steps=1) < 1e-2
    assert completeness_error(tiny_bert, steps=2) < 1e-3


def test_steps_of_many_examples_share_forward_passes_of_bounded_size(monkeypatch, tiny_bert):
    sizes = []
    forward = tiny_bert._forward

    def count(ids, embeddings, inputs, dtype):
        sizes.append(embeddings.shape[:2])
        return forward(ids, embeddings, inputs, dtype)

    monkeypatch.setattr(tiny_bert, "_forward", count)
    encodings = encode(tiny_bert, TEXTS)
    token_scores(registry.build("explainer", "integrated_gradients", steps=100), tiny_bert, encodings)
    assert sum(rows for rows, _ in sizes) == 100 * len(TEXTS)
    assert all(rows * tokens <= 4096 for rows, tokens in sizes)
    assert len(sizes) == -(-100 // (4096 // (len(TEXTS) * sizes[0][1])))


def test_the_cost_is_counted(tiny_bert):
    for name, rows, backward in (("gradient", 1, 1), ("gradient_x_input", 1, 1), ("attention", 1, 0)):
        before = vars(tiny_bert.cost).copy()
        token_scores(registry.build("explainer", name), tiny_bert, encode(tiny_bert, TEXTS))
        assert tiny_bert.cost.forward_rows - before["forward_rows"] == rows * len(TEXTS)
        assert tiny_bert.cost.backward_rows - before["backward_rows"] == backward * len(TEXTS)


def test_a_model_without_padding_token_has_no_such_baseline(monkeypatch, tiny_bert):
    monkeypatch.setattr(tiny_bert.tokenizer, "_pad_token", None, raising=False)
    monkeypatch.setitem(tiny_bert.tokenizer._special_tokens_map, "pad_token", None)
    explainer = registry.build("explainer", "integrated_gradients", baseline="pad")
    batch = batch_of_one(tiny_bert)
    with pytest.raises(AssayError, match="no padding token; use baseline=mask"):
        explainer.attribute(tiny_bert, batch, torch.tensor([1]))


def batch_of_one(model):
    from assay.encoding import make_batch

    return make_batch(encode(model, [("good",)]), 0)


@pytest.mark.parametrize("output", ["logit", "probability", "log_probability"])
@pytest.mark.parametrize("name", ["gradient", "gradient_x_input", "integrated_gradients"])
def test_the_output_that_the_batch_names_is_explained(name, output, tiny_bert):
    """Against a difference quotient along the embedding of one token."""
    encodings = encode(tiny_bert, [(CORPUS[3],)])
    batch = batch_of(tiny_bert, encodings, output)
    target = torch.tensor([TARGET])
    scores = token_scores(registry.build("explainer", name), tiny_bert, encodings, output)[0]
    with tiny_bert.at_work():
        embeddings = tiny_bert.embeddings(batch)
        if name == "gradient_x_input":
            step = 1e-2
            longer, shorter = embeddings.clone(), embeddings.clone()
            longer[:, 3] *= 1 + step
            shorter[:, 3] *= 1 - step
            outputs = [tiny_bert.output(batch, target, changed).item() for changed in (longer, shorter)]
            assert scores[3] == pytest.approx((outputs[0] - outputs[1]) / (2 * step), rel=2e-2)
    other = token_scores(registry.build("explainer", name), tiny_bert, encodings, "logit")[0]
    assert np.allclose(scores, other) is (output == "logit")
