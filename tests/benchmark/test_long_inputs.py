"""Texts of thousands of words: found quickly, explained and judged, or refused with a reason where memory is short."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from assay.encoding import _word_at
from assay.example import word_spans


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
