"""Randomisation: does the attribution change when the model forgets what it has learnt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from assay.checks import whole_number
from assay.conversation import Vector, generator
from assay.errors import near_matches
from assay.metrics.base import Curve, Measure, Method, MethodMetric, Scores
from assay.metrics.similarity import for_each, measured, rank_correlation, scores_of

if TYPE_CHECKING:
    from assay.classifier import Classifier

Order = Literal["cascading", "independent"]


class ModelRandomisation(MethodMetric):
    """Likeness of the attributions before and after the weights are drawn anew (Adebayo et al. 2018, section 3).

    Spearman's ρ between the scores for the model and for one with random weights, of the same class; `…_magnitude`
    takes the scores without their signs, which are equal for a method that gives magnitudes only. Lower is better, and
    about 0 is what chance gives; in [−1, 1].

    `cascading`: the weights go from the top down in `stages` steps, and the score is that of the last, where none is
    left; the curve shows the likeness after each, over the share of levels (the head, each layer, the embeddings) that
    are random. `independent`: in each stage only its own levels are random, and the score is the mean over stages.

    Weights are drawn by the model's own `_init_weights`, as before its pretraining. The method's random numbers are
    others too, so that what it draws does not make the two alike. `random` scores about 0: the check finds methods that
    do not look at the model's weights, such as `first` (1), and passing it is no merit. Sensitive to the order of
    unimportant words, which are most, and to the draw of the networks. All examples share these, so that an interval
    over examples is too narrow: on a planted task the mean over 24 texts varied between draws of a single network with
    a standard deviation of 0.03 to 0.10. Undefined for one feature and where all scores are equal. Cost: `stages` ×
    `networks` attributions, and a copy of the model.

    Args:
        stages: in how many steps the weights go; at most as many as the model has levels.
        networks: how many times each random network is drawn; the mean is taken.
        order: `cascading` or `independent`.

    Raises:
        ValueError: `stages` or `networks` below 1, or an unknown order.
    """

    def __init__(self, stages: int = 2, networks: int = 3, order: Order = "cascading") -> None:
        self.stages = whole_number("stages", stages, at_least=1)
        self.networks = whole_number("networks", networks, at_least=1)
        if order not in ("cascading", "independent"):
            raise ValueError(f"unknown order {order!r}. {near_matches(str(order), ('cascading', 'independent'))}")
        self.order: Order = order

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The likeness with signs, and without."""
        return (
            Measure("model_randomisation", "lower", (-1.0, 1.0)),
            Measure("model_randomisation_magnitude", "lower", (-1.0, 1.0)),
        )

    def check(self, model: Classifier) -> None:
        """Find out whether the model's weights can be replaced.

        Raises:
            AssayError: they are not in float32 on one device.
        """
        model.check_whole()

    def judge(self, method: Method) -> Sequence[Scores]:
        """Explain models whose weights are random in part."""
        from assay.altered_models import count_levels, with_random_weights

        levels = count_levels(method.model)
        ends = np.unique(np.linspace(0, levels, min(self.stages, levels) + 1).round().astype(int))
        seeds = [_seed(method.seed, network) for network in range(self.networks)]
        stages = [
            [
                method.explain(model=with_random_weights(method.model, range(first, end), seed), seed=seed)
                for seed in seeds
            ]
            for first, end in zip(ends[:-1] * (self.order == "independent"), ends[1:], strict=True)
        ]

        def alike(index: int) -> Scores:
            plain = scores_of(method.attributions[index])
            random = [[scores_of(found[index]) for found in stage] for stage in stages]

            def after_each_stage(change: Callable[[Vector], Vector]) -> Vector:
                own = change(plain)
                return np.array(
                    [np.mean([rank_correlation(own, change(scores)) for scores in stage]) for stage in random]
                )

            def score(change: Callable[[Vector], Vector]) -> float:
                found = after_each_stage(change)
                return float(found[-1] if self.order == "cascading" else found.mean())

            scores = measured(
                {
                    "model_randomisation": lambda: score(np.asarray),
                    "model_randomisation_magnitude": lambda: score(np.abs),
                }
            )
            if self.order == "cascading" and "model_randomisation" not in scores.undefined:
                likeness = np.concatenate([[1.0], after_each_stage(np.asarray)])
                scores.curves["model_randomisation"] = Curve(ends / levels, likeness)
            return scores

        return for_each(self, len(method.examples), alike)


def _seed(seed: int, network: int) -> int:
    return int(generator(seed, "model_randomisation", network).integers(2**31))
