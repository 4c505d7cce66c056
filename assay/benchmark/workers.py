"""Several workers over the same units of work: who does which, without locks, claims, or a word between them.

Every worker goes over all units: first those that are its own, then, instead of idling, those that others have left.
What is there is seen in the store alone, so a worker that was killed leaves nothing behind, and its units are taken
over by the rest. Two workers that do the same unit do no harm: the store puts whole parts in place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from omegaconf import DictConfig
from threadpoolctl import threadpool_limits

from assay.benchmark.progress import speaking_as
from assay.errors import AssayError

OF_WORKERS = ("workers", "worker")
"""The keys of a configuration that say who computes, and nothing of what is computed."""


@dataclass(frozen=True)
class Worker:
    """One of several workers.

    Attributes:
        number: of this one, from 0.
        count: how many there are.
    """

    number: int = 0
    count: int = 1

    @classmethod
    def of(cls, config: DictConfig) -> Worker:
        """The worker that a job's configuration names, which is a single one where it names none.

        Raises:
            AssayError: there are not so many workers, or neither is a whole number.
        """
        count, number = config.get("workers", 1), config.get("worker")
        for key, value, least in (("workers", count, 1), ("worker", 0 if number is None else number, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise AssayError(f"{key} must be a whole number of at least {least}, not {value!r}.")
        if number is None:
            return cls()
        if number >= count:
            raise AssayError(f"worker={number} of workers={count}: they are counted from 0 to {count - 1}.")
        return cls(number, count)

    def rank(self, unit: int) -> int:
        """How many workers are to take a unit before this one does; 0 for its own.

        For each unit the workers have different ranks, and the units of one are spread evenly over all others.
        """
        distance = (self.number - unit) % self.count
        return 0 if distance == 0 else 1 + (distance - 1 + unit // self.count) % (self.count - 1)

    def own(self, units: int) -> range:
        """Its own units."""
        return range(self.number, units, self.count)

    def others(self, units: int) -> list[int]:
        """The units of the others, in the order in which they are taken over: from the far end of their lists."""
        return sorted(set(range(units)) - set(self.own(units)), key=lambda unit: (self.rank(unit), -unit))

    def may_be_under_way(self, unit: int, left: Sequence[int]) -> bool:
        """Whether another worker may be at a unit just now, as far as what is left of the others' can tell."""
        own_next = min(other for other in left if other % self.count == unit % self.count)
        return unit == own_next or self.rank(unit) > 1

    def device(self, device: str) -> str:
        """The device for a worker where `device` is asked for: of several GPUs each worker has one.

        A process that sees a single GPU, because `CUDA_VISIBLE_DEVICES` gives it one, takes that.
        """
        if device not in ("auto", "cuda") or not torch.cuda.is_available():
            return device
        seen = torch.cuda.device_count()
        return f"cuda:{self.number % seen}" if seen > 1 else device


ALONE = Worker()
"""The single worker of a job that nobody shares."""


def work_through(
    worker: Worker, units: int, there: Callable[[int], bool], do: Callable[[int], None], patience: float = 0.0
) -> float:
    """Go over units of work until all of them are there, done by this worker or by another.

    The others' units are taken over at once where nobody can be at them. Where somebody may be, this worker waits as
    long as its own longest unit took, so that two do not do the same; it waits anew whenever another unit is there.

    Args:
        worker: who goes over them.
        units: how many there are.
        there: whether a unit is done, by whomever.
        do: does a unit.
        patience: how long to wait at least, in seconds.

    Returns:
        How long it would wait now, in seconds.
    """
    for unit in worker.own(units):
        if not there(unit):
            patience = max(patience, _seconds(do, unit))
    left = worker.others(units)
    last_change = time.monotonic()
    while True:
        still = [unit for unit in left if not there(unit)]
        if len(still) < len(left):
            last_change = time.monotonic()
        left = still
        if not left:
            return patience
        free = [unit for unit in left if not worker.may_be_under_way(unit, left)]
        if not free and time.monotonic() - last_change < patience * worker.rank(left[0]):
            time.sleep(min(1.0, max(0.02, patience / 20)))
            continue
        chosen = (free or left)[0]
        patience = max(patience, _seconds(do, chosen))
        left.remove(chosen)
        last_change = time.monotonic()


def _seconds(do: Callable[[int], None], unit: int) -> float:
    started = time.monotonic()
    do(unit)
    return time.monotonic() - started


@contextmanager
def at_work(worker: Worker, threads: int) -> Iterator[None]:
    """Be one of several workers: lines say which, and it has so many threads; afterwards all is as it was."""
    if worker.count == 1:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with speaking_as(worker.number, worker.count), threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(before)
