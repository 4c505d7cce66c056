"""What the viewer of examples loads: the cells' own numbers, rounded to a byte, and nothing that runs."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from assay.benchmark.cell import Cell
from assay.errors import AssayError
from assay.leaderboard import example_data
from assay.leaderboard.board import Board, boards
from assay.leaderboard.build import load
from assay.leaderboard.example_data import example_files
from tests.leaderboard.synthetic import HOSTILE, METHODS, protocol, write_cell

NAMES = ("attention", "kernel_shap", "lime", "oracle", "random")
COUNT = 45


def content(text: str) -> Any:
    """What a script hands over."""
    return json.loads(re.fullmatch(r"assay(?:Examples|Chunk)\((?:\d+, )?(.*)\);\n", text, re.DOTALL)[1])  # type: ignore[index]


def numbers(text: str, kind: str) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), kind)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    root = tmp_path_factory.mktemp("results")
    for name in NAMES:
        write_cell(root, name, protocol(examples=COUNT), METHODS[name], signed=name != "attention")
    return boards(load(root))[0]


@pytest.fixture(scope="module")
def files(board: Board) -> dict[str, str]:
    return example_files(board)


def test_the_list_has_every_example_and_the_best_explainer_first(board: Board, files: dict[str, str]) -> None:
    found = content(files["list.js"])
    assert set(files) == {"list.js", "0.js", "1.js", "2.js"}
    assert (found["chunk"], found["count"], found["left_out"]) == (20, COUNT, 0)
    order = list(board.standing("mask")["name"])
    names = [one["name"] for one in found["explainers"]]
    assert names[:3] == order[:3]
    assert set(names[3:]) == {"oracle", "random"}
    assert [one["searches"] for one in found["explainers"] if one["name"] == "oracle"] == [True]
    examples = board.cells[0].rows("examples")
    assert [one["id"] for one in found["examples"]] == [row["example"] for row in examples]
    values = board.cells[0].scores.query("metric == 'comprehensiveness'").set_index("example")["value"]
    means = [
        np.nanmean(
            [
                cell.scores.query("metric == 'comprehensiveness'").set_index("example")["value"].get(name, np.nan)
                for cell in board.cells
                if cell.explainer not in ("random", "oracle")
            ]
        )
        for name in values.index
    ]
    assert [one["value"] for one in found["examples"]] == pytest.approx(means, abs=1e-5)
    for one, row in zip(found["examples"], examples, strict=True):
        assert one["start"].split()[0] == row["features"][0]
        logits = np.array(row["logits"])
        assert one["probability"] == pytest.approx(np.exp(logits)[row["target"]] / np.exp(logits).sum(), abs=1e-4)


def test_a_chunk_holds_the_attributions_and_the_curves_of_the_cells(board: Board, files: dict[str, str]) -> None:
    names = [one["name"] for one in content(files["list.js"])["explainers"]]
    cells = {cell.explainer: cell for cell in board.cells}
    examples = board.cells[0].rows("examples")
    for number in range(3):
        chunk = content(files[f"{number}.js"])
        here = examples[20 * number : 20 * number + 20]
        assert [[word for text in one["texts"] for word in text] for one in chunk["examples"]] == [
            row["features"] for row in here
        ]
        for name, one in zip(names, chunk["explainers"], strict=True):
            compare(cells[name], one, chunk, here)


def compare(cell: Cell, one: dict[str, Any], chunk: dict[str, Any], examples: list[dict[str, Any]]) -> None:
    stored = {row["example"]: row for row in cell.rows("attributions")}
    curves = {row["example"]: row for row in cell.rows("curves") if row["metric"] == "deletion"}
    shares, largest = numbers(one["scores"], "i1"), numbers(one["largest"], "<f4")
    bytes_of_y, bytes_of_x = numbers(one["deletion"], "u1"), numbers(chunk["x"], "u1")
    first, point = 0, 0
    for place, (row, count) in enumerate(zip(examples, chunk["points"], strict=True)):
        name, size = row["example"], len(row["features"])
        y, x = bytes_of_y[point : point + count], bytes_of_x[point : point + count]
        point += count
        if name in curves:
            assert y / 254 == pytest.approx(np.clip(curves[name]["y"], 0, 1), abs=0.5 / 254 + 1e-9)
            assert x / 254 == pytest.approx(curves[name]["x"], abs=0.5 / 254 + 1e-9)
        else:
            assert set(y.tolist()) <= {255}
        if cell.explainer == "oracle":
            assert len(shares) == len(largest) == 0
            continue
        if stored[name]["scores"] is None:
            assert np.isnan(largest[place])
            assert one["problems"][str(place)] == stored[name]["reason"]
        else:
            scores = np.array(stored[name]["scores"])
            assert largest[place] == pytest.approx(np.abs(scores).max(), rel=1e-6)
            assert shares[first : first + size] / 127 * largest[place] == pytest.approx(
                scores, abs=np.abs(scores).max() / 254 + 1e-6
            )
        first += size


def test_long_texts_long_words_and_many_examples_are_clipped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = protocol(examples=6)
    write_cell(tmp_path, "lime", about, 0.8, first_words=("x" * 10_000_000,))
    write_cell(tmp_path, "gradient", about, 0.3, first_words=("x" * 10_000_000,))
    monkeypatch.setattr(example_data, "EXAMPLES", 4)
    monkeypatch.setattr(example_data, "WORDS", 5)
    found = example_files(boards(load(tmp_path))[0])
    listed, chunk = content(found["list.js"]), content(found["0.js"])
    assert (listed["count"], listed["left_out"]) == (4, 2)
    assert max(map(len, found.values())) < 20_000
    for one in chunk["examples"]:
        assert len(one["texts"][0]) <= 5
    assert sum(len(one["texts"][0]) for one in chunk["examples"]) == len(
        numbers(chunk["explainers"][0]["scores"], "i1")
    )
    assert max(one["more"][0] for one in chunk["examples"]) > 0


def test_hostile_text_cannot_leave_its_place(tmp_path: Path) -> None:
    words = (HOSTILE, "\u202eevil", "a\u2028b", "__proto__", "*/", "\x00")
    write_cell(tmp_path, "__proto__", protocol(model=HOSTILE, examples=4), 0.5, first_words=words)
    write_cell(tmp_path, HOSTILE, protocol(model=HOSTILE, examples=4), 0.5, first_words=words)
    for text in example_files(boards(load(tmp_path))[0]).values():
        assert text.isascii()
        assert not set(json.dumps(content(text), ensure_ascii=False)) & set("\u202e\u2028\x00")
        assert "__proto__" not in _keys(content(text))


def _keys(found: Any) -> list[str]:
    if isinstance(found, dict):
        return [*found, *(key for value in found.values() for key in _keys(value))]
    return [key for value in found for key in _keys(value)] if isinstance(found, list) else []


def test_scores_that_are_no_numbers_and_curves_of_another_shape_are_left_out(board: Board) -> None:
    (cell,) = (cell for cell in board.cells if cell.explainer == "lime")
    plain = {name: cell.arrow(name) for name in ("attributions", "curves")}
    rows = plain["attributions"].to_pylist()
    rows[0]["scores"][0] = float("inf")
    rows[1]["scores"] = rows[1]["scores"][:-1]
    curves = [row for row in plain["curves"].to_pylist() if row["metric"] == "deletion"]
    curves[0]["x"][1] /= 2
    changed = Cell(cell.path, cell.meta)
    tables = {
        "attributions": pa.Table.from_pylist(rows, schema=plain["attributions"].schema),
        "curves": pa.Table.from_pylist(curves, schema=plain["curves"].schema),
        "examples": cell.arrow("examples"),
    }
    with pytest.MonkeyPatch.context() as patch:
        arrow = Cell.arrow
        patch.setattr(
            Cell, "arrow", lambda self, name, coded=(): tables[name] if self is changed else arrow(self, name, coded)
        )
        cells = [changed if one is cell else one for one in board.cells]
        found = example_files(Board(**{**vars(board), "cells": cells}))
    names = [one["name"] for one in content(found["list.js"])["explainers"]]
    chunk = content(found["0.js"])
    one = chunk["explainers"][names.index("lime")]
    assert np.isnan(numbers(one["largest"], "<f4")[:3]).tolist() == [True, True, False]
    assert set(one["problems"]) == {"0", "1"}
    y = numbers(one["deletion"], "u1")
    if chunk["points"][0] == len(curves[0]["x"]) and names.index("lime") > 0:
        assert set(y[: chunk["points"][0]].tolist()) == {255}
    assert set(y[chunk["points"][0] :].tolist()) != {255}


def test_examples_whose_features_and_texts_do_not_match_are_damaged(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrow = Cell.arrow

    def broken(self: Cell, name: str, coded: tuple[str, ...] = ()) -> pa.Table:
        table = arrow(self, name, coded)
        if name != "examples":
            return table
        rows = table.to_pylist()
        rows[2]["segments"].append(0)
        return pa.Table.from_pylist(rows, schema=table.schema)

    monkeypatch.setattr(Cell, "arrow", broken)
    with pytest.raises(AssayError, match=r"examples\.parquet is damaged"):
        example_files(board)
