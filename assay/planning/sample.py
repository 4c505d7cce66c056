"""A few examples of a job, explained and judged as the run would do it, and nothing stored: counts, times, bytes."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from assay.benchmark.job import Job
from assay.benchmark.records import Records
from assay.benchmark.tables import write_tables
from assay.classifier import Classifier
from assay.encoding import Encoding
from assay.example import Example
from assay.explainers.base import Explainer, WhiteBoxExplainer
from assay.planning.counting import Spent, count, seconds_inside
from assay.planning.sampling import spread
from assay.planning.throughput import Throughput, measure

FEWEST = 2
# Of the time for a plan so much goes into the sample; the rest is for the device.
_SHARE = 0.7
# What a text takes grows about like this power of its length: as many rows more, each as much longer.
_GROWTH = 2


@dataclass(frozen=True)
class Sample:
    """What some examples took.

    Attributes:
        places: [sample], which of all examples they are.
        spent: for each of them what `START` and each explainer took.
        fixed: for each explainer that looks inside the model, the part of its time that a batch takes in any case.
        throughput: of the device.
        tokens_per_batch: the engine's budget.
        bytes_an_example: for each explainer, what one more example adds to its cell.
        bytes_a_shard: for each explainer, what one more shard adds to its cell.
        seconds_to_write: for each explainer and shard.
        cut: whether there was no time for all examples that were asked for.
    """

    places: list[int]
    spent: list[dict[str, Spent]]
    fixed: Mapping[str, float]
    throughput: Throughput
    tokens_per_batch: int
    bytes_an_example: Mapping[str, float]
    bytes_a_shard: Mapping[str, float]
    seconds_to_write: float
    cut: bool


def take_sample(
    job: Job,
    model: Classifier,
    examples: Sequence[Example],
    encodings: Sequence[Encoding],
    explainers: Mapping[str, Explainer],
    wanted: int,
    seconds: float,
) -> Sample:
    """Explain and judge a few examples of a job, one by one, and time the device.

    Args:
        job: which metrics and perturbations there are.
        model: the classifier.
        examples: all of the job's.
        encodings: of the examples.
        explainers: that are to be run, prepared, by name.
        wanted: how many examples.
        seconds: how long it may take; at least two examples are looked at all the same.
    """
    started = time.perf_counter()
    chosen = spread(encodings, wanted)
    lengths = {place: len(encodings[place].row.ids) for place in chosen}
    shortest = min(chosen, key=lambda place: lengths[place])
    # The first time everything is imported, compiled and allocated, which a run pays once.
    count(job, model, examples[shortest], explainers)
    spent: dict[int, dict[str, Spent]] = {}
    found: list[dict[str, Records]] = []
    slowest = 0.0
    for place in chosen:
        elapsed = time.perf_counter() - started
        longest = max((lengths[other] for other in spent), default=lengths[place])
        ahead = slowest * (lengths[place] / longest) ** _GROWTH
        if len(spent) >= FEWEST and elapsed + ahead > _SHARE * seconds:
            continue
        before = time.perf_counter()
        spent[place], records, budget = count(job, model, examples[place], explainers)
        slowest = max(slowest, time.perf_counter() - before)
        found.append(records)
    places = list(spent)
    rows = [encodings[place].row for place in sorted(places, key=lambda place: lengths[place])]
    middle = sorted(places, key=lambda place: lengths[place])[len(places) // 2]
    sizes = _bytes(found, list(explainers))
    return Sample(
        places,
        [spent[place] for place in places],
        _fixed(job, model, examples[middle], explainers, _equal(encodings, job.content["shard_size"]), spent[middle]),
        measure(model, [rows[0], rows[len(rows) // 2], rows[-1]], budget),
        budget,
        *sizes,
        cut=len(spent) < len(chosen),
    )


def _equal(encodings: Sequence[Encoding], shard_size: int) -> int:
    """How many examples of one length there are in a shard, as the middle one of them finds it."""
    groups: list[int] = []
    for first in range(0, len(encodings), shard_size):
        of_length = Counter(len(encoding.row.ids) for encoding in encodings[first : first + shard_size])
        groups += [size for size in of_length.values() for _ in range(size)]
    return int(np.median(groups))


def _fixed(
    job: Job,
    model: Classifier,
    example: Example,
    explainers: Mapping[str, Explainer],
    size: int,
    alone: Mapping[str, Spent],
) -> dict[str, float]:
    """What share of the time for one example an explainer takes in any case, however many stand beside it, 0 to 1."""
    inside = {name: one for name, one in explainers.items() if isinstance(one, WhiteBoxExplainer)}
    if size < 2 or not inside:
        return dict.fromkeys(inside, 0.0)
    copies = [replace(example, id=f"{example.id}-{number}") for number in range(size)]
    together = seconds_inside(job, model, copies, inside)
    shares = {}
    for name, seconds in together.items():
        single = alone[name].inside_seconds
        each = (seconds - single) / (size - 1)
        shares[name] = float(np.clip(1 - each / single, 0.0, 1.0)) if single > 0 else 0.0
    return shares


def _bytes(
    found: Sequence[Mapping[str, Records]], explainers: Sequence[str]
) -> tuple[dict[str, float], dict[str, float], float]:
    """Bytes of one more example and of one more shard for each explainer, and seconds to write a shard."""
    an_example: dict[str, float] = {}
    a_shard: dict[str, float] = {}
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in explainers:
            sizes: list[int] = []
            for many in (found[:1], found):
                together = Records()
                for one in many:
                    together.extend(one[name])
                place = Path(folder) / f"{len(sizes)}-{len(an_example)}"
                place.mkdir()
                started = time.perf_counter()
                write_tables(place, together)
                seconds.append(time.perf_counter() - started)
                sizes.append(sum(file.stat().st_size for file in place.iterdir()))
            an_example[name] = max(0.0, (sizes[1] - sizes[0]) / max(1, len(found) - 1))
            a_shard[name] = sizes[0] - an_example[name]
    return an_example, a_shard, float(np.median(seconds))
