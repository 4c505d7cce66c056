"""Curves: the target's output while features are hidden, or shown, one after another."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from assay.checks import above_zero, whole_number
from assay.conversation import Case, Conversation, Vector, highest
from assay.metrics.base import Curve, Measure, Metric, Scores
from assay.metrics.chosen_points import ChosenPoints, ask
from assay.metrics.paths import PathCurve, beside_areas, evenly, judged, said_of_areas


class Deletion(PathCurve):
    """Area under the target's output while features are hidden, most important first (Petsiuk et al. 2018).

    x = k/n from 0 to 1, trapezoid rule. Lower is better; in [0, 1] for probabilities. Sensitive to the perturbation and
    the feature unit.

    With a `tolerance` steps are asked where the curve bends, until the stated error of the area is no larger; between
    them the curve is taken to be straight. `deletion_error` and `deletion_points` are stored too. How much that
    saves, and how often the error is kept, stands in docs/metrics.md.

    Args:
        max_points: the most steps of the curve.
        tolerance: the error of the area, in units of the output, at which no more steps are asked; None for all.

    Raises:
        ValueError: `max_points` below 1, or a tolerance that is not above 0.
    """

    name = "deletion"
    hides = True
    maximise = False

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The area, and with a tolerance what goes with it."""
        return self.measured("lower")


class Insertion(PathCurve):
    """Area under the target's output while features are shown, most important first (Petsiuk et al. 2018).

    From all hidden (x = 0) to the full input (x = 1), trapezoid rule. Higher is better; in [0, 1] for probabilities.
    Sensitive to the perturbation and the feature unit.

    With a `tolerance` steps are asked where the curve bends, until the stated error of the area is no larger; between
    them the curve is taken to be straight. `insertion_error` and `insertion_points` are stored too. How much that
    saves, and how often the error is kept, stands in docs/metrics.md.

    Args:
        max_points: the most steps of the curve.
        tolerance: the error of the area, in units of the output, at which no more steps are asked; None for all.

    Raises:
        ValueError: `max_points` below 1, or a tolerance that is not above 0.
    """

    name = "insertion"
    hides = False
    maximise = True

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The area, and with a tolerance what goes with it."""
        return self.measured("higher")


class BothOrders(Metric):
    """The output while features are hidden in the order of a ranking, and in the reverse order.

    Attributes:
        name: of the headline measure.
    """

    name: ClassVar[str]

    def __init__(self, max_points: int = 50, tolerance: float | None = None) -> None:
        """Set which steps are asked.

        Args:
            max_points: the most steps of the curves; a text with more features is sampled at evenly spaced k.
            tolerance: the stated error of each area at which no more of them are asked; None for all of them.
        """
        self.max_points = whole_number("max_points", max_points, at_least=1)
        self.tolerance = None if tolerance is None else above_zero("tolerance", tolerance)

    @property
    def beside(self) -> tuple[Measure, ...]:
        """What is stored beside the areas where points are chosen."""
        return () if self.tolerance is None else beside_areas(self.name)

    @abstractmethod
    def describe(self, x: Vector, most: Vector, least: Vector) -> Scores:
        """The scores, from the output while the most, or the least, important features are hidden first.

        Args:
            x: [points], the shares of the features that are hidden, most important first.
            most: [points], the output at each of them.
            least: [points], the output at 1 − x backwards, least important first.
        """

    def converse(self, case: Case) -> Conversation[Scores]:
        """Ask for every step of both orders at once, or for chosen ones in turns."""
        ranking, steps = judged(case), evenly(case.n, self.max_points)
        # Without its lowest ranking features a text has its highest alone: the rows are deletion's and insertion's.
        hidden, shown = ~highest(ranking, steps), highest(ranking, steps[::-1])
        if self.tolerance is None:
            answers = yield np.concatenate([hidden, shown])
            most, least = np.split(answers[:, case.target].astype(np.float64), 2)
            return self.describe(steps / case.n, most, least)
        # Each order chooses its points as `deletion` and `insertion` do, whose rows they then are.
        mif, lif = (ChosenPoints(steps / case.n, self.tolerance) for _ in range(2))
        yield from ask([(mif, hidden), (lif, shown[::-1])], case.target)
        scores = self.describe(steps / case.n, mif.everywhere(), lif.everywhere()[::-1])
        asked = np.union1d(mif.places, len(steps) - 1 - lif.places)
        curves = {name: Curve(curve.x[asked], curve.y[asked]) for name, curve in scores.curves.items()}
        return Scores({**scores.values, **said_of_areas(self.name, [mif, lif])}, curves=curves)


class MorfLerf(BothOrders):
    """Area between the two removal orders: most relevant first, and least relevant first (Samek et al. 2017).

    AOPC(MoRF) − AOPC(LeRF) with AOPC = 1/(L + 1) · Σ_{k=0}^{L} f(x) − f(x after k steps), so that it is the mean over
    k = 0 … L of f(without the k lowest) − f(without the k highest). L = n, or `max_points` evenly spaced steps above.
    Higher is better; in [−1, 1] for probabilities. A random ranking scores 0 in expectation, and the reversed ranking
    the negative. Sensitive to the perturbation and the feature unit.

    It differs from `srg` in how the ends are counted and in nothing else: all orders share k = 0 and k = L, where the
    difference is 0, and Samek's mean counts both, so `morf_lerf` = L/(L + 1) · `srg` for evenly spaced steps. Rankings
    of one text agree; means over texts weigh short ones a little less than `srg` does.

    With a `tolerance` each order has the points that `deletion` and `insertion` choose under it, and the stated error,
    `morf_lerf_error`, is the root of the sum of both squared; `morf_lerf_points` is how many were asked.

    Args:
        max_points: the most steps of the two orders.
        tolerance: the error of the area, in units of the output, at which no more steps are asked; None for all.

    Raises:
        ValueError: `max_points` below 1, or a tolerance that is not above 0.
    """

    name = "morf_lerf"

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The area, and with a tolerance what goes with it."""
        return (Measure(self.name, "higher", (-1.0, 1.0)), *self.beside)

    def describe(self, x: Vector, most: Vector, least: Vector) -> Scores:
        """The mean difference, and its course."""
        between = least - most
        return Scores({self.name: float(between.mean())}, curves={self.name: Curve(x, between)})


