"""A plan as tables for a terminal, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from assay.benchmark.amounts import amount, duration, share, size
from assay.benchmark.table import printable
from assay.planning.counting import START
from assay.planning.plan import JobPlan, Plan

WORKERS = (1, 2, 4, 8)
_MOST_EXPLAINERS = 20


def terminal_plan(plan: Plan) -> Group:
    """Tables of the jobs, of the explainers and of the time on several workers, with what the numbers stand on."""
    parts: list[Any] = [_jobs(plan.jobs)]
    costs = _by_explainer(plan.jobs)
    if costs:
        parts += [Text("\nExplainers, each with its metrics, all jobs together", style="bold"), _explainers(costs)]
        parts += [Text("\nTime on several workers", style="bold"), _workers(plan)]
    parts += [Text(f"- {line}", style="dim") for line in _notes(plan)]
    return Group(*parts)


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain numbers and names."""
    return {
        "jobs": [_job_as_json(job) for job in plan.jobs],
        "total": {name: sum(_job_as_json(job)[name] for job in plan.jobs) for name in (*_COUNTS, "seconds", "bytes")},
        "explainers": _by_explainer(plan.jobs),
        "seconds_by_workers": {str(workers): _seconds(plan, workers) for workers in _numbers(plan)},
        "seconds_to_plan": plan.seconds,
    }


_COUNTS = ("forward_rows", "forward_tokens", "backward_rows", "backward_tokens")


def _job_as_json(job: JobPlan) -> dict[str, Any]:
    estimate = job.estimate
    found: dict[str, Any] = {
        "task": job.task,
        "model": job.model,
        "device": job.device,
        "examples": job.examples,
        "finished": job.finished,
        "computed_by_an_earlier_job": job.earlier,
        "to_compute": job.missing,
        "shards": job.shards[0],
        "shards_finished": job.shards[1],
        "examples_tried": job.tried,
        "not_estimated": job.unknown,
        **(dict.fromkeys(_COUNTS, 0.0) if estimate is None else estimate.counts),
        "seconds": job.seconds(),
        "seconds_around": job.around,
        "bytes": 0.0 if estimate is None else estimate.bytes,
    }
    if job.memory is not None:
        found["memory"] = asdict(job.memory)
    if estimate is not None:
        errors = {"rows_error": estimate.rows_error, "seconds_error": estimate.seconds_error}
        # One example does not say how far others lie from it, and JSON knows no infinity.
        found |= {name: None if math.isinf(error) else error for name, error in errors.items()}
    return found


def _jobs(jobs: Sequence[JobPlan]) -> Table:
    table = _table("job", "cells", "skipped", "rows", "tokens", "time", "low to high", "disk", "memory")
    for job in jobs:
        table.add_row(printable(f"{job.task} × {job.model}"), *_figures([job]))
    if len(jobs) > 1:
        table.add_section()
        table.add_row(f"{len(jobs)} jobs", *_figures(jobs), style="bold")
    return table


def _figures(jobs: Sequence[JobPlan]) -> list[str]:
    estimates = [job.estimate for job in jobs if job.estimate is not None]
    skipped = sum(len(job.finished) + len(job.earlier) for job in jobs)
    cells = [str(sum(len(job.missing) for job in jobs)), str(skipped) if skipped else ""]
    if not estimates:
        return [*cells, "", "", "", "", "", ""]
    low, high = (sum(_bound(job, sign) for job in jobs) for sign in (-1, 1))
    return [
        *cells,
        amount(sum(one.rows for one in estimates)),
        amount(sum(one.tokens for one in estimates)),
        duration(sum(job.seconds() for job in jobs)),
        f"{duration(low)} to {duration(high)}",
        size(sum(one.bytes for one in estimates)),
        size(max(job.memory.weights + job.memory.needed for job in jobs if job.memory is not None)),
    ]


def _bound(job: JobPlan, sign: int) -> float:
    error = 0.0 if job.estimate is None else job.estimate.seconds_error
    return job.seconds() * (1 + error if sign > 0 else 1 / (1 + error))


def _by_explainer(jobs: Sequence[JobPlan]) -> dict[str, dict[str, float]]:
    total: dict[str, dict[str, float]] = {}
    for job in jobs:
        for name, costs in {} if job.estimate is None else job.estimate.explainers.items():
            own = total.setdefault(name, dict.fromkeys(costs, 0.0))
            for quantity, value in costs.items():
                own[quantity] += value
    return total


