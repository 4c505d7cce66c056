"""One job of `assay run`: some explainers, and the controls, under one protocol."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from omegaconf import DictConfig

from assay.benchmark import guarded, planned, preparation
from assay.benchmark.cell import Cell
from assay.benchmark.environment import environment
from assay.benchmark.evaluation import Evaluation
from assay.benchmark.judgements import judge_methods, judges_of
from assay.benchmark.labels import check_accuracy
from assay.benchmark.loaded_job import LoadedJob, load_job
from assay.benchmark.low_precision import Change
from assay.benchmark.progress import say, speak_up
from assay.benchmark.records import Record
from assay.benchmark.shards import compute_shards
from assay.benchmark.store import Store
from assay.benchmark.whole_folder import Damaged
from assay.benchmark.whole_inputs import low_logits
from assay.benchmark.workers import Worker, work_through
from assay.errors import AssayError


def run(config: DictConfig) -> list[Cell]:
    """Compute the cells of a job that are not finished yet, keep them, and track them.

    Args:
        config: composed from `assay/conf/run.yaml`. Where it names one of several workers, the others compute the same
            cells at the same time; this one comes to its end when all of them are finished, by whomever.

    Returns:
        All finished cells of the job, the controls included.

    Raises:
        AssayError: something in the configuration cannot be done; nothing has been computed then.
    """
    started = time.monotonic()
    worker = Worker.of(config)
    loaded = load_job(config, worker)
    job, model, metas, tracker = loaded.job, loaded.model, loaded.metas, loaded.tracker
    examples, bounds, header = loaded.examples, loaded.bounds, loaded.header
    told = {**job.content, "worker": worker.number}
    overwrite = job.content["overwrite"]
    if overwrite == "always" and worker.count > 1:
        raise AssayError(
            "overwrite=always forgets what is there, which several workers would do to each other. "
            "Use workers=1 or another results folder."
        )
    cells = {} if overwrite == "always" else _finished(job.store, metas)
    missing = {name: meta for name, meta in metas.items() if name not in cells}
    if not missing:
        say(f"{header}: all {len(cells)} cells were finished before.")
        tracker.log([], list(cells.values()), told)
        return list(cells.values())
    if overwrite == "never":
        say(f"{header}: {len(cells)} cells finished, not computed because of overwrite=never: {', '.join(missing)}.")
        return list(cells.values())
    guarded.prepare(job, model, list(missing))
    preparation.check_given(
        {name: job.explainers[name] for name in missing},
        model,
        examples,
        job.perturbations,
        job.settings,
        job.content["tokens_per_batch"],
    )
    accuracy, looked_at, change = _check_model(loaded, worker)
    found = job.source.examine(model, examples)
    if found:
        say(f"{header}: {found}.")
    before = f", {len(cells)} finished before" if cells else ""
    seen = "" if looked_at == len(examples) else f" on its own {looked_at}"
    say(f"{header}: accuracy {accuracy:.3f}{seen}; {len(missing)} cells to compute{before}.")
    if change is not None:
        say(f"{change}.")
    takes = loaded.memory(list(missing))
    say(f"{takes}.")
    if takes.warning is not None:
        say(f"Warning: {takes.warning}")
    if overwrite == "always":
        for meta in missing.values():
            job.store.start_anew(meta)
    speak_up()
    patience = compute_shards(job, model, examples, missing, bounds, worker, time.monotonic() - started)
    judge_methods(job, model, loaded.match, examples, missing, bounds, worker, patience)
    fresh = _finish(loaded, missing, accuracy if looked_at == len(examples) else None, change, worker, patience)
    cells |= fresh
    cells |= _finished(job.store, {name: meta for name, meta in missing.items() if name not in cells})
    finished = [cells[name] for name in metas if name in cells]
    tracker.log(list(fresh.values()), finished, told)
    beside = planned.compare(job.store, metas, [cells[name] for name in missing if name in cells])
    if beside is not None and worker.number == 0:
        say(beside)
    return finished


def _finish(
    loaded: LoadedJob,
    missing: Mapping[str, Mapping[str, Any]],
    accuracy: float | None,
    change: Change | None,
    worker: Worker,
    patience: float,
) -> dict[str, Cell]:
    """Make cells of what is there for them; those that this worker has made. The accuracy is read off if not known."""
    job, bounds = loaded.job, loaded.bounds
    surroundings = environment(loaded.model.device)
    names = list(missing)
    made: dict[str, Cell] = {}

    def there(unit: int) -> bool:
        return job.store.finished_meanwhile(missing[names[unit]])

    def finish(unit: int) -> None:
        nonlocal accuracy
        name = names[unit]
        try:
            if accuracy is None:
                rows = job.store.read_shards(missing[name], bounds, "examples", ["label", "predicted"])
                accuracy = _share_right(rows)
        except FileNotFoundError:
            # Another worker has finished the cell and dropped its shards just now.
            if there(unit):
                return
            raise
        check_accuracy(accuracy, loaded.task.majority, loaded.match, job.content["allow_low_accuracy"])
        meta = {
            **missing[name],
            "accuracy": accuracy,
            "majority": loaded.task.majority,
            "command": job.content["command"],
            **({} if change is None else {"precision": change.content}),
        }
        made[name] = job.store.finish(meta, job.content, surroundings, bounds, judges_of(job, name))

    work_through(worker, len(names), there, finish, patience)
    for name in missing:
        if name not in made:
            # Of a cell that another has finished at a URL, parts are left in this one's mirror.
            job.store.drop_shards(missing[name])
    return made


def _finished(store: Store, metas: Mapping[str, Mapping[str, Any]]) -> dict[str, Cell]:
    """The cells that are there; damaged ones are set aside."""
    cells = {}
    for name, meta in metas.items():
        try:
            cell = store.find(meta)
        except Damaged as damage:
            say(
                f"Warning: {damage}. Set aside as {store.set_aside(store.cell_path(meta))}; it is computed again.",
                own=True,
            )
            continue
        if cell is not None:
            cells[name] = cell
    return cells


def _check_model(loaded: LoadedJob, worker: Worker) -> tuple[float, int, Change | None]:
    """The model's accuracy, on how many examples, and what its precision changes in its answers to them.

    Of several workers each looks at its own shards first. What low precision changes is told of all examples, since any
    of them may come to write it down; nothing is changed by float32.

    Raises:
        AssayError: it is below that of always naming the largest class, and that is not allowed.
    """
    bounds, match, majority = loaded.bounds, loaded.match, loaded.task.majority
    low_precision = loaded.model.dtype != "float32"
    predicted = _predicted(loaded, range(len(bounds)) if low_precision else worker.own(len(bounds)))
    if not low_precision and (_share_right(predicted) < majority or not match.by_name):
        # What is to be refused, or told, is that of all.
        predicted += _predicted(loaded, worker.others(len(bounds)))
    accuracy = _share_right(predicted)
    note = check_accuracy(accuracy, majority, match, loaded.job.content["allow_low_accuracy"])
    if note:
        say(f"Warning: {note}")
    change = None
    if predicted and low_precision:
        full, low = (np.array([row[kind] for row in predicted]) for kind in ("full", "low"))
        change = Change.between(loaded.model.dtype, full, low)
    return accuracy, len(predicted), change


def _predicted(loaded: LoadedJob, shards: Iterable[int]) -> list[Record]:
    """The label, the predicted class and the logits of each example of some shards.

    The logits are those in float32 (`full`) and, where that is not the model's precision, in its own (`low`).
    """
    job, model = loaded.job, loaded.model
    settings = replace(job.settings, target="predicted")
    budget = job.content["tokens_per_batch"]
    found: list[Record] = []
    for shard in shards:
        part = loaded.examples[slice(*loaded.bounds[shard])]
        evaluation = Evaluation(model, part, {}, job.perturbations, settings, budget)
        low = low_logits(model, evaluation.encodings, next(iter(job.perturbations.values())), budget)
        for index, (example, predicted) in enumerate(zip(part, evaluation.predicted, strict=True)):
            row: Record = {"label": example.label, "predicted": predicted, "full": evaluation.logits[index]}
            found.append(row if low is None else {**row, "low": low[index]})
    return found


def _share_right(rows: Sequence[Record]) -> float:
    """Share of examples whose predicted class is the label; NaN without labels."""
    right = [row["predicted"] == row["label"] for row in rows if row["label"] is not None]
    return float(np.mean(right)) if right else float("nan")
