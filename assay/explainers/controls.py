"""Controls: chance, position, and the best ranking that a search can find. Scores are read against them."""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np
from numpy.typing import NDArray

from assay.conversation import Answer, Case, Conversation, Keep, Objective, Vector
from assay.errors import AssayError
from assay.explainers.base import BlackBoxExplainer, whole_number

# 2^16 inputs for one example is where an exact search stops being a control that anyone would wait for.
_MOST_EXACT = 16

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


class Oracle(BlackBoxExplainer):
    """The best ranking that a search finds for the metric in hand: the ceiling that scores are read against.

    It optimises Σ_k weights[k] · f(state k), the objective that a metric declares: state k has the k highest ranking
    features hidden (or shown alone), f is the target's output. Up to `exact_up_to` features the result is the best of
    all n! rankings: the value is a sum along a chain of nested sets, so dynamic programming over the 2^n sets finds it.
    Above, two greedy searches run, one from the most important feature on and one from the least important back, and
    the better of their rankings is kept; where a step has no weight of its own, the search follows the nearest step
    that has. Only states that carry or lead to a weight are asked. A step tries only the `candidates` features that
    did best when last tried (lazy greedy search; Minoux 1978), so that the cost grows with n and not with n².

    The score is (n − rank) / n, unsigned. Cost in model rows: at most 2^n − 2 (exact), about 2 · candidates · n
    (greedy, n − 1 rounds each way).

    Args:
        exact_up_to: the most features for which the search is exact.
        candidates: the most features that a greedy step tries; the first step tries all.

    Raises:
        ValueError: `exact_up_to` is below 0 or above 16, or `candidates` below 1.
    """

    signed = False
    searches = True

    def __init__(self, exact_up_to: int = 10, candidates: int = 8) -> None:
        self.exact_up_to = whole_number("exact_up_to", exact_up_to, at_least=0, at_most=_MOST_EXACT)
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
            ranking = yield from _greedy(case.objective, case.n, case.target, self.candidates)
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


def _greedy(objective: Objective, n: int, target: int, candidates: int) -> Generator[Keep, Answer, Ranking]:
    """The better of two greedy rankings, one built from its first feature on, one from its last feature back."""
    gains = _gains(objective, n)
    weighted = np.flatnonzero(gains)
    if len(weighted) == 0:
        return np.arange(n)
    guides = _guides(gains)
    known: dict[bytes, float] = {}

    def values(tops: NDArray[np.bool_]) -> Generator[Keep, Answer, Vector]:
        keys = [top.tobytes() for top in tops]
        new = [index for index, key in enumerate(keys) if key not in known]
        if new:
            answers = yield _keep(objective, tops[new])
            known.update((keys[index], float(answer[target])) for index, answer in zip(new, answers, strict=True))
        return np.array([known[key] for key in keys])

    def walk(
        top: NDArray[np.bool_], sizes: range, left: Callable[[NDArray[np.bool_]], Ranking]
    ) -> Generator[Keep, Answer, tuple[list[int], float]]:
        chosen: list[int] = []
        total = 0.0
        last_output = np.zeros(n)
        for size in sizes:
            features = left(top)
            if chosen:
                # Stable, so that the search is the same on every machine.
                promise = np.argsort(-guides[size] * last_output[features], kind="stable")
                features = np.sort(features[promise[:candidates]])
            tops = np.repeat(top[None], len(features), axis=0)
            tops[np.arange(len(features)), features] ^= True
            outputs = yield from values(tops)
            last_output[features] = outputs
            pick = int(np.argmax(guides[size] * outputs))
            total += float(gains[size] * outputs[pick])
            chosen.append(int(features[pick]))
            top = tops[pick]
        return chosen, total

    # Past the outermost weights the order changes nothing, so neither walk goes there.
    nothing, everything = np.zeros(n, dtype=np.bool_), np.ones(n, dtype=np.bool_)
    head, forward = yield from walk(nothing, range(1, int(weighted[-1]) + 1), lambda top: np.flatnonzero(~top))
    tail, backward = yield from walk(everything, range(n - 1, int(weighted[0]) - 1, -1), np.flatnonzero)
    if forward >= backward:
        return np.array([*head, *(feature for feature in range(n) if feature not in set(head))], dtype=np.intp)
    return np.array([*(feature for feature in range(n) if feature not in set(tail)), *tail[::-1]], dtype=np.intp)


def _guides(gains: Vector) -> Vector:
    """Whether a high (+1) or a low (−1) output is good after k steps, [n + 1].

    A step without weight follows the next step that has one, and after the last such step, that one.
    """
    signs = np.sign(gains)
    places = np.flatnonzero(signs)
    following = np.minimum(np.searchsorted(places, np.arange(len(gains))), len(places) - 1)
    guides: Vector = signs[places[following]]
    return guides
