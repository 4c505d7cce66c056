"""`assay plan`: each job of a sweep is checked and loaded as by `assay run`, and tried on a few of its examples."""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig

from assay.benchmark import launch, planned, preparation
from assay.benchmark.environment import environment
from assay.benchmark.job import Job
from assay.benchmark.loaded_job import LoadedJob, load_job
from assay.benchmark.memory import MemoryAccount
from assay.benchmark.planned import Planned
from assay.benchmark.store import Store
from assay.benchmark.whole_folder import Damaged
from assay.errors import AssayError
from assay.planning.estimate import Estimate, Foresight
from assay.planning.sample import FEWEST, take_sample


@dataclass(frozen=True)
class JobPlan:
    """What one job will take from here on.

    Attributes:
        task: its name.
        model: its name.
        device: and precision.
        examples: how many.
        finished: explainers whose cells are finished.
        earlier: explainers whose cells an earlier job of the same sweep will have finished.
        missing: explainers whose cells are to be computed.
        shards: how many there are, and how many of them are there already.
        tried: how many examples the estimate stands on; 0 where there is nothing to compute.
        cut: whether more were asked for than there was time for.
        estimate: of the shards that are not there; None where there is nothing to compute.
        around: seconds that the job takes besides: loading, preparing, and the model's accuracy.
        memory: what it takes in memory; None where there is nothing to compute.
        unknown: metrics that have every method explain again or train models, which are not in the estimate.
    """

    task: str
    model: str
    device: str
    examples: int
    finished: tuple[str, ...]
    earlier: tuple[str, ...]
    missing: tuple[str, ...]
    shards: tuple[int, int]
    tried: int = 0
    cut: bool = False
    estimate: Estimate | None = None
    around: float = 0.0
    unknown: tuple[str, ...] = ()
    memory: MemoryAccount | None = None

    def seconds(self, workers: int = 1) -> float:
        """Seconds until the last of several equal workers has done its last shard."""
        busy = [0.0] * workers
        for shard in () if self.estimate is None else self.estimate.shards.tolist():
            heapq.heapreplace(busy, busy[0] + shard)
        return self.around + max(busy)


@dataclass
class Plan:
    """What a sweep will take.

    Attributes:
        jobs: in the order in which they run.
        workers: how many were asked for.
        seconds: that planning took.
        reports: how planning each job ended.
    """

    jobs: list[JobPlan] = field(default_factory=list)
    workers: int = 1
    seconds: float = 0.0
    reports: Sequence[launch.Report] = ()


def plan(arguments: Sequence[str], sweep: bool, examples: int, seconds: float) -> Plan:
    """Find out what `assay run` with the same arguments would take; nothing is computed that is kept.

    What a job is planned to take is written to the results folder, where the run finds it and puts it beside the truth.

    Args:
        arguments: Hydra overrides, as of `assay run`.
        sweep: whether commas make a sweep.
        examples: how many to try of each job.
        seconds: how long it may take, all jobs together; two examples of each are tried all the same.

    Raises:
        AssayError: a setting out of its range, or an override that cannot be understood.
    """
    if examples < FEWEST:
        raise AssayError(f"--examples must be at least {FEWEST}, not {examples}.")
    if not seconds > 0:
        raise AssayError(f"--seconds must be above 0, not {seconds:g}.")
    started = time.perf_counter()
    jobs = len(launch.launch("run", lambda config: [], arguments, sweep))
    planner = _Planner(examples, seconds, jobs)
    planner.plan.reports = launch.launch("run", planner.add, arguments, sweep)
    planner.plan.seconds = time.perf_counter() - started
    return planner.plan


