"""What is found about one explainer and one example: its attributions, what metrics say of them, and the answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from assay.benchmark import scoring
from assay.benchmark.records import Record, Records
from assay.benchmark.talk import Outcome
from assay.conversation import Cost, Objective
from assay.explainers.base import Explainer
from assay.metrics.base import Metric, Scores


@dataclass(frozen=True)
class Draw:
    """One of the attributions that an explainer gives for an example.

    Attributes:
        number: from 0.
        metric: that it was searched for and is judged by alone; None where nothing was searched for.
        perturbation: likewise.
        objective: what was searched for.
    """

    number: int
    metric: str | None = None
    perturbation: str | None = None
    objective: Objective | None = None


def draws_of(explainer: Explainer, metrics: Mapping[str, Metric], perturbations: Iterable[str], n: int) -> list[Draw]:
    """The attributions that an explainer is to give for an example.

    Args:
        explainer: one that searches does so for each metric that has an objective, under each perturbation.
        metrics: by name.
        perturbations: their names.
        n: how many features the example has.
    """
    if not explainer.searches:
        return [Draw(number) for number in range(explainer.repeats)]
    wanted = [
        (name, perturbation, metric.objective(max(1, n)))
        for name, metric in metrics.items()
        for perturbation in perturbations
    ]
    return [
        Draw(number, metric, perturbation, objective)
        for number, (metric, perturbation, objective) in enumerate(wanted)
        if objective is not None
    ]


@dataclass
class Verdict:
    """What was found so far.

    Attributes:
        attributions: by the number of the draw, as rows of the table without the example.
        scores: of each draw, by metric and perturbation.
        answers: that metrics were given, by perturbation and packed keep-mask, likewise as rows.
        cost: of all attributions together.
    """

    attributions: dict[int, Record] = field(default_factory=dict)
    scores: dict[tuple[str, str], dict[int, Scores]] = field(default_factory=lambda: defaultdict(dict))
    answers: dict[tuple[str, bytes], Record] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)

    @property
    def searched(self) -> bool:
        """Whether each attribution was searched for one metric under one perturbation."""
        return any(record["metric"] is not None for record in self.attributions.values())

    @property
    def judged(self) -> int:
        """How many judgements there are: one for each draw, metric and perturbation."""
        return sum(len(scores) for scores in self.scores.values())

    def remember(self, perturbation: str, outcome: Outcome) -> None:
        """Take in what the model answered to a metric, each keep-mask once."""
        packed = np.packbits(outcome.keep, axis=1)
        masks = packed.view(f"V{packed.shape[1]}").ravel().tolist()
        for mask, logits in zip(masks, outcome.logits.tolist(), strict=True):
            if (perturbation, mask) not in self.answers:
                self.answers[perturbation, mask] = {"perturbation": perturbation, "keep": mask, "logits": logits}

    def add_to(
        self, records: Records, example: str, n: int, metrics: Mapping[str, Metric], perturbations: Iterable[str]
    ) -> None:
        """Add rows to the tables of attributions, answers, scores and curves.

        Args:
            records: the tables.
            example: its id.
            n: how many features it has.
            metrics: in the order of the rows.
            perturbations: likewise.
        """
        here: Record = {"example": example}
        records.attributions.extend({**here, **self.attributions[draw]} for draw in sorted(self.attributions))
        records.answers.extend({**here, "n": n, **answer} for answer in self.answers.values())
        for name, metric in metrics.items():
            for perturbation in perturbations:
                drawn = self.scores.get((name, perturbation))
                if drawn:
                    scoring.add_scores(records, {**here, "perturbation": perturbation}, metric, drawn)
