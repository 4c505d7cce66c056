"""What other packages return becomes attributions of words, and is worth the same when it is scored."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import assay
from assay.converters import from_captum, from_ferret, from_inseq, from_interpreto, from_shap
from assay.errors import AssayError
from tests.tiny_models import CORPUS, tiny_classifier, tiny_prompted

TEXTS = (CORPUS[0], CORPUS[1], "An unbelievable,  friendship!")
PAIRS = ((CORPUS[2], CORPUS[3]), (CORPUS[4], CORPUS[5]))


def words(text: str) -> list[str]:
    return text.split()


def summed_by_hand(text: str, tokenizer: Any, scores: np.ndarray) -> list[float]:
    """The scores of the words of one text, from where each token begins, without Assay's own encoding."""
    of_word = [0.0] * len(words(text))
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    for (start, end), score in zip(offsets, scores, strict=False):
        if end > start:
            of_word[len(text[: start + 1].split()) - 1] += float(score)
    return of_word


@cache
def captum_scores(texts: tuple[Any, ...], target: int = 1) -> tuple[Any, Any]:
    """Integrated gradients of captum over the word embeddings, [batch, tokens, width], and the encoding."""
    captum = pytest.importorskip("captum.attr")
    model = tiny_classifier("bert")
    first = [one if isinstance(one, str) else one[0] for one in texts]
    second = None if isinstance(texts[0], str) else [one[1] for one in texts]
    encoding = model.tokenizer(first, second, padding=True, return_tensors="pt")

    def forward(ids: Any, mask: Any, kinds: Any) -> Any:
        return model.model(input_ids=ids, attention_mask=mask, token_type_ids=kinds).logits

    method = captum.LayerIntegratedGradients(forward, model.model.bert.embeddings.word_embeddings)
    ids = encoding["input_ids"]
    rest = (encoding["attention_mask"], encoding["token_type_ids"])
    nothing = torch.zeros_like(ids)
    found = method.attribute(ids, nothing, target=target, additional_forward_args=rest, n_steps=8)
    return found.detach(), encoding


def test_captum_s_array_is_worth_what_the_words_summed_by_hand_are() -> None:
    model = tiny_classifier("bert")
    scores, encoding = captum_scores(TEXTS)
    before = scores.clone()
    found = from_captum(scores, encoding, TEXTS, model.tokenizer, target=1)
    by_hand = [
        summed_by_hand(text, model.tokenizer, row)
        for text, row in zip(TEXTS, scores.double().sum(-1).numpy(), strict=True)
    ]
    for text, one, hand in zip(TEXTS, found, by_hand, strict=True):
        assert [feature.text for feature in one.features] == words(text)
        assert one.scores == pytest.approx(hand)
        assert one.target == 1
    assert torch.equal(scores, before)
    judged = [assay.score(model, TEXTS, given, target=1) for given in (found, by_hand)]
    assert judged[0].equals(judged[1])


def test_what_is_complete_stays_complete() -> None:
    model = tiny_classifier("bert")
    for texts in (TEXTS, PAIRS):
        scores, encoding = captum_scores(texts)
        special = np.isin(encoding["input_ids"].numpy(), model.tokenizer.all_special_ids)
        for row, skipped, one in zip(
            scores.double().sum(-1).numpy(),
            special,
            from_captum(scores, encoding, texts, model.tokenizer, target=1),
            strict=True,
        ):
            assert one.scores.sum() == pytest.approx(row[~skipped].sum(), abs=1e-6)


def test_the_words_of_a_pair_stay_apart_and_every_word_has_its_place() -> None:
    model = tiny_classifier("bert")
    scores, encoding = captum_scores(PAIRS)
    for pair, one in zip(PAIRS, from_captum(scores, encoding, PAIRS, model.tokenizer, 1), strict=True):
        there = [(feature.text, feature.segment, feature.position) for feature in one.features]
        assert there == [(word, s, i) for s, text in enumerate(pair) for i, word in enumerate(words(text))]


