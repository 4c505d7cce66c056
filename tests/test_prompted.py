"""Causal language models read through label words: the scores, the words that may be hidden, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import assay
from assay import registry
from assay.encoding import make_batch
from assay.errors import AssayError
from assay.example import Example
from assay.perturbation import Delete, Mask
from assay.prompted import PromptedClassifier
from tests.benchmark.cli import assay as command
from tests.benchmark.cli import save_task
from tests.tiny_models import CORPUS, DECODERS, tiny_model, tiny_prompted

TEMPLATE = "read : {text} so it is"
PAIR = "first {first} then {second} so"
SEVERAL = (" good", " unforgettable", " dull")  # the second has several tokens


def summed_log_probabilities(model: PromptedClassifier, prompt: str, words: tuple[str, ...]) -> list[float]:
    """By the definition: the language model's own log-probability of each token of the word, given what is before."""
    scores = []
    for word in words:
        start = model.tokenizer(prompt)["input_ids"]
        ids = model.tokenizer(prompt + word)["input_ids"]
        assert ids[: len(start)] == start
        with torch.no_grad():
            table = model.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        scores.append(float(sum(table[place - 1, ids[place]] for place in range(len(start), len(ids)))))
    return scores


@pytest.mark.parametrize("architecture", DECODERS)
@pytest.mark.parametrize("words", [SEVERAL[::2], SEVERAL], ids=["one-token", "several-tokens"])
def test_a_class_scores_the_summed_log_probability_of_its_word(architecture: str, words: tuple[str, ...]) -> None:
    model = tiny_prompted(architecture, TEMPLATE, words)
    encoding = model.encode(Example("one", (CORPUS[1],)))
    expected = summed_log_probabilities(model, TEMPLATE.replace("{text}", CORPUS[1]), words)
    with model.at_work():
        np.testing.assert_allclose(model.answer([encoding.row])[0], expected, atol=2e-5)
        batch = make_batch([encoding], output="probability")
        probability = model.output(batch, torch.tensor([1]))
    assert float(probability) == pytest.approx(float(torch.tensor(expected).softmax(0)[1]), abs=1e-5)


def test_padding_changes_nothing() -> None:
    model = tiny_prompted("llama", TEMPLATE, SEVERAL)
    encodings = [model.encode(Example(text, (text,))) for text in (CORPUS[0], "good", CORPUS[2])]
    target = torch.tensor([0, 1, 2])
    with model.at_work():
        together = model.output(make_batch(encodings, model.tokenizer.pad_token_id), target)
        alone = [
            float(model.output(make_batch([encoding]), target[[index]])) for index, encoding in enumerate(encodings)
        ]
    np.testing.assert_allclose(together.numpy(), alone, atol=1e-6)


def test_only_the_words_of_the_text_can_be_hidden() -> None:
    model = tiny_prompted("gpt2", PAIR, SEVERAL)
    encoding = model.encode(Example("pair", ("two men", "how to cook ?")))
    assert [str(feature) for feature in encoding.features] == ["two", "men", "how", "to", "cook", "?"]
    assert [feature.segment for feature in encoding.features] == [0, 0, 1, 1, 1, 1]
    keep = np.zeros((1, encoding.n), dtype=bool)
    for perturbation in (Mask(), Delete()):
        (row,) = perturbation.rows(encoding, keep, model.hidden_token[1])
        left = [token for token in row.ids if token != model.hidden_token[1]]
        template = [model.tokenizer(part)["input_ids"] for part in ("first", " then", " so")]
        assert left == [token for part in template for token in part]


def test_a_token_that_reaches_into_the_template_stays() -> None:
    # Within quotes, the last word and the quote become one token in many vocabularies; the byte-level tokenizer of
    # these tests has "able" whole, so the template ends inside it.
    model = tiny_prompted("gpt2", "so {text}able it is", (" good", " dull"))
    encoding = model.encode(Example("x", ("two t",)))
    tokens = model.tokenizer.convert_ids_to_tokens(encoding.row.ids.tolist())
    own = [token for token, feature in zip(tokens, encoding.feature_of_token, strict=True) if feature >= 0]
    assert all("able" not in token for token in own)
    assert str(encoding.features[0]) == "two"


