"""A job with its task and its model: what of its configuration can be done here, and the names of its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from omegaconf import DictConfig

from assay import registry
from assay.benchmark import preparation
from assay.benchmark.calibration import tokens_per_batch
from assay.benchmark.configured_model import load_model
from assay.benchmark.isolation import is_isolated
from assay.benchmark.job import Job, check
from assay.benchmark.labels import LabelMatch, match_labels
from assay.benchmark.launch import suite_is_chosen
from assay.benchmark.memory import MemoryAccount, account
from assay.benchmark.protocol import make_metas, make_protocol
from assay.benchmark.tracker import Tracker
from assay.benchmark.workers import ALONE, Worker
from assay.classifier import Classifier
from assay.errors import AssayError
from assay.example import Example
from assay.tasks import Task


@dataclass(frozen=True)
class LoadedJob:
    """A checked job, its task and its model; nothing has been computed.

    Attributes:
        job: without what cannot be done on this task and model.
        task: the examples as the task has them.
        model: the classifier.
        match: of the task's labels and the model's classes.
        examples: with labels in the order of the model's classes.
        metas: for each explainer the part of its cell.json that is known by now.
        tracker: what its results are told to beside the store.
    """

    job: Job
    task: Task
    model: Classifier
    match: LabelMatch
    examples: list[Example]
    metas: Mapping[str, Mapping[str, Any]]
    tracker: Tracker

    @property
    def header(self) -> str:
        """What the job is about, in a line."""
        task, model = self.task, self.model
        return f"{task.name} ({len(task)} of {task.split}) × {model.name} ({model.device}, {model.dtype})"

    def memory(self, names: Sequence[str]) -> MemoryAccount:
        """What computing the cells of some explainers takes, beside what is free."""
        model, content = self.model, self.job.content
        longest = max(self.examples, key=lambda example: sum(map(len, example.text)))
        return account(
            model,
            [self.job.explainers[name] for name in names],
            content["tokens_per_batch"] or tokens_per_batch(model),
            min(content["shard_size"], len(self.examples)),
            len(model.encode(longest).row.ids),
            len(self.job.perturbations),
            is_isolated(self.job),
        )

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """The first example of each shard and the one after its last."""
        size, count = self.job.content["shard_size"], len(self.examples)
        return [(first, min(first + size, count)) for first in range(0, count, size)]


def load_job(config: DictConfig, worker: Worker = ALONE) -> LoadedJob:
    """Check a job, load its task and its model, and leave out what a suite holds and cannot be done on them.

    Args:
        config: composed from `assay/conf/run.yaml`.
        worker: who is to do the job.

    Raises:
        AssayError: something in the configuration cannot be done.
    """
    job = check(config, worker)
    tracker = registry.instantiate(job.content["tracker"])
    task = job.source.load()
    lacking = preparation.lacking(job.metrics, task)
    for name, reason in lacking.items():
        job.leave_out_metric(name, reason)
    if not job.metrics:
        raise AssayError(f"No metric is left: {' '.join(dict.fromkeys(lacking.values()))}")
    model = load_model(job.content["model"])
    if suite_is_chosen("explainer"):
        job.leave_out(preparation.check(job.explainers, model))
    job.check_judges(model)
    match = match_labels(task.labels, model.labels)

    def fingerprint(count: int) -> str:
        return replace(task, examples=tuple(job.background(count))).fingerprint

    for group, members in (
        ("explainers", job.explainers),
        ("metrics", job.judges),
        ("perturbations", job.perturbations),
    ):
        preparation.identify(job.content[group], members, model, fingerprint)
    protocol = make_protocol(
        task,
        job.source.size,
        job.source.seed,
        model,
        job.settings,
        job.content["perturbations"],
        job.content["metrics"],
        job.perturbations,
        job.content["preset"],
    )
    metas = make_metas(protocol, job.content["explainers"], job.explainers, job.metrics)
    examples = [example.relabelled(match.class_of_label) for example in task]
    return LoadedJob(job, task, model, match, examples, metas, tracker)
