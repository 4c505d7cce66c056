"""Explainers over several protocols: the mean of their ranks, over the same protocols for all that have one.

Means over different cells are never compared: a mean rank is taken over all protocols on which anybody is ranked, anew
among the methods that have a rank on each of them, and the others are shown apart, with what they lack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.leaderboard.protocol_summary import Entry, Hiding, Interval, ProtocolSummary, resamples_of

Column = tuple[ProtocolSummary, Hiding]
_NORMAL = 1.959963984540054


@dataclass(frozen=True)
class Overall:
    """One explainer over some protocols.

    Attributes:
        name: as the protocols' tables have it.
        rank: the mean of its ranks on mean skill; None where it lacks one.
        win_rate: the mean of its win rates; None where it lacks one.
        rows: the mean of its passes through the model for an example; None where nobody knows.
        seconds: the mean of its seconds for an example; None where nobody knows.
        missing: the places of the protocols on which it has no rank, although others have, or has it with other
            settings than on the first.
    """

    name: str
    rank: Interval
    win_rate: Interval
    rows: float | None
    seconds: float | None
    missing: Sequence[int]


def overall(columns: Sequence[Column]) -> list[Overall]:
    """All methods, the best mean rank first; those that lack a protocol last, by name.

    The interval of a mean rank is that of its bootstrap: the examples of each task are drawn anew, all methods are
    ranked by their mean skill on them, and the ranks of all protocols averaged. It says how sure the mean is for these
    tasks and models, not what other tasks would show. That of a mean win rate adds the variances of the protocols.

    Args:
        columns: protocols, each under one way of hiding, that measure the same on other tasks and models.
    """
    found: dict[str, dict[int, Entry]] = {}
    for place, (_, hiding) in enumerate(columns):
        for entry in hiding.entries:
            if not entry.control:
                found.setdefault(entry.name, {})[place] = entry
    ranking = [place for place in range(len(columns)) if any(_ranked(own.get(place)) for own in found.values())]
    missing = {name: _missing(own, ranking) for name, own in found.items()}
    whole = {name: own for name, own in found.items() if ranking and not missing[name]}
    ranks = _mean_ranks([columns[place] for place in ranking], _keys(whole, ranking))
    rows = [
        _overall(name, [own[place] for place in ranking], rank)
        for (name, own), rank in zip(whole.items(), ranks, strict=True)
    ]
    rows += [Overall(name, Interval(), Interval(), None, None, missing[name]) for name in found if name not in whole]
    return sorted(rows, key=lambda one: (one.rank.mean is None, one.rank.mean or 0.0, one.name))


def _missing(own: Mapping[int, Entry], ranking: Sequence[int]) -> list[int]:
    settings = next((own[place].settings for place in ranking if place in own), None)
    return [place for place in ranking if not _ranked(own.get(place)) or own[place].settings != settings]


def _ranked(entry: Entry | None) -> bool:
    return entry is not None and entry.mean_skill.rank is not None


def _keys(methods: Mapping[str, Mapping[int, Entry]], ranking: Sequence[int]) -> list[list[Entry]]:
    """For each protocol the entries of the methods, in their order."""
    return [[own[place] for own in methods.values()] for place in ranking]


def _mean_ranks(columns: Sequence[Column], entries: Sequence[Sequence[Entry]]) -> list[Interval]:
    """The mean rank of each method, with its interval."""
    if not columns or not entries[0]:
        return []
    points = np.zeros(len(entries[0]))
    samples: NDArray[np.float64] | None = None
    orders: dict[str, NDArray[np.intp]] = {}
    for (summary, hiding), own in zip(columns, entries, strict=True):
        points += _ranks(np.array([[entry.mean_skill.skill.mean for entry in own]], np.float64))[0]
        drawn = resamples_of(hiding)
        # Examples of one task are drawn together under all models, those of another on their own.
        task = str(summary.protocol["task"].get("fingerprint", summary.task))
        order = orders.setdefault(task, np.random.default_rng(len(orders)).permutation(len(drawn)))
        places = {key: place for place, key in enumerate(hiding.resampled)}
        chosen = drawn[order[: len(drawn)]][:, [places[entry.key] for entry in own]]
        samples = _ranks(chosen) if samples is None else samples + _ranks(chosen)
    assert samples is not None
    points, samples = points / len(columns), samples / len(columns)
    low, high = np.percentile(samples, [2.5, 97.5], axis=0)
    # The bootstrap shrinks the distances between ranks, so that a first place may lie outside of its percentiles.
    low, high = np.minimum(low, points), np.maximum(high, points)
    return [Interval(*limits) for limits in zip(points.tolist(), low.tolist(), high.tolist(), strict=True)]


def _ranks(skills: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks of each row of [samples, methods], 1 for the highest; equals share the mean of theirs."""
    from scipy.stats import rankdata

    ranks: NDArray[np.float64] = rankdata(np.nan_to_num(-skills, nan=np.inf), axis=1)
    return ranks


def _overall(name: str, entries: Sequence[Entry], rank: Interval) -> Overall:
    rows, seconds = _mean([entry.rows for entry in entries]), _mean([entry.seconds for entry in entries])
    return Overall(name, rank, _mean_interval([entry.win_rate for entry in entries]), rows, seconds, [])


def _mean_interval(values: Sequence[Interval]) -> Interval:
    """The mean of independent numbers, with the interval of a sum of variances; None where one is missing."""
    mean = _mean([value.mean for value in values])
    low = [value.low for value in values if value.low is not None]
    high = [value.high for value in values if value.high is not None]
    if mean is None or len(low) < len(values) or len(high) < len(values):
        return Interval(mean)
    errors = (np.array(high) - np.array(low)) / (2 * _NORMAL)
    half = _NORMAL * float(np.sqrt((errors**2).sum())) / len(values)
    return Interval(mean, max(mean - half, 0.0), min(mean + half, 1.0))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
