"""The pictures of a protocol, from stored cells to the page."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from assay.leaderboard.board import Board, boards
from assay.leaderboard.build import load
from assay.leaderboard.comparison import comparisons
from assay.leaderboard.heatmap import Heatmap
from tests.leaderboard.synthetic import METHODS, UNSIGNED


@pytest.fixture(scope="module")
def sst2(results: Path) -> Board:
    """All ten methods, under masking."""
    found: Board = next(board for board in boards(load(results)) if len(board.cells) == len(METHODS))
    return found


def shown(found: Heatmap, one: str, other: str) -> str:
    square = found.rows[found.names.index(one)][found.names.index(other)]
    assert square is not None
    return square.text


def test_explainers_are_compared_on_the_examples_that_both_explain(sst2: Board) -> None:
    (found,) = comparisons(sst2)
    assert found.explainers is not None
    assert sorted(found.explainers.names) == sorted(set(METHODS) - {"random", "oracle"})
    cells = {cell.explainer: cell.table("attributions").set_index("example")["scores"] for cell in sst2.cells}
    for one, other in (("lime", "kernel_shap"), ("gradient", "lime"), ("first", "attention")):
        sized = {one, other} & UNSIGNED
        each = []
        for example, first in cells[one].dropna().items():
            second = cells[other][example]
            if second is not None:
                pair = (np.abs(first), np.abs(second)) if sized else (first, second)
                each.append(spearmanr(*pair).statistic)
        told = f"{np.mean(each):.2f}".replace("-", "−").replace("0.", ".", 1)
        assert shown(found.explainers, one, other) == shown(found.explainers, other, one) == told
    square = found.explainers.rows[found.explainers.names.index("lime")][found.explainers.names.index("kernel_shap")]
    assert square is not None
    assert "over 14 examples" in square.told  # two of the sixteen have no attribution


def test_measures_are_compared_over_the_methods_that_rank_on_all_of_them(sst2: Board) -> None:
    (found,) = comparisons(sst2)
    assert found.measures is not None
    assert sorted(found.measures.names) == ["comprehensiveness", "deletion", "insertion", "sufficiency", "tau loo"]
    ranked = sst2.scores[sst2.scores["rank"].notna()].groupby("key")["metric"].nunique()
    methods = int((ranked >= 5).sum())
    told = [square.told for row in found.measures.rows for square in row if square]
    assert sum(f"over {methods} methods" in one for one in told) == len(told) / 2
    assert sum("examples" in one for one in told) == len(told) / 2


def test_diagrams_stand_for_the_mean_skill_and_every_measure_and_rank_as_the_scores_do(sst2: Board) -> None:
    (found,) = comparisons(sst2)
    assert found.diagrams[0].of == "mean skill"
    assert {one.of for one in found.diagrams[1:]} == {
        *("comprehensiveness", "deletion", "insertion", "sufficiency", "tau loo")
    }
    for one in found.diagrams:
        assert "random" not in {label.name for label in one.labels}
    best = sst2.standing("mask").iloc[0]["name"]
    assert best in {label.name for label in found.diagrams[0].labels[:3]}


def test_plots_have_the_costs_of_the_cells(sst2: Board) -> None:
    (found,) = comparisons(sst2)
    rows, _ = found.plots
    told = {point.name: point.told for point in rows.points}
    assert told["integrated_gradients"] == "75"
    assert told["attention"] == "1"
    assert "oracle" not in told


def test_what_agreement_hangs_on_no_hiding_is_shown_once(results: Path) -> None:
    both = next(board for board in boards(load(results)) if len(board.perturbations) == 2)
    first, second = comparisons(both)
    assert first.explainers is not None
    assert second.explainers is None
    assert "Friedman's test needs three methods" in first.diagrams[0].reason


def test_every_picture_has_a_title_a_description_and_a_table(built: Path) -> None:
    for page in built.glob("protocols/*/index.html"):
        source = page.read_text("utf-8")
        for picture in re.findall(r'<svg viewBox="0 0 (?:760|460 330)[^>]*>.*?</svg>', source, re.DOTALL):
            title, described = re.search(r'aria-labelledby="(\S+) (\S+)"', picture).groups()  # type: ignore[union-attr]
            assert f'<title id="{title}">' in picture
            assert f'<desc id="{described}">' in picture
            assert source.count(f'id="{title}"') == 1
        figures = re.findall(r'<figure class="(?:cd|front)">.*?</figure>', source, re.DOTALL)
        assert figures
        assert all("<table" in figure for figure in figures)


def test_hostile_names_stay_text_in_pictures(hostile: Path) -> None:
    for page in [*hostile.glob("protocols/*/index.html"), *hostile.glob("explainers/*.html")]:
        source = page.read_text("utf-8")
        assert "<img src=x" not in source
        assert "style=" not in source
        assert not re.search(r"<script(?! src=)", source)


def test_a_method_without_a_rank_is_on_no_front(sst2: Board) -> None:
    """Its mean is over other examples than the others' are."""
    skills = sst2.skills.copy()
    best = skills.loc[skills["rank"] == 1, "name"].iloc[0]
    skills.loc[skills["name"] == best, "rank"] = np.nan
    for board, there in ((sst2, True), (replace(sst2, skills=skills), False)):
        (found,) = comparisons(board)
        for one in found.plots:
            assert (best in {point.name for point in one.points}) is there
            assert (best in one.left_out) is not there
