"""The viewer of examples in a real browser, over data written by hand: what is drawn is what was written."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.leaderboard.page import ASSETS, asset, render
from tests.leaderboard.conftest import Visit
from tests.leaderboard.synthetic import HOSTILE

CHUNK = 2
WORDS = [[["good", "film"]], [["bad"], ["not", HOSTILE]], [["fine"]]]
EXPLAINERS = ("lime", "__proto__", HOSTILE, "random", "oracle")


def numbers(values: Any, kind: str) -> str:
    return base64.b64encode(np.asarray(values, kind).tobytes()).decode()


def chunk(number: int) -> dict[str, Any]:
    """Two words' scores are 1 and -0.5 of the largest; `__proto__` has no attribution for the first example."""
    texts = WORDS[number * CHUNK : (number + 1) * CHUNK]
    sizes = [sum(map(len, one)) for one in texts]
    points = [3] * len(texts)
    shares = [127 if place % 2 == 0 else -64 for place in range(sum(sizes))]
    made = {
        "scores": numbers(shares, "i1"),
        "largest": numbers([0.4] * len(texts), "<f4"),
        "values": numbers([0.25] * len(texts), "<f4"),
        "problems": {},
        "deletion": numbers([254, 127, 0] * len(texts), "u1"),
    }
    lacking = {**made, "largest": numbers([np.nan] * len(texts), "<f4"), "problems": {"0": f"no path {HOSTILE}"}}
    searching = {**made, "scores": "", "largest": ""}
    return {
        "examples": [{"texts": one, "rationale": None, "more": [0] * len(one)} for one in texts],
        "points": points,
        "x": numbers([0, 127, 254] * len(texts), "u1"),
        "explainers": [made, lacking, made, made, searching],
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("viewer")
    folder = root / "protocols" / "one"
    (folder / "examples").mkdir(parents=True)
    (root / "assets").mkdir()
    for name in ASSETS:
        (root / "assets" / name).write_text(asset(name), "utf-8")
    (root / "assets" / "navigation.js").write_text('assayNavigation({"protocols": [], "explainers": []});', "utf-8")
    section = {"task": "sst2", "model": "bert", "note": "", "key": "k", "feature": "word"}
    (folder / "examples.html").write_text(render("viewer.html", depth=2, section=section), "utf-8")
    about = [
        {"id": "../../etc/passwd", "label": "a", "predicted": "b", "target": "b", "probability": 0.9, "value": 0.1},
        {"id": HOSTILE, "label": "a", "predicted": "a", "target": "a", "probability": 0.6, "value": None},
        {"id": "constructor", "label": "none", "predicted": "a", "target": "a", "probability": 0.7, "value": 0.3},
    ]
    listed = {
        "chunk": CHUNK,
        "count": len(about),
        "measure": "comprehensiveness",
        "output": "probability",
        "range": [0, 1],
        "perturbation": "mask",
        "left_out": 0,
        "explainers": [
            {"name": name, "signed": name != HOSTILE, "control": name in EXPLAINERS[3:], "searches": name == "oracle"}
            for name in EXPLAINERS
        ],
        "examples": [{**one, "start": " ".join(WORDS[place][0])} for place, one in enumerate(about)],
    }
    (folder / "examples" / "list.js").write_text(f"assayExamples({json.dumps(listed)});", "utf-8")
    for number in range(2):
        (folder / "examples" / f"{number}.js").write_text(
            f"assayChunk({number}, {json.dumps(chunk(number))});", "utf-8"
        )
    return root


def card(page: Any, name: str) -> Any:
    return page.locator("article.reading").nth(EXPLAINERS.index(name))


def test_words_have_the_colours_of_their_scores(visit: Visit, site: Path) -> None:
    page = visit(site, "protocols/one/examples.html#1")
    assert page.locator("h2").inner_text().split("\n")[0].startswith("Example 1 of 3")
    good, film = (card(page, "lime").locator(".w").nth(place) for place in range(2))
    assert (good.inner_text(), good.get_attribute("class"), good.get_attribute("title")) == ("good", "w p8", "0.400")
    assert (film.get_attribute("class"), film.get_attribute("title")) == ("w m4", "−0.202")
    assert card(page, HOSTILE).locator(".w").first.get_attribute("class") == "w u8"
    assert "good 0.400, film −0.202" in card(page, "lime").locator(".strongest").inner_text()
    assert "comprehensiveness 0.250" in card(page, "lime").locator("h3").inner_text()
    assert f"no attribution: no path {HOSTILE}" in card(page, "__proto__").inner_text()
    page.get_by_label("Numbers below the words").check()
    assert card(page, "lime").locator(".w small").all_inner_texts() == ["0.400", "−0.202"]


def test_deletion_curves_are_those_of_the_chosen_explainers(visit: Visit, site: Path) -> None:
    page = visit(site, "protocols/one/examples.html#1")
    drawn = page.locator("figure g.series title")
    assert drawn.all_text_contents() == list(EXPLAINERS)
    assert page.locator("figure g.series path").first.get_attribute("d") == "M44.0 10.0L243.0 135.0L442.0 260.0"
    page.locator("figure summary").click()
    row = page.locator("figure tbody tr").first.locator("td").all_inner_texts()
    assert row == ["1.000", "0.750", "0.500", "0.250", "0.000"]
    page.locator(".tools summary", has_text="Explainers").click()
    page.locator(".menu[open] label", has_text="lime").locator("input").uncheck()
    assert drawn.all_text_contents() == list(EXPLAINERS[1:])
    assert page.locator("article.reading").count() == len(EXPLAINERS) - 2


def test_examples_are_walked_by_keyboard_and_loaded_when_they_are_wanted(visit: Visit, site: Path) -> None:
    page = visit(site, "protocols/one/examples.html")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rsplit("/", 1)[-1]))
    page.keyboard.press("ArrowRight")
    page.get_by_text("Example 2 of 3").wait_for()
    assert page.url.endswith("#2")
    assert asked == []
    page.keyboard.press("ArrowRight")
    page.locator(".w", has_text="fine").first.wait_for()
    assert asked == ["1.js"]
    page.keyboard.press("ArrowRight")  # there is no fourth
    assert page.url.endswith("#3")
    page.get_by_role("button", name="Previous").click()
    page.locator(".w", has_text="bad").first.wait_for()
    assert page.locator(".part").count() == 2 * 3  # two texts for each explainer that has words for it
    page.go_back()
    page.get_by_text("Example 3 of 3").wait_for()


