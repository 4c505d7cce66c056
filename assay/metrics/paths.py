"""What erasure metrics and curves share: the target's output along a ranking's path, weighted and summed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.checks import above_zero, shares, whole_number
from assay.conversation import Case, Conversation, Objective, Vector
from assay.errors import Undefined
from assay.metrics.base import Curve, Direction, Measure, Metric, Scores
from assay.metrics.chosen_points import ChosenPoints, ask


def judged(case: Case) -> NDArray[np.intp]:
    """The ranking that is judged, [n].

    Raises:
        Undefined: there is none.
    """
    if case.ranking is None:
        raise Undefined("there is no ranking to judge")
    return case.ranking


def counts(fractions: Sequence[float], n: int) -> NDArray[np.intp]:
    """How many features each fraction means, [fractions]: ceil(fraction · n), at least 1."""
    # Rounding first keeps 0.07 · 100 = 7.000000000000001 from becoming 8.
    return np.maximum(np.ceil(np.round(np.array(fractions) * n, 9)).astype(np.intp), 1)


def evenly(n: int, most: int) -> NDArray[np.intp]:
    """Every number from 0 to n; where n is more than `most`, `most` evenly spaced steps. Both ends are included."""
    if n <= most:
        return np.arange(n + 1, dtype=np.intp)
    return np.round(np.linspace(0, n, most + 1)).astype(np.intp)


class PathMetric(Metric):
    """A metric whose value is a weighted sum of the target's output after hiding, or showing, the top k features.

    Attributes:
        hides: True: step k hides the k highest ranking features. False: step k shows them alone.
        maximise: whether a larger value is better.
    """

    hides: ClassVar[bool]
    maximise: ClassVar[bool]

    @abstractmethod
    def weights(self, n: int) -> Vector:
        """The weight of the output after k = 0 … n steps, [n + 1]."""

    @abstractmethod
    def steps(self, n: int) -> NDArray[np.intp]:
        """The k at which the output is wanted, rising; every k with a weight is among them."""

    @abstractmethod
    def describe(self, n: int, steps: NDArray[np.intp], outputs: Vector) -> Scores:
        """The scores, from the target's output at each step."""

    def objective(self, n: int) -> Objective:
        """The weighted sum that this metric's value is."""
        return Objective(self.weights(n), self.hides, self.maximise)

    def converse(self, case: Case) -> Conversation[Scores]:
        """Ask for every step at once."""
        ranking, steps = judged(case), self.steps(case.n)
        answers = yield self.objective(case.n).path(ranking, steps)
        return self.describe(case.n, steps, answers[:, case.target].astype(np.float64))


class Erasure(PathMetric):
    """A drop of the output, averaged over fractions of the features (AOPC; DeYoung et al. 2020).

    Fractions that mean the same number of features count each on its own, as the paper's mean does.
    """

    name: ClassVar[str]

    def __init__(self, fractions: Iterable[float] = (0.01, 0.05, 0.10, 0.20, 0.50)) -> None:
        """Set the fractions of the features, each in (0, 1] and each once."""
        self.fractions = shares("fractions", fractions)

    def steps(self, n: int) -> NDArray[np.intp]:
        """The full input and each fraction."""
        full = 0 if self.hides else n
        return np.unique(np.append(counts(self.fractions, n), full))

    def weights(self, n: int) -> Vector:
        """1 for the full input, -1/fractions for each fraction."""
        weights = np.zeros(n + 1)
        weights[0 if self.hides else n] += 1.0
        np.add.at(weights, counts(self.fractions, n), -1.0 / len(self.fractions))
        return weights

    def describe(self, n: int, steps: NDArray[np.intp], outputs: Vector) -> Scores:
        """The mean drop and the drop at each fraction."""
        output_at = dict(zip(steps.tolist(), outputs.tolist(), strict=True))
        full = output_at[0 if self.hides else n]
        drops = [full - output_at[count] for count in counts(self.fractions, n).tolist()]
        values = {self.name: float(np.mean(drops))}
        for fraction, drop in zip(self.fractions, drops, strict=True):
            values[f"{self.name}@{fraction:g}"] = drop
        return Scores(values)


class PathCurve(PathMetric):
    """The whole course of the output from k = 0 to n, and the area under it over k/n by the trapezoid rule."""

    name: ClassVar[str]

    def __init__(self, max_points: int = 50, tolerance: float | None = None) -> None:
        """Set which steps are asked.

        Args:
            max_points: the most steps of the curve; a text with more features is sampled at evenly spaced k.
            tolerance: the stated error of the area at which no more of them are asked; None for all of them.
        """
        self.max_points = whole_number("max_points", max_points, at_least=1)
        self.tolerance = None if tolerance is None else above_zero("tolerance", tolerance)

    def measured(self, direction: Direction) -> tuple[Measure, ...]:
        """The area; where points are chosen also its stated error, and how many were asked."""
        area = Measure(self.name, direction, (0.0, 1.0))
        return (area, *beside_areas(self.name)) if self.tolerance is not None else (area,)

    def steps(self, n: int) -> NDArray[np.intp]:
        """Every k, or above `max_points` features `max_points` evenly spaced steps; both ends are included."""
        return evenly(n, self.max_points)

    def weights(self, n: int) -> Vector:
        """The trapezoid rule's."""
        steps = self.steps(n)
        widths = np.diff(steps) / n
        weights = np.zeros(n + 1)
        weights[steps[:-1]] += widths / 2
        weights[steps[1:]] += widths / 2
        return weights

    def converse(self, case: Case) -> Conversation[Scores]:
        """Ask for every step at once, or for chosen ones in turns."""
        if self.tolerance is None:
            return (yield from super().converse(case))
        ranking, steps = judged(case), self.steps(case.n)
        curve = ChosenPoints(steps / case.n, self.tolerance)
        yield from ask([(curve, self.objective(case.n).path(ranking, steps))], case.target)
        asked = steps[curve.places]
        scores = self.describe(case.n, asked, curve.everywhere()[curve.places])
        return Scores({**scores.values, **said_of_areas(self.name, [curve])}, curves=scores.curves)

    def describe(self, n: int, steps: NDArray[np.intp], outputs: Vector) -> Scores:
        """The area and the curve."""
        x = steps / n
        return Scores({self.name: float(np.trapezoid(outputs, x))}, curves={self.name: Curve(x, outputs)})


def beside_areas(name: str) -> tuple[Measure, ...]:
    """What is stored beside an area whose points are chosen: its stated error, and how many points were asked."""
    everything = (0.0, float("inf"))
    return (
        Measure(f"{name}_error", "none", everything, headline=False),
        Measure(f"{name}_points", "none", everything, headline=False),
    )


def said_of_areas(name: str, curves: Sequence[ChosenPoints]) -> dict[str, float]:
    """The values of `beside_areas`, for an area or the difference of several."""
    return {
        f"{name}_error": float(np.sqrt(sum(curve.error**2 for curve in curves))),
        f"{name}_points": float(sum(len(curve.known) for curve in curves)),
    }
