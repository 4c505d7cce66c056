"""`assay leaderboard show`: the tables of checked cells, or one line that says what is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from assay.benchmark.store import Store
from tests.benchmark.cli import assay
from tests.leaderboard.synthetic import protocol, write_cell, write_results


def test_every_protocol_is_shown_and_none_is_mixed(results: Path) -> None:
    ended = assay("leaderboard", "show", str(results))
    assert (ended.code, ended.err) == (0, "")
    titles = [line for line in ended.out.splitlines() if " × small-bert, " in line]
    keys = {
        (cell.protocol["task"]["name"], cell.meta["counts"]["examples"]): cell.meta["protocol_key"][:8]
        for cell in Store(results).cells()
    }
    assert sorted(titles) == sorted(
        [
            "mnli × small-bert, 14 examples, hidden by mask",
            f"sst2 × small-bert, 16 examples, hidden by mask, protocol {keys['sst2', 16]}",
            f"sst2 × small-bert, 12 examples, hidden by mask, protocol {keys['sst2', 12]}",
            f"sst2 × small-bert, 12 examples, hidden by delete, protocol {keys['sst2', 12]}",
        ]
    )
    assert "\x1b" not in ended.out


def test_one_task_or_protocol_can_be_chosen(results: Path) -> None:
    ended = assay("leaderboard", "show", str(results), "--task", "mnli", "--model", "small-bert")
    assert "mnli × small-bert" in ended.out
    assert "sst2" not in ended.out
    key = next(cell.meta["protocol_key"] for cell in Store(results).cells() if cell.meta["counts"]["examples"] == 16)
    chosen = assay("leaderboard", "show", str(results), "--protocol", key[:6])
    assert [line for line in chosen.out.splitlines() if " × " in line] == [
        "sst2 × small-bert, 16 examples, hidden by mask"
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "mnil"], "Did you mean 'mnli'"),
        (["--model", "smal-bert"], "Did you mean 'small-bert'"),
        (["--protocol", "zzz"], "Unknown protocol 'zzz'"),
        (["--protocol", ""], "Unknown protocol ''"),
    ],
)
def test_a_name_that_is_not_there_is_said(results: Path, arguments: list[str], said: str) -> None:
    ended = assay("leaderboard", "show", str(results), *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert ended.err.count("\n") == 1


def test_no_results_empty_ones_and_damaged_ones_are_said(tmp_path: Path) -> None:
    none = assay("leaderboard", "show", str(tmp_path / "none"))
    assert (none.code, none.out) == (2, "")
    assert "There is no results folder" in none.err
    empty = assay("leaderboard", "show", str(tmp_path))
    assert (empty.code, empty.out) == (2, "")
    assert "no finished cells" in empty.err
    cell = write_cell(tmp_path, "lime", protocol(examples=8), 0.5)
    (cell.path / "scores.parquet").write_bytes(b"PAR1")
    damaged = assay("leaderboard", "show", str(tmp_path))
    assert (damaged.code, damaged.out) == (2, "")
    assert "scores.parquet is not what was written" in damaged.err
    shutil.rmtree(cell.path)


def test_hostile_names_are_harmless(tmp_path: Path) -> None:
    write_results(tmp_path, hostile=True, examples=8)
    about = protocol("\x1b[2J\u202eevil[red]", "\x1b]0;owned\x07", 8)
    for name in ("random", "oracle", "[bold]\x1b[5mloud", "$x$"):
        write_cell(tmp_path, name, about, 0.5)
    ended = assay("leaderboard", "show", str(tmp_path))
    assert ended.code == 0
    assert not set(ended.out) & set("\x1b\x07\u202e")
    assert "[bold]" in ended.out
    assert "evil[red]" in ended.out


def test_an_error_that_lists_hostile_names_is_harmless(tmp_path: Path) -> None:
    write_cell(tmp_path, "lime", protocol("\x1b[2J\u202eevil", examples=8), 0.5)
    ended = assay("leaderboard", "show", str(tmp_path), "--task", "sst2")
    assert ended.code == 2
    assert "evil" in ended.err
    assert not set(ended.err) & set("\x1b\u202e")
