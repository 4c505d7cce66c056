"""The pages of one protocol: its tables, curves and examples, how to reproduce them, and the examples' viewer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from assay.benchmark.low_precision import Change
from assay.benchmark.summary import CONTROLS
from assay.leaderboard.board import Board
from assay.leaderboard.comparison import comparisons
from assay.leaderboard.curves import Chart, charts, looks
from assay.leaderboard.examples import examples
from assay.leaderboard.page import render
from assay.leaderboard.protocols import definition_list, flatten, short_names, spell
from assay.leaderboard.tables import make_table, reasons
from assay.leaderboard.text import clean, percent, title

# So many methods' curves are drawn at first; more would hide each other.
DRAWN = 4


def protocol_pages(board: Board, folders: Mapping[str, str]) -> dict[str, str]:
    """The pages, by the name of their file.

    Args:
        board: the cells of the protocol.
        folders: of each protocol of the same task and model, by key.
    """
    section = _section(board, folders)
    return {
        "index.html": render("protocol.html", depth=2, section=section),
        "examples.html": render("viewer.html", depth=2, section=section),
    }


def _section(board: Board, folders: Mapping[str, str]) -> dict[str, Any]:
    tables = [make_table(board, perturbation) for perturbation in board.perturbations]
    first = board.perturbations[0] if tables else None
    skills = board.skills.iloc[0]["measures"] if len(board.skills) else ()
    measure = next(iter(skills or (board.measures(first) if first else ())), None)
    drawn = charts(board)
    counts, about = board.cells[0].meta["counts"], board.cells[0].meta
    ranked = [clean(name) for name in (board.standing(first)["name"] if first else board.names)]
    presets = board.differences.get("preset", [board.protocol.get("preset")] * len(board.siblings))
    notes = short_names(board.siblings, [None if preset == spell(None) else preset for preset in presets])
    return {
        "task": clean(board.task, 60),
        "model": clean(board.model, 80),
        "key": clean(board.key[:8]),
        "note": notes[board.key],
        "feature": clean(board.protocol["feature"]),
        "examples": f"{counts['examples']:,}",
        "accuracy": percent(about["accuracy"]),
        "majority": percent(about["majority"]),
        "precision": clean(f"{Change(**about['precision'])}.", 400) if about.get("precision") else "",
        "truncated": f"{counts['truncated_examples']:,} ({counts['truncated_tokens']:,} tokens)",
        "skills_of": max((table.skills_of for table in tables), key=len, default=[]),
        "tables": tables,
        "looks": looks(ranked),
        "figures": [_figures(board, perturbation, drawn.get(perturbation, [])) for perturbation in board.perturbations],
        "comparisons": comparisons(board),
        "downloads": [("scores.json", "JSON"), ("scores.tex", "LaTeX")],
        "shown": examples(board, first, measure) if first else [],
        "shown_by": title(measure) if measure else "",
        "definitions": [(clean(term), clean(text, 2000)) for term, text in definition_list(board.protocol)],
        "environments": _environments(board),
        "commands": _commands(board),
        "reasons": reasons(board),
        "siblings": [(folders[key], notes[key], key == board.key) for key in board.siblings],
        "differences": [
            (clean(path), [clean(value) for value in values]) for path, values in board.differences.items()
        ],
    }


def _figures(board: Board, perturbation: str, drawn: list[Chart]) -> dict[str, Any]:
    """The charts of one way of hiding; the legend in the order of the table, the best methods ticked."""
    names = [clean(name) for name in board.standing(perturbation)["name"]]
    controls = [clean(name) for control in CONTROLS for name, cell in board.named() if cell.explainer == control]
    methods = [name for name in names if name not in controls]
    with_curves = {line.name for chart in drawn for line in chart.lines}
    legend = [name for name in [*methods, *controls] if name in with_curves]
    return {
        "perturbation": clean(perturbation),
        "charts": drawn,
        "legend": legend,
        "ticked": {*[name for name in legend if name not in controls][:DRAWN], *controls},
        "left_out": len(methods) + len(controls) - len(legend) if drawn else 0,
    }


def _commands(board: Board) -> list[tuple[list[str], str]]:
    """Each command with the explainers whose rows it made."""
    found: dict[str, list[str]] = {}
    for name, cell in board.named():
        found.setdefault(clean(cell.meta["command"], 4000), []).append(clean(name))
    return [(names, command) for command, names in found.items()]


def _environments(board: Board) -> list[tuple[str, str]]:
    """What the cells were computed with; where they differ, every version is told."""
    found: dict[str, list[str]] = {}
    for cell in board.cells:
        for path, value in flatten(json.loads(cell.content("environment.json"))).items():
            texts = found.setdefault(clean(path.removeprefix("packages.")), [])
            if clean(spell(value)) not in texts:
                texts.append(clean(spell(value)))
    return [(path, " / ".join(texts)) for path, texts in found.items()]
