"""The search for the rankings that make an objective largest and least: exact for short texts, a beam for long ones."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from assay.checks import whole_number
from assay.conversation import Answer, Keep, LowPrecision, Objective, Question, Rough, Vector
from assay.errors import near_matches

_PRECISIONS = ("model", *get_args(LowPrecision))
# 2^16 inputs for one example is where an exact search stops being one that anyone would wait for.
_MOST_EXACT = 16

Ranking = NDArray[np.intp]
Precision = Literal["model"] | LowPrecision


@dataclass(frozen=True)
class Search:
    """How hard is searched.

    Up to `exact_up_to` features the result is the best of all n! rankings: an objective is a sum along a chain of
    nested sets, so dynamic programming over the 2^n sets finds it. Above, two beam searches run, one from the most
    important feature on and one from the least important back, and the better of their rankings is kept. A beam holds
    the `width` best beginnings of a ranking; one of its places belongs to the greedy search, so the result is never
    worse than that of width 1. Where a step has no weight of its own, the search follows the nearest step that has.
    Only states that carry or lead to a weight are asked. From each beginning a step tries only the `candidates`
    features that did best when last tried (lazy greedy search; Minoux 1978), so that the cost grows with n and not with
    n².

    Args:
        exact_up_to: the most features for which the search is exact.
        width: how many beginnings of a ranking are followed; 1 is a greedy search.
        candidates: the most features that are tried from each of them; the first step tries all.
        precision: of the arithmetic while it searches: the `model`'s own, or `bfloat16` or `float16`, which are faster
            where a device has them and may overlook a better ranking. What is found is measured in the model's own.

    Raises:
        ValueError: `exact_up_to` is below 0 or above 16, `width` or `candidates` below 1, or an unknown precision.
    """

    exact_up_to: int = 10
    width: int = 2
    candidates: int = 8
    precision: Precision = "model"

    def __post_init__(self) -> None:
        whole_number("exact_up_to", self.exact_up_to, at_least=0, at_most=_MOST_EXACT)
        whole_number("width", self.width, at_least=1)
        whole_number("candidates", self.candidates, at_least=1)
        if self.precision not in _PRECISIONS:
            raise ValueError(f"unknown precision {self.precision!r}. {near_matches(str(self.precision), _PRECISIONS)}")

    def best(self, objective: Objective, n: int, target: int) -> Generator[Question, Answer, Ranking]:
        """Ask about the states that the search visits; return the best ranking that it found, [n]."""
        states = _States(objective, target, self.precision)
        if n <= self.exact_up_to:
            sums = yield from states.of_all_sets(n)
            return _best_chain(sums, n).ranking
        found = yield from _beam(states, objective, n, self)
        return found.ranking

    def bounds(self, objective: Objective, n: int, target: int) -> Generator[Question, Answer, tuple[float, float]]:
        """Ask about the states that the search visits; return the least and the largest sum that it found.

        The two ends of a path, which all rankings share, are left out of the sums.
        """
        states = _States(objective, target, self.precision)
        least, most = (replace(objective, maximise=maximise) for maximise in (False, True))
        if n <= self.exact_up_to:
            sums = yield from states.of_all_sets(n)
            sums = sums if objective.maximise else -sums
            lower, upper = _best_chain(-sums, n), _best_chain(sums, n)
        else:
            lower = yield from _beam(states, least, n, self)
            upper = yield from _beam(states, most, n, self)
        if self.precision == "model":
            return -lower.total, upper.total
        inner = np.arange(1, n)
        answers = yield np.concatenate([objective.path(found.ranking, inner) for found in (lower, upper)])
        low, high = np.split(answers[:, target].astype(np.float64), 2)
        # Rounding can turn the two round where hardly anything tells them apart.
        low_sum, high_sum = sorted(float(objective.weights[inner] @ outputs) for outputs in (low, high))
        return low_sum, high_sum


@dataclass(frozen=True)
class _Found:
    """A ranking, and the sum along its path as something to maximise, without the two ends."""

    ranking: Ranking
    total: float


class _States:
    """The target's output of states, each of which is asked once."""

    def __init__(self, objective: Objective, target: int, precision: Precision) -> None:
        self._objective = objective
        self._target = target
        self._precision = precision
        self._known: dict[bytes, float] = {}

    def values(self, tops: NDArray[np.bool_]) -> Generator[Question, Answer, Vector]:
        """The outputs of states, given which features were stepped over, [states, n]."""
        keys = [top.tobytes() for top in tops]
        new = {key: index for index, key in enumerate(keys) if key not in self._known}
        if new:
            answers = yield self._question(tops[list(new.values())])
            self._known.update(zip(new, answers[:, self._target].tolist(), strict=True))
        return np.array([self._known[key] for key in keys])

    def of_all_sets(self, n: int) -> Generator[Question, Answer, Vector]:
        """What every set of features adds to a path that leads through it, [2^n], as something to maximise."""
        gains, (members, sizes) = _gains(self._objective, n), _sets(n)
        added = np.zeros(len(sizes))
        asked = gains[sizes] != 0
        if asked.any():
            answers = yield self._question(members[asked])
            added[asked] = gains[sizes[asked]] * answers[:, self._target].astype(np.float64)
        return added

    def _question(self, tops: NDArray[np.bool_]) -> Question:
        keep: Keep = ~tops if self._objective.hides else tops
        return keep if self._precision == "model" else Rough(keep, self._precision)


