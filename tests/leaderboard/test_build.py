"""From a results folder to the files of a leaderboard."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from assay import registry
from assay.benchmark.axes import _AXES
from assay.benchmark.summary import summarise
from assay.errors import AssayError
from assay.leaderboard.board import boards
from assay.leaderboard.build import build, load
from assay.leaderboard.examples import EXPLAINERS
from assay.leaderboard.page import ASSETS
from assay.leaderboard.placing import write
from tests.leaderboard.synthetic import HOSTILE, METHODS, protocol, write_cell

TABLES = {"leaderboard.csv", "leaderboard.json", "leaderboard.md"}
SVG_NAMESPACE = "http://www.w3.org/2000/svg"
HEADER = (
    "protocol,task,model,explainer,explained_under,metric,perturbation,direction,mean,ci_low,ci_high,ci_method,n,"
    "undefined,skill,skill_low,skill_high,rank,rank_low,rank_high,group,shares_probe,forward_rows,forward_tokens,"
    "backward_rows,backward_tokens,seconds"
)


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.ids: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data


@pytest.fixture(scope="module")
def pages(built: Path) -> dict[Path, Page]:
    """All pages of the site, by their place."""
    return pages_of(built)


@pytest.fixture(scope="module")
def protocols(built: Path, pages: dict[Path, Page]) -> list[Page]:
    """The pages of the protocols, in the order of their folders."""
    return [pages[path] for path in sorted(built.glob("protocols/*/index.html"))]


def pages_of(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}


def files_of(site: Path) -> dict[str, bytes]:
    return {str(path.relative_to(site)): path.read_bytes() for path in site.rglob("*") if path.is_file()}


def table_rows(built: Path) -> list[dict[str, str]]:
    with (built / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        assert ",".join(reader.fieldnames or ()) == HEADER
        return list(reader)


def test_the_csv_has_the_agreed_columns_and_the_summary_s_numbers(built: Path, results: Path) -> None:
    rows = table_rows(built)
    summary = summarise(load(results))
    by_key = {
        (row["protocol"], row["explainer"], row["metric"], row["perturbation"]): row
        for row in rows
        if row["metric"] != "mean_skill"
    }
    assert len(by_key) == len(summary)
    for row in summary.to_dict("records"):
        written = by_key[row["protocol"], row["explainer"], row["metric"], row["perturbation"]]
        assert float(written["mean"]) == pytest.approx(row["mean"])
        assert int(written["undefined"]) == row["undefined"]
        assert float(written["seconds"]) == pytest.approx(row["seconds"])


def test_what_the_page_ranks_by_is_in_the_csv(built: Path) -> None:
    ranked = [row for row in table_rows(built) if row["metric"] == "mean_skill"]
    assert {row["explainer"] for row in ranked} == set(METHODS)
    assert all((row["rank"] == "") == (row["explainer"] in ("random", "oracle")) for row in ranked)


def test_what_is_undefined_is_empty_in_csv_and_null_in_json(built: Path) -> None:
    row = next(row for row in table_rows(built) if row["metric"] == "tau_loo" and row["explainer"] == "lime")
    assert row["skill"] == ""
    content = json.loads((built / "leaderboard.json").read_text("utf-8"), parse_constant=pytest.fail)
    same = next(row for row in content["rows"] if row["metric"] == "tau_loo" and row["explainer"] == "lime")
    assert same["skill"] is None
    assert len(content["protocols"]) == 3
    assert content["ranked_by"] == "mean_skill"


def test_markdown_has_a_table_for_each_protocol_and_way_of_hiding(built: Path) -> None:
    text = (built / "leaderboard.md").read_text("utf-8")
    assert text.count("| # | explainer |") == 4
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1
    assert "perturbations.delete" in text


def test_protocols_are_never_mixed_and_their_differences_are_named(results: Path, protocols: list[Page]) -> None:
    every = boards(load(results))
    assert sorted((board.task, len(board.cells)) for board in every) == [("mnli", 9), ("sst2", 4), ("sst2", 10)]
    for board in every:
        assert {str(cell.meta["protocol_key"]) for cell in board.cells} == {board.key}
    assert set(every[1].differences) == {
        "task.size",
        "task.examples",
        "task.fingerprint",
        "seed",
        "perturbations.delete._target_",
    }
    assert every[0].differences == {}
    for page in protocols[1:]:
        assert all(path in page.text for path in every[1].differences)


def test_pages_load_nothing_from_outside_and_their_links_lead_somewhere(built: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for tag, attributes in page.elements:
            assert tag not in ("img", "iframe", "object", "embed", "base", "form", "style")
            assert "style" not in attributes
            assert not any(name.startswith("on") for name in attributes)
            for target in (attributes.get("href"), attributes.get("src")):
                if target is not None:
                    assert leads_somewhere(target, path, built, pages), f"{target} on {path}"
        assert len(page.ids) == len(set(page.ids))
        assert not re.search(r"url\(|@import", path.read_text("utf-8"))
    for name in ASSETS:
        text = (built / "assets" / name).read_text("utf-8").replace(SVG_NAMESPACE, "")
        assert not re.search(r"url\(|@import|https?://|innerHTML|insertAdjacentHTML|document\.write|eval\(", text)


def leads_somewhere(target: str, path: Path, site: Path, pages: dict[Path, Page]) -> bool:
    """A file of the site, and a place in it where one is named; the viewer's places are numbers of examples."""
    place, _, fragment = target.partition("#")
    file = (path.parent / place).resolve() if place else path
    if not file.is_relative_to(site.resolve()) or not file.is_file():
        return False
    if file.name == "examples.html" and fragment.isdigit():
        return True
    return not fragment or fragment in pages[site / file.relative_to(site.resolve())].ids


