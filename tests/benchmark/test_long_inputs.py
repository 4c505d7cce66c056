"""Texts of thousands of words: found quickly, explained and judged, or refused with a reason where memory is short."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay import registry
from assay.benchmark import looking_inside
from assay.benchmark.evaluation import Evaluation, Settings
from assay.benchmark.records import Records
from assay.classifier import Classifier
from assay.encoding import _word_at
from assay.example import Example, word_spans
from assay.perturbation import Mask
from tests.tiny_models import WHOLE_WORDS, tiny_model


def by_looking_at_every_word(spans: list[tuple[int, int]], start: int, end: int) -> int:
    for word, (first, last) in enumerate(spans):
        if start < last and (end > first or last > start >= first):
            return word
        if first >= end:
            return word
    return len(spans) - 1


@settings(max_examples=200)
@given(text=st.text(alphabet="ab  ", min_size=1).filter(str.strip), data=st.data())
def test_the_word_of_a_token_is_the_one_that_looking_at_every_word_finds(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    spans = word_spans(text)
    assert _word_at(spans, start, end) == by_looking_at_every_word(spans, start, end)


def long_model(architecture: str, tokens: int) -> Classifier:
    positions = "n_positions" if architecture == "gpt2" else "max_position_embeddings"
    network, tokenizer = tiny_model(architecture, **{positions: tokens})
    tokenizer.model_max_length = tokens
    return Classifier(network, tokenizer)


def evaluate(model: Classifier, words: int, *names: str) -> dict[str, Records]:
    chosen = np.random.default_rng(0).choice([word for word in WHOLE_WORDS if len(word) > 2], words)
    metrics = {name: registry.build("metric", name) for name in ("comprehensiveness", "deletion")}
    example = Example("long", (" ".join(chosen),))
    evaluation = Evaluation(model, [example], metrics, {"mask": Mask()}, Settings(), tokens_per_batch=128)
    for name in names:
        evaluation.add_explainer(name, registry.build("explainer", name))
    return evaluation.run()


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "gpt2", "qwen2"])
def test_a_text_longer_than_a_batch_is_explained_and_judged(architecture: str) -> None:
    model = long_model(architecture, 1024)
    for records in evaluate(model, 300, "gradient", "attention", "first").values():
        assert len(records.attributions[0]["scores"]) == 300
        assert records.examples[0]["truncated"] == 0
        assert all(row["reason"] is None for row in records.scores)


@pytest.mark.parametrize("name", ["attention_rollout", "grad_sam", "decompx", "attn_lrp"])
def test_a_method_that_would_not_fit_into_memory_is_undefined_with_a_reason(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking_inside, "free_memory", lambda device: 10e6)
    found = evaluate(long_model("bert", 1024), 1000, name, "gradient")
    assert "takes about" in found[name].attributions[0]["reason"]
    assert "10.0 MB are free on cpu" in found[name].attributions[0]["reason"]
    assert found["gradient"].attributions[0]["reason"] is None
