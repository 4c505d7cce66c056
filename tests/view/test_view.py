"""`assay view`: what it shows is what the explainers say, and it reads without colour and whatever the words are."""

from __future__ import annotations

import io
import math
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import assay
from assay.benchmark.evaluation import Settings
from assay.content_policy import fingerprint
from assay.conversation import Feature
from assay.metrics.base import Curve
from assay.view.page import render
from assay.view.reading import Reading, View
from assay.view.terminal import ordered, sparkline, terminal_view
from tests.benchmark.cli import Ended, save_model, save_task
from tests.benchmark.cli import assay as run
from tests.leaderboard.synthetic import HOSTILE

TEXT = "a warm film that never drags"
METHODS = "explainer=[leave_one_out,gradient]"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def ended(model: Path) -> Ended:
    return run("view", TEXT, f"model.path={model}", METHODS, "metric=[deletion,comprehensiveness]")


def columns(out: str, first: str) -> dict[str, dict[str, str]]:
    """The plain table whose first heading is `first`: by column, what stands beside each name."""
    lines = out.splitlines()
    start = next(place for place, line in enumerate(lines) if re.match(rf"{first}\s{{2,}}\S", line))
    headings = re.split(r"\s{2,}", lines[start].strip())[1:]
    found: dict[str, dict[str, str]] = {heading: {} for heading in headings}
    for line in lines[start + 2 :]:
        cells = line.split()
        if len(cells) <= len(headings):
            break
        for heading, cell in zip(headings, cells[-len(headings) :], strict=True):
            found[heading][cells[0]] = cell
    return found


def test_the_numbers_are_those_of_explain_and_score(ended: Ended, model: Path) -> None:
    assert (ended.code, ended.err) == (0, "")
    classifier = assay.Classifier.from_pretrained(str(model), device="cpu")
    scores = columns(ended.out, "word")
    judged = columns(ended.out, "explainer")
    for name in ("leave_one_out", "gradient"):
        attribution = assay.explain(classifier, TEXT, name)
        shown = [float(number) for number in scores[name].values()]
        largest = float(np.abs(attribution.scores).max())
        assert shown == pytest.approx(attribution.scores.tolist(), abs=max(largest / 100, 5e-4))
        (row,) = assay.score(classifier, [TEXT], [attribution], ["deletion", "comprehensiveness"]).to_dict("records")
        assert float(judged["deletion ↓"][name]) == pytest.approx(row["deletion"], abs=5.1e-4)
        assert float(judged["comprehensiveness ↑"][name]) == pytest.approx(row["comprehensiveness"], abs=5.1e-4)
    assert list(scores["gradient"]) == TEXT.split()


def test_the_prediction_is_the_models(ended: Ended, model: Path) -> None:
    classifier = assay.Classifier.from_pretrained(str(model), device="cpu")
    predicted = assay.explain(classifier, TEXT, "leave_one_out").target
    first, second = ended.out.splitlines()[:2]
    assert first.startswith(f"tiny predicts {classifier.labels[predicted]} (")
    assert sum(float(share) for share in re.findall(r"([\d.]+)%", first)) == pytest.approx(100, abs=0.11)
    assert second == f"Explained: {classifier.labels[predicted]}, by word, hidden by mask."


def test_what_goes_into_a_pipe_is_plain(ended: Ended) -> None:
    assert "\x1b" not in ended.out
    assert all(len(line) <= 120 for line in ended.out.splitlines())


def test_a_pair_shows_both_texts_and_another_target(model: Path) -> None:
    ended = run(
        "view", "a warm film", "--pair", "it drags", f"model.path={model}", "explainer=gradient", "target=negative"
    )
    assert ended.code == 0
    assert "Explained: negative" in ended.out
    assert re.search(r"^  1: a\S* warm\S* film\S*\n  2: it\S* drags", ended.out, re.MULTILINE)
    assert "2: drags" in ended.out


