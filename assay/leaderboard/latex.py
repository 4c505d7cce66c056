"""The tables for a paper: LaTeX with booktabs."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

from assay.leaderboard.board import Board
from assay.leaderboard.protocol_summary import ProtocolSummary
from assay.leaderboard.tables import Row, Score, Table, Value, make_table
from assay.leaderboard.text import clean, interval, number

_HEAD = "% Made by `assay leaderboard build`. Needs \\usepackage{booktabs}.\n"
_WRITTEN = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "{''}",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "\N{NO-BREAK SPACE}": "~",
}


# Grave, acute, circumflex, tilde, macron, breve, dot, diaeresis, ring, double acute, caron, cedilla.
_ACCENTS = set("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327")


def escaped(text: str) -> str:
    """Text from anywhere as LaTeX shows it, on one line; a letter that its usual fonts lack becomes a question mark."""
    return "".join(_WRITTEN.get(letter, letter if _printable(letter) else "?") for letter in clean(text))


def protocol_tables(board: Board) -> str:
    """A table for each way of hiding, as the protocol's page shows them."""
    tables = [_protocol_table(board, make_table(board, perturbation)) for perturbation in board.perturbations]
    return "\n".join([_HEAD, *tables])


def overview_table(summaries: Sequence[ProtocolSummary]) -> str:
    """Mean skill with its interval, a row for each method and a column for each protocol and way of hiding."""
    columns = [(summary, hiding) for summary in summaries for hiding in summary.hidings]
    names = sorted({entry.name for _, hiding in columns for entry in hiding.entries if not entry.control})
    found = [{entry.name: entry.mean_skill for entry in hiding.entries} for _, hiding in columns]
    rows = []
    for name in names:
        cells = [escaped(name)]
        for column in found:
            value = column[name].skill if name in column else None
            mean, low, high = (
                math.nan if one is None else one
                for one in ((value.mean, value.low, value.high) if value else (None, None, None))
            )
            cells.append(
                _number(Value(number(mean, 2), interval(low, high, 2)), name in column and column[name].leading)
            )
        rows.append(cells)
    above = [
        ["", *(escaped(clean(summary.task, 60)) for summary, _ in columns)],
        ["", *(escaped(clean(summary.model, 80)) for summary, _ in columns)],
        ["", *(escaped(f"{hiding.perturbation}, {summary.key[:8]}") for summary, hiding in columns)],
    ]
    above[-1][0] = "Explainer"
    caption = (
        "Mean skill with 95\\,\\% intervals: 0 is chance, 1 the best ranking that a search found. Columns are not "
        "comparable with each other. Bold: the best of a column and those that cannot be told apart from it."
    )
    return "\n".join([_HEAD, _table(caption, "l" + "r" * len(columns), above, [rows])])


def _protocol_table(board: Board, table: Table) -> str:
    headings = [escaped(f"{heading.title} {heading.arrow}".strip()) for heading in table.headings]
    above = [["\\#", "Explainer", "Mean skill $\\uparrow$", *headings, "Rows", "Seconds"]]
    caption = (
        f"{escaped(clean(board.task, 60))} $\\times$ {escaped(clean(board.model, 80))}, protocol "
        f"{escaped(board.key[:8])}, features hidden by {escaped(table.perturbation)}: means over examples with "
        "95\\,\\% intervals. Bold: the best method of a column and those that cannot be told apart from it."
    )
    groups = [[_row(row) for row in table.methods], [_row(row) for row in table.controls if row.present]]
    return _table(caption, "rl" + "r" * (len(above[0]) - 2), above, [group for group in groups if group])


def _row(row: Row) -> list[str]:
    scores = [_score(score) for score in row.scores]
    skill = _number(row.skill, False)
    return [row.rank, escaped(row.name), skill, *scores, escaped(row.rows.text), escaped(row.seconds.text)]


def _score(score: Score) -> str:
    # The mark of a shared probe is the page's; in print a dagger says it shortly.
    return _number(score.score, score.best) + ("$^\\dagger$" if score.shares else "")


def _number(value: Value, best: bool) -> str:
    mean = f"\\textbf{{{escaped(value.text)}}}" if best else escaped(value.text)
    return f"{mean} {{\\scriptsize {escaped(value.interval)}}}" if value.interval else mean


def _table(
    caption: str, columns: str, above: Sequence[Sequence[str]], groups: Sequence[Sequence[Sequence[str]]]
) -> str:
    lines = [
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{caption}}}",
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
    ]
    lines += [" & ".join(row) + " \\\\" for row in above]
    for group in groups:
        lines += ["\\midrule", *(" & ".join(row) + " \\\\" for row in group)]
    lines += ["\\bottomrule", "\\end{tabular}"]
    if any("\\dagger" in cell for group in groups for row in group for cell in row):
        lines.append("\\par\\smallskip$^\\dagger$ The explainer asks the model what the measure asks.")
    return "\n".join([*lines, "\\end{table}", ""])


def _printable(letter: str) -> bool:
    """Whether every LaTeX shows a letter: those of ASCII, and those with an accent that all of its fonts have."""
    first, *marks = list(unicodedata.normalize("NFD", letter))
    return (first.isascii() and first.isprintable() and set(marks) <= _ACCENTS) or letter in "ßæÆøØ"
