"""A protocol as data, in CSV, JSON and Markdown, and the leaderboard, which is these one after the other."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.benchmark.summary import MEAN_SKILL
from assay.leaderboard.board import COSTS, Board
from assay.leaderboard.tables import Row, Score, Table, make_table
from assay.leaderboard.text import clean

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "protocol",
    "task",
    "model",
    "explainer",
    "explained_under",
    "metric",
    "perturbation",
    "direction",
    "mean",
    "ci_low",
    "ci_high",
    "ci_method",
    "n",
    "undefined",
    "skill",
    "skill_low",
    "skill_high",
    "rank",
    "rank_low",
    "rank_high",
    "group",
    "shares_probe",
    *COSTS,
)


def rows(board: Board) -> pd.DataFrame:
    """A row for each explainer, metric and perturbation of a protocol, in the order of `COLUMNS`.

    What the leaderboard ranks by stands among the metrics as `mean_skill`.
    """
    import pandas as pd

    if not len(board.scores):
        return pd.DataFrame(columns=list(COLUMNS))
    costs = {cell.key: cell.meta["cost"] for cell in board.cells}
    examples = board.skills["key"].map({cell.key: cell.meta["counts"]["examples"] for cell in board.cells})
    ranked = board.skills.assign(
        metric=MEAN_SKILL,
        mean=board.skills["skill"],
        ci_low=board.skills["skill_low"],
        ci_high=board.skills["skill_high"],
        undefined=examples - board.skills["n"],
        **{cost: board.skills["key"].map({key: spent[cost] for key, spent in costs.items()}) for cost in COSTS},
    )
    both = (board.scores, ranked[ranked["measures"].map(len) > 0])
    whole = pd.concat([frame.assign(explainer=frame["name"]) for frame in both], ignore_index=True)
    return whole[list(COLUMNS)]


def as_csv(table: pd.DataFrame) -> str:
    """The rows as CSV; a name that a spreadsheet would take for a formula gets an apostrophe before it."""
    safe = table.copy()
    for name in ("task", "model", "explainer", "metric", "perturbation"):
        safe[name] = [_no_formula(str(value)) for value in safe[name]]
    hiding = safe["explained_under"].dropna()
    safe["explained_under"] = hiding.map(_no_formula).reindex(safe.index)
    for name in ("rank", "rank_low", "rank_high"):
        safe[name] = safe[name].astype("Int64")
    return str(safe.to_csv(index=False, lineterminator="\n"))


def as_json(table: pd.DataFrame, board: Board) -> str:
    """The rows of a protocol as JSON, with the protocol spelled out; what is undefined is null.

    Each row stands on a line of its own.
    """
    protocol = {
        **board.protocol,
        "differs_from_others_of_task_and_model": board.differences,
        "others_of_task_and_model": [key for key in board.siblings if key != board.key],
    }
    head = {
        "protocol_key": board.key,
        "protocol": protocol,
        "commands": {name: cell.meta["command"] for name, cell in board.named()},
        "ranked_by": MEAN_SKILL,
    }
    lines = [f"{_json(name)}: {_json(content)},\n" for name, content in head.items()]
    columns = [_nulls(table[name].tolist()) for name in table]
    names = [str(name) for name in table]
    # Nothing but numbers and texts stands in a row, and those that are not finite are gone already.
    found = [json.dumps(dict(zip(names, row, strict=True)), allow_nan=False) for row in zip(*columns, strict=True)]
    return "".join(["{\n", *lines, '"rows": [\n', ",\n".join(found), "\n]\n}\n"])


def as_markdown(board: Board) -> str:
    """A table for each way of hiding of a protocol."""
    parts = [f"## {escaped(board.task)} × {escaped(board.model)} (protocol {escaped(board.key[:8])})\n"]
    if board.differences:
        others = ", ".join(escaped(key[:8]) for key in board.siblings if key != board.key)
        parts.append(f"Not comparable with protocol {others}; they differ in:\n")
        place = list(board.siblings).index(board.key)
        for path, values in board.differences.items():
            parts.append(f"- {escaped(path)}: {escaped(values[place])} here, " + _others(values, place))
        parts.append("")
    parts += [_markdown_table(make_table(board, perturbation)) for perturbation in board.perturbations]
    return "\n".join(parts)


def joined_csv(paths: Sequence[Path]) -> Iterator[str]:
    """The tables of several protocols in one, a piece at a time."""
    for place, path in enumerate(paths):
        head, _, body = path.read_text("utf-8").partition("\n")
        yield f"{head}\n{body}" if place == 0 else body


def joined_json(paths: Sequence[Path]) -> Iterator[str]:
    """The rows of several protocols in one file, a piece at a time, after the protocols and commands."""
    heads = {path: _head(path) for path in paths}
    yield "{\n"
    for title, name in (("protocols", "protocol"), ("commands", "commands")):
        entries = [f"{head['protocol_key']}: {head[name]}" for head in heads.values()]
        yield f"{_json(title)}: {{\n" + ",\n".join(entries) + "\n},\n"
    yield f'"ranked_by": {_json(MEAN_SKILL)},\n"rows": [\n'
    empty = True
    for path in paths:
        body = path.read_text("utf-8").partition(_ROWS)[2].removesuffix("\n]\n}\n")
        if body:
            yield body if empty else f",\n{body}"
            empty = False
    yield "\n]\n}\n"


def joined_markdown(paths: Sequence[Path]) -> Iterator[str]:
    """The tables of several protocols in one file, a piece at a time."""
    yield (
        "# Assay leaderboard\n\n"
        "Means over examples with 95 % bootstrap intervals. Skill = (score − random) / (oracle − random): 0 is chance, "
        "1 the best ranking found. Methods are ranked by mean skill, within a protocol and never across two; beside a "
        "rank stand the ranks that the method may have. The best method of a column is bold, and so are those that "
        "cannot be told apart from it; — means that there is no such result.\n"
    )
    for path in paths:
        yield "\n" + path.read_text("utf-8")


_ROWS = '\n"rows": [\n'


def _head(path: Path) -> dict[str, str]:
    """What stands above the rows of a protocol's JSON, by name, as JSON still."""
    lines = path.read_text("utf-8").partition(_ROWS)[0].splitlines()[1:]
    return {name.strip('"'): content.removesuffix(",") for name, _, content in (line.partition(": ") for line in lines)}


