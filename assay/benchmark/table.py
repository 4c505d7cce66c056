"""What a run has found, as tables for a terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from assay.benchmark.cell import Cell
from assay.benchmark.significance import too_few
from assay.benchmark.summary import CONTROLS, explained_otherwise, overall, summarise, told_apart
from assay.benchmark.work import known_work, work_of

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
WIDTH = 110
# Of a longer name the rest is cut off.
_NAME = 32
# The reasons of undefined values that are told; a page of the leaderboard has all.
_REASONS = 6
# With more measures than this, scores are rounded to two digits to stay within the width of a terminal.
_MANY = 6


def terminal_table(cells: Sequence[Cell]) -> Group:
    """For each protocol and way of hiding, tables of scores, of skill and cost, and of undefined values.

    A score reads `0.412 ±.031`: the mean and half the width of its 95 % interval; an asterisk marks the best method and
    those that cannot be told apart from it. The controls stand apart. No table is wider than 110 columns: what does not
    fit goes into another below. All can be read as plain text.
    """
    scores, skills = summarise(cells), overall(cells)
    parts: list[Any] = []
    protocols = {str(cell.meta["protocol_key"]): _subject(cell) for cell in cells}
    for protocol, subject in protocols.items():
        alone = list(protocols.values()).count(subject) == 1
        group = [cell for cell in cells if str(cell.meta["protocol_key"]) == protocol]
        for perturbation in group[0].protocol["perturbations"]:
            here = [
                frame[(frame["protocol"] == protocol) & (frame["perturbation"] == perturbation)]
                for frame in (scores, skills)
                if len(frame)
            ]
            if len(here) == 2 and len(here[0]):
                told = "" if alone else f", protocol {protocol[:8]}"
                parts += _tables(group, perturbation, here[0], here[1], told)
        parts += _work(group)
    return Group(*parts)


def _work(cells: Sequence[Cell]) -> list[Text]:
    """What some cells took together; those of which that is unknown are left out, and told."""
    known = [cell for cell in cells if work_of(cell) is not None]
    total = known_work(known)
    if total is None:
        return []
    part = f" of {len(known)} of {len(cells)} cells" if len(known) < len(cells) else ""
    return [Text(f"Work{part}: {total}.", style="dim")]


def _subject(cell: Cell) -> str:
    return f"{cell.protocol['task']['name']} × {cell.protocol['model']['name']}"


def _tables(
    cells: Sequence[Cell], perturbation: str, scores: pd.DataFrame, skills: pd.DataFrame, told: str
) -> list[Any]:
    by_key = {cell.key: (cell, name) for cell, name in zip(cells, told_apart(cells), strict=True)}
    standing = skills.sort_values(["rank", "explainer"], na_position="last").to_dict("records")
    methods = [row for row in standing if row["explainer"] not in CONTROLS]
    rows = [*methods, *(row for name in CONTROLS for row in standing if row["explainer"] == name)]
    labels = []
    for row in rows:
        name = explained_otherwise(by_key[row["key"]][1], row["explained_under"], perturbation)
        labels.append(Text(printable(name), style="italic" if row["explainer"] in CONTROLS else ""))
    by_place = {(row["key"], row["metric"]): row for row in scores.to_dict("records")}
    shown = scores[scores["headline"] & ~scores["metric"].isin(_COSTS)]
    directions = dict(zip(shown["metric"], shown["direction"], strict=True))
    own = {measure: [by_place.get((row["key"], measure)) for row in rows] for measure in directions}
    digits = 2 if len(directions) > _MANY else 3
    of_scores = {
        _heading(measure, directions[measure]): [_score(row, "mean", "ci_low", "ci_high", digits) for row in found]
        for measure, found in own.items()
    }
    skilled: dict[str, Sequence[Any]] = {
        "mean skill": rows,
        **{_heading(one): own.get(one, []) for one in skills["measures"].iloc[0]},
    }
    of_skills = {
        heading: [_score(row, "skill", "skill_low", "skill_high", 2) for row in found]
        for heading, found in skilled.items()
    }
    spent = [by_key[row["key"]][0].meta["cost"] for row in rows]
    of_skills["rows"] = [_amount(cost["forward_rows"] + cost["backward_rows"], ",.0f") for cost in spent]
    of_skills["seconds"] = [_amount(cost["seconds"], ".3f") for cost in spent]
    examples, preset = cells[0].meta["counts"]["examples"], cells[0].protocol.get("preset")
    many = f"{examples} example{'s' if examples != 1 else ''}"
    follows = f", as {preset} has it" if preset else ""
    title = f"{_subject(cells[0])}, {many}, hidden by {perturbation}{follows}{told}"
    counts = {_heading(one): [row["undefined"] if row else 0 for row in found] for one, found in own.items()}
    return [
        Text(f"\n{printable(title)}", style="bold"),
        *wrapped(labels, of_scores, len(methods)),
        Text("\nSkill and cost", style="bold"),
        *wrapped(labels, of_skills, len(methods)),
        *_undefined(labels, counts),
        *_reasons([by_key[row["key"]][0] for row in rows], perturbation, list(directions)),
        Text(_legend(shown, skills), style="dim"),
    ]


def _undefined(labels: Sequence[Text], counts: Mapping[str, Sequence[int]]) -> list[Any]:
    """Of how many examples a measure has no value; explainers and measures that lack none are left out."""
    concerned = [place for place in range(len(labels)) if any(count[place] for count in counts.values())]
    columns = {
        heading: [Text(str(count[place]) if count[place] else "") for place in concerned]
        for heading, count in counts.items()
        if any(count)
    }
    if not columns:
        return []
    tables = wrapped([labels[place] for place in concerned], columns, len(concerned))
    return [Text("\nUndefined: examples without a value", style="bold"), *tables]


def _reasons(cells: Sequence[Cell], perturbation: str, measures: Sequence[str]) -> list[Text]:
    """Why values are undefined: the most frequent reasons, each with the measures that it concerns."""
    found: dict[str, dict[str, None]] = {}
    count: Counter[str] = Counter()
    for cell in cells:
        rows = cell.score_rows.select(["perturbation", "metric", "reason"])
        for row in rows.filter(rows["reason"].is_valid()).to_pylist():
            if row["perturbation"] == perturbation and row["metric"] in measures:
                found.setdefault(row["reason"], {})[_heading(row["metric"])] = None
                count[row["reason"]] += 1
    lines = [printable(f"{', '.join(found[reason])}: {reason}") for reason, _ in count.most_common(_REASONS)]
    if len(count) > _REASONS:
        lines.append(f"and {len(count) - _REASONS} further reasons")
    return [Text(f"- {line}", style="dim") for line in lines]


def wrapped(
    labels: Sequence[Text], columns: Mapping[str, Sequence[Text]], methods: int, first: str = "explainer"
) -> list[Table]:
    """The columns, by heading, beside the names of the rows, in as many tables as the width makes of them.

    The first `methods` rows are methods, the others controls. `first` is the heading of the names.
    """
    from rich import box
    from rich.cells import cell_len

    name_width = min(max([len(first), *(cell_len(label.plain) for label in labels)]), _NAME)
    parts: list[list[str]] = []
    room = 0
    for heading, texts in columns.items():
        width = 1 + max(cell_len(text) for text in [heading, *(text.plain for text in texts)])
        if not parts or width > room:
            parts.append([])
            room = WIDTH - name_width - 1
        parts[-1].append(heading)
        room -= width
    tables = []
    for part in parts:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", show_edge=False)
        table.add_column(first, no_wrap=True, min_width=name_width, max_width=name_width)
        for heading in part:
            table.add_column(Text(heading), justify="right", no_wrap=True)
        for place, label in enumerate(labels):
            own = [columns[heading][place] for heading in part]
            table.add_row(
                label,
                *own,
                style=None if place < methods else "dim",
                end_section=place == methods - 1 < len(labels) - 1,
            )
        tables.append(table)
    return tables


def _heading(measure: str, direction: str = "none") -> str:
    return f"{_SHORT.get(measure, measure.replace('_', ' '))} {_ARROWS.get(direction, '')}".strip()


def _legend(shown: pd.DataFrame, skills: pd.DataFrame) -> str:
    """What the marks mean, and what they stand on."""
    legend = "± half of the 95 % interval; ↑ higher, ↓ lower is better. "
    contested = [frame[frame["group"] != ""] for frame in (shown, skills)]
    counts = sorted({int(count) for frame in contested for count in frame["n"]})
    if counts and too_few(counts[0]):
        legend += f"No method is marked where {too_few(counts[0])}. "
    elif counts:
        examples = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        legend += (
            "*: the best method and those that cannot be told apart from it, by a paired sign-flip test on "
            f"{examples} examples with a family-wise error of 5 % over all pairs of a column's "
            f"{max(frame['key'].nunique() for frame in contested)} methods. "
        )
    return legend + "Skill: 0 = random, 1 = oracle. Rows (forward + backward) and seconds are for one example."


def _score(row: Mapping[Any, Any] | None, mean: str, low: str, high: str, digits: int) -> Text:
    """The mean and half the width of its interval; in bold and with an asterisk for the leading methods."""
    if row is None or not math.isfinite(row[mean]):
        return Text(_MISSING)
    text = f"{row[mean]:.{digits}f}"
    half = (row[high] - row[low]) / 2
    if math.isfinite(half):
        width = f"{half:.{digits}f}"
        text += f" ±{width[1:] if width.startswith('0.') else width}"
    return Text(f"{text}{'*' if row['leading'] else ' '}", style="bold" if row["leading"] else "")


def _amount(value: float, spec: str) -> Text:
    """A cost; what was made elsewhere has none that is known."""
    return Text(format(value, spec) if math.isfinite(value) else _MISSING.strip())


def printable(text: str) -> str:
    """Names come from data; nothing in them may steer the terminal."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