def test_what_cannot_be_shown_is_left_out_or_refused(model: Path) -> None:
    named = run("view", TEXT, f"model.path={model}", "explainer=[gradient,oracle]")
    assert named.code == 2
    assert "oracle has nothing to say of a single text" in named.err
    judge = run("view", TEXT, f"model.path={model}", "explainer=gradient", "metric=[sensitivity_max]")
    assert judge.code == 2
    assert "explain many texts" in judge.err
    truth = run("view", TEXT, f"model.path={model}", "explainer=gradient", "metric=[ground_truth]")
    assert truth.code == 2
    assert "No metric is left" in truth.err
    left = run("view", TEXT, f"model.path={model}", "explainer=gradient", "metric=default")
    assert left.code == 0
    assert left.out.startswith("ground_truth is left out")


def test_all_explainers_are_shown_but_those_that_cannot_be(model: Path) -> None:
    ended = run("view", "a film", f"model.path={model}", "explainer=all")
    assert ended.code == 0
    assert re.search(r"^idf is left out: it wants to see texts", ended.out, re.MULTILINE)
    shown = columns(ended.out, "explainer")["deletion ↓"]
    assert {"lime", "attention", "exact_shapley", "random"} <= set(shown)
    assert not {"oracle", "idf"} & set(shown)


def test_what_wants_to_see_texts_is_told_how_to_get_them(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = run("view", TEXT, f"model.path={model}", "explainer=idf")
    assert ended.code == 2
    assert "task=sst2" in ended.err
    place = save_task(tmp_path)
    (place / "sst2" / "validation.parquet").rename(place / "sst2" / "train.parquet")
    monkeypatch.setenv("ASSAY_DATA", str(place))
    assert run("view", TEXT, f"model.path={model}", "explainer=idf", "task=sst2").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["", METHODS], "The text is empty"),
        (["a film", "--pair", " "], "The text is empty"),
        (["x" * 100_001], "100,001 letters"),
        (["model.path=somewhere", METHODS], "stands where the text should"),
        (["a film", METHODS], "No model is named"),
        (["a film", "explainer=grdient", "model.path={model}"], "Did you mean 'gradient'"),
        (["a film", METHODS, "model.path={model}", "target=postive"], "postive"),
        (["a film", METHODS, "model.path={model}", "--html", "{folder}"], "is a folder"),
        (["a film", METHODS, "model.path={model}", "--html", "{folder}/none/x.html"], "There is no folder"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], said: str, model: Path, tmp_path: Path) -> None:
    ended = run("view", *(argument.format(model=model, folder=tmp_path) for argument in arguments))
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


WORDS = [HOSTILE, "\x1b[2J\x1b]0;owned\x07", "\u202eevil", "[red]x[/]", "=1+1", "{{ 7*7 }}", "y" * 10_000]


ATTRIBUTES = {
    "lang",
    "charset",
    "http-equiv",
    "content",
    "name",
    "class",
    "title",
    "aria-label",
    "viewbox",
    "role",
    "width",
    "height",
    "d",
    "tabindex",
    "scope",
}


