"""The reports: what machines read, and pages in which text from elsewhere does no harm."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assay.errors import AssayError
from assay.validation.contract import Check
from assay.validation.findings import Findings
from assay.validation.report import as_json, write_reports
from assay.validation.terminal import verdict_table
from tests.leaderboard.synthetic import HOSTILE, protocol
from tests.validation.made_up import good_and_bad, made_findings, write_cell

TURNED = "\u202eevil\x1b[31m"


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return made_findings(tmp_path_factory.mktemp("cells"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """A task, a model, baselines, reasons and a detail that try to break out of whatever they are shown in."""
    from assay.validation.findings import sections, skills

    root = tmp_path_factory.mktemp("hostile")
    about = protocol(f"task {HOSTILE}", f"=cmd|{TURNED} | `x` {HOSTILE}", 40)
    names = {"lime": f"{HOSTILE}{TURNED}|`", "mine": "mine", "random": "random", "oracle": "oracle"}
    cells = [write_cell(root, names[name], columns, about) for name, columns in good_and_bad().items()]
    return made_findings(
        root / "plain",
        target=f"module:{HOSTILE}",
        contract_model=HOSTILE,
        checks=[Check("finite", "failed", f"the score of {HOSTILE}{TURNED} | is nan", 0.1)],
        no_truth=f"{HOSTILE}{TURNED}",
        failures=[HOSTILE],
        sections=sections(cells, "mine"),
        skill_comparisons=skills(cells, "mine"),
    )


def test_the_json_has_what_the_words_stand_on_and_null_for_what_is_no_number(findings: Findings) -> None:
    unknown = [replace(findings.sections[0], costs=[replace(findings.sections[0].costs[0], rows=math.nan)])]
    content = json.loads(as_json(replace(findings, sections=unknown)))
    assert content["schema"] == 1
    assert content["contract"]["holds"] is True
    assert content["planted_truth"] == {"skipped": "nobody asked for it", "tasks": []}
    (section,) = content["comparison"]["sections"]
    assert section["costs"][0]["rows"] is None
    assert section["commands"]["lime"] == "assay run explainer=lime"
    found = {(one["metric"], one["other"]): one for one in section["comparisons"]}
    assert len(found) == 6
    for one in findings.sections[0].comparisons:
        told = found[one.metric, one.other]
        assert (told["verdict"], told["p_corrected"], told["seen"]) == (one.verdict, one.p_corrected, one.seen)
    assert {one["other"] for one in content["comparison"]["mean_skill"]} == {"lime", "random"}


def test_a_check_that_was_not_made_neither_holds_nor_fails(findings: Findings) -> None:
    skipped = replace(findings, checks=[Check("finite", "skipped", "a file", 0.0)])
    assert json.loads(as_json(skipped))["contract"]["holds"] is None


def test_the_pages_hold_every_verdict(findings: Findings, tmp_path: Path) -> None:
    page = write_reports(findings, tmp_path).read_text("utf-8")
    markdown = (tmp_path / "report.md").read_text("utf-8")
    for one in (*findings.skill_comparisons, *findings.sections[0].comparisons):
        assert re.search(rf"<td class=\"\w+\">{one.verdict}<small>", page)
        assert f"| {one.verdict} " in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("| comprehensiveness")]
    assert len(rows) == 1
    assert rows[0].count("|") == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json", "report.md"]


def test_text_from_elsewhere_stays_text(hostile: Findings, tmp_path: Path) -> None:
    page = write_reports(hostile, tmp_path).read_text("utf-8")
    markdown = (tmp_path / "report.md").read_text("utf-8")
    assert "<strong>The contract does not hold: 1 of 1 checks failed" in page
    for text in (page, markdown):
        assert "<img" not in text
        assert "\u202e" not in text
        assert "\x1b" not in text
    assert "<script" not in page
    tables = [line for line in markdown.splitlines() if line.startswith("| comprehensiveness")]
    unescaped = re.findall(r"(?<!\\)\|", tables[0])
    assert len(unescaped) == 5, "a name with a bar must not make a cell"
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy.group(1)
    assert "script" not in policy.group(1)


def test_the_terminal_is_not_steered(hostile: Findings) -> None:
    from rich.console import Console

    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(verdict_table(hostile))
    shown = console.export_text()
    assert "not dist." in shown
    assert "\u202e" not in shown
    assert "\x1b" not in shown


def test_nothing_is_left_where_the_folder_cannot_be_written(findings: Findings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AssayError, match="cannot be written"):
        write_reports(findings, tmp_path / "file")
    (tmp_path / "out" / "report.md" / "kept").mkdir(parents=True)
    write_reports(findings, tmp_path / "out2")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.md"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(browser: Any, hostile: Findings, tmp_path: Path, scheme: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    page = write_reports(hostile, tmp_path)
    opened = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme=scheme)
    troubles: list[str] = []
    requests: list[str] = []
    opened.on("console", lambda message: troubles.append(message.text))
    opened.on("dialog", lambda dialog: (troubles.append("a dialog"), dialog.dismiss()))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(page.as_uri())
    assert troubles == []
    assert requests == [page.as_uri()]
    assert opened.evaluate("document.documentElement.scrollWidth") <= 400
    opened.eval_on_selector_all("details", "all => all.forEach(one => one.open = true)")
    found = axe.Axe().run(opened)
    opened.close()
    assert found.violations_count == 0, found.generate_report()
