"""Erasure: how far the output falls when the rationale is taken away, or left alone."""

from __future__ import annotations

from assay.metrics.base import Direction, Measure
from assay.metrics.paths import Erasure


def _measures(name: str, direction: Direction, fractions: tuple[float, ...]) -> tuple[Measure, ...]:
    points = tuple(Measure(f"{name}@{fraction:g}", direction, (-1.0, 1.0), headline=False) for fraction in fractions)
    return (Measure(name, direction, (-1.0, 1.0)), *points)


class Comprehensiveness(Erasure):
    """Drop of the target's output when the most important features are hidden (DeYoung et al. 2020).

    AOPC = mean over q of f(x) − f(x∖R_k), k = ceil(q·n) at least 1, R_k the k highest ranking features. Higher is
    better; in [−1, 1] for probabilities. Sensitive to the perturbation, the fractions and the feature unit.
    """

    name = "comprehensiveness"
    hides = True
    maximise = True

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The mean over the fractions, and each fraction's own value."""
        return _measures(self.name, "higher", self.fractions)


class Sufficiency(Erasure):
    """Drop of the target's output when the most important features are left alone (DeYoung et al. 2020).

    AOPC = mean over q of f(x) − f(R_k), k = ceil(q·n) at least 1, R_k the k highest ranking features. Lower is better;
    in [−1, 1] for probabilities. Sensitive to the perturbation, the fractions and the feature unit.
    """

    name = "sufficiency"
    hides = False
    maximise = False

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The mean over the fractions, and each fraction's own value."""
        return _measures(self.name, "lower", self.fractions)