@pytest.mark.parametrize("architecture", ["roberta", "deberta", "gpt2", "llama"])
def test_every_kind_of_tokenizer_is_aligned_as_assay_aligns_it(architecture: str) -> None:
    model = tiny_classifier(architecture)
    rng = np.random.default_rng(0)
    for text in TEXTS:
        encoding = model.tokenizer(text, return_tensors="np")
        scores = rng.normal(size=encoding["input_ids"].shape)
        (one,) = from_captum(scores, encoding, [text], model.tokenizer, 0)
        own = model.encode(assay.Example("x", (text,)))
        assert one.features == own.features
        assert one.scores == pytest.approx(own.feature_scores(scores[0], "sum"))


def test_padding_on_the_left_and_ways_other_than_the_sum() -> None:
    model = tiny_classifier("bert")
    rows = [model.tokenizer(text)["input_ids"] for text in TEXTS[:2]]
    longest = max(map(len, rows))
    ids = np.array([[0] * (longest - len(row)) + row for row in rows])
    mask = np.array([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    scores = np.random.default_rng(1).normal(size=ids.shape)
    padded = {"input_ids": ids, "attention_mask": mask}
    found = from_captum(scores, padded, TEXTS[:2], model.tokenizer, [1, 0], signed=False, subwords="max")
    for text, row, one, target in zip(TEXTS, rows, found, (1, 0), strict=False):
        own = model.encode(assay.Example("x", (text,)))
        assert one.scores == pytest.approx(own.feature_scores(scores[found.index(one), -len(row) :], "max"))
        assert (one.target, one.signed) == (target, False)


@cache
def shap_explanation(tokenizer: bool = True) -> Any:
    shap = pytest.importorskip("shap")
    model = tiny_classifier("bert")

    def predict(texts: Any) -> Any:
        with torch.no_grad():
            encoding = model.tokenizer([str(text) for text in texts], padding=True, return_tensors="pt")
            return model.model(**encoding).logits.softmax(-1).numpy()

    masker = shap.maskers.Text(model.tokenizer if tokenizer else r"\W+")
    explainer = shap.Explainer(predict, masker, output_names=list(model.labels), silent=True)
    return explainer(list(TEXTS), max_evals=60)


def test_shap_s_explanation_is_worth_what_the_words_summed_by_hand_are() -> None:
    model, explanation = tiny_classifier("bert"), shap_explanation()
    found = from_shap(explanation, TEXTS, model.labels[1])
    by_hand = [
        summed_by_hand(text, model.tokenizer, values[:, 1])
        for text, values in zip(TEXTS, explanation.values, strict=True)
    ]
    for text, one, hand, values in zip(TEXTS, found, by_hand, explanation.values, strict=True):
        assert [feature.text for feature in one.features] == words(text)
        assert one.scores == pytest.approx(hand)
        assert one.scores.sum() == pytest.approx(values[1:-1, 1].sum(), abs=1e-6)
    judged = [assay.score(model, TEXTS, given, target=1) for given in (found, by_hand)]
    assert judged[0].equals(judged[1])


def test_shap_s_explanation_may_be_of_one_text_and_of_one_output() -> None:
    explanation = shap_explanation()
    found = [one.scores for one in from_shap(explanation, TEXTS, 1)]
    for place, text in enumerate(TEXTS):
        (alone,) = from_shap(explanation[place], [text], 1)
        (of_one_output,) = from_shap(explanation[place, :, 1], [text], "LABEL_1", labels=["LABEL_0", "LABEL_1"])
        assert alone.scores == pytest.approx(found[place])
        assert of_one_output.scores == pytest.approx(found[place])
    columns = from_shap(explanation[:, :, 1], TEXTS, 1)
    assert [one.scores.tolist() for one in columns] == [one.tolist() for one in found]


@dataclass
class ShapLike:
    data: Any
    values: Any
    output_names: Any = None


def test_shap_s_pieces_of_a_pair_are_parted_at_the_separator() -> None:
    pieces = ["", "two ", "men ", "[SEP] ", "no", "body", ""]
    values = np.array([0.0, 1.0, 2.0, 5.0, 3.0, 4.0, 0.0])
    (one,) = from_shap(ShapLike([pieces], [values]), [("two men", "nobody")], 0, separator=" [SEP] ")
    assert [(f.text, f.segment, f.position) for f in one.features] == [("two", 0, 0), ("men", 0, 1), ("nobody", 1, 0)]
    assert one.scores.tolist() == [1.0, 2.0, 7.0]
    with pytest.raises(AssayError, match=r"has 'dull ' where the text reads ' menx'.*with the same separator"):
        from_shap(ShapLike([["two ", "dull "]], [np.zeros(2)]), [("two men", "x")], 0)
    with pytest.raises(AssayError, match=r"'menno' stands across the end of the first text"):
        from_shap(ShapLike([["two ", "menno", "body"]], [np.zeros(3)]), [("two men", "nobody")], 0)


def test_words_that_shap_s_masker_does_not_see_are_told() -> None:
    with pytest.raises(AssayError, match=r"text 0: nothing was explained of word \d+, '[.,]'.*Text\(tokenizer\)"):
        from_shap(shap_explanation(tokenizer=False), TEXTS, 1)


@dataclass
class FerretExplanation:
    """As ferret 0.4 declares it."""

    text: str
    tokens: Any
    scores: Any
    explainer: str
    target: int


def ferret_like(text: str, length: int | None = None) -> FerretExplanation:
    tokenizer = tiny_classifier("bert").tokenizer
    ids = tokenizer(text, truncation=length is not None, max_length=length)["input_ids"]
    scores = np.random.default_rng(len(ids)).normal(size=len(ids))
    return FerretExplanation(text, tokenizer.convert_ids_to_tokens(ids), scores, "Gradient", 1)


def test_ferret_s_explanations_one_or_several() -> None:
    model = tiny_classifier("bert")
    several = [ferret_like(text) for text in TEXTS]
    found = from_ferret(several, model.tokenizer)
    for given, one in zip(several, found, strict=True):
        assert one.scores == pytest.approx(summed_by_hand(given.text, model.tokenizer, given.scores))
        assert one.target == 1
    (alone,) = from_ferret(several[0], model.tokenizer)
    assert alone.scores.tolist() == found[0].scores.tolist()
    cut_off = ferret_like(TEXTS[0], length=6)
    (short,) = from_ferret(cut_off, model.tokenizer, signed=False)
    assert [feature.text for feature in short.features] == words(TEXTS[0])[: len(short)]
    assert not short.signed


class Granularity(Enum):
    ALL_TOKENS = "all_tokens"
    TOKEN = "token"
    WORD = "word"
    SENTENCE = "sentence"


@dataclass
class InterpretoOutput:
    """The fields of interpreto 0.5's AttributionOutput that are read."""

    attributions: Any
    elements: Any
    model_inputs_to_explain: Any
    targets: Any
    granularity: Any


def interpreto_like(text: Any, granularity: Granularity, classes: tuple[int, ...] = (1,)) -> InterpretoOutput:
    tokenizer = tiny_classifier("bert").tokenizer
    pair = (text,) if isinstance(text, str) else text
    inputs = tokenizer(*pair, return_tensors="pt")
    ids = inputs["input_ids"][0]
    groups: dict[Any, list[int]] = {}
    for token, word in enumerate(inputs.word_ids(0)):
        if granularity is Granularity.ALL_TOKENS or word is not None:
            groups.setdefault(word if granularity is Granularity.WORD else token, []).append(token)
    torch.manual_seed(0)
    scores = torch.randn(len(classes), len(groups))
    elements = ["".join(tokenizer.convert_ids_to_tokens(ids[tokens])) for tokens in groups.values()]
    return InterpretoOutput(scores, elements, inputs, torch.tensor(classes), granularity)


@pytest.mark.parametrize("granularity", [Granularity.ALL_TOKENS, Granularity.TOKEN, Granularity.WORD])
def test_interpreto_s_outputs_at_every_granularity_that_can_be_had(granularity: Granularity) -> None:
    model = tiny_classifier("bert")
    outputs = [interpreto_like(text, granularity, (0, 1)) for text in TEXTS]
    for target in (0, 1):
        found = from_interpreto(outputs, TEXTS, model.tokenizer, target=target)
        for text, output, one in zip(TEXTS, outputs, found, strict=True):
            assert [feature.text for feature in one.features] == words(text)
            scores = output.attributions[target].numpy()
            kept = scores[1:-1] if granularity is Granularity.ALL_TOKENS else scores
            assert one.scores.sum() == pytest.approx(kept.sum(), abs=1e-6)
            if granularity is Granularity.ALL_TOKENS:
                assert one.scores == pytest.approx(summed_by_hand(text, model.tokenizer, scores))
            assert one.target == target


def test_interpreto_s_words_are_pieces_of_ours() -> None:
    text = "An unbelievable, film!"
    output = interpreto_like(text, Granularity.WORD)
    scores = output.attributions[0].numpy()
    assert len(scores) == 5
    (one,) = from_interpreto(output, [text], tiny_classifier("bert").tokenizer)
    assert one.scores == pytest.approx([scores[0], scores[1] + scores[2], scores[3] + scores[4]])


def test_what_interpreto_leaves_out_is_told() -> None:
    tokenizer = tiny_classifier("bert").tokenizer
    output = interpreto_like(TEXTS[0], Granularity.SENTENCE)
    with pytest.raises(AssayError, match=r"granularity 'sentence', whose elements are not parts of words"):
        from_interpreto(output, [TEXTS[0]], tokenizer)
    several = interpreto_like(TEXTS[0], Granularity.TOKEN, (0, 1))
    with pytest.raises(AssayError, match=r"explained for the classes \[0, 1\]; name one as target="):
        from_interpreto(several, [TEXTS[0]], tokenizer)
    with pytest.raises(AssayError, match=r"explained for the classes \[0, 1\], not for 2"):
        from_interpreto(several, [TEXTS[0]], tokenizer, target=2)
    text = "a film ☃ ."
    unknown = interpreto_like(text, Granularity.TOKEN)
    known = [i for i, id in enumerate(unknown.model_inputs_to_explain["input_ids"][0]) if id > 4]
    unknown.attributions = unknown.attributions[:, [i - 1 for i in known]]
    with pytest.raises(AssayError, match=r"no score for '☃'.*ALL_TOKENS"):
        from_interpreto(unknown, [text], tokenizer)


@dataclass
class TokenWithId:
    token: str
    id: int


@dataclass
class InseqSequence:
    source: Any
    source_attributions: Any
    target_attributions: Any


@dataclass
class InseqOutput:
    sequence_attributions: Any
    info: Any


def inseq_like(prompt: str, decoder_only: bool = True, steps: int = 2) -> InseqOutput:
    tokenizer = tiny_prompted("gpt2").tokenizer
    ids = tokenizer(prompt)["input_ids"]
    source = [TokenWithId(token, id) for token, id in zip(tokenizer.convert_ids_to_tokens(ids), ids, strict=True)]
    scores = torch.arange(1.0, len(ids) + 1)[:, None] * torch.tensor([1.0, 10.0])[:steps]
    if not decoder_only:
        return InseqOutput([InseqSequence(source, scores, None)], {"input_texts": [prompt]})
    # The rows of what was generated stand below, and are not a number where a token came later.
    below = torch.full((steps, steps), float("nan"))
    return InseqOutput([InseqSequence(source, None, torch.cat([scores, below]))], {"input_texts": [prompt]})


@pytest.mark.parametrize("decoder_only", [True, False])
def test_of_inseq_s_prompt_the_words_of_the_text_count(decoder_only: bool) -> None:
    tokenizer = tiny_prompted("gpt2").tokenizer
    prompt = f"read : {TEXTS[0]} so it is"
    (one,) = from_inseq(inseq_like(prompt, decoder_only), [TEXTS[0]], tokenizer, target=1)
    assert [feature.text for feature in one.features] == words(TEXTS[0])
    start = prompt.index(TEXTS[0])
    expected = [0.0] * len(one)
    offsets = tokenizer(prompt, return_offsets_mapping=True)["offset_mapping"]
    for place, (first, last) in enumerate(offsets):
        if first < start + len(TEXTS[0]) and last > start:
            # A token that is nothing but a space belongs to the word that follows.
            before = len(prompt[start:last].split()) - bool(prompt[first:last].strip())
            expected[before] += 11.0 * (place + 1)
    assert one.scores == pytest.approx(expected)
    pair = (words(TEXTS[0])[0], " ".join(words(TEXTS[0])[2:]))
    with pytest.raises(AssayError, match=r"'it' does not stand in its prompt"):
        from_inseq(inseq_like("read : a film"), ["it"], tokenizer, 1)
    with pytest.raises(AssayError, match=r"'a' stands more than once in its prompt"):
        from_inseq(inseq_like("read : a film"), ["a"], tokenizer, 1)
    (two,) = from_inseq(inseq_like(prompt), [pair], tokenizer, 1)
    assert [feature.segment for feature in two.features] == [0] + [1] * (len(one) - 2)


def test_inseq_s_scores_must_be_aggregated() -> None:
    output = inseq_like(TEXTS[0])
    output.sequence_attributions[0].target_attributions = torch.zeros(30, 2, 8)
    with pytest.raises(AssayError, match=r"shape \(30, 2, 8\).*output.aggregate\(\) first"):
        from_inseq(output, [TEXTS[0]], tiny_prompted("gpt2").tokenizer, 1)
    with pytest.raises(AssayError, match=r"no input_texts"):
        from_inseq(InseqOutput([], {}), [TEXTS[0]], tiny_prompted("gpt2").tokenizer, 1)


def bad_captum(**changed: Any) -> Any:
    model = tiny_classifier("bert")
    encoding = model.tokenizer(list(TEXTS[:2]), padding=True, return_tensors="pt")
    given = {
        "scores": np.zeros(encoding["input_ids"].shape),
        "encoding": encoding,
        "texts": TEXTS[:2],
        "tokenizer": model.tokenizer,
        "target": 1,
    }
    return from_captum(**{**given, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scores": np.zeros((2, 3))}, r"scores have shape \(2, 3\) for tokens of shape"),
        ({"scores": [["a"]]}, r"The scores are not an array of numbers"),
        ({"texts": TEXTS[:1]}, r"1 texts and 2 rows of tokens"),
        ({"texts": (TEXTS[1], TEXTS[0])}, r"text 0: the tokens that were explained are not those.*token 1 is 'the'"),
        ({"target": [1]}, r"2 texts and 1 targets"),
        ({"encoding": {}}, r"no input_ids"),
    ],
)
def test_what_does_not_fit_is_told(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(AssayError, match=message):
        bad_captum(**changed)


def test_scores_that_are_not_finite_are_refused_but_for_special_tokens() -> None:
    scores = np.full(
        tiny_classifier("bert").tokenizer(list(TEXTS[:2]), padding=True, return_tensors="np")["input_ids"].shape, 0.5
    )
    scores[:, 0] = np.nan
    assert len(bad_captum(scores=scores)) == 2
    scores[1, 2] = np.inf
    with pytest.raises(AssayError, match=r"text 1: the score of token 2 is inf"):
        bad_captum(scores=scores)


@pytest.mark.parametrize(
    ("convert", "message"),
    [
        (lambda: from_shap(object(), TEXTS, 1), r"object has no data, values, output_names; it must be shap's Expl"),
        (lambda: from_ferret([object()], None), r"object has no text, tokens, scores, target; it must be ferret's"),
        (lambda: from_interpreto([object()], ["a"], None), r"object has no attributions, elements, .*interpreto's"),
        (
            lambda: from_inseq(object(), ["a"], None, 1),
            r"object has no sequence_attributions, info; it must be inseq's",
        ),
        (lambda: from_shap(ShapLike([["a"]], [np.zeros(2)]), ["a"], 0), r"1 pieces of text and values of shape \(2,\)"),
        (lambda: from_shap(ShapLike([["a"]], [np.zeros(1)]), ["a"], "good"), r"is a name, and the outputs have none"),
        (lambda: from_shap(ShapLike([["a"]], [np.zeros(1)], ["goo", "x"]), ["a"], "good"), r"Did you mean 'goo'"),
        (lambda: from_shap(ShapLike([["a"]], [np.zeros((1, 2))]), ["a"], 2), r"for 2 outputs, and there is no class 2"),
    ],
)
def test_what_is_missing_is_named(convert: Any, message: str) -> None:
    with pytest.raises(AssayError, match=message):
        convert()
