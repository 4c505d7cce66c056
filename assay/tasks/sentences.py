"""Short English texts from phrases, with slots left open for the words that decide.

The text around the slots is drawn before the label is known, so nothing in it can tell the label.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

Skeleton = tuple[str, ...]  # the words of a text; a slot is a word that holds its name in angle brackets: "<key>."

SHORTEST, LONGEST = 4, 40  # words of a text

_SLOT = re.compile(r"<(\w+)>")
_CATEGORY = re.compile(r"\{(\w+)\}")
_Option = TypeVar("_Option")


class Dice:
    """Choices drawn from a random generator, its numbers taken in blocks because one at a time is slow."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._numbers: list[float] = []

    def uniform(self) -> float:
        """A number from 0 (included) to 1 (excluded)."""
        if not self._numbers:
            self._numbers = self._rng.random(4096).tolist()
        return self._numbers.pop()

    def pick(self, options: Sequence[_Option]) -> _Option:
        """One of the options, each as likely as the others."""
        return options[int(self.uniform() * len(options))]

    def shuffled(self, options: Sequence[_Option]) -> list[_Option]:
        """The options in a random order."""
        return sorted(options, key=lambda _: self.uniform())


@dataclass(frozen=True)
class Theme:
    """Phrases on one subject. `{noun}` stands for a word of that category, `<key>` for a slot.

    Attributes:
        cores: each the sentences that hold the slots; every slot of the task once.
        leads: openings that go before a sentence, ending with a comma.
        tails: phrases that go before a sentence's full stop or question mark.
        fillers: whole sentences without a slot.
        words: the words of each category.
    """

    cores: tuple[tuple[str, ...], ...]
    leads: tuple[str, ...]
    tails: tuple[str, ...]
    fillers: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]]

    def draw(self, dice: Dice) -> Skeleton:
        """A text of 4 to 40 words with its slots open; short texts are drawn more often than long ones."""
        target = SHORTEST + int((LONGEST - SHORTEST + 1) * dice.uniform() ** 3)
        sentences = [_Sentence(self._fill(body, dice)) for body in dice.pick(self.cores)]
        room = target - sum(len(sentence.body) for sentence in sentences)
        fillers = dice.shuffled(self.fillers)  # each at most once
        failures = 0
        # A phrase that does not fit is dropped and another tried; after a few of those the text is long enough.
        while room > 0 and failures < 3:
            kind = dice.pick(("filler", "filler", "filler", "lead", "tail", "tail"))
            options = {"filler": fillers[-1:], "lead": self.leads, "tail": self.tails}[kind]
            phrase = self._fill(dice.pick(options), dice) if options else []
            sentence = dice.pick(sentences)
            if not 0 < len(phrase) <= room or (kind != "filler" and getattr(sentence, kind)):
                failures += 1
                continue
            room -= len(phrase)
            if kind == "filler":
                fillers.pop()
                sentences.insert(int(dice.uniform() * (len(sentences) + 1)), _Sentence(phrase))
            else:
                setattr(sentence, kind, phrase)
        return tuple(word for sentence in sentences for word in sentence.words())

    def _fill(self, phrase: str, dice: Dice) -> list[str]:
        return _CATEGORY.sub(lambda match: dice.pick(self.words[match.group(1)]), phrase).split()


@dataclass
class _Sentence:
    body: list[str]
    lead: list[str] = field(default_factory=list)
    tail: list[str] = field(default_factory=list)

    def words(self) -> list[str]:
        words = [*self.lead, *self.body]
        if self.tail:
            last = words.pop()
            words += [last[:-1], *self.tail]
            words[-1] += last[-1]
        words[0] = words[0][0].upper() + words[0][1:]
        return words


def filled(skeleton: Skeleton, keys: Mapping[str, str], deciding: frozenset[str]) -> tuple[str, tuple[bool, ...]]:
    """Put a word into each slot.

    Args:
        skeleton: the words with open slots.
        keys: the word for each slot.
        deciding: the slots whose words decide the label.

    Returns:
        The text, and a flag for each of its words: True where it decides.
    """
    flags = []
    words = []
    for word in skeleton:
        slot = _SLOT.search(word)
        words.append(_SLOT.sub(lambda match: keys[match.group(1)], word) if slot else word)
        flags.append(slot is not None and slot.group(1) in deciding)
    return " ".join(words), tuple(flags)


def part(skeletons: tuple[Skeleton, ...], shares: Mapping[str, float]) -> str:
    """The split that a text belongs to, by a hash of its words outside the slots: no two splits can share a text.

    Args:
        skeletons: the text or the two texts.
        shares: the share of each split; they add up to 1.
    """
    digest = hashlib.sha256(repr(skeletons).encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    for split, share in shares.items():
        if place < share:
            return split
        place -= share
    return list(shares)[-1]
