"""What metrics that have a method explain again say of the methods of unfinished cells; each judgement is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.benchmark import guarded, scoring
from assay.benchmark.job import Job
from assay.benchmark.labels import LabelMatch
from assay.benchmark.method import MethodAtWork, attribution_of
from assay.benchmark.progress import say
from assay.benchmark.shards import has_part
from assay.benchmark.workers import Worker, work_through
from assay.classifier import Classifier
from assay.example import Example


def judge_methods(
    job: Job,
    model: Classifier,
    match: LabelMatch,
    examples: Sequence[Example],
    metas: Mapping[str, Mapping[str, Any]],
    bounds: Sequence[tuple[int, int]],
    worker: Worker,
    patience: float,
) -> None:
    """Have every metric that judges methods judge each of the unfinished cells, if its judgement is not there yet.

    Args:
        job: what is computed.
        model: the classifier.
        match: of the task's labels and the model's classes.
        examples: all of the job's.
        metas: of the cells that were unfinished at the start, by explainer; their shards are there.
        bounds: the first example of each shard and the one after its last.
        worker: who judges.
        patience: how long to wait at least for what others may be at, in seconds.
    """
    units = [(name, metric) for name in metas for metric in judges_of(job, name)]
    at_work: dict[str, MethodAtWork] = {}

    def there(unit: int) -> bool:
        name, metric = units[unit]
        place = job.store.judgement_path(metas[name], metric)
        return has_part(job.store, place) or job.store.finished_meanwhile(metas[name])

    def judge(unit: int) -> None:
        name, metric = units[unit]
        if name not in at_work:
            at_work.clear()
            try:
                at_work[name] = _method(name, job, model, match, examples, metas[name], bounds)
            except FileNotFoundError:
                # Another worker has finished the cell and dropped its shards just now.
                if job.store.finished_meanwhile(metas[name]):
                    return
                raise
        place = judges_of(job, name).index(metric) + 1
        say(f"{name}: {metric} ({place} of {len(judges_of(job, name))} metrics that have it explain again)")
        job.store.write_judgement(metas[name], metric, guarded.judge(job, model, at_work[name], metric))

    work_through(worker, len(units), there, judge, patience)


def judges_of(job: Job, name: str) -> list[str]:
    """The metrics that judge an explainer as a method; none for one that searches for what is measured."""
    return [] if job.explainers[name].searches else list(job.judges)


def _method(
    name: str,
    job: Job,
    model: Classifier,
    match: LabelMatch,
    examples: Sequence[Example],
    meta: Mapping[str, Any],
    bounds: Sequence[tuple[int, int]],
) -> MethodAtWork:
    """An explainer that has explained the examples of an unfinished cell."""
    found = job.store.read_shards(meta, bounds, "examples", ["example", "target", "logits"])
    first_draws = {row["example"]: row for row in reversed(job.store.read_shards(meta, bounds, "attributions"))}
    method = MethodAtWork(
        name,
        job.explainers[name],
        model,
        examples,
        [row["target"] for row in found],
        [
            scoring.foil(job.settings.contrast, np.array(row["logits"], np.float32), row["target"], model.labels)
            for row in found
        ],
        job.perturbations,
        job.settings,
        lambda count: [example.relabelled(match.class_of_label) for example in job.background(count)],
        job.content["tokens_per_batch"],
    )
    method.attributions = [
        attribution_of(first_draws[row["example"]], encoding, row["target"])
        for row, encoding in zip(found, method.encodings, strict=True)
    ]
    return method
