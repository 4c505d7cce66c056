"""`assay compare-protocols`: rankings beside each other, winners that change, and whether that is noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assay.benchmark.cell import Cell
from assay.benchmark.comparison import compare
from assay.benchmark.store import Store
from assay.errors import AssayError
from tests.benchmark.cli import assay
from tests.leaderboard.synthetic import METHODS, protocol, write_cell

NAMES = ("attention", "gradient_x_input", "kernel_shap", "first", "oracle", "random")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two protocols for the same examples; by the second, attention is the best."""
    root = tmp_path_factory.mktemp("comparison")
    for preset, best in ((None, "kernel_shap"), ("eraser", "attention")):
        about = protocol(examples=60, preset=preset)
        for name in NAMES if preset else (*NAMES, "lime"):
            quality = 0.95 if name == best else min(METHODS[name], 0.5) if name != "oracle" else 1.0
            write_cell(root, name, about, quality)
    return root


@pytest.fixture(scope="module")
def cells(results: Path) -> list[Cell]:
    return Store(results).cells()


def test_explainers_in_common_are_ranked_by_every_definition(cells: list[Cell]) -> None:
    (found,) = compare(cells)
    assert {definition.protocol for definition in found.definitions} == {"assay", "eraser"}
    assert set(found.explainers) == {"attention", "gradient_x_input", "kernel_shap", "first"}
    assert found.left_out == ["lime"]
    assert found.examples == 60
    for column, definition in enumerate(found.definitions):
        means = found.means[:, column] * (1 if definition.direction == "higher" else -1)
        expected = [1 + int(np.sum(means > mean)) for mean in means]
        assert found.ranks[:, column].tolist() == expected


def test_winners_that_change_are_found_and_told_from_noise(cells: list[Cell]) -> None:
    (found,) = compare(cells)
    by_name = {(one.protocol, one.measure): place for place, one in enumerate(found.definitions)}
    first, second = by_name["assay", "comprehensiveness"], by_name["eraser", "comprehensiveness"]
    assert (found.winner(first), found.winner(second)) == ("kernel_shap", "attention")
    assert (min(first, second), max(first, second), True) in found.disagreements()
    alike = by_name["assay", "comprehensiveness"], by_name["assay", "sufficiency"]
    assert not any((one, two) == tuple(sorted(alike)) for one, two, _ in found.disagreements())
    assert found.agreement(*alike) > found.agreement(first, second)
    assert found.agreement(first, first) == 1.0


def test_the_command_shows_it_and_writes_all_ranks(results: Path, tmp_path: Path) -> None:
    ended = assay("compare-protocols", str(results), "--out", str(tmp_path / "ranks.csv"))
    assert ended.code == 0, ended.err
    frame = pd.read_csv(tmp_path / "ranks.csv")
    (found,) = compare(Store(results).cells())
    assert len(frame) == len(found.definitions) * len(found.explainers)
    assert set(frame["protocol"]) == {"assay", "eraser"}
    assert frame["rank"].between(1, 4).all()


def test_with_a_single_explainer_there_is_nothing_to_compare(tmp_path: Path) -> None:
    write_cell(tmp_path, "lime", protocol(examples=10), 0.5)
    with pytest.raises(AssayError, match="There is nothing to compare"):
        compare(Store(tmp_path).cells())
    ended = assay("compare-protocols", str(tmp_path))
    assert ended.code == 2
    assert "assay score RESULTS protocol=eraser" in ended.err


def test_a_measure_that_was_scored_once_more_is_one_definition(results: Path, tmp_path: Path) -> None:
    about = protocol(examples=60)
    fewer = protocol(examples=60, metrics={"deletion": about["metrics"]["deletion"]})
    for one in (about, fewer):
        for name in NAMES:
            write_cell(tmp_path, name, one, METHODS[name])
    (found,) = compare(Store(tmp_path).cells())
    names = [(definition.measure, definition.perturbation) for definition in found.definitions]
    assert names.count(("deletion", "mask")) == 1
