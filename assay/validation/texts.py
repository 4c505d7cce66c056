"""Texts to try a method on, made of a model's own vocabulary."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import cycle, islice, pairwise

from assay.classifier import Classifier
from assay.conversation import generator
from assay.errors import AssayError
from assay.example import Example

LONG = 200
_ENOUGH = 60
_ORDINARY = (6, 6, 6, 8)  # words; the first three fill a batch of their own
_MARK = re.compile("^[Ġ▁]")
# From what is surely a word to what at least is something.
_KINDS: tuple[Callable[[str], bool], ...] = (
    lambda word: word.isascii() and word.isalpha() and word.islower() and 3 <= len(word) <= 10,
    str.isalpha,
    lambda word: word.isprintable() and not re.search(r"\s", word) and word != "",
)


@dataclass(frozen=True)
class Texts:
    """Texts of one model's words; without any sense, which no explainer may hang on.

    Attributes:
        ordinary: four texts of a few words (pairs for a model that takes nothing else), three of one length.
        special: by what is special about them, one text or two; those that the model refuses are left out.
        refused: why the others are, in the model's words.
        words: what they are made of.
    """

    ordinary: tuple[Example, ...]
    special: dict[str, list[Example]]
    refused: dict[str, str]
    words: tuple[str, ...]

    def background(self, count: int, classes: int) -> list[Example]:
        """As many further texts as a train split would give, at most 50."""
        return [
            Example(f"background {number}", (_line(self.words, 8, 7 * number),), number % classes)
            for number in range(min(count, 50))
        ]


def make_texts(model: Classifier, seed: int) -> Texts:
    """Make up texts that a model reads.

    Args:
        model: the classifier.
        seed: of the choice of words.

    Raises:
        AssayError: there are no words in its vocabulary, or it takes neither texts nor pairs.
    """
    words = _words(model, seed)
    whole = [word for word in words if _tokens(model, word) == 1] or words
    several = [first + second for first, second in pairwise(words)]
    several = [word for word in several if _tokens(model, word) > 1] or several
    special: dict[str, list[tuple[str, ...]]] = {
        "pairs": [(_line(whole, 5, 2), _line(whole, 4, 20))],
        "one word": [(whole[0],)],
        f"{LONG} words": [(_line(whole, LONG, 0),)],
        "an empty text in a pair": [(_line(whole, 5, 4), ""), ("", _line(whole, 5, 4))],
        "repeated words": [(" ".join([whole[1]] * 5 + [whole[2]]),)],
        "words of several tokens": [(_line(several, 4, 0),)],
    }
    refused: dict[str, str] = {}
    taken: dict[str, list[Example]] = {}
    for name, texts in special.items():
        examples = [Example(f"{name} {place}", text) for place, text in enumerate(texts)]
        reason = _why_refused(model, examples)
        if reason is None:
            taken[name] = examples
        else:
            refused[name] = reason
    ordinary = [Example(f"text {place}", (_line(whole, n, 11 * place),)) for place, n in enumerate(_ORDINARY)]
    if _why_refused(model, ordinary) is not None:
        ordinary = [
            Example(f"text {place}", (_line(whole, n // 2, 5 * place), _line(whole, n - n // 2, 3 + 7 * place)))
            for place, n in enumerate(_ORDINARY)
        ]
        reason = _why_refused(model, ordinary)
        if reason is not None:
            raise AssayError(f"{model.name} reads neither texts nor pairs: {reason}")
    return Texts(tuple(ordinary), taken, refused, tuple(whole))


def _why_refused(model: Classifier, examples: Iterable[Example]) -> str | None:
    try:
        for example in examples:
            model.encode(example)
    except AssayError as error:
        return str(error)
    return None


def _words(model: Classifier, seed: int) -> list[str]:
    """Some words of the vocabulary, in an order drawn by the seed."""
    special = set(model.tokenizer.all_special_tokens)
    vocabulary = sorted(model.tokenizer.get_vocab().items(), key=lambda item: item[1])
    known = [_MARK.sub("", token) for token, _ in vocabulary if token not in special and not token.startswith("##")]
    for is_word in _KINDS:
        words = list(dict.fromkeys(word for word in known if is_word(word)))
        if len(words) >= max(_ORDINARY):
            order = generator(seed, "words").permutation(len(words))
            return [words[place] for place in order[:_ENOUGH]]
    raise AssayError(f"{model.name}'s vocabulary has too few words to make texts of.")


def _tokens(model: Classifier, word: str) -> int:
    """How many tokens a word has where it does not begin a text."""
    return len(model.tokenizer(f"x {word}", add_special_tokens=False)["input_ids"]) - len(
        model.tokenizer("x", add_special_tokens=False)["input_ids"]
    )


def _line(words: list[str] | tuple[str, ...], count: int, first: int) -> str:
    return " ".join(islice(cycle(words), first, first + count))
