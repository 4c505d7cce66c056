"""Explainers over several protocols: the mean of their ranks, over the same protocols for all that have one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assay.leaderboard.protocol_summary import Entry, Hiding, Interval, ProtocolSummary


@dataclass(frozen=True)
class Overall:
    """One explainer over some protocols.

    Attributes:
        name: as the protocols' tables have it.
        rank: the mean of its ranks on mean skill; None where it lacks one.
        win_rate: the mean of its win rates; None where it lacks one.
        rows: the mean of its passes through the model for an example; None where nobody knows.
        seconds: the mean of its seconds for an example; None where nobody knows.
        missing: the places of the protocols on which it has no rank, although others have.
    """

    name: str
    rank: Interval
    win_rate: Interval
    rows: float | None
    seconds: float | None
    missing: Sequence[int]


def overall(columns: Sequence[tuple[ProtocolSummary, Hiding]]) -> list[Overall]:
    """All methods, the best mean rank first; those that lack a protocol last, by name.

    Args:
        columns: protocols, each under one way of hiding, that measure the same on other tasks and models.
    """
    found: dict[str, dict[int, Entry]] = {}
    for place, (_, hiding) in enumerate(columns):
        for entry in hiding.entries:
            if not entry.control:
                found.setdefault(entry.name, {})[place] = entry
    ranking = [
        place for place in range(len(columns)) if any(place in own and _ranked(own[place]) for own in found.values())
    ]
    rows = [_overall(name, own, ranking) for name, own in found.items()]
    return sorted(rows, key=lambda one: (one.rank.mean is None, one.rank.mean or 0.0, one.name))


def _overall(name: str, own: dict[int, Entry], ranking: Sequence[int]) -> Overall:
    missing = [place for place in ranking if place not in own or not _ranked(own[place])]
    if missing or not ranking:
        return Overall(name, Interval(), Interval(), None, None, missing)
    entries = [own[place] for place in ranking]
    rank = _mean([entry.mean_skill.rank for entry in entries])
    rows, seconds = _mean([entry.rows for entry in entries]), _mean([entry.seconds for entry in entries])
    return Overall(name, Interval(rank), Interval(), rows, seconds, missing)


def _ranked(entry: Entry) -> bool:
    return entry.mean_skill.rank is not None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
