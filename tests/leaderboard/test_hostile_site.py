"""Names, words and ids that try to break out of the site's pages, files and scripts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from assay.leaderboard.build import build
from assay.leaderboard.page import page_name
from tests.leaderboard.conftest import Visit
from tests.leaderboard.synthetic import HOSTILE, protocol, write_cell

TASK = "../../sst2\u202e<b>"
EXPLAINERS = {"__proto__": 0.7, "constructor": 0.6, HOSTILE: 0.5, "../x": 0.4, "Lime": 0.4, "lime": 0.3}
LONG = "w" * 10_000_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("names")
    about = protocol(TASK, "m/<script>alert(1)</script>", examples=6)
    for name, quality in {**EXPLAINERS, "random": 0.0, "oracle": 1.0}.items():
        write_cell(root / "results", name, about, quality, first_words=(LONG, HOSTILE, "\u202eevil"))
    return build(root / "results", root / "out" / "site").parent


def test_names_lead_to_no_other_folder_and_no_two_to_one_page(site: Path) -> None:
    assert [path.name for path in site.parent.iterdir()] == ["site"]
    pages = [page_name(name) for name in EXPLAINERS]
    assert len({page.lower() for page in pages}) == len(EXPLAINERS)
    assert all(re.fullmatch(r"[a-z0-9_-]+", page) for page in pages)
    assert {f"{page}.html" for page in pages} <= {path.name for path in (site / "explainers").iterdir()}


def test_a_word_of_ten_megabytes_makes_no_large_file_and_nothing_turns_the_reading_direction(site: Path) -> None:
    for path in site.rglob("*"):
        if path.suffix in (".html", ".js"):
            assert path.stat().st_size < 1_000_000, path
            text = path.read_text("utf-8")
            assert "\u202e" not in text
            assert path.suffix == ".js" or "<script>alert" not in text


@pytest.mark.parametrize("path", ["index.html", "protocols/*/index.html", "protocols/*/examples.html#1"])
def test_every_page_shows_them_as_text(visit: Visit, site: Path, path: str) -> None:
    page = visit(site, path, width=400)
    page.locator(f"text={HOSTILE}").first.wait_for(state="attached")
    assert page.locator("img").count() == 0
    assert page.locator("script:not([src])").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.locator("#jump summary", has_text="Explainers").click()
    listed = page.locator("#jump .menu[open] a").all_inner_texts()
    assert set(EXPLAINERS) <= set(listed)
    assert page.evaluate("Object.keys(Object.prototype).length") == 0


def test_a_name_like_a_part_of_the_language_is_sorted_filtered_and_followed(visit: Visit, site: Path) -> None:
    page = visit(site, "index.html")
    page.get_by_label("Find an explainer").first.fill("__proto__")
    assert page.locator("tbody.methods tr:visible th").count() == 1
    page.locator("tbody.methods tr:visible th a").click()
    assert page.locator("h1").inner_text().startswith("__proto__")
