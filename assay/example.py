"""What a task asks: one text or a pair of texts, its label and, where it is known, the words that decide the label."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORD = re.compile(r"\S+")


def word_spans(text: str) -> list[tuple[int, int]]:
    """Character spans of the words of `text`. A word is a run without white space, the same for every tokenizer."""
    return [match.span() for match in _WORD.finditer(text)]


@dataclass(frozen=True)
class Example:
    """One item of a task.

    Attributes:
        id: stable name, unique within the task and independent of subset and order.
        text: one text, or the two texts of a pair.
        label: index into the task's label names, or None where it is unknown.
        rationale: for each text a tuple with one flag for each of its words (see `word_spans`), True for the words
            that truly decide the label; None where the truth is unknown.
    """

    id: str
    text: tuple[str, ...]
    label: int | None = None
    rationale: tuple[tuple[bool, ...], ...] | None = None

    def __post_init__(self) -> None:
        if len(self.text) not in (1, 2):
            raise ValueError(f"Example {self.id!r} has {len(self.text)} texts; one text or a pair is possible.")
        if self.rationale is not None:
            words = tuple(len(word_spans(text)) for text in self.text)
            flags = tuple(len(part) for part in self.rationale)
            if words != flags:
                raise ValueError(
                    f"The rationale of example {self.id!r} has {flags} flags for texts of {words} words; "
                    "it needs one for each word of each text."
                )
