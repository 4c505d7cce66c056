"""The site's first page: every explainer on every task and model, and nothing averaged that is not comparable.

There is a table for each way of measuring, because a mean rank over several of them would be of several questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.digests import digest
from assay.leaderboard.overall import Overall, overall
from assay.leaderboard.page import page_name, render
from assay.leaderboard.protocol_summary import Entry, Hiding, Interval, ProtocolSummary
from assay.leaderboard.protocols import differences, short_names
from assay.leaderboard.text import amount, clean, interval, number, percent, seconds, title

NOWHERE = float("nan")
# A table of more results than this shows their intervals only to who asks for them.
DENSE = 2000


@dataclass(frozen=True)
class Column:
    """One protocol under one way of hiding; `note` tells it apart from others of its task and model."""

    summary: ProtocolSummary
    hiding: Hiding
    note: str

    @property
    def measured(self) -> dict[str, Any]:
        """All that fixes what the numbers mean, whatever the task and the model."""
        fixed = {name: part for name, part in self.summary.protocol.items() if name not in ("task", "model")}
        hidden = {self.hiding.perturbation: self.summary.protocol["perturbations"].get(self.hiding.perturbation)}
        return {**fixed, "perturbations": hidden}


def overview_page(summaries: Sequence[ProtocolSummary]) -> str:
    """The page, from the summaries of all protocols."""
    notes = _notes(summaries)
    columns = [Column(one, hiding, notes[one.key]) for one in summaries for hiding in one.hidings]
    groups: dict[str, list[Column]] = {}
    for column in columns:
        groups.setdefault(digest(column.measured), []).append(column)
    ordered = sorted(groups.values(), key=_order)
    named = _named([group[0] for group in ordered])
    entries = [entry for column in columns for entry in column.hiding.entries]
    return render(
        "overview.html",
        depth=0,
        methods=len({entry.explainer for entry in entries if not entry.control}),
        tasks=len({one.task for one in summaries}),
        models=len({one.model for one in summaries}),
        examples=f"{sum(one.examples for one in summaries):,}",
        protocols=[_protocol(one, notes[one.key]) for one in summaries],
        ways=[
            _way(group, *told, number) for number, (group, told) in enumerate(zip(ordered, named, strict=True), start=1)
        ],
    )


def _notes(summaries: Sequence[ProtocolSummary]) -> dict[str, str]:
    subjects: dict[tuple[str, str], list[ProtocolSummary]] = {}
    for one in summaries:
        subjects.setdefault((one.task, one.model), []).append(one)
    notes: dict[str, str] = {}
    for namesakes in subjects.values():
        notes |= short_names([one.key for one in namesakes], [one.protocol.get("preset") for one in namesakes])
    return notes


def _order(group: Sequence[Column]) -> tuple[bool, bool, int, str]:
    """First what has a skill, then what follows no preset, then what has most tasks and models."""
    first = group[0]
    preset = first.summary.protocol.get("preset")
    ranked = any(column.hiding.skills_of for column in group)
    return not ranked, preset is not None, -len(group), f"{preset} {first.hiding.perturbation}"


def _named(firsts: Sequence[Column]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What each way of measuring is called, and the settings in which it differs from others of that name."""
    plain = []
    for one in firsts:
        told = f"{clean(one.summary.protocol['feature'])}s hidden by {clean(one.hiding.perturbation)}".capitalize()
        preset = one.summary.protocol.get("preset")
        plain.append(f"{told}, after {clean(preset, 40)}" if preset else told)
    named: list[tuple[str, list[tuple[str, str]]]] = []
    for place, told in enumerate(plain):
        alike = [other for other, theirs in enumerate(plain) if theirs == told]
        nth = alike.index(place)
        differing = differences([firsts[other].measured for other in alike])
        settings = [(clean(path), clean(values[nth])) for path, values in differing.items()]
        named.append((f"{told} ({nth + 1} of {len(alike)} ways)" if len(alike) > 1 else told, settings))
    return named