class _Planner:
    """Plans one job after the other, and knows which cells those before it will have finished."""

    def __init__(self, examples: int, seconds: float, jobs: int) -> None:
        self.plan = Plan()
        self._examples = examples
        self._left = seconds
        self._jobs = jobs
        self._promised: set[str] = set()

    def add(self, config: DictConfig) -> list[str]:
        """Plan a job, and keep its plan; where that stands."""
        started = time.perf_counter()
        self.plan.workers = int(config.get("workers", 1))
        loaded = load_job(config)
        job, metas = loaded.job, loaded.metas
        anew = job.content["overwrite"] == "always"
        finished = [] if anew else [name for name, meta in metas.items() if _is_finished(job.store, meta)]
        earlier = [name for name, meta in metas.items() if name not in finished and meta["key"] in self._promised]
        missing = [name for name in metas if name not in finished and name not in earlier]
        if job.content["overwrite"] == "never" and finished:
            missing = []
        self._promised.update(str(metas[name]["key"]) for name in missing)
        bounds = loaded.bounds
        there = [] if anew else [pair for pair in bounds if _is_there(job, [metas[name] for name in missing], *pair)]
        about: dict[str, Any] = {
            "task": loaded.task.name,
            "model": loaded.model.name,
            "device": f"{loaded.model.device}, {loaded.model.dtype}",
            "examples": len(loaded.examples),
            "finished": tuple(finished),
            "earlier": tuple(earlier),
            "missing": tuple(missing),
            "shards": (len(bounds), len(there) if missing else len(bounds)),
            "unknown": tuple(job.judges) if missing else (),
            "memory": loaded.memory(missing) if missing else None,
        }
        kept = []
        if missing:
            left = [pair for pair in bounds if pair not in there]
            kept = self._try(loaded, about, left, started)
        else:
            self.plan.jobs.append(JobPlan(**about, around=time.perf_counter() - started))
        self._jobs -= 1
        return kept

    def _try(
        self, loaded: LoadedJob, about: Mapping[str, Any], left: Sequence[tuple[int, int]], started: float
    ) -> list[str]:
        job, model = loaded.job, loaded.model
        explainers = {name: job.explainers[name] for name in about["missing"]}
        preparation.prepare(explainers, job.perturbations, model, job.background, job.settings.seed)
        ready = time.perf_counter()
        encodings = [model.encode(example, job.settings.feature) for example in loaded.examples]
        allowed = max(0.0, self._left) / self._jobs
        sample = take_sample(job, model, loaded.examples, encodings, explainers, self._examples, allowed)
        self._left -= time.perf_counter() - ready
        foresight = Foresight(sample, encodings)
        # The accuracy is found out in a pass over all examples before the first shard.
        around = ready - started + foresight.seconds_to_start()
        beside = _bytes_beside(loaded, about["missing"])
        estimate = foresight.estimate(left, beside)
        self.plan.jobs.append(
            JobPlan(**about, tried=len(sample.places), cut=sample.cut, estimate=estimate, around=around)
        )
        whole = estimate if len(left) == len(loaded.bounds) else foresight.estimate(loaded.bounds, beside)
        cells = tuple(str(loaded.metas[name]["key"]) for name in explainers)
        promise = Planned(cells, whole.rows, whole.tokens, float(whole.shards.sum()), whole.bytes)
        return [str(planned.keep(job.store, loaded.metas, promise))]


def _bytes_beside(loaded: LoadedJob, names: Sequence[str]) -> float:
    """Bytes of what cells hold besides their tables: what they are about, how they were made, and where."""
    common = [loaded.job.content, environment(loaded.model.device)]
    return float(
        sum(len(json.dumps(one, indent=2, default=list)) for name in names for one in (loaded.metas[name], *common))
    )


def _is_finished(store: Store, meta: Mapping[str, Any]) -> bool:
    try:
        return store.find(meta) is not None
    except Damaged:
        return False


def _is_there(job: Job, metas: Sequence[Mapping[str, Any]], first: int, last: int) -> bool:
    try:
        return all(job.store.has_part(job.store.shard_path(meta, first, last)) for meta in metas)
    except Damaged:
        return False