def _explainers(costs: Mapping[str, Mapping[str, float]]) -> Table:
    table = _table("explainer", "rows forward", "backward", "tokens forward", "backward", "time", "share")
    total = sum(one["seconds"] for one in costs.values())
    dearest = sorted(costs, key=lambda name: -costs[name]["seconds"])
    rows = {name: [name] for name in dearest[:_MOST_EXPLAINERS]}
    rest = dearest[_MOST_EXPLAINERS:]
    if rest:
        rows[f"{len(rest)} others"] = rest
    for label, names in rows.items():
        own = {key: sum(costs[name][key] for name in names) for key in (*_COUNTS, "seconds")}
        table.add_row(
            "predictions" if label == START else printable(label),
            amount(own["forward_rows"]),
            amount(own["backward_rows"]) if own["backward_rows"] else "",
            amount(own["forward_tokens"]),
            amount(own["backward_tokens"]) if own["backward_tokens"] else "",
            duration(own["seconds"]),
            f"{own['seconds'] / total:.0%}" if total else "",
        )
    return table


def _numbers(plan: Plan) -> list[int]:
    return sorted({*WORKERS, plan.workers})


def _seconds(plan: Plan, workers: int) -> float:
    return sum(job.seconds(workers) for job in plan.jobs)


def _workers(plan: Plan) -> Table:
    numbers = _numbers(plan)
    table = _table("workers", *(f"{number}{' *' if number == plan.workers else ''}" for number in numbers))
    alone = _seconds(plan, 1)
    table.add_row("time", *(duration(_seconds(plan, number)) for number in numbers))
    table.add_row("times as fast", *(f"{alone / max(_seconds(plan, number), 1e-9):.1f}" for number in numbers))
    return table


def _notes(plan: Plan) -> list[str]:
    lines = []
    tried = [job for job in plan.jobs if job.estimate is not None]
    finished = sum(len(job.finished) for job in plan.jobs)
    earlier = sum(len(job.earlier) for job in plan.jobs)
    if finished:
        lines.append(f"{_cells(finished)} finished before and will be skipped.")
    if earlier:
        lines.append(f"Cells that several jobs have in common, {earlier} here, are computed by the first of them.")
    there = sum(job.shards[1] for job in tried)
    if there:
        lines.append(f"{there} of {sum(job.shards[0] for job in tried)} shards are there from a run that was stopped.")
    if not tried:
        return [*lines, f"There is nothing to compute. Planned in {duration(plan.seconds)}."]
    counts = sorted({job.tried for job in tried})
    many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    short = " (there was no time for more: --seconds)" if any(job.cut for job in tried) else ""
    worst = max((job.estimate.rows_error for job in tried if job.estimate is not None), default=0.0)
    of_time = max((job.estimate.seconds_error for job in tried if job.estimate is not None), default=0.0)
    lines.append(
        f"From {many} examples of each job, short to long{short}: "
        f"rows and tokens ± {share(worst)}, time ± {share(of_time)} "
        "(how far single examples lie from what the others say, and how much equal batches differed in time). "
        "A machine that gets busier takes longer than this."
    )
    lines.append(
        "A row that several explainers or metrics ask for goes through the model once, and is the first one's."
    )
    for told in dict.fromkeys(job.memory.warning for job in tried if job.memory is not None):
        if told is not None:
            lines.append(f"Warning: {told}")
    lines.append("Answers that other cells leave on disk (share_answers) make a run shorter than this.")
    around = sum(job.around for job in plan.jobs)
    lines.append(f"Of the time {duration(around)} are for loading, preparing and the model's accuracy, on any worker.")
    lines.append("Memory is each worker's, weights included; it is an estimate from the model's shape.")
    lines.append("Workers: each as fast as this process, with a core or a device of its own; shards are not divided.")
    unknown = list(dict.fromkeys(name for job in tried for name in job.unknown))
    if unknown:
        lines.append(
            f"Not in the estimate: {printable(', '.join(unknown))}, "
            "because such metrics have each method explain again or train models."
        )
    lines.append(f"Planned in {duration(plan.seconds)}; assay run puts the truth beside it at its end.")
    return lines


def _cells(count: int) -> str:
    return "1 cell was" if count == 1 else f"{count} cells were"


def _table(first: str, *headings: str) -> Table:
    from rich import box

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", show_edge=False)
    table.add_column(first, max_width=32, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
