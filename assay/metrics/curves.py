"""Curves: the target's output while features are hidden, or shown, one after another."""

from __future__ import annotations

from assay.metrics.base import Measure
from assay.metrics.paths import PathCurve


class Deletion(PathCurve):
    """Area under the target's output while features are hidden, most important first (Petsiuk et al. 2018).

    x = k/n from 0 to 1, trapezoid rule. Lower is better; in [0, 1] for probabilities. Sensitive to the perturbation and
    the feature unit.
    """

    name = "deletion"
    hides = True
    maximise = False

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The area."""
        return (Measure(self.name, "lower", (0.0, 1.0)),)


class Insertion(PathCurve):
    """Area under the target's output while features are shown, most important first (Petsiuk et al. 2018).

    From all hidden (x = 0) to the full input (x = 1), trapezoid rule. Higher is better; in [0, 1] for probabilities.
    Sensitive to the perturbation and the feature unit.
    """

    name = "insertion"
    hides = False
    maximise = True

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The area."""
        return (Measure(self.name, "higher", (0.0, 1.0)),)