def _gains(objective: Objective, n: int) -> Vector:
    """The weights as something to maximise, [n + 1]; both ends are 0, for all rankings share those states."""
    gains = np.array(objective.weights, dtype=np.float64) * (1 if objective.maximise else -1)
    gains[[0, n]] = 0
    return gains


def _sets(n: int) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """The members of all sets of n features, [2^n, n], and their sizes; a set is the number that its bits spell."""
    members = (np.arange(2**n)[:, None] >> np.arange(n)) & 1 == 1
    return members, members.sum(axis=1)


def _best_chain(added: Vector, n: int) -> _Found:
    """The order of adding features one by one in which the sets on the way add most, by dynamic programming.

    Args:
        added: [2^n], what each set adds.
        n: how many features there are.
    """
    members, sizes = _sets(n)
    best = np.zeros(len(sizes))
    last = np.zeros(len(sizes), dtype=np.intp)  # which feature of a set the best order puts last
    for size in range(1, n + 1):
        layer = np.flatnonzero(sizes == size)
        before = np.where(members[layer], best[layer[:, None] & ~(1 << np.arange(n))], -np.inf)
        last[layer] = before.argmax(axis=1)
        best[layer] = before.max(axis=1) + added[layer]

    ranking = np.empty(n, dtype=np.intp)
    rest = len(sizes) - 1
    for place in range(n - 1, -1, -1):
        ranking[place] = last[rest]
        rest &= ~(1 << int(last[rest]))
    return _Found(ranking, float(best[-1]))


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


def _beam(states: _States, objective: Objective, n: int, search: Search) -> Generator[Question, Answer, _Found]:
    """The better of two rankings, one built from its first feature on, one from its last feature back."""
    gains = _gains(objective, n)
    weighted = np.flatnonzero(gains)
    if len(weighted) == 0:
        return _Found(np.arange(n), 0.0)
    guides = _guides(gains)

    def walk(start: bool, sizes: range) -> Generator[Question, Answer, _Path]:
        beam = [_Path(np.full(n, start), (), 0.0, np.zeros(n))]
        for size in sizes:
            tried = [path.candidates(search.candidates, guides[size]) for path in beam]
            parents = np.repeat(np.arange(len(beam)), [len(features) for features in tried])
            features = np.concatenate(tried)
            tops = np.array([beam[parent].top for parent in parents])
            tops[np.arange(len(tops)), features] ^= True
            outputs = yield from states.values(tops)
            for parent, path in enumerate(beam):
                path.last_output[features[parents == parent]] = outputs[parents == parent]
            totals = np.array([path.total for path in beam])[parents]
            chosen = _survivors(tops, parents, guides[size] * outputs, totals, search.width)
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
        order = [*head.order, *(feature for feature in range(n) if feature not in head.order)]
    else:
        order = [*(feature for feature in range(n) if feature not in tail.order), *tail.order[::-1]]
    return _Found(np.array(order, dtype=np.intp), max(head.total, tail.total))


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
