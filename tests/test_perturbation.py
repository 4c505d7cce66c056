"""Hidden features leave the input as token ids, never as text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay import registry
from assay.encoding import Encoding
from assay.example import Example
from assay.perturbation import Delete, Mask
from tests.tiny_models import ARCHITECTURES, tiny_classifier

HIDDEN = 999
# What holds for `infill` and `retrieval` is tested where there is a language model, or a train split.
NEED_NOTHING = [name for name in registry.names("perturbation") if name not in ("infill", "retrieval")]
TEXT = ("an unforgettable film .", "nobody saw it")


def pair(architecture: str = "bert", unit: Any = "word") -> Encoding:
    return tiny_classifier(architecture).encode(Example("pair", TEXT), unit)


masks = st.integers(0, 2**7 - 1).map(lambda number: [bool(number >> place & 1) for place in range(7)])


@given(masks, st.sampled_from(ARCHITECTURES))
@settings(deadline=None, max_examples=60)
def test_mask_changes_the_hidden_words_tokens_and_nothing_else(visible: list[bool], architecture: str) -> None:
    encoding = pair(architecture)
    (row,) = Mask().rows(encoding, np.array([visible]), HIDDEN)
    for token, feature in enumerate(encoding.feature_of_token):
        stays = feature < 0 or visible[feature]
        assert row.ids[token] == (encoding.row.ids[token] if stays else HIDDEN)
    assert (row.segments is None) == (encoding.row.segments is None)
    if row.segments is not None:
        assert row.segments.tolist() == encoding.row.segments.tolist()


@given(masks, st.sampled_from(ARCHITECTURES))
@settings(deadline=None, max_examples=60)
def test_delete_keeps_the_order_and_each_tokens_own_segment(visible: list[bool], architecture: str) -> None:
    encoding = pair(architecture)
    (row,) = Delete().rows(encoding, np.array([visible]), HIDDEN)
    stay = [t for t, feature in enumerate(encoding.feature_of_token) if feature < 0 or visible[feature]]
    assert row.ids.tolist() == [encoding.row.ids[token] for token in stay]
    if encoding.row.segments is None:
        assert row.segments is None
    else:
        assert row.segments is not None
        assert row.segments.tolist() == [encoding.row.segments[token] for token in stay]


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "gpt2"])
@pytest.mark.parametrize("name", NEED_NOTHING)
def test_special_tokens_stay_when_everything_is_hidden(architecture: str, name: str) -> None:
    encoding = pair(architecture)
    (row,) = registry.build("perturbation", name).rows(encoding, np.zeros((1, 7), dtype=np.bool_), HIDDEN)
    special = encoding.row.ids[encoding.feature_of_token < 0]
    assert [i for i in row.ids if i != HIDDEN] == special.tolist()


@pytest.mark.parametrize("name", NEED_NOTHING)
def test_nothing_hidden_is_the_full_input(name: str) -> None:
    encoding = pair()
    (row,) = registry.build("perturbation", name).rows(encoding, np.ones((1, 7), dtype=np.bool_), HIDDEN)
    assert row.key == encoding.row.key


def test_pieces_of_a_word_are_never_glued_to_the_word_before() -> None:
    # Deleting text and reading it again would make "an ##forgettable" one word; ids cannot.
    encoding = pair(unit="token")
    visible = np.array([[str(feature) != "un" for feature in encoding.features]])
    (row,) = Delete().rows(encoding, visible, HIDDEN)
    tokens = tiny_classifier("bert").tokenizer.convert_ids_to_tokens(row.ids)
    full = tiny_classifier("bert").tokenizer.convert_ids_to_tokens(encoding.row.ids)
    assert len(tokens) == len(full) - 1
    assert tokens == [token for token in full if token != "un"]


def test_the_encoding_is_not_changed() -> None:
    encoding = pair()
    ids = encoding.row.ids.copy()
    for perturbation in (Mask(), Delete()):
        for row in perturbation.rows(encoding, np.zeros((2, 7), dtype=np.bool_), HIDDEN):
            row.ids[:] = 5
    assert encoding.row.ids.tolist() == ids.tolist()


def test_no_question_gives_no_row() -> None:
    for perturbation in (Mask(), Delete()):
        assert list(perturbation.rows(pair(), np.empty((0, 7), dtype=np.bool_), HIDDEN)) == []
