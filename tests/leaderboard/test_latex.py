"""LaTeX of the tables, read by a strict parser: nothing that a name or a number says is taken for a command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from assay.leaderboard.board import boards
from assay.leaderboard.build import load
from assay.leaderboard.latex import escaped, overview_table, protocol_tables
from assay.leaderboard.protocol_summary import summary_of
from tests.leaderboard.synthetic import HOSTILE, METHODS, write_results

COMMANDS = {
    *("begin", "end", "centering", "caption", "toprule", "midrule", "bottomrule", "textbf", "scriptsize", "times"),
    *("uparrow", "downarrow", "dagger", "par", "smallskip", "ldots", "cdot", "usepackage"),
    *("textbackslash", "textasciitilde", "textasciicircum"),
}


def checked(source: str) -> list[list[list[str]]]:
    """The rows of each tabular, as cells; fails on what LaTeX would not take or would take for something else."""
    source = re.sub(r"(?m)^%.*\n", "", source)
    assert all(letter.isascii() or letter.isalpha() for letter in source)
    plain = re.sub(r"\\([\\{}$&#%_,])", " ", source)
    assert set(re.findall(r"\\([A-Za-z]+|.)", plain)) <= COMMANDS
    depth = 0
    for letter in plain:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        assert depth >= 0
    assert depth == 0
    assert plain.count("$") % 2 == 0
    assert not set("#%_~") & set(plain)
    assert "^" not in re.sub(r"\$\^\\dagger\$", "", plain)
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", source):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    found = []
    for columns, body in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", source, re.DOTALL):
        lines = [line for line in body.strip().split("\n") if line.endswith("\\\\")]
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)&", line[:-2])] for line in lines]
        assert {len(row) for row in rows} == {len(columns)}
        found.append(rows)
    return found


def test_a_table_for_each_way_of_hiding_holds_every_method_and_number(results: Path) -> None:
    for board in boards(load(results)):
        tables = checked(protocol_tables(board))
        assert len(tables) == len(board.perturbations)
        for table in tables:
            assert [row[1].replace("\\_", "_") for row in table[1:]][-2:] == ["random", "oracle"]
            assert len(table) == 1 + len(board.cells)
        scores = board.scores[(board.scores["metric"] == "deletion") & (board.scores["explainer"] == "random")]
        assert f"{scores['mean'].iloc[0]:.3f}" in protocol_tables(board)


def test_the_overview_has_a_column_for_each_protocol_and_dashes_for_what_was_not_run(results: Path) -> None:
    summaries = [summary_of(board, "") for board in boards(load(results))]
    (table,) = checked(overview_table(summaries))
    assert len(table[0]) == 1 + sum(len(summary.hidings) for summary in summaries)
    names = [row[0].replace("\\_", "_") for row in table[3:]]
    assert names == sorted(set(METHODS) - {"oracle", "random"})
    assert "---" in table[3 + names.index("lime")]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    found = boards(load(write_results(tmp_path, hostile=True, examples=8)))
    source = "".join(protocol_tables(board) for board in found)
    source += overview_table([summary_of(board, "") for board in found])
    checked(source)
    assert escaped(HOSTILE).startswith("$<$/script$>$")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("a_b & 50% #1 $x^2~", r"a\_b \& 50\% \#1 \$x\textasciicircum{}2\textasciitilde{}"),
        ("Müller, Łukasz, 語, \u202ea", "Müller, ?ukasz, ?, ?a"),
        ("a\nb", "a b"),
    ],
)
def test_text_is_escaped(text: str, told: str) -> None:
    assert escaped(text) == told
