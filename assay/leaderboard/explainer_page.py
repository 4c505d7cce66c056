"""A page for each explainer: what it is, how it stands under every protocol, and the commands that give its numbers."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from assay.leaderboard.bibliography import cited
from assay.leaderboard.page import page_name, render
from assay.leaderboard.protocol_summary import Entry, Hiding, Interval, ProtocolSummary, Standing
from assay.leaderboard.protocols import MISSING, settings, short_names
from assay.leaderboard.text import ARROWS, amount, clean, interval, number, seconds, title

_OWN = "assay.explainers."


def explainer_pages(summaries: Sequence[ProtocolSummary]) -> dict[str, str]:
    """The pages of all explainers, by the name of their file in `explainers`.

    An explainer has one page, whatever its settings; the rows on it are told apart by them.
    """
    names = {entry.explainer for summary in summaries for hiding in summary.hidings for entry in hiding.entries}
    return {f"{page_name(name)}.html": _page(name, summaries) for name in sorted(names)}


def _page(name: str, summaries: Sequence[ProtocolSummary]) -> str:
    found = [
        (summary, hiding, entry)
        for summary in summaries
        for hiding in summary.hidings
        for entry in hiding.entries
        if entry.explainer == name
    ]
    entries = [entry for *_, entry in found]
    notes = _notes(summaries)
    absent = [
        _place(summary, hiding, notes)
        for summary in summaries
        for hiding in summary.hidings
        if name not in {entry.explainer for entry in hiding.entries}
    ]
    classes = list(dict.fromkeys(str(entry.settings.get("_target_", "")) for entry in entries))
    described = [text for text in map(first_line, classes) if text]
    return render(
        "explainer.html",
        depth=1,
        name=clean(name),
        described=described[0] if len(described) == len(classes) == 1 else "",
        classes=[clean(one) for one in classes],
        family=clean(entries[0].family.replace("_", " ")),
        own=entries[0].family == "own",
        control=entries[0].control,
        sources=cited("explainer", name) if len(described) == len(classes) else [],
        signs=sorted({"signed" if entry.signed else "magnitudes" for entry in entries}),
        told_apart=any(entry.name != name for entry in entries),
        rows=[_row(summary, hiding, entry, notes) for summary, hiding, entry in found],
        absent=absent,
        shared=_shared(found),
        commands=_commands(found, notes),
    )


@cache
def first_line(target: str) -> str:
    """What a class of Assay's says of itself in one line, read without importing it; empty for any other class."""
    if not target.startswith(_OWN):
        return ""
    module, _, name = target.rpartition(".")
    spec = find_spec(module) if module.removeprefix(_OWN).isidentifier() else None
    if spec is None or spec.origin is None:
        return ""
    for node in ast.parse(Path(spec.origin).read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return inspect.cleandoc(ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")
    return ""


def _row(summary: ProtocolSummary, hiding: Hiding, entry: Entry, notes: Mapping[str, str]) -> dict[str, Any]:
    ranked = sum(other.mean_skill.rank is not None for other in hiding.entries)
    return {
        **_place(summary, hiding, notes),
        "name": clean(entry.name),
        "rank": _rank(entry.mean_skill),
        "of": ranked,
        "leading": entry.mean_skill.leading,
        "skill": _told(entry.mean_skill.skill, 2),
        "win_rate": _told(entry.win_rate, 2),
        "measures": [
            {
                "title": title(measure),
                "arrow": ARROWS.get(direction, ""),
                "score": _told(entry.scores[measure].score, 3) if measure in entry.scores else (MISSING, ""),
                "rank": _rank(entry.scores[measure]) if measure in entry.scores else MISSING,
                "leading": measure in entry.scores and entry.scores[measure].leading,
                "undefined": entry.scores[measure].undefined if measure in entry.scores else 0,
                "shares": entry.shares_probe.get(measure, ""),
            }
            for measure, direction in hiding.measures.items()
        ],
        "rows": amount(_number(entry.rows)),
        "seconds": seconds(_number(entry.seconds)),
    }


def _place(summary: ProtocolSummary, hiding: Hiding, notes: Mapping[str, str]) -> dict[str, str]:
    return {
        "folder": summary.folder,
        "task": clean(summary.task, 60),
        "model": clean(summary.model, 80),
        "note": notes[summary.key],
        "perturbation": clean(hiding.perturbation),
    }


def _notes(summaries: Sequence[ProtocolSummary]) -> dict[str, str]:
    """What tells the protocols of a task and model apart, by key."""
    notes: dict[str, str] = {}
    for subject in {(summary.task, summary.model) for summary in summaries}:
        namesakes = [one for one in summaries if (one.task, one.model) == subject]
        notes |= short_names([one.key for one in namesakes], [one.protocol.get("preset") for one in namesakes])
    return notes


def _shared(found: Iterable[tuple[ProtocolSummary, Hiding, Entry]]) -> list[tuple[str, list[str]]]:
    """What it asks that measures ask too, with the measures."""
    shared: dict[str, dict[str, None]] = {}
    for *_, entry in found:
        for measure, words in entry.shares_probe.items():
            shared.setdefault(words, {})[title(measure)] = None
    return [(words, list(measures)) for words, measures in shared.items()]


def _commands(
    found: Iterable[tuple[ProtocolSummary, Hiding, Entry]], notes: Mapping[str, str]
) -> list[tuple[str, str, str]]:
    """For each cell its protocol, its settings and its command."""
    told = {}
    for summary, _, entry in found:
        note = notes[summary.key]
        where = f"{clean(summary.task, 60)} × {clean(summary.model, 80)}" + (f", {note}" if note else "")
        told[entry.key] = (
            where,
            clean(settings(entry.settings), 2000),
            clean(summary.commands.get(entry.name, MISSING), 4000),
        )
    return list(told.values())


def _rank(standing: Standing) -> str:
    if standing.rank is None:
        return MISSING
    low, high = standing.rank_low, standing.rank_high
    return f"{standing.rank}" if low is None or low == high or not standing.group else f"{standing.rank} ({low}–{high})"


def _told(value: Interval, digits: int) -> tuple[str, str]:
    return number(_number(value.mean), digits), interval(_number(value.low), _number(value.high), digits)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