def test_a_page_has_what_a_reader_and_a_screen_reader_need(pages: dict[Path, Page], built: Path) -> None:
    for page in pages.values():
        tags = [tag for tag, _ in page.elements]
        assert page.elements[0][1] == {"lang": "en"}
        assert {"main", "header", "nav", "footer"} <= set(tags)
        assert tags.count("h1") == 1
        assert tags.count("caption") == tags.count("table")
    assert "What ranks is mean skill" in pages[built / "index.html"].text


def test_a_protocol_s_page_says_how_it_is_sorted_and_how_to_make_it_again(protocols: list[Page]) -> None:
    for page in protocols:
        sortable = [attributes for tag, attributes in page.elements if tag == "th" and "aria-sort" in attributes]
        assert {attributes["aria-sort"] for attributes in sortable} == {"none", "descending"}
    assert "all scores are equal" in protocols[0].text
    assert "assay run task=mnli" in protocols[0].text


def test_charts_say_what_they_show(protocols: list[Page]) -> None:
    shown = " ".join(protocols[0].text.split())
    assert "Deletion: mean probability of the explained class. The lower the curve, the better." in shown
    assert "words hidden, most important first" in shown
    assert "words shown, most important first" in shown


@pytest.mark.parametrize("measure", _AXES)
def test_charts_with_words_of_their_own_are_of_measures_that_there_are(measure: str) -> None:
    assert measure in {one.name for one in registry.build("metric", measure).measures}


def test_controls_are_always_there_even_if_they_were_not_run(tmp_path: Path) -> None:
    write_cell(tmp_path / "results", "lime", protocol(examples=8), 0.8)
    build(tmp_path / "results", tmp_path / "out")
    (page,) = (Page(path.read_text("utf-8")) for path in tmp_path.glob("out/protocols/*/index.html"))
    assert page.text.count("not run") == 2
    assert "No skill can be read here" in page.text


def test_hostile_text_is_shown_and_does_nothing(hostile: Path) -> None:
    for path, page in pages_of(hostile).items():
        tags = [tag for tag, _ in page.elements]
        assert tags.count("script") == sum("src" in attributes for tag, attributes in page.elements if tag == "script")
        assert "img" not in tags
        assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
        assert not set("\u202e\u2028") & set(path.read_text("utf-8"))
        assert HOSTILE in page.text
    markdown = (hostile / "leaderboard.md").read_text("utf-8")
    assert "<img" not in markdown
    names = {row["explainer"] for row in table_rows(hostile)}
    assert HOSTILE in names


def test_a_name_is_no_formula_in_a_spreadsheet(tmp_path: Path) -> None:
    write_cell(tmp_path / "results", "=1+1", protocol(examples=6), 0.5)
    build(tmp_path / "results", tmp_path / "out")
    assert {row["explainer"] for row in table_rows(tmp_path / "out")} == {"'=1+1"}


def test_building_again_gives_the_same_bytes_and_leaves_other_files_alone(
    results: Path, built: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    (tmp_path / "leaderboard.csv").write_text("old")
    build(results, tmp_path)
    assert files_of(tmp_path) == {**files_of(built), "mine.txt": b"kept"}
    assert set(files_of(tmp_path)) > TABLES


def test_a_failure_half_way_puts_everything_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a": "old a", "b": "old b"})
    rename = Path.rename

    def fail_at_the_end(path: Path, target: Path) -> Path:
        if path.name == "c" and "old" not in path.parts:
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_at_the_end)
    with pytest.raises(AssayError, match="No space left"):
        write(tmp_path, {"a": "new a", "b": "new b", "c": "new c"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old a", "b": "old b"}


def test_what_cannot_be_built_is_said(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="no results folder"):
        build(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AssayError, match="no finished cells"):
        build(tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    write_cell(tmp_path / "results", "lime", protocol(examples=6), 0.8)
    (tmp_path / "file").write_text("")
    with pytest.raises(AssayError, match="cannot be written"):
        build(tmp_path / "results", tmp_path / "file")


def test_a_damaged_cell_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    cell = write_cell(tmp_path / "results", "lime", protocol(examples=6), 0.8)
    scores = cell.path / "scores.parquet"
    scores.write_bytes(scores.read_bytes()[:-10])
    with pytest.raises(AssayError, match=re.escape(str(scores))):
        build(tmp_path / "results", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_more_explainers_than_an_example_shows_are_in_the_table_all_the_same(tmp_path: Path) -> None:
    names = [f"method_{place:02}" for place in range(EXPLAINERS + 3)]
    about = protocol(examples=4)
    for place, name in enumerate([*names, "random", "oracle"]):
        write_cell(tmp_path / "results", name, about, {"random": 0.0, "oracle": 1.0}.get(name, place / 40))
    build(tmp_path / "results", tmp_path / "board")
    (text,) = (path.read_text("utf-8") for path in tmp_path.glob("board/protocols/*/index.html"))
    table, _, examples = text.partition('<h2 id="examples"')
    assert all(name in table for name in names)
    assert names[-1] in examples
    assert names[0] not in examples.partition('<h2 id="protocol"')[0]
