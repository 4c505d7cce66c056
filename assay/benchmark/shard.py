"""One shard of a job: some examples explained and judged by all of its unfinished explainers, whatever one does.

All of them share one engine. When one takes the shard down with it, the shard is tried again by each of them alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from assay.benchmark.attempt import Fault, Listener, attempt
from assay.benchmark.isolation import compute_isolated, is_isolated
from assay.benchmark.job import Job
from assay.benchmark.progress import Progress, say
from assay.benchmark.records import Records
from assay.benchmark.work import Work
from assay.classifier import Classifier
from assay.conversation import Case, Conversation, Vector
from assay.errors import Undefined
from assay.example import Example
from assay.explainers.base import BlackBoxExplainer, Explainer
from assay.interruption import check_interruption


def compute_shard(
    job: Job, model: Classifier, examples: Sequence[Example], names: Sequence[str], progress: Progress
) -> tuple[dict[str, Records], Work]:
    """Explain and judge some examples.

    An explainer that crashes the interpreter (`isolate`), runs past `time_limit` or writes to the model is found out by
    trying each alone. What it would have said of these examples is undefined, with that reason, and from then on it is
    computed apart from the others.

    Args:
        job: which explainers, metrics and perturbations there are.
        model: the classifier.
        examples: of the shard.
        names: of the explainers.
        progress: hears of each explanation that is finished.

    Returns:
        What was found, by explainer; and what it took for all of them together.
    """
    check_interruption()
    started = time.perf_counter()
    counted = _Counted(progress)
    found: dict[str, Records] = {}
    total = Work()

    def take(records: dict[str, Records], work: Work) -> None:
        found.update(records)
        total.add(work)
        counted.keep()

    def compute(group: Sequence[str]) -> Fault | None:
        try:
            take(*_attempt(job, model, examples, group, counted))
        except Fault as fault:
            counted.drop()
            return fault
        return None

    def compute_alone(name: str) -> bool:
        fault = compute([name])
        if fault is not None:
            say(f"{name}: {fault}. Its attributions of these {len(examples)} examples are undefined.")
            take(*attempt(job, model, examples, {name: _AtFault(job.explainers[name], str(fault))}, counted))
        return fault is None

    together = [name for name in names if name not in job.alone]
    fault = compute(together) if together else None
    if fault is not None:
        if len(together) > 1:
            say(f"Computing {len(together)} explainers together: {fault}. Each is tried alone.")
        # Where none fails alone, it was too much together.
        job.alone.update([name for name in together if not compute_alone(name)] or together)
    for name in names:
        if name not in found:
            compute_alone(name)
    total.seconds = time.perf_counter() - started
    return {name: found[name] for name in names}, total


def _attempt(
    job: Job, model: Classifier, examples: Sequence[Example], names: Sequence[str], listener: Listener
) -> tuple[dict[str, Records], Work]:
    """Compute a shard for some explainers where the configuration wants it computed.

    Raises:
        Fault: it was of no use.
    """
    if is_isolated(job):
        return compute_isolated(job, examples, names, listener)
    return attempt(job, model, examples, {name: job.explainers[name] for name in names}, listener)


class _AtFault(BlackBoxExplainer):
    """Stands for an explainer whose attributions of a shard are undefined."""

    def __init__(self, explainer: Explainer, reason: str) -> None:
        self.signed = explainer.signed
        self.repeats = explainer.repeats if isinstance(explainer, BlackBoxExplainer) else 1
        vars(self).update(searches=explainer.searches, precomputed=explainer.precomputed)
        self._reason = reason

    def converse(self, case: Case) -> Conversation[Vector]:
        raise Undefined(self._reason)
        yield


class _Counted:
    """Counts what is finished once, however often it is tried."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._kept = 0
        self._now = 0
        self._told = 0

    def watch(self, rows: Callable[[], int]) -> None:
        self._progress.watch(rows)

    def advance(self) -> None:
        self._now += 1
        if self._kept + self._now > self._told:
            self._told += 1
            self._progress.advance()

    def keep(self) -> None:
        self._kept += self._now
        self._now = 0

    def drop(self) -> None:
        self._now = 0
