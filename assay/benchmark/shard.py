"""One shard of a job: some examples explained and judged, by all of its unfinished explainers over one engine."""

from __future__ import annotations

import time
from collections.abc import Sequence

from assay.benchmark.evaluation import Evaluation
from assay.benchmark.job import Job
from assay.benchmark.progress import Progress
from assay.benchmark.records import Records
from assay.benchmark.work import Work
from assay.classifier import Classifier
from assay.example import Example
from assay.metrics.base import Metric


def compute_shard(
    job: Job, model: Classifier, examples: Sequence[Example], names: Sequence[str], progress: Progress
) -> tuple[dict[str, Records], Work]:
    """Explain and judge some examples.

    Args:
        job: which explainers, metrics and perturbations there are.
        model: the classifier.
        examples: of the shard.
        names: of the explainers.
        progress: hears of each explanation that is finished.

    Returns:
        What was found, by explainer; and what it took for all of them together.
    """
    started = time.perf_counter()
    evaluation = Evaluation(
        model,
        examples,
        {name: metric for name, metric in job.metrics.items() if isinstance(metric, Metric)},
        job.perturbations,
        job.settings,
        job.content["tokens_per_batch"],
        progress.advance,
    )
    work = evaluation.engine.work
    progress.watch(lambda: int(work.rows_answered))
    for name in names:
        evaluation.add_explainer(name, job.explainers[name])
    records = evaluation.run()
    work.seconds = time.perf_counter() - started
    return records, work
