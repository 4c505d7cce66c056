"""What a task asks: one text or a pair of texts, its label and, where it is known, the words that decide the label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

_WORD = re.compile(r"\S+")

Flags = tuple[bool, ...]  # one for each word of a text


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
        word_classes: for each text the class that each of its words speaks for, where the words of every class are
            known and not those of the label alone: the rationale of a class is then its words, whichever class is
            explained. None elsewhere; never together with `rationale`.
        highlights: what each of some people marked as deciding: for each of them and each text a flag for each word,
            or None for a text that was not put before them. It is a judgement on the text and no truth about a model.
    """

    id: str
    text: tuple[str, ...]
    label: int | None = None
    rationale: tuple[Flags, ...] | None = None
    word_classes: tuple[tuple[int, ...], ...] | None = None
    highlights: tuple[tuple[Flags | None, ...], ...] | None = None

    def __post_init__(self) -> None:
        if len(self.text) not in (1, 2):
            raise ValueError(f"Example {self.id!r} has {len(self.text)} texts; one text or a pair is possible.")
        if self.rationale is not None and self.word_classes is not None:
            raise ValueError(f"Example {self.id!r} has a rationale and word classes; the rationale follows from them.")
        self._check("rationale", "flags", self.rationale)
        self._check("word classes", "entries", self.word_classes)
        if self.highlights is not None and not self.highlights:
            raise ValueError(f"Example {self.id!r} has highlights of nobody; without highlights they are None.")
        for annotator in self.highlights or ():
            self._check("highlights", "flags", annotator)

    def _check(self, what: str, parts: str, given: Sequence[Sequence[int] | None] | None) -> None:
        """There must be one entry for each word of each text; a text may be left out where None stands for it."""
        if given is None:
            return
        words = tuple(len(word_spans(text)) for text in self.text)
        found = tuple(None if part is None else len(part) for part in given)
        missing = (None,) if what == "highlights" else ()
        if len(found) != len(words) or any(a not in (b, *missing) for a, b in zip(found, words, strict=True)):
            verb = "have" if what.endswith("s") else "has"
            raise ValueError(
                f"The {what} of example {self.id!r} {verb} {found} {parts} for texts of {words} words; "
                "there must be one for each word of each text."
            )

    @property
    def has_rationale(self) -> bool:
        """Whether the words that truly decide are known."""
        return self.rationale is not None or (self.word_classes is not None and self.label is not None)

    def rationale_of(self, target: int | None = None) -> tuple[Flags, ...] | None:
        """The words that truly decide, for each text a flag for each word; None where that is unknown.

        Args:
            target: the class that is explained; None for the label. It matters only where words of every class are
                known.
        """
        if self.word_classes is None:
            return self.rationale
        target = self.label if target is None else target
        if target is None:
            return None
        return tuple(tuple(one == target for one in part) for part in self.word_classes)

    def relabelled(self, class_of_label: Sequence[int]) -> Example:
        """The same example with its classes numbered otherwise.

        Args:
            class_of_label: [labels]; the new number of each class.
        """
        if list(class_of_label) == list(range(len(class_of_label))):
            return self
        label = None if self.label is None else class_of_label[self.label]
        classes = self.word_classes
        if classes is not None:
            classes = tuple(tuple(class_of_label[one] for one in part) for part in classes)
        return replace(self, label=label, word_classes=classes)