def _json(content: Any) -> str:
    return json.dumps(finite(content), allow_nan=False, ensure_ascii=True)


def _nulls(values: list[Any]) -> list[Any]:
    """Missing numbers and texts as None."""
    return [None if isinstance(value, float) and not math.isfinite(value) else value for value in values]


def _others(values: Sequence[str], place: int) -> str:
    return ", ".join(escaped(value) for other, value in enumerate(values) if other != place) + " there"


def _markdown_table(table: Table) -> str:
    headings = [f"{escaped(heading.title)} {heading.arrow}".strip() for heading in table.headings]
    head = ["#", "explainer", "mean skill ↑", *headings, "rows", "seconds", "n", "undefined"]
    lines = [
        f"Features hidden by {escaped(table.perturbation)}:\n",
        "| " + " | ".join(head) + " |",
        "|" + "|".join(["--:", ":--", *["--:"] * (len(head) - 2)]) + "|",
    ]
    lines += [_markdown_row(row, False) for row in table.methods]
    lines += [_markdown_row(row, True) for row in table.controls]
    return "\n".join(lines) + "\n"


def _markdown_row(row: Row, control: bool) -> str:
    name = escaped(row.name)
    skill = f"{row.skill.text} {row.skill.interval}".strip()
    undefined = str(row.undefined) if row.present else "—"
    ranks = f"{row.rank} ({row.ranks})" if row.ranks else row.rank
    cells = [ranks, f"*{name}*" if control else name, skill, *(_markdown_score(score) for score in row.scores)]
    return "| " + " | ".join([*cells, row.rows.text, row.seconds.text, row.n, undefined]) + " |"


def _markdown_score(score: Score) -> str:
    mean = f"**{score.score.text}**" if score.best else score.score.text
    return " ".join(part for part in (mean, score.score.interval, f"({score.note})" if score.note else "") if part)


def escaped(text: str, limit: int = 200) -> str:
    """Data inside Markdown: neither markup nor a new cell, clipped to `limit` characters."""
    harmless = clean(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in "\\`*_[]|#!~" else letter for letter in harmless)


def _no_formula(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def finite(content: Any) -> Any:
    """Data that JSON can hold: what is not finite is null."""
    if isinstance(content, dict):
        return {str(name): finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    return content
