"""Controls: chance, what can be said without the model, and the best ranking that a search can find."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from assay.conversation import Answer, Case, Conversation, Keep, Objective, Vector
from assay.errors import AssayError
from assay.example import Example, word_spans
from assay.explainers.base import BlackBoxExplainer, whole_number

if TYPE_CHECKING:
    from assay.classifier import Classifier

# 2^16 inputs for one example is where an exact search stops being a control that anyone would wait for.
_MOST_EXACT = 16

# What a tokenizer writes before a token to say that it begins a word (Ġ, ▁) or goes on with one (##).
_MARK = re.compile("^(##|Ġ|▁)")

Ranking = NDArray[np.intp]


class Random(BlackBoxExplainer):
    """Uniform random scores, drawn several times: chance, the floor that a method must beat.

    Scores are dimensionless, in [0, 1). A metric's score is the mean over the drawn attributions, which says more about
    chance than the score of one of them or of their mean. Cost: no model rows.

    Args:
        repeats: how many attributions are drawn for each example.

    Raises:
        ValueError: `repeats` below 1.
    """

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
    all n! rankings: the value is a sum along a chain of nested sets, so dynamic programming over the 2^n sets finds it.
    Above, two beam searches run, one from the most important feature on and one from the least important back, and the
    better of their rankings is kept. A beam holds the `width` best beginnings of a ranking; one of its places belongs
    to the greedy search, so the result is never worse than that of width 1. Where a step has no weight of its own, the
    search follows the nearest step that has. Only states that carry or lead to a weight are asked. From each beginning
    a step tries only the `candidates` features that did best when last tried (lazy greedy search; Minoux 1978), so that
    the cost grows with n and not with n².

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

    Raises:
        ValueError: `exact_up_to` is below 0 or above 16, or `width` or `candidates` below 1.
    """

    signed = False
    searches = True

    def __init__(self, exact_up_to: int = 10, width: int = 2, candidates: int = 8) -> None:
        self.exact_up_to = whole_number("exact_up_to", exact_up_to, at_least=0, at_most=_MOST_EXACT)
        self.width = whole_number("width", width, at_least=1)
        self.candidates = whole_number("candidates", candidates, at_least=1)

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
        if case.n <= self.exact_up_to:
            ranking = yield from _exact(case.objective, case.n, case.target)
        else:
            ranking = yield from _search(case.objective, case.n, case.target, self.width, self.candidates)
        scores = np.empty(case.n, dtype=np.float64)
        scores[ranking] = np.arange(case.n, 0, -1) / max(1, case.n)
        return scores


def _gains(objective: Objective, n: int) -> Vector:
    """The weights as something to maximise, [n + 1]; both ends are 0, for all rankings share those states."""
    gains = np.array(objective.weights, dtype=np.float64) * (1 if objective.maximise else -1)
    gains[[0, n]] = 0
    return gains


def _keep(objective: Objective, tops: NDArray[np.bool_]) -> Keep:
    """The keep-masks of states, given which features were stepped over, [states, n]."""
    return ~tops if objective.hides else tops


def _exact(objective: Objective, n: int, target: int) -> Generator[Keep, Answer, Ranking]:
    """The best ranking of all, by dynamic programming over sets; a set is an integer with a bit for each feature."""
    gains = _gains(objective, n)
    sets = np.arange(2**n)
    members = (sets[:, None] >> np.arange(n)) & 1 == 1
    sizes = members.sum(axis=1)

    weighted = np.zeros(len(sets))
    asked = gains[sizes] != 0
    if asked.any():
        answers = yield _keep(objective, members[asked])
        weighted[asked] = gains[sizes[asked]] * answers[:, target].astype(np.float64)

    best = np.zeros(len(sets))
    last = np.zeros(len(sets), dtype=np.intp)  # which feature of a set the best order puts last
    for size in range(1, n + 1):
        layer = np.flatnonzero(sizes == size)
        before = np.where(members[layer], best[layer[:, None] & ~(1 << np.arange(n))], -np.inf)
        last[layer] = before.argmax(axis=1)
        best[layer] = before.max(axis=1) + weighted[layer]

    ranking = np.empty(n, dtype=np.intp)
    rest = len(sets) - 1
    for place in range(n - 1, -1, -1):
        ranking[place] = last[rest]
        rest &= ~(1 << int(last[rest]))
    return ranking