def test_the_list_is_searched_and_ordered(visit: Visit, site: Path) -> None:
    expect = pytest.importorskip("playwright.sync_api").expect
    page = visit(site, "protocols/one/examples.html")
    places = page.locator(".items .place")
    page.get_by_label("Order").select_option("highest")
    expect(places).to_have_text(["3", "1", "2"])  # what has no value comes last
    page.get_by_label("Order").select_option("uncertain")
    expect(places).to_have_text(["2", "3", "1"])
    page.get_by_label("Show").select_option("wrong")
    expect(places).to_have_text(["1"])
    page.get_by_label("Show").select_option("all")
    page.get_by_label("Find").first.fill("ETC/pass")
    expect(places).to_have_text(["1"])


@pytest.mark.parametrize("asked", ["0", "9999999", "__proto__", "../../x", "%3Cimg%3E"])
def test_any_other_hash_leads_to_the_first_example(visit: Visit, site: Path, asked: str) -> None:
    page = visit(site, f"protocols/one/examples.html#{asked}")
    page.get_by_text("Example 1 of 3").wait_for()


def test_names_and_words_of_data_are_text_and_nothing_else(visit: Visit, site: Path) -> None:
    page = visit(site, "protocols/one/examples.html#2")
    page.locator(".w", has_text=HOSTILE).first.wait_for()
    assert page.locator("img").count() == 0
    assert page.evaluate("[{}.polluted, Object.keys(Object.prototype).length]") == [None, 0]
    assert {"__proto__", HOSTILE} <= set(page.locator("article h3 bdi").all_inner_texts())


def test_a_chunk_that_is_not_there_is_told(browser: Any, site: Path, tmp_path: Path) -> None:
    shutil.copytree(site, tmp_path / "site")
    folder = tmp_path / "site" / "protocols" / "one"
    (folder / "examples" / "1.js").unlink()
    page = browser.new_page()
    page.goto((folder / "examples.html").as_uri() + "#3")
    page.locator("#viewer-problem", has_text="examples/1.js cannot be read").wait_for()
    page.keyboard.press("ArrowLeft")
    page.locator(".w", has_text="bad").first.wait_for()
    assert page.locator("#viewer-problem").inner_text() == ""
    page.close()
