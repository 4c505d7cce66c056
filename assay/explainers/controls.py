"""Controls: chance, what can be said without the model, and the best ranking that a search can find."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from assay.checks import whole_number
from assay.conversation import Case, Conversation, Vector
from assay.errors import AssayError
from assay.example import Example, word_spans
from assay.explainers.base import BlackBoxExplainer
from assay.search import Precision, Search

if TYPE_CHECKING:
    from assay.classifier import Classifier

# What a tokenizer writes before a token to say that it begins a word (Ġ, ▁) or goes on with one (##).
_MARK = re.compile("^(##|Ġ|▁)")


class Random(BlackBoxExplainer):
    """Uniform random scores, drawn several times: chance, the floor that a method must beat.

    Scores are dimensionless, in [0, 1). A metric's score is the mean over the drawn attributions, which says more about
    chance than the score of one of them or of their mean. Unsigned. Cost: no model rows.

    Args:
        repeats: how many attributions are drawn for each example.

    Raises:
        ValueError: `repeats` below 1.
    """

    asks = False
    signed = False

    def __init__(self, repeats: int = 5) -> None:
        self.repeats = whole_number("repeats", repeats, at_least=1)

    def converse(self, case: Case) -> Conversation[Vector]:
        """Ask nothing; return [n] random numbers."""
        yield from ()
        return case.rng.random(case.n)


class First(BlackBoxExplainer):
    """Earlier is more important: a reader of position alone, which a method must beat.

    The score is 1 / (1 + position), the position counted within a feature's own text; the two texts of a pair thus tie,
    and ties are broken by the example's seed. Unsigned. Cost: no model rows.
    """

    asks = False
    signed = False

    def converse(self, case: Case) -> Conversation[Vector]:
        """Ask nothing; return [n] scores that fall with the position."""
        yield from ()
        return np.array([1.0 / (1 + feature.position) for feature in case.features], dtype=np.float64)


class Last(BlackBoxExplainer):
    """Later is more important: the mirror image of `first`, a reader of position alone.

    The score is 1 / (features of its text that stand at or after it), so that the last feature of each text scores 1;
    the two texts of a pair thus tie, and ties are broken by the example's seed. Unsigned, dimensionless. Assumes
    nothing of the model. Cost: no model rows.
    """

    asks = False
    signed = False

    def converse(self, case: Case) -> Conversation[Vector]:
        """Ask nothing; return [n] scores that rise with the position."""
        yield from ()
        end = [
            max((feature.position for feature in case.features if feature.segment == segment), default=0)
            for segment in (0, 1)
        ]
        return np.array([1.0 / (1 + end[feature.segment] - feature.position) for feature in case.features])


class Length(BlackBoxExplainer):
    """Longer words are more important: a reader of word length alone, which a method must beat.

    The score is the number of characters of the word as written, or of the token without its tokenizer's mark (`##`,
    `Ġ` or `▁`). Unsigned. Assumes nothing of the model. Cost: no model rows.
    """

    asks = False
    signed = False

    def converse(self, case: Case) -> Conversation[Vector]:
        """Ask nothing; return [n] lengths."""
        yield from ()
        return np.array([len(_MARK.sub("", feature.text)) for feature in case.features], dtype=np.float64)


class Idf(BlackBoxExplainer):
    """Rarer words are more important: inverse document frequency in the task's train split, which a method must beat.

    score_i = ln((1 + N) / (1 + N_i)) + 1, with N the number of training examples that were looked at and N_i the number
    of those that hold the word (Spärck Jones 1972; smoothed as by scikit-learn's TfidfTransformer). The two texts of a
    pair are one document. Words are lower-cased runs without white space, so punctuation that is glued to a word makes
    another word of it; a token is looked up without its tokenizer's mark (`##`, `Ġ` or `▁`). A word that no example
    holds scores highest. Unsigned, dimensionless. Assumes nothing of the model. Cost: no model rows.

    Args:
        background: how many training examples are looked at.

    Raises:
        ValueError: `background` below 1.
    """

    asks = False
    signed = False

    def __init__(self, background: int = 2000) -> None:
        self.background = whole_number("background", background, at_least=1)
        self._documents = 0
        self._holding: Counter[str] = Counter()

    def prepare(self, model: Classifier, background: Sequence[Example]) -> None:
        """Count in how many examples each word stands.

        Raises:
            AssayError: there are no examples.
        """
        if not background:
            raise AssayError(
                "idf tells how rare a word is in a task's train split, and there are no training examples here. "
                "Use it with a task that has a train split, or choose another control, such as length."
            )
        self._documents = len(background)
        self._holding = Counter()
        for example in background:
            self._holding.update({text[slice(*span)].lower() for text in example.text for span in word_spans(text)})

    def converse(self, case: Case) -> Conversation[Vector]:
        """Ask nothing; return [n] inverse document frequencies.

        Raises:
            AssayError: no examples have been counted.
        """
        yield from ()
        if not self._documents:
            raise AssayError("idf has seen no training examples yet; call its `prepare` first.")
        words = [_MARK.sub("", feature.text).lower() for feature in case.features]
        holding = np.array([self._holding[word] for word in words], dtype=np.float64)
        scores: Vector = np.log((1 + self._documents) / (1 + holding)) + 1
        return scores


class Oracle(BlackBoxExplainer):
    """The best ranking that a search finds for the metric in hand: the ceiling that scores are read against.

    It optimises Σ_k weights[k] · f(state k), the objective that a metric declares: state k has the k highest ranking
    features hidden (or shown alone), f is the target's output. Up to `exact_up_to` features the result is the best of
    all n! rankings; above, a beam search's (`assay.search.Search` says how).

    On random functions of 14 words with interactions of two and three words, squashed to probabilities, and the four
    metrics of the default suite, the shortfall from the exact optimum (as a share of its distance from chance; mean and
    largest of 80) and the rows asked were: width 1: 0.16 % and 7 %, 153 rows; 2: 0.03 % and 1 %, 255 rows; 4: 0.01 %
    and 1 %, 425 rows; 8: 0.01 % and 1 %, 686 rows; exact: 16,382 rows.

    The score is (n − rank) / n, unsigned. Assumes nothing of the model. Cost in model rows: at most 2^n − 2 (exact),
    about 2 · candidates · width · n, less what the paths share (beam, n − 1 rounds each way).

    Args:
        exact_up_to: the most features for which the search is exact.
        width: how many beginnings of a ranking are followed; 1 is a greedy search.
        candidates: the most features that are tried from each of them; the first step tries all.
        precision: of the search's arithmetic (`assay.search.Search` says more); scores are measured in the model's own.

    Raises:
        ValueError: `exact_up_to` is below 0 or above 16, `width` or `candidates` below 1, or an unknown precision.
    """

    signed = False
    searches = True

    def __init__(
        self, exact_up_to: int = 10, width: int = 2, candidates: int = 8, precision: Precision = "model"
    ) -> None:
        self.exact_up_to, self.width, self.candidates, self.precision = exact_up_to, width, candidates, precision
        self._search = Search(exact_up_to, width, candidates, precision)

    def converse(self, case: Case) -> Conversation[Vector]:
        """Ask about the states that the search visits; return [n] scores from 1 (first) to 1 / n (last).

        Raises:
            AssayError: the case has no objective.
        """
        if case.objective is None:
            raise AssayError(
                "The oracle searches for the best ranking under a metric, and no metric is in hand. "
                "Name one that can be searched, such as comprehensiveness, or choose another explainer."
            )
        ranking = yield from self._search.best(case.objective, case.n, case.target)
        scores = np.empty(case.n, dtype=np.float64)
        scores[ranking] = np.arange(case.n, 0, -1) / max(1, case.n)
        return scores
