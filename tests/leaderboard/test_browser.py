"""Tables, curves and navigation of the site in a real browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.leaderboard.conftest import Visit

MNLI = "protocols/mnli-*/index.html"


@pytest.fixture
def page(visit: Visit, built: Path) -> Any:
    """The protocol of nine explainers."""
    return visit(built, MNLI, width=400)


def names(table: Any, body: str = "methods") -> list[str]:
    return [str(name) for name in table.locator(f"tbody.{body} tr:visible th bdi").all_inner_texts()]


def heading(table: Any, name: str) -> Any:
    return table.locator(f"thead th[data-name='{name}']")


def test_a_table_is_sorted_by_keyboard_and_says_so(page: Any) -> None:
    table = page.locator("table.scores").first
    before = names(table)
    column = heading(table, "Explainer")
    column.locator("button").focus()
    page.keyboard.press("Enter")
    assert column.get_attribute("aria-sort") == "ascending"
    assert names(table) == sorted(before, key=str.lower)
    page.keyboard.press("Space")
    assert column.get_attribute("aria-sort") == "descending"
    assert "Explainer, descending" in page.locator("#status").inner_text()
    heading(table, "Mean skill").locator("button").click()
    assert names(table) == before


def test_numbers_are_sorted_as_numbers_and_what_is_missing_comes_last(page: Any) -> None:
    table = page.locator("table.scores").first
    for name in ("Rows", "sufficiency"):
        column = heading(table, name)
        column.locator("button").click()
        assert column.get_attribute("aria-sort") == "ascending"
        place = column.evaluate("cell => cell.cellIndex")
        keys = table.locator("tbody.methods tr").evaluate_all(f"rows => rows.map(r => r.cells[{place}].dataset.score)")
        assert [float(key) for key in keys] == sorted(map(float, keys))


def test_the_controls_stay_below_whatever_sorts_and_whatever_is_filtered(page: Any) -> None:
    table = page.locator("table.scores").first
    heading(table, "deletion").locator("button").click()
    page.get_by_label("Find an explainer").fill("zzz")
    assert names(table) == []
    assert names(table, "controls") == ["random", "oracle"]


def test_explainers_are_found_by_name_and_by_family(page: Any) -> None:
    table = page.locator("table.scores").first
    every = names(table)
    page.get_by_label("Find an explainer").fill("GRADIENT")
    assert sorted(names(table)) == ["gradient", "gradient_x_input", "integrated_gradients"]
    assert page.locator(".count").first.inner_text() == f"3 of {len(every)}"
    page.get_by_label("Find an explainer").fill("")
    page.locator("summary", has_text="Families").first.click()
    page.locator(".menu[open] label", has_text="first").locator("input").uncheck()
    assert names(table) == [name for name in every if name != "first"]
    page.locator(".menu[open] button", has_text="None").click()
    assert names(table) == []
    page.keyboard.press("Escape")
    assert page.locator(".menu[open]").count() == 0


def test_columns_can_be_chosen(page: Any) -> None:
    table = page.locator("table.scores").first
    column = heading(table, "deletion")
    place = column.evaluate("cell => cell.cellIndex")
    page.locator("summary", has_text="Columns").first.click()
    box = page.locator(".menu[open] label", has_text="deletion").locator("input")
    box.uncheck()
    assert column.is_hidden()
    assert table.locator("tbody tr").first.locator("th, td").nth(place).is_hidden()
    box.check()
    assert column.is_visible()


def test_scores_and_skills_take_turns_and_the_best_stays_on_top(page: Any) -> None:
    board = page.locator(".board").first
    table = board.locator("table")
    heading(table, "deletion").locator("button").click()
    first = names(table)[0]
    assert board.locator("tbody .as-skill").first.is_hidden()
    board.locator("input[value=skill]").check(force=True)
    assert board.locator("tbody .as-skill").first.is_visible()
    assert board.locator("tbody .as-score").first.is_hidden()
    assert heading(table, "deletion").get_attribute("aria-sort") == "descending"
    assert names(table)[0] == first


def test_a_tick_draws_a_curve(page: Any) -> None:
    curves = page.locator(".curves").first
    box = curves.locator("label[data-series='1'] input")
    line = curves.locator("g.series[data-series='1']").first
    assert line.is_visible()
    box.uncheck()
    assert line.is_hidden()
    box.check()
    assert line.is_visible()


def test_the_overview_shows_skills_ranks_and_win_rates(visit: Visit, built: Path) -> None:
    page = visit(built, "index.html")
    board = page.locator(".board").first
    table = board.locator("table")
    assert "lime" in names(table, "partial")  # it was not run on one of the two tasks
    cell = table.locator("tbody.methods tr").first.locator("td[data-shown-rank]").first
    skill = cell.inner_text()
    board.locator("input[value=rank]").check(force=True)
    assert re.fullmatch(r"\d+(\s*\d+–\d+)?.*", cell.inner_text(), re.DOTALL)
    board.locator("input[value=win]").check(force=True)
    assert re.match(r"[01]\.\d\d", cell.inner_text())
    board.locator("input[value=score]").check(force=True)
    assert cell.inner_text() == skill
    column = table.locator("thead th[data-measure]").last
    column.locator("button").click()
    keys = table.locator("tbody.methods:not(.partial) tr").evaluate_all(
        "rows => rows.map(r => r.cells[r.cells.length - 1].dataset.score)"
    )
    assert [float(key) for key in keys] == sorted(map(float, keys), reverse=True)


def test_every_page_leads_to_every_other(visit: Visit, built: Path) -> None:
    page = visit(built, MNLI)
    page.locator("#jump summary", has_text="Protocols").click()
    links = page.locator("#jump .menu[open] a")
    assert links.count() == 3
    assert links.locator("xpath=self::*[@aria-current='page']").inner_text() == "mnli × small-bert"
    links.filter(has_text="sst2").first.click()
    assert "sst2" in page.locator("h1").inner_text()
    page.locator("nav.crumbs a").first.click()
    assert "Which explanations" in page.locator("h1").inner_text()
    page.locator("#jump summary", has_text="Explainers").click()
    page.locator("#jump .menu[open] a", has_text="integrated_gradients").click()
    assert page.locator("h1").inner_text().startswith("integrated_gradients")


@pytest.mark.parametrize("path", ["index.html", MNLI, "explainers/lime.html"])
def test_without_scripts_everything_can_be_read_and_nothing_is_dead(visit: Visit, built: Path, path: str) -> None:
    page = visit(built, path, java_script_enabled=False)
    assert page.locator("table tbody tr").first.is_visible()
    assert page.locator("button:visible, input:visible, select:visible").count() == 0


@pytest.mark.parametrize("path", ["index.html", MNLI, "protocols/mnli-*/examples.html", "explainers/lime.html"])
def test_no_page_is_wider_than_a_phone(visit: Visit, built: Path, path: str) -> None:
    page = visit(built, path, width=400)
    for title in page.locator("details.menu > summary").all():
        title.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
