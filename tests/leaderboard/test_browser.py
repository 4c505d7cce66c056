"""The page in a real browser; skipped where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium was found")
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, hostile: Path) -> Iterator[Any]:
    index = next(path for path in sorted(hostile.glob("protocols/*/index.html")) if "mnli" in str(path))
    opened = browser.new_page(viewport={"width": 400, "height": 800})
    opened.troubles, opened.requests = [], []
    opened.on("console", lambda message: opened.troubles.append(message.text))
    opened.on("pageerror", lambda error: opened.troubles.append(str(error)))
    opened.on("dialog", lambda dialog: (opened.troubles.append("a dialog"), dialog.dismiss()))
    opened.on("request", lambda request: opened.requests.append(request.url))
    opened.set_default_timeout(10_000)
    opened.goto(index.as_uri())
    yield opened
    assert opened.troubles == []
    assert all(request.startswith(hostile.as_uri() + "/") for request in opened.requests)
    opened.close()


def names(page: Any) -> list[str]:
    return [str(name) for name in page.locator("table.scores").first.locator("tbody.methods th bdi").all_inner_texts()]


def test_a_table_is_sorted_by_keyboard_and_says_so(page: Any) -> None:
    before = names(page)
    heading = page.locator("table.scores").first.locator("thead th").nth(1)
    heading.locator("button").focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert names(page) == sorted(before, key=str.lower)
    page.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "descending"
    assert "descending" in page.locator("#status").inner_text()
    page.locator("table.scores").first.locator("thead th").nth(2).locator("button").click()
    assert names(page) == before


def test_the_controls_stay_below_whatever_sorts(page: Any) -> None:
    table = page.locator("table.scores").first
    table.locator("thead th").nth(4).locator("button").click()
    assert [name.strip() for name in table.locator("tbody.controls th bdi").all_inner_texts()] == ["random", "oracle"]


def test_scores_and_skills_take_turns(page: Any) -> None:
    board = page.locator(".board").first
    assert board.locator("tbody .as-skill").first.is_hidden()
    board.locator("input[value=skill]").check(force=True)
    assert board.locator("tbody .as-skill").first.is_visible()
    assert board.locator("tbody .as-score").first.is_hidden()


def test_a_tick_draws_a_curve(page: Any) -> None:
    curves = page.locator(".curves").first
    box = curves.locator("label[data-series='1'] input")
    line = curves.locator("g.series[data-series='1']").first
    assert line.is_visible()
    box.uncheck()
    assert line.is_hidden()
    box.check()
    assert line.is_visible()


def test_the_page_is_no_wider_than_a_phone(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
