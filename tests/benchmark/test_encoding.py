"""Words and tokens as features, for every kind of tokenizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.classifier import Classifier
from assay.encoding import Encoding, encode, make_batch
from assay.errors import AssayError
from assay.example import Example, word_spans
from tests.tiny_models import ARCHITECTURES, CORPUS, TOKENIZERS, tiny_classifier

every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


def read(architecture: str, *text: str, unit: Any = "word", rationale: Any = None) -> Encoding:
    return tiny_classifier(architecture).encode(Example("one", text, rationale=rationale), unit)


def names(encoding: Encoding) -> list[str]:
    return [str(feature) for feature in encoding.features]


def spelled(architecture: str, encoding: Encoding, feature: int) -> str:
    """The text that the tokens of a feature stand for, without case and marks."""
    ids = encoding.row.ids[encoding.feature_of_token == feature]
    return str(tiny_classifier(architecture).tokenizer.decode(ids)).replace(" ", "").lower()


@every_architecture
@pytest.mark.parametrize("text", [(CORPUS[0],), (CORPUS[1], CORPUS[5]), ("unbelievable newspapers",)])
def test_each_words_tokens_spell_the_word(architecture: str, text: tuple[str, ...]) -> None:
    encoding = read(architecture, *text)
    assert names(encoding) == [word for part in text for word in part.split()]
    for index, feature in enumerate(encoding.features):
        assert spelled(architecture, encoding, index) == feature.text.lower()


@every_architecture
def test_the_ids_are_the_tokenizers_own(architecture: str) -> None:
    encoding = read(architecture, CORPUS[2], CORPUS[3])
    tokenizer = TOKENIZERS[architecture]()
    expected = tokenizer(CORPUS[2], CORPUS[3])
    assert encoding.row.ids.tolist() == expected["input_ids"]
    takes_segments = architecture in ("bert", "electra", "albert", "deberta")
    assert (encoding.row.segments is not None) == takes_segments
    if takes_segments:
        assert encoding.row.segments.tolist() == expected["token_type_ids"]  # type: ignore[union-attr]


@every_architecture
def test_special_tokens_are_no_features_and_all_others_are(architecture: str) -> None:
    encoding = read(architecture, CORPUS[2], CORPUS[3])
    tokenizer = TOKENIZERS[architecture]()
    special = tokenizer(CORPUS[2], CORPUS[3], return_special_tokens_mask=True)["special_tokens_mask"]
    assert (encoding.feature_of_token < 0).astype(int).tolist() == special


@every_architecture
def test_a_word_in_both_texts_of_a_pair_is_two_features(architecture: str) -> None:
    encoding = read(architecture, "good film", "film good")
    keys = [(f.text, f.segment, f.position) for f in encoding.features]
    assert keys == [("good", 0, 0), ("film", 0, 1), ("film", 1, 0), ("good", 1, 1)]


@every_architecture
def test_punctuation_that_is_glued_to_a_word_belongs_to_it(architecture: str) -> None:
    assert names(read(architecture, "dull, lifeless!script.")) == ["dull,", "lifeless!script."]


@every_architecture
def test_white_space_of_any_kind_and_length_makes_no_feature(architecture: str) -> None:
    encoding = read(architecture, "  a\t\tdull \n film  ")
    assert names(encoding) == ["a", "dull", "film"]
    assert set(encoding.feature_of_token) - {-1} == {0, 1, 2}


@every_architecture
def test_emoji_and_letters_the_model_never_saw_are_words(architecture: str) -> None:
    assert names(read(architecture, "good 😀😀 日本 film")) == ["good", "😀😀", "日本", "film"]


@every_architecture
def test_a_text_of_unknown_characters_only_has_features(architecture: str) -> None:
    encoding = read(architecture, "日本 語")
    assert names(encoding) == ["日本", "語"]
    assert (encoding.feature_of_token >= 0).any()


@every_architecture
@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_text_has_no_features(architecture: str, text: str) -> None:
    assert read(architecture, text).n == 0
    assert names(read(architecture, "good", text) if architecture != "gpt2" else read(architecture, "good")) == ["good"]


@every_architecture
def test_the_name_of_a_special_token_in_a_text_is_a_word_like_others(architecture: str) -> None:
    tokenizer = tiny_classifier(architecture).tokenizer
    special = tokenizer.sep_token or tokenizer.eos_token
    encoding = read(architecture, f"good {special} film")
    assert names(encoding) == ["good", special, "film"]
    assert (encoding.feature_of_token == 1).any()
    if tokenizer.sep_token:
        assert encoding.feature_of_token[0] == encoding.feature_of_token[-1] == -1


@every_architecture
@pytest.mark.parametrize("text", [(CORPUS[0],), (CORPUS[1], CORPUS[5])])
def test_with_tokens_as_features_each_token_is_one(architecture: str, text: tuple[str, ...]) -> None:
    encoding = read(architecture, *text, unit="token")
    eligible = encoding.feature_of_token[encoding.feature_of_token >= 0]
    assert eligible.tolist() == list(range(encoding.n))
    tokenizer = tiny_classifier(architecture).tokenizer
    ids = encoding.row.ids[encoding.feature_of_token >= 0]
    assert names(encoding) == tokenizer.convert_ids_to_tokens(ids)
    positions = [(f.segment, f.position) for f in encoding.features]
    assert len(set(positions)) == len(positions)
    assert read(architecture, *text).row.ids.tolist() == encoding.row.ids.tolist()


@every_architecture
def test_a_token_is_in_the_rationale_when_its_word_is(architecture: str) -> None:
    text, rationale = ("an unforgettable film", "dull"), ((False, True, False), (True,))
    example = Example("one", text, rationale=rationale)
    words, tokens = read(architecture, *text), read(architecture, *text, unit="token")
    assert words.rationale(example).tolist() == [False, True, False, True]  # type: ignore[union-attr]
    flags = tokens.rationale(example)
    assert flags is not None
    by_word = words.feature_of_token[words.feature_of_token >= 0]
    assert flags.tolist() == [word in (1, 3) for word in by_word]
    assert flags.sum() > 2  # the long word is several tokens


@every_architecture
def test_a_text_that_is_too_long_is_cut_as_the_tokenizer_cuts_it(architecture: str) -> None:
    tokenizer, text = TOKENIZERS[architecture](), ("unbelievable film " * 20, "a dull script")
    encoding = encode(Example("one", text), tokenizer, 16)
    expected = TOKENIZERS[architecture]()(*text, truncation=True, max_length=16)["input_ids"]
    assert encoding.row.ids.tolist() == expected
    assert encoding.truncated == len(TOKENIZERS[architecture]()(*text)["input_ids"]) - 16
    assert set(encoding.feature_of_token) - {-1} == set(range(encoding.n))
    assert read(architecture, *text).truncated == 0


def test_the_rationale_of_what_was_cut_off_is_left_out() -> None:
    rationale = ((True, *[False] * 39),)
    example = Example("one", ("good " * 40,), rationale=rationale)
    encoding = encode(example, TOKENIZERS["bert"](), 12)
    assert encoding.n == 10
    assert encoding.rationale(example).tolist() == [True] + [False] * 9  # type: ignore[union-attr]


@every_architecture
def test_the_tokenizer_is_left_as_it_was(architecture: str) -> None:
    tokenizer = TOKENIZERS[architecture]()
    tokenizer.backend_tokenizer.enable_truncation(max_length=7)
    before = tokenizer.backend_tokenizer.to_str()
    encode(Example("one", ("unbelievable film " * 20,)), tokenizer, 16)
    encode(Example("one", ("good",)), tokenizer, 16)
    assert tokenizer.backend_tokenizer.to_str() == before


def test_a_tokenizer_that_knows_no_characters_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(AssayError, match="Slow does not report"):
        encode(Example("one", ("good",)), Slow(), 16)  # type: ignore[arg-type]


def test_an_unknown_feature_unit_is_refused() -> None:
    with pytest.raises(AssayError, match="'sentence'"):
        read("bert", "good", unit="sentence")


@given(st.lists(st.text(max_size=12), min_size=1, max_size=2), st.sampled_from(ARCHITECTURES))
@settings(deadline=None, max_examples=150)
def test_any_text_at_all_can_be_read(parts: list[str], architecture: str) -> None:
    encoding = read(architecture, *parts)
    words = [(segment, place) for segment, part in enumerate(parts) for place, _ in enumerate(word_spans(part))]
    keys = [(feature.segment, feature.position) for feature in encoding.features]
    assert keys == [word for word in words if word in keys]  # in reading order, each once
    for (segment, position), name in zip(keys, names(encoding), strict=True):
        start, end = word_spans(parts[segment])[position]
        assert parts[segment][start:end] == name
    assert len(encoding.feature_of_token) == len(encoding.row.ids)
    assert set(encoding.feature_of_token) - {-1} == set(range(encoding.n))


def test_a_batch_pads_on_the_right_and_only_where_it_must(tiny_bert: Classifier) -> None:
    long, short = (tiny_bert.encode(Example(text, (text,))) for text in ("a good film", "dull"))
    batch = make_batch([long, short], padding_id=7)
    assert batch.attention_mask is not None
    assert batch.attention_mask.sum(1).tolist() == [len(long.row.ids), len(short.row.ids)]
    assert batch.input_ids[1, len(short.row.ids) :].tolist() == [7] * (len(long.row.ids) - len(short.row.ids))
    assert batch.eligible.sum(1).tolist() == [3, int(np.sum(short.feature_of_token >= 0))]
    assert make_batch([long, long]).attention_mask is None