class SymmetricRelevanceGain(BothOrders):
    """Area under the curve of removal in rising order less that in falling order (Blücher et al. 2024).

    SRG = A(LIF) − A(MIF), with A the area under f over k/n by the trapezoid rule while the k least (LIF) or most (MIF)
    influential features are hidden. It is the sum of what a ranking gains over a random one at either end, A(random) −
    A(MIF) and A(LIF) − A(random); the random order drops out and need not be asked. Higher is better; in [−1, 1] for
    probabilities. A random ranking scores 0 in expectation, and the reversed ranking the negative. The paper finds
    orders of methods by it more alike across perturbations than by either area alone.

    Hiding the least important first shows the most important alone, so A(LIF) is the area of `insertion` and A(MIF)
    that of `deletion`: SRG = insertion − deletion under the same perturbation, and asks for the rows of both.
    `srg_mif` and `srg_lif` are stored, so that the gain at either end can be had against the control `random`.

    With a `tolerance` each order has the points that `deletion` and `insertion` choose under it, and the stated error,
    `srg_error`, is the root of the sum of both squared; `srg_points` is how many were asked.

    Args:
        max_points: the most steps of the two curves.
        tolerance: the error of the area, in units of the output, at which no more steps are asked; None for all.

    Raises:
        ValueError: `max_points` below 1, or a tolerance that is not above 0.
    """

    name = "srg"

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The gain, and the two areas that it lies between."""
        return (
            Measure(self.name, "higher", (-1.0, 1.0)),
            Measure("srg_mif", "lower", (0.0, 1.0), headline=False),
            Measure("srg_lif", "higher", (0.0, 1.0), headline=False),
            *self.beside,
        )

    def describe(self, x: Vector, most: Vector, least: Vector) -> Scores:
        """The two areas, their difference, and its course."""
        mif, lif = float(np.trapezoid(most, x)), float(np.trapezoid(least, 1 - x[::-1]))
        return Scores(
            {self.name: lif - mif, "srg_mif": mif, "srg_lif": lif}, curves={self.name: Curve(x, least - most)}
        )