def test_what_is_too_long_is_cut_off_the_text_and_never_the_template() -> None:
    model = tiny_prompted("gpt2", PAIR, SEVERAL)
    long, short = " ".join(CORPUS * 12), "two men"
    encoding = model.encode(Example("long", (long, short)))
    assert len(encoding.row.ids) <= model.max_length
    assert len(encoding.row.ids) > model.max_length - 12
    assert encoding.truncated > 100
    text = model.tokenizer.decode(encoding.row.ids)
    assert text.startswith("first the film is a warm")
    assert text.endswith(" then two men so")
    with model.at_work():
        assert np.isfinite(model.answer([encoding.row])).all()


@pytest.mark.parametrize(
    ("template", "words", "message"),
    [
        ("so it is", (" good", " dull"), r"it has no slot: 'so it is'"),
        ("{text} {text} is", (" good", " dull"), r"it has \{text\}, \{text\}"),
        ("{second} {first} is", (" good", " dull"), r"\{first\} and then \{second\}"),
        (TEMPLATE, (" good", ""), "The label word '' of class 'LABEL_1' has no tokens"),
        (TEMPLATE, (" good", " good"), "begin with the same token, 'Ġgood'"),
        (TEMPLATE, (" good",), "at least two classes"),
    ],
)
def test_a_prompt_that_cannot_work_is_refused(template: str, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(AssayError, match=message):
        tiny_prompted("gpt2", template, words)


def test_a_text_for_which_the_template_has_no_slot_is_refused() -> None:
    with pytest.raises(
        AssayError, match=r"has 2 texts, but the template has \{text\}. It needs \{first\} and \{second\}"
    ):
        tiny_prompted().encode(Example("pair", ("two men", "good")))


@pytest.mark.parametrize("explainer", ["leave_one_out", "kernel_shap", "gradient", "integrated_gradients", "attention"])
@pytest.mark.parametrize("words", [SEVERAL[::2], SEVERAL], ids=["one-token", "several-tokens"])
def test_explainers_and_metrics_work_on_it(explainer: str, words: tuple[str, ...]) -> None:
    model = tiny_prompted("qwen2", TEMPLATE, words)
    attribution = assay.explain(model, CORPUS[1], explainer, target="LABEL_1", perturbation="delete")
    assert [str(feature) for feature in attribution.features] == CORPUS[1].split()
    assert np.isfinite(attribution.scores).all()
    assert np.abs(attribution.scores).max() > 0
    frame = assay.score(model, [CORPUS[1]], [attribution], assay.api.METRICS, perturbation="delete")
    assert np.isfinite(frame.to_numpy()).all()


def test_integrated_gradients_are_complete_through_several_label_words() -> None:
    model = tiny_prompted("opt", TEMPLATE, SEVERAL)
    explainer = registry.build("explainer", "integrated_gradients", steps=128, baseline="zero")
    encoding = model.encode(Example("one", (CORPUS[3],)))
    batch = make_batch([encoding], output="logit")
    target = torch.tensor([1])
    with model.at_work():
        found = explainer.attribute(model, batch, target)
        scores = getattr(found, "scores", found)
        embeddings = model.embeddings(batch)
        empty = embeddings.masked_fill(batch.eligible[..., None], 0.0)
        change = model.output(batch, target, embeddings) - model.output(batch, target, empty)
    assert float(scores.sum()) == pytest.approx(float(change), rel=0.02, abs=0.02)


def test_a_run_on_the_command_line(tmp_path: Path) -> None:
    model, tokenizer = tiny_model("gpt2", head=AutoModelForCausalLM)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    save_task(tmp_path / "data")
    overrides = [
        "run",
        "task=sst2",
        f"task.path={tmp_path / 'data'}",
        "model=prompted",
        f"model.path={tmp_path / 'model'}",
        "explainer=leave_one_out",
        "metric=deletion",
        "tracker=none",
        "allow_low_accuracy=true",
        f"results={tmp_path / 'results'}",
    ]
    words = 'model.label_words={negative: " dull", positive: " good"}'
    missing = command(*overrides, words)
    assert (missing.code, "model.template" in missing.err) == (2, True)
    no_slot = command(*overrides, "model.template='so it is'", words)
    assert (no_slot.code, "it has no slot" in no_slot.err) == (2, True)
    ended = command(*overrides, "model.template='{text} so it is'", words)
    assert ended.code == 0, ended.err
    assert "leave_one_out" in ended.out