class Attributes(HTMLParser):
    """The names of all attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names |= {name for name, _ in attrs}


@pytest.fixture
def hostile() -> View:
    """Everything that comes from data is hostile."""
    features = tuple(Feature(word, place % 2, place // 2) for place, word in enumerate(WORDS))
    scores = np.array([0.5, -0.25, 1.0, np.nan, -1.0, 0.0, 0.1])
    curve = Curve(np.linspace(0, 1, 8), np.linspace(0.9, 0.1, 8))
    about: dict[str, Any] = {"values": {HOSTILE: math.nan}, "curves": {HOSTILE: curve}, "rows": 7.0, "seconds": 0.5}
    return View(
        model=f"org/{HOSTILE}",
        labels=[f"[bold]{HOSTILE}", "\x1b[31mfine\u202e"],
        probabilities=np.array([0.25, 0.75]),
        target=1,
        foil=0,
        features=sorted(features, key=lambda feature: feature.segment),
        truncated=3,
        settings=Settings(),
        hiding=[HOSTILE],
        directions={HOSTILE: "lower"},
        readings=[
            Reading(HOSTILE, True, scores, "", {"rule": WORDS}, **about),
            Reading("\x1b[2Jother", False, None, f"\x1b[5m{HOSTILE}", {}, **about),
        ],
    )


@pytest.mark.parametrize("colour", [None, "truecolor", "standard"])
def test_hostile_words_steer_no_terminal(hostile: View, colour: Any) -> None:
    out = io.StringIO()
    Console(file=out, width=110, force_terminal=colour is not None, color_system=colour).print(terminal_view(hostile))
    text = out.getvalue()
    left = re.sub(r"\x1b\[[\d;]*m", "", text) if colour else text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", left)
    assert not re.search(r"\x1b\[5m|\x1b\[31m", text)
    assert "[red]x[/]" in left
    assert max(map(len, left.splitlines())) <= 110


def test_no_color_leaves_the_marks(hostile: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    Console(file=out, width=110, force_terminal=True).print(terminal_view(hostile))
    assert not re.search(r"\x1b\[[\d;]*[34]8;", out.getvalue())
    assert "=1+1+++" in out.getvalue()
    assert "evil- " in out.getvalue()


def test_the_page_escapes_everything_and_loads_nothing(hostile: View) -> None:
    page = render(hostile)
    assert "<img" not in page
    assert "<script" not in page
    assert not re.search(r"[\u202a-\u202e\u2066-\u2069\x1b]", page)
    reader = Attributes()
    reader.feed(page)
    assert reader.names <= ATTRIBUTES
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert f"default-src 'none'; style-src '{fingerprint(style)}'" in unescape(page)
    assert max(map(len, re.findall(r"y+", page))) < 100


def test_the_page_has_the_numbers_of_the_terminal(ended: Ended, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "view.html"
    shown = run("view", TEXT, f"model.path={model}", METHODS, "--html", str(path))
    assert shown.out.splitlines()[-1] == f"Page: {path}"
    page = path.read_text("utf-8")
    for name, numbers in columns(ended.out, "word").items():
        assert f"<bdi>{name}</bdi>" in page
        assert all(f">{number}<" in page for number in numbers.values())
    assert list(tmp_path.iterdir()) == [path]


def test_the_page_in_a_browser(browser: Any, hostile: View, tmp_path: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    path = tmp_path / "view.html"
    path.write_text(render(hostile), "utf-8")
    for scheme in ("light", "dark"):
        page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme=scheme)
        said: list[str] = []
        requests: list[str] = []
        page.on("console", lambda message, said=said: said.append(message.text))
        page.on("dialog", lambda dialog, said=said: (said.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda request, requests=requests: requests.append(request.url))
        page.goto(path.as_uri())
        assert (said, requests) == ([], [path.as_uri()])
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert (
            page.locator(".w.p8").first.evaluate("node => getComputedStyle(node).backgroundColor").startswith("rgba(")
        )
        found = axe.Axe().run(page).response["violations"]
        assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
        page.close()


@pytest.mark.parametrize(
    ("scores", "signed", "shown"),
    [
        ([0.5, -0.25], True, ["+0.500", "-0.250"]),
        ([0.0, 0.0], False, ["0.000", "0.000"]),
        ([0.0042, 0.0], True, ["+0.00420", "+0.00000"]),
        ([1234.5, np.nan], False, ["1234", "—"]),
    ],
)
def test_scores_have_the_digits_that_the_largest_needs(scores: list[float], signed: bool, shown: list[str]) -> None:
    assert ordered(np.array(scores), signed) == shown


def test_a_sparkline_goes_from_left_to_right() -> None:
    x = np.linspace(0, 1, 16)
    assert sparkline(Curve(x, np.linspace(0, 1, 16)), 0, 1) == "▁▁▂▂▃▃▄▄▅▅▆▆▇▇██"
    assert sparkline(Curve(x, np.ones(16)), 0, 1) == "█" * 16
    assert sparkline(Curve(x, np.ones(16)), 1, 1) == "▁" * 16
    assert sparkline(Curve(x, np.full(16, np.nan)), 0, 1) == ""
