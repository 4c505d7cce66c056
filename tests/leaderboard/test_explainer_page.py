"""A page an explainer, made of summaries alone."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from assay.explainers import FAMILIES
from assay.leaderboard.board import make_board
from assay.leaderboard.explainer_page import explainer_pages, first_line
from assay.leaderboard.page import page_name
from assay.leaderboard.probes import WORDS
from assay.leaderboard.protocol_summary import ProtocolSummary, as_text, read, summary_of
from tests.leaderboard.synthetic import HOSTILE, METHODS, protocol, write_cell

LIME = {"_target_": "assay.explainers.surrogate.Lime", "samples": 256}
LEAVE_ONE_OUT = {"_target_": "assay.explainers.perturbation.LeaveOneOut", "unit": "feature", "window": 3}


class Tables(HTMLParser):
    """The rows of every table as the texts of their cells, and the text of the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.text = ""
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.inside:
            self.rows[-1][-1] += data


def summaries(root: Path) -> list[ProtocolSummary]:
    """SST-2 with two settings of LIME, and MNLI where LIME was not run."""
    found = []
    for task, extra in (("sst2", ("lime", "lime")), ("mnli", ())):
        about = protocol(task, examples=12)
        cells = [write_cell(root, name, about, METHODS[name]) for name in ("gradient", "oracle", "random")]
        for place, name in enumerate(extra):
            settings = {**LIME, "samples": 256 * (place + 1)}
            cells.append(write_cell(root, name, about, METHODS[name] - 0.3 * place, settings=settings))
        cells.append(write_cell(root, "leave_one_out", about, 0.7, settings=LEAVE_ONE_OUT))
        cells[-1].meta["explainer"]["perturbation"] = "mask"  # type: ignore[index]
        board = make_board(cells, [{"key": "one", "protocol": about}])
        found.append(summary_of(board, ""))
    return found


def test_every_explainer_has_a_page_with_its_standing_under_every_protocol(tmp_path: Path) -> None:
    made = summaries(tmp_path)
    pages = explainer_pages(made)
    assert sorted(pages) == [f"{name}.html" for name in ("gradient", "leave_one_out", "lime", "oracle", "random")]
    lime = Tables(pages["lime.html"])
    standing = [row for row in lime.rows if row and ("sst2" in row[0] or "mnli" in row[0])][:3]
    assert [row[1] for row in standing] == ["lime (samples=256)", "lime (samples=512)", "—"]
    entry = next(one for one in made[0].hidings[0].entries if one.name == "lime (samples=256)")
    assert f"{entry.mean_skill.skill.mean:.2f}" in standing[0][3]
    assert standing[0][2].endswith("of 4")
    assert f"{entry.win_rate.mean:.2f}" in standing[0][4]
    assert standing[-1][2:] == ["not run", "—", "—", "—", "—"]
    assert "Weights of a ridge regression" in lime.text
    assert "Ribeiro et al. 2016" in lime.text
    assert lime.text.count("explainer=lime") == 2
    assert "samples = 512" in lime.text


def test_a_shared_probe_is_told_with_its_measures(tmp_path: Path) -> None:
    pages = explainer_pages(summaries(tmp_path))
    page = Tables(pages["leave_one_out.html"])
    assert f"{WORDS['one']}: comprehensiveness, deletion, tau loo" in page.text
    head = next(row for row in page.rows if any(cell.startswith("tau loo") for cell in row))
    for measure, shares in (("tau loo", True), ("insertion", False)):
        place = next(place for place, cell in enumerate(head) if cell.startswith(measure))
        rows = page.rows[page.rows.index(head) + 1 :][:2]
        assert [row[place].endswith("same probe") for row in rows] == [shares, shares]
    assert "What it asks that measures ask too" not in pages["gradient.html"]


def test_summaries_that_were_written_and_read_again_make_the_same_pages(tmp_path: Path) -> None:
    made = summaries(tmp_path)
    again = []
    for place, summary in enumerate(made):
        (tmp_path / f"{place}.json").write_text(as_text(summary), "utf-8")
        again.append(read(tmp_path / f"{place}.json"))
    assert explainer_pages(again) == explainer_pages(made)


def test_names_that_look_alike_in_a_file_system_have_pages_of_their_own(tmp_path: Path) -> None:
    about = protocol(examples=4)
    names = ["Lime", "lime", "li/me", "li me", "../lime", HOSTILE, "__proto__", "語", "\u202elime"]
    cells = [write_cell(tmp_path / str(place), name, about, 0.5) for place, name in enumerate(names)]
    pages = explainer_pages([summary_of(make_board(cells, [{"key": "one", "protocol": about}]), "")])
    assert len({name.lower() for name in pages}) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.") and ".." not in name for name in pages)
    for page in pages.values():
        assert "<img" not in page
        assert "\u202e" not in page
    assert f"{page_name('lime')}.html" in pages


@pytest.mark.parametrize("modules", FAMILIES.values(), ids=list(FAMILIES))
def test_the_first_line_is_read_without_importing_the_class(modules: tuple[str, ...]) -> None:
    import ast
    from importlib import import_module
    from inspect import getdoc

    for module in modules:
        source = Path(__import__("assay").__file__).parent / "explainers" / f"{module}.py"
        for node in ast.parse(source.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                cls = getattr(import_module(f"assay.explainers.{module}"), node.name)
                told = first_line(f"assay.explainers.{module}.{node.name}")
                assert told == (getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")


@pytest.mark.parametrize("target", ["", "my.module.Mine", "assay.explainers.no_such.Thing", "assay.explainers.a.b.C"])
def test_a_class_of_somebody_s_own_is_neither_imported_nor_described(target: str) -> None:
    assert first_line(target) == ""
