from __future__ import annotations

import numpy as np
import pytest
import torch

from assay import registry
from assay.errors import AssayError
from tests.explainers.attributing import encode, token_scores
from tests.tiny_models import ARCHITECTURES, CORPUS, DECODERS, tiny_classifier

TEXTS = [(CORPUS[1],), ("good",), (CORPUS[6], CORPUS[2])]


def own_attention(model, encoding):
    """What transformers itself reports for the row alone, [layers, heads, tokens, tokens]."""
    inputs = {"input_ids": torch.from_numpy(encoding.row.ids)[None]}
    if encoding.row.segments is not None:
        inputs["token_type_ids"] = torch.from_numpy(encoding.row.segments)[None]
    with model.eager_attention(), torch.no_grad():
        return torch.cat(model.model(**inputs, output_attentions=True).attentions).numpy()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_is_the_models_own_attention_of_the_token_that_the_class_is_read_from(architecture):
    model = tiny_classifier(architecture)
    encodings = encode(model, TEXTS)
    place = -1 if architecture in DECODERS else 0
    for settings, select in (
        ({}, lambda weights: weights[-1].mean(0)),
        ({"layer": 0, "head": 2}, lambda weights: weights[0, 2]),
        ({"layer": "all"}, lambda weights: weights.mean((0, 1))),
        ({"layer": "all", "head": -1}, lambda weights: weights[:, -1].mean(0)),
    ):
        found = token_scores(registry.build("explainer", "attention", **settings), model, encodings)
        for encoding, scores in zip(encodings, found, strict=True):
            np.testing.assert_allclose(scores, select(own_attention(model, encoding))[place], atol=1e-6)
            assert scores.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": 2}, r"attention.layer=2: tiny-bert has 2 layers, counted 0 to 1 or -2 to -1"),
        ({"layer": -3}, "has 2 layers"),
        ({"head": 4}, r"attention.head=4: tiny-bert has 4 heads"),
    ],
)
def test_a_layer_or_head_that_the_model_lacks_is_named(settings, message, tiny_bert):
    with pytest.raises(AssayError, match=message):
        token_scores(registry.build("explainer", "attention", **settings), tiny_bert, encode(tiny_bert, TEXTS))
