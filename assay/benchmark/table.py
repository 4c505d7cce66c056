"""What a run has found, as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from assay.benchmark.store import Cell
from assay.benchmark.summary import CONTROLS, overall, summarise

if TYPE_CHECKING:
    import pandas as pd

_COSTS = ("forward_rows", "forward_tokens", "backward_rows", "backward_tokens", "seconds")
_ARROWS = {"higher": "↑", "lower": "↓"}
# Headings narrow enough for eight measures side by side.
_SHORT = {
    "comprehensiveness": "compreh.",
    "sufficiency": "suffic.",
    "ground_truth_precision": "truth P@k",
    "ground_truth_auprc": "truth AUPRC",
}
_MISSING = "—  "
# With more measures than this, scores are rounded to two digits to stay within the width of a terminal.
_MANY = 6


def terminal_table(cells: Sequence[Cell]) -> Group:
    """For each protocol and way of hiding a table of scores and one of skill and cost; the controls stand apart.

    A score reads `0.412 ±.031`: the mean and half the width of its 95 % interval; an asterisk marks the best method.
    Twelve explainers and eight measures fit into 110 columns, and the tables can be read as plain text.
    """
    scores, skills = summarise(cells), overall(cells)
    parts: list[Any] = []
    for protocol in dict.fromkeys(str(cell.meta["protocol_key"]) for cell in cells):
        group = [cell for cell in cells if str(cell.meta["protocol_key"]) == protocol]
        for perturbation in group[0].protocol["perturbations"]:
            here = [
                frame[(frame["protocol"] == protocol) & (frame["perturbation"] == perturbation)]
                for frame in (scores, skills)
                if len(frame)
            ]
            if len(here) == 2 and len(here[0]):
                parts += _tables(group, perturbation, *here)
    return Group(*parts)


def _tables(cells: Sequence[Cell], perturbation: str, scores: pd.DataFrame, skills: pd.DataFrame) -> list[Any]:
    by_key = {cell.key: cell for cell in cells}
    standing = skills.sort_values(["rank", "explainer"], na_position="last").to_dict("records")
    methods = [row for row in standing if row["explainer"] not in CONTROLS]
    controls = [row for name in CONTROLS for row in standing if row["explainer"] == name]
    by_place = {(row["key"], row["metric"]): row for row in scores.to_dict("records")}
    shown = scores[scores["headline"] & ~scores["metric"].isin(_COSTS)]
    directions = dict(zip(shown["metric"], shown["direction"], strict=True))
    protocol = cells[0].protocol
    examples = cells[0].meta["counts"]["examples"]
    title = f"{protocol['task']['name']} × {protocol['model']['name']}, {examples} examples, hidden by {perturbation}"
    digits = 2 if len(directions) > _MANY else 3
    score_table, skill_table = _new(), _new()
    for measure, direction in directions.items():
        heading = f"{_SHORT.get(measure, measure.replace('_', ' '))} {_ARROWS.get(direction, '')}".strip()
        score_table.add_column(heading, justify="right", no_wrap=True)
    scaled = list(skills["measures"].iloc[0])
    for measure in ("mean skill", *scaled):
        skill_table.add_column(_SHORT.get(measure, measure.replace("_", " ")), justify="right", no_wrap=True)
    for heading in ("rows", "seconds", "undefined"):
        skill_table.add_column(heading, justify="right", no_wrap=True)
    alone = len(methods) < 2
    for rows, control in ((methods, False), (controls, True)):
        for row in rows:
            name = Text(_printable(str(row["explainer"])), style="italic" if control else "")
            own = {measure: by_place.get((row["key"], measure)) for measure in directions}
            cells_of_scores = [
                _score(found, "mean", "ci_low", "ci_high", digits, not (control or alone)) for found in own.values()
            ]
            score_table.add_row(name, *cells_of_scores, style="dim" if control else None)
            cost = by_key[row["key"]].meta["cost"]
            undefined = max((found["undefined"] for found in own.values() if found), default=0)
            skill_table.add_row(
                name,
                _score(row, "skill", "skill_low", "skill_high", 2, not (control or alone)),
                *(
                    _score(own.get(one), "skill", "skill_low", "skill_high", 2, not (control or alone))
                    for one in scaled
                ),
                f"{cost['forward_rows'] + cost['backward_rows']:,.0f}",
                f"{cost['seconds']:.3f}",
                str(undefined) if undefined else "",
                style="dim" if control else None,
            )
        if not control:
            score_table.add_section()
            skill_table.add_section()
    legend = Text(
        "± half of the 95 % interval; ↑ higher, ↓ lower is better; *: best method. "
        "Skill: 0 = random, 1 = oracle. Rows (forward + backward) and seconds are for one example.",
        style="dim",
    )
    above = Text(f"\n{_printable(title)}", style="bold")
    return [above, score_table, Text("\nSkill and cost", style="bold"), skill_table, legend]


def _new() -> Table:
    from rich import box

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", show_edge=False)
    table.add_column("explainer", no_wrap=True, min_width=12, max_width=32)
    return table


def _score(row: Any, mean: str, low: str, high: str, digits: int, competes: bool) -> Text:
    """The mean and half the width of its interval; for the best method in bold and with an asterisk."""
    if row is None or not math.isfinite(row[mean]):
        return Text(_MISSING)
    text = f"{row[mean]:.{digits}f}"
    half = (row[high] - row[low]) / 2
    if math.isfinite(half):
        width = f"{half:.{digits}f}"
        text += f" ±{width[1:] if width.startswith('0.') else width}"
    best = row["rank"] == 1 and competes
    return Text(f"{text}{'*' if best else ' '}", style="bold" if best else "")


def _printable(text: str) -> str:
    """Names come from data; nothing in them may steer the terminal."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
