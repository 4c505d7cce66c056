"""The page of one protocol: its tables, curves and examples, and how to reproduce them."""

from __future__ import annotations

import json
from typing import Any

from assay.benchmark.summary import CONTROLS
from assay.leaderboard.board import Board
from assay.leaderboard.curves import Chart, charts
from assay.leaderboard.examples import examples
from assay.leaderboard.page import render
from assay.leaderboard.protocols import definition_list, flatten, spell
from assay.leaderboard.tables import make_table, reasons
from assay.leaderboard.text import clean, percent, title

# So many methods' curves are drawn at first; more would hide each other.
DRAWN = 4
COLOURS = 6


def protocol_page(board: Board, folders: dict[str, str]) -> str:
    """The page.

    Args:
        board: the cells of the protocol.
        folders: of each protocol of the same task and model, by key.
    """
    methods = sorted({clean(name) for name, cell in board.named()} - set(CONTROLS))
    colours = {name: f"s{place % COLOURS} d{place // COLOURS % 3}" for place, name in enumerate(methods)}
    colours |= {"random": "floor", "oracle": "ceiling"}
    return render("protocol.html", depth=2, section=_section(board, folders), colours=colours)


def _section(board: Board, folders: dict[str, str]) -> dict[str, Any]:
    tables = [make_table(board, perturbation) for perturbation in board.perturbations]
    first = board.perturbations[0] if tables else None
    skills = board.skills.iloc[0]["measures"] if len(board.skills) else ()
    measure = next(iter(skills or (board.measures(first) if first else ())), None)
    drawn = charts(board)
    counts, about = board.cells[0].meta["counts"], board.cells[0].meta
    return {
        "id": "protocol",
        "task": clean(board.task, 60),
        "model": clean(board.model, 80),
        "key": clean(board.key[:8]),
        "examples": f"{counts['examples']:,}",
        "accuracy": percent(about["accuracy"]),
        "majority": percent(about["majority"]),
        "truncated": f"{counts['truncated_examples']:,} ({counts['truncated_tokens']:,} tokens)",
        "tables": tables,
        "figures": [_figures(board, perturbation, drawn.get(perturbation, [])) for perturbation in board.perturbations],
        "shown": examples(board, first, measure) if first else [],
        "shown_by": title(measure) if measure else "",
        "definitions": [(clean(term), clean(text, 2000)) for term, text in definition_list(board.protocol)],
        "environments": _environments(board),
        "commands": [(clean(name), clean(cell.meta["command"], 4000)) for name, cell in board.named()],
        "reasons": reasons(board),
        "siblings": [(folders[key], clean(key[:8]), key == board.key) for key in board.siblings],
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
        "ticked": {*methods[:DRAWN], *controls},
    }


def _environments(board: Board) -> list[tuple[str, str]]:
    """What the cells were computed with; where they differ, every version is told."""
    found: dict[str, list[str]] = {}
    for cell in board.cells:
        for path, value in flatten(json.loads((cell.path / "environment.json").read_text("utf-8"))).items():
            texts = found.setdefault(clean(path.removeprefix("packages.")), [])
            if clean(spell(value)) not in texts:
                texts.append(clean(spell(value)))
    return [(path, " / ".join(texts)) for path, texts in found.items()]