@dataclass(frozen=True)
class _Path:
    """The beginning of a ranking.

    Attributes:
        top: [n], the features that stand above the others.
        order: the features in the order in which they were stepped over.
        total: the weighted sum of the outputs so far.
        last_output: [n], the output when a feature was last tried.
    """

    top: NDArray[np.bool_]
    order: tuple[int, ...]
    total: float
    last_output: Vector

    def candidates(self, count: int, guide: float) -> Ranking:
        """The features that may come next, in reading order: those that did best when last tried, at first all."""
        left = np.delete(np.arange(len(self.top)), self.order)
        if not self.order:
            return left
        # Stable, so that the search is the same on every machine.
        promise = np.argsort(-guide * self.last_output[left], kind="stable")
        return np.sort(left[promise[:count]])


def _search(objective: Objective, n: int, target: int, width: int, candidates: int) -> Generator[Keep, Answer, Ranking]:
    """The better of two rankings, one built from its first feature on, one from its last feature back."""
    gains = _gains(objective, n)
    weighted = np.flatnonzero(gains)
    if len(weighted) == 0:
        return np.arange(n)
    guides = _guides(gains)
    known: dict[bytes, float] = {}

    def values(tops: NDArray[np.bool_]) -> Generator[Keep, Answer, Vector]:
        keys = [top.tobytes() for top in tops]
        new = {key: index for index, key in enumerate(keys) if key not in known}
        if new:
            answers = yield _keep(objective, tops[list(new.values())])
            known.update(zip(new, answers[:, target].tolist(), strict=True))
        return np.array([known[key] for key in keys])

    def walk(start: bool, sizes: range) -> Generator[Keep, Answer, _Path]:
        beam = [_Path(np.full(n, start), (), 0.0, np.zeros(n))]
        for size in sizes:
            tried = [path.candidates(candidates, guides[size]) for path in beam]
            parents = np.repeat(np.arange(len(beam)), [len(features) for features in tried])
            features = np.concatenate(tried)
            tops = np.array([beam[parent].top for parent in parents])
            tops[np.arange(len(tops)), features] ^= True
            outputs = yield from values(tops)
            for parent, path in enumerate(beam):
                path.last_output[features[parents == parent]] = outputs[parents == parent]
            totals = np.array([path.total for path in beam])[parents]
            chosen = _survivors(tops, parents, guides[size] * outputs, totals, width)
            beam = [
                _Path(
                    tops[child],
                    (*beam[parents[child]].order, int(features[child])),
                    float(totals[child] + gains[size] * outputs[child]),
                    beam[memory].last_output.copy(),
                )
                for child, memory in chosen
            ]
        return max(beam, key=lambda path: path.total)

    # Past the outermost weights the order changes nothing, so neither walk goes there.
    head = yield from walk(False, range(1, int(weighted[-1]) + 1))
    tail = yield from walk(True, range(n - 1, int(weighted[0]) - 1, -1))
    if head.total >= tail.total:
        return np.array([*head.order, *(feature for feature in range(n) if feature not in head.order)], dtype=np.intp)
    return np.array([*(feature for feature in range(n) if feature not in tail.order), *tail.order[::-1]], dtype=np.intp)


def _survivors(
    tops: NDArray[np.bool_], parents: Ranking, promises: Vector, totals: Vector, width: int
) -> list[tuple[int, int]]:
    """Which steps the beam keeps, at most `width`, and for each the path whose memory it goes on with.

    The first path of a beam is that of the greedy search. It steps as it would alone, with its own memory, and only
    takes over the beginning of another path that has come to the same state with a better sum.
    """
    greedy = int(np.argmax(np.where(parents == 0, promises, -np.inf)))
    best: dict[bytes, int] = {}
    for child in np.argsort(-(totals + promises), kind="stable").tolist():
        best.setdefault(tops[child].tobytes(), child)
    first = best.pop(tops[greedy].tobytes())
    return [(first, 0), *((child, int(parents[child])) for child in list(best.values())[: width - 1])]


def _guides(gains: Vector) -> Vector:
    """How much an output is worth after k steps, [n + 1]: its own weight, or where it has none, the next one's.

    After the last step that has a weight, it is that one.
    """
    places = np.flatnonzero(gains)
    following = np.minimum(np.searchsorted(places, np.arange(len(gains))), len(places) - 1)
    guides: Vector = gains[places[following]]
    return guides
