"""A page for each explainer: what it is, how it stands under every protocol, and the commands that give its numbers."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.leaderboard.bibliography import cited
from assay.leaderboard.page import page_name, render
from assay.leaderboard.protocol_summary import Entry, Hiding, Interval, ProtocolSummary, Standing
from assay.leaderboard.protocols import MISSING, settings, short_names
from assay.leaderboard.text import ARROWS, amount, clean, interval, number, seconds, title
from assay.plain_text import clean_lines

if TYPE_CHECKING:
    from assay.leaderboard.submission import Method

_OWN = "assay.explainers."
_Found = tuple[ProtocolSummary, Hiding, Entry]


@dataclass(frozen=True)
class _Column:
    """One way of hiding under one protocol, as the pages name it; `methods` is how many have a rank."""

    summary: ProtocolSummary
    hiding: Hiding
    place: Mapping[str, str]
    headings: Sequence[tuple[str, str]]
    methods: int


def explainer_pages(
    summaries: Sequence[ProtocolSummary], published: Mapping[str, Method] | None = None
) -> dict[str, str]:
    """The pages of all explainers, by the name of their file in `explainers`.

    An explainer has one page, whatever its settings; the rows on it are told apart by them.

    Args:
        summaries: of all protocols.
        published: who answers for a cell that was submitted, by the cell's key.
    """
    notes = _notes(summaries)
    columns = [_column(summary, hiding, notes) for summary in summaries for hiding in summary.hidings]
    found: dict[str, dict[int, list[Entry]]] = {}
    for place, column in enumerate(columns):
        for entry in column.hiding.entries:
            found.setdefault(entry.explainer, {}).setdefault(place, []).append(entry)
    return {
        f"{page_name(name)}.html": _page(name, columns, own, published or {}) for name, own in sorted(found.items())
    }


def _page(
    name: str,
    columns: Sequence[_Column],
    found: Mapping[int, Sequence[Entry]],
    published: Mapping[str, Method],
) -> str:
    standing = [(columns[place], entry) for place, own in found.items() for entry in own]
    entries = [entry for _, entry in standing]
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
        rows=[_row(column, entry) for column, entry in standing],
        absent=[column.place for place, column in enumerate(columns) if place not in found],
        measured=_measured(standing),
        shared=_shared(entries),
        commands=_commands(standing),
        published=[
            {
                "name": clean(method.name),
                "link": method.link,
                "citation": clean_lines(method.citation),
                "licence": clean(method.licence or ""),
                "submitter": clean(method.submitter or ""),
            }
            for method in _methods(entries, published)
        ],
    )


def _methods(entries: Sequence[Entry], published: Mapping[str, Method]) -> list[Method]:
    """Who answers for some cells, each once."""
    found: list[Method] = []
    for entry in entries:
        method = published.get(entry.key)
        if method is not None and method not in found:
            found.append(method)
    return found


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


def _column(summary: ProtocolSummary, hiding: Hiding, notes: Mapping[str, str]) -> _Column:
    place = {
        "folder": summary.folder,
        "task": clean(summary.task, 60),
        "model": clean(summary.model, 80),
        "note": notes[summary.key],
        "perturbation": clean(hiding.perturbation),
    }
    headings = [(title(measure), ARROWS.get(direction, "")) for measure, direction in hiding.measures.items()]
    return _Column(summary, hiding, place, headings, sum(entry.mean_skill.rank is not None for entry in hiding.entries))


def _row(column: _Column, entry: Entry) -> dict[str, Any]:
    return {
        **column.place,
        "name": clean(entry.name),
        "rank": _rank(entry.mean_skill),
        "of": column.methods,
        "leading": entry.mean_skill.leading,
        "skill": _told(entry.mean_skill.skill, 2),
        "win_rate": _told(entry.win_rate, 2),
        "rows": amount(_number(entry.rows)),
        "seconds": seconds(_number(entry.seconds)),
    }


def _measured(standing: Sequence[tuple[_Column, Entry]]) -> list[dict[str, Any]]:
    """The scores on each measure: a table for all ways of hiding that have the same measures."""
    tables: dict[tuple[tuple[str, str], ...], list[dict[str, Any]]] = {}
    for column, entry in standing:
        cells = [_cell(entry, measure) for measure in column.hiding.measures]
        row = {**column.place, "name": clean(entry.name), "cells": cells}
        tables.setdefault(tuple(column.headings), []).append(row)
    return [{"headings": headings, "rows": rows} for headings, rows in tables.items()]


def _cell(entry: Entry, measure: str) -> dict[str, Any]:
    standing = entry.scores.get(measure)
    if standing is None:
        return {"score": (MISSING, ""), "rank": "", "leading": False, "undefined": 0, "shares": ""}
    return {
        "score": _told(standing.score, 3),
        "rank": _rank(standing) if standing.rank is not None else "",
        "leading": standing.leading,
        "undefined": standing.undefined,
        "shares": entry.shares_probe.get(measure, ""),
    }


def _notes(summaries: Sequence[ProtocolSummary]) -> dict[str, str]:
    """What tells the protocols of a task and model apart, by key."""
    notes: dict[str, str] = {}
    for subject in {(summary.task, summary.model) for summary in summaries}:
        namesakes = [one for one in summaries if (one.task, one.model) == subject]
        notes |= short_names([one.key for one in namesakes], [one.protocol.get("preset") for one in namesakes])
    return notes


def _shared(entries: Sequence[Entry]) -> list[tuple[str, list[str]]]:
    """What it asks that measures ask too, with the measures."""
    shared: dict[str, dict[str, None]] = {}
    for entry in entries:
        for measure, words in entry.shares_probe.items():
            shared.setdefault(words, {})[title(measure)] = None
    return [(words, list(measures)) for words, measures in shared.items()]


def _commands(standing: Sequence[tuple[_Column, Entry]]) -> list[tuple[str, str, str]]:
    """For each cell its protocol, its settings and its command."""
    told = {}
    for column, entry in standing:
        if entry.key not in told:
            command = column.summary.commands.get(entry.name, MISSING)
            where = f"{column.place['task']} × {column.place['model']}"
            where += f", {column.place['note']}" if column.place["note"] else ""
            told[entry.key] = (where, clean(settings(entry.settings), 2000), clean(command, 4000))
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
