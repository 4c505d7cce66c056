"""Judging stored attributions by stored answers: what a metric asks is looked up, and no model is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay.benchmark import scoring
from assay.benchmark.evaluation import Settings
from assay.benchmark.records import Record
from assay.classifier import transform
from assay.conversation import Answer, Attribution, Case, Conversation, Cost, Feature, Question, Rough, Soften
from assay.metrics.base import Metric, Scores, undefined


class Unanswered(Exception):
    """A metric asked for something that is not stored; the message says which.

    Attributes:
        storable: whether it is something that is stored when a run has asked for it.
    """

    def __init__(self, message: str, storable: bool) -> None:
        super().__init__(message)
        self.storable = storable


@dataclass(frozen=True)
class StoredAnswers:
    """What a model has said of some examples.

    Attributes:
        logits: of every class, by perturbation, example and packed keep-mask.
        settings: those that the attributions were made under.
        labels: the names of the model's classes.
    """

    logits: Mapping[tuple[str, str, bytes], Sequence[float]]
    settings: Settings
    labels: Sequence[str]

    def judged(self, judge: Metric, metric: str, perturbation: str, example: Record, row: Record, draws: int) -> Scores:
        """What a metric says of one attribution.

        Args:
            judge: the metric.
            metric: its name.
            perturbation: the name of the one that it is measured under.
            example: the example's row in the table of examples.
            row: the attribution's row in the table of attributions.
            draws: how many attributions of the example there are.

        Raises:
            Unanswered: it asks for something that is not stored.
        """
        if row["scores"] is None:
            return undefined(judge, f"no attribution: {row['reason']}")
        attribution = attribution_of(example, row)
        case = Case(
            id=example["example"],
            features=attribution.features,
            target=example["target"],
            rng=scoring.random_numbers(self.settings.seed, example["example"], metric, row["draw"]),
            attribution=attribution,
            ranking=scoring.ranking(attribution, self.settings.seed, example["example"], row["draw"]),
            rationale=_optional(example["rationale"], np.bool_),
            highlights=_optional(example["highlights"], np.float64),
            cost=cost_of(example, draws),
            output=self.settings.output,
            foil=self._foil(example),
            label=example["label"],
        )
        try:
            result = self._answered(judge.converse(case), perturbation, case, metric)
        except Unanswered:
            raise
        except Exception as error:
            return scoring.scores_of(judge, None, error)
        return scoring.scores_of(judge, result, None)

    def _answered(self, talk: Conversation[Scores], perturbation: str, case: Case, metric: str) -> Scores:
        answer: Answer | None = None
        while True:
            try:
                asked = next(talk) if answer is None else talk.send(answer)
            except StopIteration as end:
                result: Scores = end.value
                return result
            answer = self._look_up(asked, perturbation, case, metric)

    def _look_up(self, asked: Question, perturbation: str, case: Case, metric: str) -> Answer:
        if isinstance(asked, Soften):
            raise Unanswered(f"{metric} asks about embeddings that are hidden in part, which are not stored", False)
        if isinstance(asked, Rough):
            raise Unanswered(f"{metric} asks in low precision, and such answers are not stored", False)
        logits = [self.logits.get((perturbation, case.id, bits.tobytes())) for bits in np.packbits(asked, axis=1)]
        known = [one for one in logits if one is not None]
        if len(known) < len(logits):
            raise Unanswered(f"{metric} asks about inputs under {perturbation} that have no stored answer", True)
        table = torch.tensor(known, dtype=torch.float32).reshape(len(known), len(self.labels))
        outputs = transform(table.double(), self.settings.output)
        if case.foil is not None:
            outputs = outputs - outputs[:, [case.foil]]
        found: Answer = outputs.float().numpy()
        return found

    def _foil(self, example: Record) -> int | None:
        logits = np.array(example["logits"], dtype=np.float32)
        return scoring.foil(self.settings.contrast, logits, example["target"], self.labels)


def attribution_of(example: Record, row: Record) -> Attribution:
    """The attribution that a row of the table of attributions holds, over the features of its example's row."""
    features = tuple(
        Feature(*key) for key in zip(example["features"], example["segments"], example["positions"], strict=True)
    )
    report = json.loads(row["report"] or "{}")
    return Attribution(features, np.array(row["scores"]), example["target"], row["signed"], report)


def cost_of(example: Record, draws: int) -> Cost:
    """What one of the draws cost, all having cost the same."""
    return Cost(**{name: example[name] / draws for name in vars(Cost())})


def _optional(values: Any, kind: type[np.generic]) -> NDArray[Any] | None:
    return None if values is None else np.array(values, dtype=kind)
