"""Robustness: how far the attribution moves when the input moves a little."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from assay.checks import above_zero, whole_number
from assay.metrics.base import Measure, Method, MethodMetric, Scores
from assay.metrics.similarity import for_each, relative_difference, scores_of

if TYPE_CHECKING:
    from assay.classifier import Classifier


class SensitivityMax(MethodMetric):
    """The largest change of the attribution under small noise on the word embeddings (Yeh et al. 2019).

    max over samples of ‖Φ(x + r) − Φ(x)‖₂ / ‖Φ(x)‖₂, with Φ the scores of the features and each entry of r uniform in
    [−radius, radius]. Lower is better; from 0, dimensionless; the paper does not divide, captum does. The noise is in
    the model's embedding table, so that every input that a black-box method asks about has it too; the same token has
    the same noise wherever it stands, and what stands for something hidden, special tokens and a prompt's label words
    have none.

    The method keeps its seed, so that only the input differs. Attributions that ignore the model never move: `random`
    scores 0, as does any constant (which is why the paper asks for low infidelity besides). Sensitive to the radius,
    whose weight hangs on the size of the model's embeddings, and, being a maximum, to the number of samples. Undefined
    where all scores are 0, where captum divides by 1 instead. Cost: `samples` attributions.

    Args:
        radius: the largest noise on an entry of an embedding (captum's default).
        samples: how many times noise is drawn (captum's default).

    Raises:
        ValueError: a radius that is not above 0, or `samples` below 1.
    """

    def __init__(self, radius: float = 0.02, samples: int = 10) -> None:
        self.radius = above_zero("radius", radius)
        self.samples = whole_number("samples", samples, at_least=1)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The largest relative change."""
        return (Measure("sensitivity_max", "lower", (0.0, math.inf)),)

    def check(self, model: Classifier) -> None:
        """Find out whether the model's weights can be replaced.

        Raises:
            AssayError: they are not in float32 on one device.
        """
        model.check_whole()

    def judge(self, method: Method) -> Sequence[Scores]:
        """Explain under each noise."""
        from assay.altered_models import with_noisy_embeddings

        noisy = [
            method.explain(model=with_noisy_embeddings(method.model, self.radius, method.seed, sample))
            for sample in range(self.samples)
        ]

        def largest(index: int) -> Scores:
            plain = scores_of(method.attributions[index])
            changes = [relative_difference(scores_of(found[index]), plain) for found in noisy]
            return Scores({"sensitivity_max": max(changes)})

        return for_each(self, len(method.examples), largest)
