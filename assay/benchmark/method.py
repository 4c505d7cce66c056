"""An explainer at work, as the metrics that judge methods see it: asked again on other models, examples or seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np

from assay.benchmark import scoring
from assay.benchmark.engine import Engine
from assay.benchmark.evaluation import Evaluation, Settings
from assay.benchmark.preparation import EXAMPLES_AT_ONCE, Background, prepare
from assay.benchmark.records import Record, Records
from assay.benchmark.talk import Outcome
from assay.classifier import Classifier
from assay.conversation import Answer, Attribution, Conversation, Keep
from assay.encoding import Encoding, Row
from assay.errors import Undefined
from assay.example import Example
from assay.explainers.base import Explainer
from assay.metrics.base import Method, MethodMetric, undefined
from assay.perturbation import Perturbation


class MethodAtWork(Method):
    """An explainer that has explained the examples of a cell and can be asked again."""

    def __init__(
        self,
        name: str,
        explainer: Explainer,
        model: Classifier,
        examples: Sequence[Example],
        targets: Sequence[int],
        foils: Sequence[int | None],
        perturbations: Mapping[str, Perturbation],
        settings: Settings,
        background: Background,
        tokens_per_batch: int | None = None,
    ) -> None:
        """Take over what a run was about; its `attributions` are to be set before anyone judges.

        Args:
            name: the explainer's, on which its random numbers hang.
            explainer: prepared for the model.
            model: the classifier that was explained.
            examples: with labels in the order of the model's classes.
            targets: the class that was explained for each example.
            foils: the class that it was contrasted with, if there was one.
            perturbations: how features are hidden, by name.
            settings: those of the run.
            background: gives examples of the task's train split, their labels in the order of the model's classes.
            tokens_per_batch: the engine's budget.
        """
        self.name = name
        self.signed = explainer.signed
        self.model = model
        self.examples = examples
        self.encodings = [model.encode(example, settings.feature) for example in examples]
        self.attributions: Sequence[Attribution | Undefined] = ()
        self.train: Sequence[Example] = ()
        self.perturbation = next(iter(perturbations))
        self.feature = settings.feature
        self.output = settings.output
        self.seed = settings.seed
        self._explainer = explainer
        self._targets = targets
        self._foils = foils
        self._perturbations = perturbations
        self._settings = settings
        self._background = background
        self._tokens_per_batch = tokens_per_batch

    def explain(
        self,
        model: Classifier | None = None,
        examples: Sequence[Example] | None = None,
        encodings: Sequence[Encoding] | None = None,
        targets: Sequence[int] | None = None,
        seed: int | None = None,
    ) -> list[Attribution | Undefined]:
        """Explain again, in one respect otherwise; see `Method.explain`."""
        given = self.examples if examples is None else examples
        if self._explainer.precomputed:
            reason = "its attributions are precomputed, so it cannot be asked about another text, model or seed"
            return [Undefined(reason)] * len(given)
        asked = self.model if model is None else model
        drawn_from = self.seed if seed is None else seed
        explainer = self._explainer
        if model is not None or seed is not None:
            # What it learns about the other model, or draws from the other seed, must not stay with the run's.
            explainer = deepcopy(explainer)
            prepare({self.name: explainer}, {}, asked, self._background, drawn_from)
        wanted: Sequence[int | str] | None = targets
        foils: Sequence[int | None] | None = None
        if targets is None and examples is None:
            # Another model, or another input, may have another runner-up: the question must stay the run's.
            wanted, foils = self._targets, self._foils
        settings = replace(self._settings, seed=drawn_from, target="predicted")
        found: list[Attribution | Undefined] = []
        for first in range(0, len(given), EXAMPLES_AT_ONCE):
            part = slice(first, first + EXAMPLES_AT_ONCE)
            evaluation = Evaluation(
                asked,
                given[part],
                {},
                self._perturbations,
                settings,
                self._tokens_per_batch,
                targets=None if wanted is None else wanted[part],
                encodings=None if encodings is None else encodings[part],
                foils=None if foils is None else foils[part],
            )
            evaluation.add_explainer(self.name, explainer)
            records = evaluation.run()[self.name]
            first_draws = {record["example"]: record for record in reversed(records.attributions)}
            found += [
                attribution_of(first_draws[example.id], encoding, target)
                for example, encoding, target in zip(
                    evaluation.examples, evaluation.encodings, evaluation.targets, strict=True
                )
            ]
        return found

    def answer(
        self, keeps: Sequence[Keep], model: Classifier | None = None, encodings: Sequence[Encoding] | None = None
    ) -> list[Answer]:
        """The output of every class for each example and keep-mask; see `Method.answer`."""
        asked = self.encodings if encodings is None else encodings
        engine = Engine(self.model if model is None else model, self.output, self._tokens_per_batch)
        answers: dict[int, Answer] = {}

        def ask(keep: Keep) -> Conversation[Answer]:
            return (yield keep)

        def finish_at(place: int) -> Callable[[Outcome], None]:
            def finish(outcome: Outcome) -> None:
                if outcome.error is not None:
                    raise outcome.error
                answers[place] = outcome.result

            return finish

        for place, (keep, encoding) in enumerate(zip(keeps, asked, strict=True)):
            engine.add(ask(keep), encoding, self._perturbations[self.perturbation], finish_at(place))
        engine.run()
        return [answers[place] for place in range(len(asked))]

    def hide(self, keeps: Sequence[Keep]) -> list[Sequence[Row]]:
        """The inputs that stand for each example's keep-masks; see `Method.hide`."""
        perturbation = self._perturbations[self.perturbation]
        hidden_id = perturbation.hidden_id(self.model)
        return [
            perturbation.rows(encoding, keep, hidden_id) for encoding, keep in zip(self.encodings, keeps, strict=True)
        ]

    def judged_by(self, metric: str, judge: MethodMetric) -> Records:
        """What one metric says of every example, as rows of tables; where it fails, that is the reason of every NaN."""
        records = Records()
        self.train = self._background(judge.background) if judge.background else ()
        for perturbation in self._perturbations if judge.each_perturbation else [next(iter(self._perturbations))]:
            self.perturbation = perturbation
            try:
                scores = list(judge.judge(self))
                if len(scores) != len(self.examples):
                    raise ValueError(f"{metric} returned {len(scores)} results for {len(self.examples)} examples")
            except Exception as error:
                scores = [undefined(judge, scoring.reason_of(error))] * len(self.examples)
            for example, found in zip(self.examples, scores, strict=True):
                here = {"example": example.id, "perturbation": perturbation}
                scoring.add_scores(records, here, judge, {0: scoring.scores_of(judge, found, None)})
        return records


def attribution_of(record: Record, encoding: Encoding, target: int) -> Attribution | Undefined:
    """An attribution as the records hold it."""
    if record["scores"] is None:
        return Undefined(record["reason"])
    return Attribution(encoding.features, np.array(record["scores"]), target, record["signed"])
