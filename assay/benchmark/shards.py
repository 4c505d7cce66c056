"""The shards of a job's unfinished cells: which are there, and computing those that are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.benchmark.job import Job
from assay.benchmark.progress import Progress, say
from assay.benchmark.shard import compute_shard
from assay.benchmark.store import Store
from assay.benchmark.whole_folder import Damaged
from assay.benchmark.workers import Worker, work_through
from assay.classifier import Classifier
from assay.example import Example


def compute_shards(
    job: Job,
    model: Classifier,
    examples: Sequence[Example],
    metas: Mapping[str, Mapping[str, Any]],
    bounds: Sequence[tuple[int, int]],
    worker: Worker,
    patience: float,
) -> float:
    """Compute the unfinished cells shard by shard; finished shards are kept and not computed again.

    A shard is computed for all of these cells together or for none, so that a run that was killed asks the model for
    the same batches as one that was not, and gets the same numbers to the last bit. A cell that another worker has
    finished by now has dropped its shards, and counts as if they were there.

    Args:
        job: what is computed.
        model: the classifier.
        examples: all of the job's.
        metas: of the cells that were unfinished at the start, by explainer.
        bounds: the first example of each shard and the one after its last.
        worker: who computes.
        patience: how long to wait at least for what others may be at, in seconds.

    Returns:
        How long to wait from now on.
    """
    sizes = [(last - first) * len(metas) for first, last in bounds]
    own = worker.own(len(bounds))

    def there(shard: int) -> bool:
        found = all(
            has_part(job.store, job.store.shard_path(meta, *bounds[shard])) or job.store.finished_meanwhile(meta)
            for meta in metas.values()
        )
        if found and shard in own:
            progress.skip(sizes[shard])
        return found

    def compute(shard: int) -> None:
        first, last = bounds[shard]
        if shard not in own:
            progress.add(sizes[shard])
        records, work = compute_shard(job, model, examples[first:last], list(metas), progress)
        for name, found in records.items():
            job.store.write_shard(metas[name], first, last, found, work.shared(len(records)))

    with Progress(sum(sizes[shard] for shard in own)) as progress:
        return work_through(worker, len(bounds), there, compute, patience)


def has_part(store: Store, path: Path) -> bool:
    """Whether a finished shard or judgement is there; a damaged one is set aside."""
    try:
        return store.has_part(path)
    except Damaged as damage:
        aside = store.set_aside(path)
        say(f"Warning: {damage}. Set aside as {aside}; it is computed again.")
        return False
