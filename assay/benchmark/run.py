"""One job of `assay run`: some explainers, and the controls, under one protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from omegaconf import DictConfig

from assay.benchmark import preparation, scoring
from assay.benchmark.cell import Cell
from assay.benchmark.environment import environment
from assay.benchmark.evaluation import Evaluation
from assay.benchmark.job import Job
from assay.benchmark.labels import LabelMatch, check_accuracy
from assay.benchmark.loaded_job import load_job
from assay.benchmark.method import MethodAtWork, attribution_of
from assay.benchmark.progress import say
from assay.benchmark.shards import compute_shards, has_part
from assay.benchmark.store import Store
from assay.benchmark.whole_folder import Damaged
from assay.classifier import Classifier
from assay.example import Example


def run(config: DictConfig) -> list[Cell]:
    """Compute the cells of a job that are not finished yet, keep them, and track them.

    Args:
        config: composed from `assay/conf/run.yaml`.

    Returns:
        All finished cells of the job, the controls included.

    Raises:
        AssayError: something in the configuration cannot be done; nothing has been computed then.
    """
    loaded = load_job(config)
    job, model, metas, tracker = loaded.job, loaded.model, loaded.metas, loaded.tracker
    examples, bounds, header = loaded.examples, loaded.bounds, loaded.header
    overwrite = job.content["overwrite"]
    cells = {} if overwrite == "always" else _finished(job.store, metas)
    missing = [name for name in metas if name not in cells]
    if not missing:
        say(f"{header}: all {len(cells)} cells were finished before.")
        tracker.log([], list(cells.values()), job.content)
        return list(cells.values())
    if overwrite == "never":
        say(f"{header}: {len(cells)} cells finished, not computed because of overwrite=never: {', '.join(missing)}.")
        return list(cells.values())
    preparation.prepare(
        {name: job.explainers[name] for name in missing},
        job.perturbations,
        model,
        job.background,
        job.settings.seed,
    )
    preparation.check_given(
        {name: job.explainers[name] for name in missing},
        model,
        examples,
        job.perturbations,
        job.settings,
        job.content["tokens_per_batch"],
    )
    accuracy = _accuracy(model, examples, job)
    note = check_accuracy(accuracy, loaded.task.majority, loaded.match, job.content["allow_low_accuracy"])
    if note:
        say(f"Warning: {note}")
    found = job.source.examine(model, examples)
    if found:
        say(f"{header}: {found}.")
    before = f", {len(cells)} finished before" if cells else ""
    say(f"{header}: accuracy {accuracy:.3f}; {len(missing)} cells to compute{before}.")
    if overwrite == "always":
        for name in missing:
            job.store.start_anew(metas[name])
    compute_shards(job, model, examples, {name: metas[name] for name in missing}, bounds)
    _judge(job, model, loaded.match, examples, {name: metas[name] for name in missing}, bounds)
    surroundings = environment(model.device)
    for name in missing:
        meta = {
            **metas[name],
            "accuracy": accuracy,
            "majority": loaded.task.majority,
            "command": job.content["command"],
        }
        judges = [] if job.explainers[name].searches else list(job.judges)
        cells[name] = job.store.finish(meta, job.content, surroundings, bounds, judges)
    finished = [cells[name] for name in metas]
    tracker.log([cells[name] for name in missing], finished, job.content)
    return finished


def _finished(store: Store, metas: Mapping[str, Mapping[str, Any]]) -> dict[str, Cell]:
    """The cells that are there; damaged ones are set aside."""
    cells = {}
    for name, meta in metas.items():
        try:
            cell = store.find(meta)
        except Damaged as damage:
            say(f"Warning: {damage}. Set aside as {store.set_aside(store.cell_path(meta))}; it is computed again.")
            continue
        if cell is not None:
            cells[name] = cell
    return cells


def _accuracy(model: Classifier, examples: list[Example], job: Job) -> float:
    """Share of examples whose predicted class is the label; NaN without labels."""
    size = job.content["shard_size"]
    right = []
    for first in range(0, len(examples), size):
        part = examples[first : first + size]
        settings = replace(job.settings, target="predicted")
        evaluation = Evaluation(model, part, {}, job.perturbations, settings, job.content["tokens_per_batch"])
        right += [
            predicted == example.label
            for predicted, example in zip(evaluation.predicted, part, strict=True)
            if example.label is not None
        ]
    return float(np.mean(right)) if right else float("nan")


def _judge(
    job: Job,
    model: Classifier,
    match: LabelMatch,
    examples: Sequence[Example],
    metas: Mapping[str, Mapping[str, Any]],
    bounds: list[tuple[int, int]],
) -> None:
    """Have the metrics that judge methods judge those of the unfinished cells; each judgement is kept."""
    for name, meta in metas.items():
        explainer = job.explainers[name]
        missing = [metric for metric in job.judges if not has_part(job.store, job.store.judgement_path(meta, metric))]
        if explainer.searches or not missing:
            continue
        found = job.store.read_shards(meta, bounds, "examples")
        first_draws = {row["example"]: row for row in reversed(job.store.read_shards(meta, bounds, "attributions"))}
        method = MethodAtWork(
            name,
            explainer,
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
        for number, metric in enumerate(missing):
            say(f"{name}: {metric} ({number + 1} of {len(missing)} metrics that have it explain again)")
            job.store.write_judgement(meta, metric, method.judged_by(metric, job.judges[metric]))