def _way(group: Sequence[Column], told: str, settings: Sequence[tuple[str, str]], number: int) -> dict[str, Any]:
    """One way of measuring: a table of all explainers on all tasks and models."""
    found: dict[str, dict[int, Entry]] = {}
    for place, column in enumerate(group):
        for entry in column.hiding.entries:
            if not entry.control:
                found.setdefault(entry.name, {})[place] = entry
    standings = overall([(column.summary, column.hiding) for column in group])
    skills_of = max((column.hiding.skills_of for column in group), key=len)
    rows = [_row(one, found[one.name], len(group)) for one in standings]
    return {
        "id": f"way-{number}",
        "title": told,
        "settings": settings,
        "dense": len(rows) * len(group) > DENSE,
        "skills_of": [title(one) for one in skills_of],
        "columns": [
            {
                "folder": column.summary.folder,
                "task": clean(column.summary.task, 60),
                "model": clean(column.summary.model, 80),
                "note": column.note,
                "place": list(column.summary.hidings).index(column.hiding) + 1,
            }
            for column in group
        ],
        "whole": [row for row in rows if row["ranked"]],
        "partial": [row for row in rows if not row["ranked"]],
    }


def _row(standing: Overall, entries: Mapping[int, Entry], columns: int) -> dict[str, Any]:
    first = next(iter(entries.values()))
    return {
        "name": clean(standing.name),
        "page": page_name(first.explainer),
        "family": clean(first.family),
        "ranked": standing.rank.mean is not None,
        "rank": _told(standing.rank, 1),
        "win_rate": _told(standing.win_rate, 2),
        "rows": _amount(standing.rows, amount),
        "seconds": _amount(standing.seconds, seconds),
        "lacks": _lacks(standing, entries),
        "cells": [_cell(entries.get(place)) for place in range(columns)],
    }


def _lacks(standing: Overall, entries: Mapping[int, Entry]) -> str:
    """Why an explainer has no mean, in a few words."""
    absent = [place for place in standing.missing if place not in entries]
    unranked = [place for place in standing.missing if place in entries and entries[place].mean_skill.rank is None]
    if absent or unranked:
        counts = ((len(absent), "not run"), (len(unranked), "without a rank"))
        return ", ".join(f"{count} {told}" for count, told in counts if count)
    return "settings differ" if standing.missing else ""


def _cell(entry: Entry | None) -> dict[str, Any] | None:
    """An explainer under one protocol: its skill, and what stands there instead when a reader asks for another."""
    if entry is None:
        return None
    skill, win, standing = _told(entry.mean_skill.skill, 2), _told(entry.win_rate, 2), entry.mean_skill
    alike = standing.rank_low is None or standing.rank_low == standing.rank_high
    ranks = "" if alike else f"{standing.rank_low}–{standing.rank_high}"
    rank = "—" if standing.rank is None else str(standing.rank)
    return {
        "skill": skill,
        "rank": {"text": rank, "interval": ranks, "sort": standing.rank or ""},
        "win": win,
        "best": standing.leading,
    }


def _told(value: Interval, digits: int) -> dict[str, str]:
    mean, low, high = (NOWHERE if one is None else one for one in (value.mean, value.low, value.high))
    sort = "" if value.mean is None else f"{value.mean:.4g}"
    return {"text": number(mean, digits), "interval": interval(low, high, digits), "sort": sort}


def _amount(value: float | None, spelled: Any) -> dict[str, str]:
    return {"text": spelled(NOWHERE if value is None else value), "sort": "" if value is None else f"{value:.4g}"}


def _protocol(summary: ProtocolSummary, note: str) -> dict[str, Any]:
    leading = [
        (clean(entry.name), page_name(entry.explainer))
        for entry in (summary.hidings[0].entries if summary.hidings else [])
        if entry.mean_skill.leading and not entry.control
    ]
    return {
        "folder": summary.folder,
        "task": clean(summary.task, 60),
        "model": clean(summary.model, 80),
        "note": note,
        "key": clean(summary.key[:8]),
        "examples": f"{summary.examples:,}",
        "accuracy": percent(summary.accuracy),
        "hidings": [clean(hiding.perturbation) for hiding in summary.hidings],
        "leading": leading,
    }
