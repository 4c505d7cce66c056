"""What each explainer with its metrics takes for one example, counted where the run counts it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from assay.benchmark.evaluation import Evaluation
from assay.benchmark.job import Job
from assay.benchmark.records import Records
from assay.classifier import Classifier
from assay.example import Example
from assay.explainers.base import Explainer, WhiteBoxExplainer
from assay.metrics.base import Metric

START = "start"
"""Stands for what is done once for all explainers: the text is encoded and the model predicts its class."""


@dataclass(frozen=True)
class Spent:
    """What was taken for one example, beyond what those before had it take.

    Attributes:
        forward_rows: rows that the model was given, and so on, as in `Work`.
        forward_tokens: their tokens.
        backward_rows: rows that went back through the model.
        backward_tokens: their tokens.
        engine_rows: those of the rows that the engine put to the model.
        engine_tokens: their tokens.
        batches: how many batches of the engine they took, one example alone.
        engine_seconds: in those batches.
        inside_seconds: in an explainer that looks inside the model.
        host_seconds: everything else.
    """

    forward_rows: float
    forward_tokens: float
    backward_rows: float
    backward_tokens: float
    engine_rows: float
    engine_tokens: float
    batches: float
    engine_seconds: float
    inside_seconds: float
    host_seconds: float


QUANTITIES = tuple(one.name for one in fields(Spent))


def count(
    job: Job, model: Classifier, example: Example, explainers: Mapping[str, Explainer]
) -> tuple[dict[str, Spent], dict[str, Records], int]:
    """Explain and judge one example, one explainer after the other over one engine, as a shard does with all at once.

    Rows are dropped that were asked before about the same example, so what an explainer adds hangs on those before it;
    the sum does not.

    Args:
        job: which metrics and perturbations there are.
        model: the classifier.
        example: its label in the order of the model's classes.
        explainers: prepared, by name.

    Returns:
        What each took, and `START`; what was found; and the most tokens of a batch.
    """
    meter = _Meter(model)
    evaluation = _evaluation(job, model, [example])
    meter.evaluation = evaluation
    spent = {START: meter.spent(evaluation.engine.work.model_seconds)}
    for name, explainer in explainers.items():
        evaluation.add_explainer(name, explainer)
        asked_inside = evaluation.engine.work.model_seconds - meter.model_seconds
        evaluation.engine.run()
        spent[name] = meter.spent(evaluation.engine.work.model_seconds - meter.model_seconds - asked_inside)
    return spent, evaluation.run(), evaluation.engine.tokens_per_batch


def seconds_inside(
    job: Job, model: Classifier, examples: Sequence[Example], explainers: Mapping[str, Explainer]
) -> dict[str, float]:
    """Seconds that each explainer which looks inside the model takes for a batch of examples of one length."""
    evaluation = Evaluation(model, examples, {}, job.perturbations, job.settings, job.content["tokens_per_batch"])
    found = {}
    for name, explainer in explainers.items():
        if isinstance(explainer, WhiteBoxExplainer):
            before = evaluation.engine.work.model_seconds
            evaluation.add_explainer(name, explainer)
            found[name] = evaluation.engine.work.model_seconds - before
    return found


def _evaluation(job: Job, model: Classifier, examples: Sequence[Example]) -> Evaluation:
    return Evaluation(
        model,
        examples,
        {name: metric for name, metric in job.metrics.items() if isinstance(metric, Metric)},
        job.perturbations,
        job.settings,
        job.content["tokens_per_batch"],
    )


class _Meter:
    """Reads what the model and the engine count, and the clock; each reading is what came since the one before."""

    def __init__(self, model: Classifier) -> None:
        self.evaluation: Evaluation | None = None
        self.model_seconds = 0.0
        self._model = model
        self._cost = model.cost.copy()
        self._engine = (0.0, 0.0, 0.0)
        self._clock = time.perf_counter()

    def spent(self, engine_seconds: float) -> Spent:
        assert self.evaluation is not None
        work, now = self.evaluation.engine.work, time.perf_counter()
        cost = self._model.cost.since(self._cost)
        engine = (work.rows_answered, work.tokens, work.batches)
        rows, tokens, batches = (after - before for after, before in zip(engine, self._engine, strict=True))
        of_model = work.model_seconds - self.model_seconds
        found = Spent(
            cost.forward_rows,
            cost.forward_tokens,
            cost.backward_rows,
            cost.backward_tokens,
            rows,
            tokens,
            batches,
            engine_seconds,
            of_model - engine_seconds,
            max(0.0, now - self._clock - of_model),
        )
        self._cost, self._engine, self._clock = self._model.cost.copy(), engine, now
        self.model_seconds = work.model_seconds
        return found
