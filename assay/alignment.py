"""Where the tokens and pieces that other packages explain stand in a text's words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from assay.encoding import Encoding, Place, encode
from assay.errors import AssayError
from assay.example import Example, word_spans

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = NDArray[np.int64]


def encoded(example: Example, ids: Ids, tokenizer: PreTrainedTokenizerBase) -> Encoding:
    """The words of a text and their tokens, which must be those that were explained.

    Args:
        example: the text or texts; its id stands in messages.
        ids: [tokens], those that were explained, special tokens included.
        tokenizer: what made them.

    Raises:
        AssayError: the tokenizer makes others of the text.
    """
    encoding = encode(example, tokenizer, max(1, len(ids)))
    check_same(ids, encoding.row.ids, tokenizer, example.id)
    check_covered(encoding, example, cut_off=True)
    return encoding


def check_same(ids: Ids, own: Ids, tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """See that tokens are those that they should be.

    Raises:
        AssayError: they are not; the first that differs is named.
    """
    if np.array_equal(ids, own):
        return
    place = next((i for i, (a, b) in enumerate(zip(ids, own, strict=False)) if a != b), min(len(ids), len(own)))
    there, here = (
        repr(tokenizer.convert_ids_to_tokens(int(row[place]))) if place < len(row) else "nothing" for row in (ids, own)
    )
    raise AssayError(
        f"{where}: the tokens that were explained are not those that the tokenizer makes of the text: token {place} "
        f"is {there}, and should be {here}. Give the texts and the tokenizer that were explained, with special tokens."
    )


def check_covered(words: Encoding, example: Example, cut_off: bool) -> None:
    """See that every word has a token.

    Args:
        words: the words that have one.
        example: the text or texts; its id stands in messages.
        cut_off: whether words at a text's end may have been cut off.

    Raises:
        AssayError: a word has none.
    """
    for segment, text in enumerate(example.text):
        seen = {word for word, feature in zip(words.words, words.features, strict=True) if feature.segment == segment}
        spans = word_spans(text)
        end = max(seen, default=-1) + 1 if cut_off else len(spans)
        for word in range(end):
            if word not in seen:
                first, last = spans[word]
                raise AssayError(
                    f"{example.id}: nothing was explained of word {word}, {text[first:last][:60]!r}. Explain with the "
                    "model's own tokenizer, for example shap.maskers.Text(tokenizer)."
                )


def located(pieces: Sequence[str], texts: Sequence[str], separator: str, where: str) -> Iterator[Place | None]:
    """Where each piece of the joined texts stands; None for white space, for nothing and for the separator.

    Args:
        pieces: what was explained, in reading order.
        texts: the text or texts.
        separator: what stood between them.
        where: the text's name in messages.

    Raises:
        AssayError: a piece that does not stand where it should.
    """
    whole = separator.join(texts)
    second = len(texts[0]) + len(separator)
    cursor = 0
    for piece in pieces:
        core = piece.strip()
        start = whole.find(core, cursor)
        # What a masker drops between its pieces has no letters.
        if start < 0 or any(letter.isalnum() for letter in whole[cursor:start]):
            raise AssayError(
                f"{where}: the explanation has {piece[:60]!r} where the text reads "
                f"{whole[cursor : cursor + 60]!r}. The texts must be those that were explained"
                f"{', with the same separator' if len(texts) > 1 else ''}."
            )
        if not core:
            yield None
            continue
        cursor = start + len(core)
        if cursor <= len(texts[0]):
            yield 0, start, cursor
        elif len(texts) > 1 and start >= second:
            yield 1, start - second, cursor - second
        elif start >= len(texts[0]) and cursor <= second:
            yield None
        else:
            raise AssayError(f"{where}: the piece {piece[:60]!r} stands across the end of the first text.")


def in_prompt(
    prompt: str, texts: Iterable[str], length: int, tokenizer: PreTrainedTokenizerBase, where: str
) -> list[Place | None]:
    """Where in the texts each token of a prompt stands; None for what is not theirs.

    Args:
        prompt: the model's whole input.
        texts: the text or texts in it.
        length: how many tokens of it were explained.
        tokenizer: what made them.
        where: the text's name in messages.

    Raises:
        AssayError: a text stands in the prompt not at all, or more than once.
    """
    spans, cursor = [], 0
    for text in texts:
        start = prompt.find(text, cursor)
        if start < 0 or prompt.find(text, start + 1) >= 0:
            often = "does not stand in" if start < 0 else "stands more than once in"
            raise AssayError(f"{where}: {text[:60]!r} {often} its prompt {prompt[:60]!r}.")
        spans.append((start, start + len(text)))
        cursor = start + len(text)
    offsets = tokenizer(prompt, return_offsets_mapping=True)["offset_mapping"][:length]
    places: list[Place | None] = []
    for start, end in offsets:
        inside = [i for i, (first, last) in enumerate(spans) if start < last and end > first]
        segment = inside[0] if inside else None
        places.append(None if segment is None else (segment, *(max(0, x - spans[segment][0]) for x in (start, end))))
    return places
