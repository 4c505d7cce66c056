"""Work that explainers and metrics do with the model, and what comes of it where they write to the model."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from assay.benchmark import preparation
from assay.benchmark.configured_model import load_again
from assay.benchmark.job import Job
from assay.benchmark.method import MethodAtWork
from assay.benchmark.progress import say
from assay.benchmark.records import Records
from assay.classifier import Classifier
from assay.errors import AssayError, Undefined
from assay.metrics.base import Method
from assay.model_state import state_of, summary

# How the reasons begin that are stored for those who took a shard down with them.
CRASHED, HUNG, ENDED, WROTE = (
    "the interpreter",
    "ran past the limit",
    "the program was ended",
    "the model was written to",
)


def put_back(job: Job, model: Classifier) -> str | None:
    """Put the model back as it was loaded; what was changed in it, in words, or None if nobody has written to it."""
    state = state_of(model)
    changes = state.changes()
    if not changes:
        return None
    state.restore(lambda: load_again(job.content["model"]).model)
    return summary(changes)


def prepare(job: Job, model: Classifier, names: Sequence[str]) -> None:
    """Get some explainers of a job, and its perturbations, ready to work with the model.

    Raises:
        AssayError: one that is not defined for this model, or that writes to it; or a background that cannot be had.
    """
    state_of(model)
    explainers = {name: job.explainers[name] for name in names}
    preparation.prepare(explainers, job.perturbations, model, job.background, job.settings.seed)
    changed = put_back(job, model)
    if changed is None:
        return
    for name, explainer in explainers.items():
        preparation.prepare({name: explainer}, {}, model, job.background, job.settings.seed)
        if put_back(job, model) is not None:
            raise AssayError(
                f"{name} writes to the model while it prepares ({changed}), so that no one else could explain that "
                "model. Have it work on a copy."
            )
    raise AssayError(f"A perturbation writes to the model while it prepares ({changed}).")


def judge(job: Job, model: Classifier, method: MethodAtWork, metric: str) -> Records:
    """What one metric says of an explainer as a method.

    One that took a shard down with it is not asked again, and of one that writes to the model nothing is known.
    """
    at_fault = [
        str(found)
        for found in method.attributions
        if isinstance(found, Undefined) and str(found).startswith((CRASHED, HUNG, ENDED, WROTE))
    ]
    if at_fault:
        return _undefined(job, method, metric, f"{at_fault[0]}, so it was not asked again")
    try:
        records = method.judged_by(metric, job.judges[metric])
    except SystemExit as end:
        put_back(job, model)
        return _undefined(job, method, metric, f"{ENDED} (SystemExit: {end})")
    changed = put_back(job, model)
    if changed is None:
        return records
    say(f"{method.name}: {WROTE} ({changed}). What {metric} says of it is undefined.")
    return _undefined(job, method, metric, f"{WROTE}: {changed}")


def _undefined(job: Job, method: MethodAtWork, metric: str, reason: str) -> Records:
    """A judgement that is undefined for every example."""

    def refuse(_: Method) -> None:
        raise Undefined(reason)

    judge = copy.copy(job.judges[metric])
    vars(judge)["judge"] = refuse
    return method.judged_by(metric, judge)
