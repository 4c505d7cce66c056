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
from assay.classifier import Classifier
from assay.example import Example


def compute_shards(
    job: Job,
    model: Classifier,
    examples: Sequence[Example],
    metas: Mapping[str, Mapping[str, Any]],
    bounds: Sequence[tuple[int, int]],
) -> None:
    """Compute the unfinished cells shard by shard; finished shards are kept and not computed again.

    A shard is computed for all of these cells together or for none, so that a run that was killed asks the model for
    the same batches as one that was not, and gets the same numbers to the last bit.

    Args:
        job: what is computed.
        model: the classifier.
        examples: all of the job's.
        metas: of the unfinished cells, by explainer.
        bounds: the first example of each shard and the one after its last.
    """
    with Progress(len(examples) * len(metas)) as progress:
        for first, last in bounds:
            if all(has_part(job.store, job.store.shard_path(meta, first, last)) for meta in metas.values()):
                progress.skip((last - first) * len(metas))
                continue
            records, work = compute_shard(job, model, examples[first:last], list(metas), progress)
            for name, found in records.items():
                job.store.write_shard(metas[name], first, last, found, work.shared(len(records)))


def has_part(store: Store, path: Path) -> bool:
    """Whether a finished shard or judgement is there; a damaged one is set aside."""
    try:
        return store.has_part(path)
    except Damaged as damage:
        aside = store.set_aside(path)
        say(f"Warning: {damage}. Set aside as {aside}; it is computed again.")
        return False
