"""One attempt at a shard: some explainers explain and judge its examples over one engine, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from assay.benchmark.evaluation import Evaluation
from assay.benchmark.guarded import ENDED, WROTE, put_back
from assay.benchmark.job import Job
from assay.benchmark.records import Records
from assay.benchmark.shared_answers import SharedAnswers
from assay.benchmark.work import Work
from assay.classifier import Classifier
from assay.example import Example
from assay.explainers.base import Explainer
from assay.metrics.base import Metric
from assay.model_state import ModelWritten, state_of


class Fault(Exception):
    """What took a whole shard down with it, as the reason that is stored for whoever is at fault."""


class Listener(Protocol):
    """Whoever wants to know how far an attempt has come."""

    def watch(self, rows: Callable[[], int]) -> None:
        """Take in how to ask for the rows that have been answered."""

    def advance(self) -> None:
        """Hear of one explanation that is finished, with metrics and all."""


def attempt(
    job: Job, model: Classifier, examples: Sequence[Example], explainers: Mapping[str, Explainer], listener: Listener
) -> tuple[dict[str, Records], Work]:
    """Explain and judge some examples.

    Args:
        job: which metrics and perturbations there are.
        model: the classifier; it is as it was afterwards, whatever the explainers do to it.
        examples: of the shard.
        explainers: prepared, by name.
        listener: hears of each explanation that is finished.

    Returns:
        What was found, by explainer; and what it took for all of them together.

    Raises:
        Fault: somebody wrote to the model or ended the program; nothing that was found can be relied on then.
    """
    started, before = time.perf_counter(), model.cost.copy()
    state_of(model)
    evaluation = Evaluation(
        model,
        examples,
        {name: metric for name, metric in job.metrics.items() if isinstance(metric, Metric)},
        job.perturbations,
        job.settings,
        job.content["tokens_per_batch"],
        listener.advance,
        shared=_shared(job, model),
    )
    work = evaluation.engine.work
    listener.watch(lambda: int(work.rows_answered))

    def check_model() -> None:
        changed = put_back(job, model)
        if changed is not None:
            raise Fault(f"{WROTE}: {changed}")

    try:
        for name, explainer in explainers.items():
            evaluation.add_explainer(name, explainer)
        records = evaluation.run()
    except ModelWritten as change:
        check_model()
        raise Fault(f"{WROTE}: {change}") from change
    except Exception:
        # Where the model was written to, that is what went wrong.
        check_model()
        raise
    except SystemExit as end:
        check_model()
        raise Fault(f"{ENDED} (SystemExit: {end})") from end
    check_model()
    evaluation.share()
    work.passed(model.cost.since(before))
    work.seconds = time.perf_counter() - started
    return records, work


def _shared(job: Job, model: Classifier) -> SharedAnswers | None:
    """The answers that the cells of the store share; only float32 is precise enough for that."""
    if not job.content["share_answers"] or model.dtype != "float32":
        return None
    if job.shared is None:
        job.shared = SharedAnswers(job.store.root, model, reads=job.content["overwrite"] != "always")
    return job.shared
