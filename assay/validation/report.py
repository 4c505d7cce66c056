"""The reports of a validation: Markdown, one self-contained HTML page, and JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from assay.benchmark.summary import MEAN_SKILL
from assay.content_policy import policy
from assay.leaderboard.files import escaped, finite
from assay.leaderboard.placing import write
from assay.leaderboard.text import ARROWS, amount, clean, interval, number, percent, seconds, title
from assay.validation import verdict
from assay.validation.comparison import Comparison
from assay.validation.cost import Cost
from assay.validation.findings import Findings, Score, Section

# Raised whenever a key of report.json changes its meaning or goes away.
SCHEMA_VERSION = 1
# Of the reasons why the method has no value on an example, so many are told.
_REASONS = 5
_SENTENCE = 4000


def write_reports(findings: Findings, out: Path) -> Path:
    """Write `report.md`, `report.html` and `report.json` into a folder, all or none.

    Returns:
        The path of the page.

    Raises:
        AssayError: the folder cannot be written.
    """
    view = _view(findings)
    contents = {"report.md": _markdown(view), "report.html": _page(view), "report.json": as_json(findings)}
    write(out, contents)
    return out / "report.html"


def as_json(findings: Findings) -> str:
    """All that was found, for machines; docs/validating.md has the keys. What is not a number is null."""
    made = [check for check in findings.checks if check.status != "skipped"]
    content = {
        "schema": SCHEMA_VERSION,
        "assay": version("assay"),
        "target": findings.target,
        "method": {
            "name": findings.subject.name,
            "kind": findings.subject.kind,
            "settings": dict(findings.subject.content),
        },
        "verdict": verdict.overall(findings),
        "contract": {
            "holds": not findings.failed if made else None,
            "model": findings.contract_model,
            "checks": [asdict(check) for check in findings.checks],
        },
        "planted_truth": {
            "skipped": findings.no_truth or None,
            "tasks": [_section_content(section) for section in findings.truth],
        },
        "comparison": {
            "skipped": findings.no_sections or None,
            "mean_skill": [_comparison_content(one) for one in findings.skill_comparisons],
            "sections": [_section_content(section) for section in findings.sections],
        },
        "failures": list(findings.failures),
    }
    return json.dumps(finite(content), indent=1, allow_nan=False, ensure_ascii=True) + "\n"


def _section_content(section: Section) -> dict[str, Any]:
    meta = section.cells[0].meta
    return {
        "task": section.protocol["task"]["name"],
        "model": section.protocol["model"]["name"],
        "protocol": section.key,
        "perturbation": section.perturbation,
        "examples": meta["counts"]["examples"],
        "accuracy": meta["accuracy"],
        "scores": [asdict(score) for score in section.scores],
        "comparisons": [_comparison_content(one) for one in section.comparisons],
        "costs": [asdict(cost) for cost in section.costs],
        "commands": {cell.explainer: cell.meta["command"] for cell in section.cells},
    }


def _comparison_content(one: Comparison) -> dict[str, Any]:
    return {**asdict(one), "verdict": one.verdict}


def _view(findings: Findings) -> dict[str, Any]:
    """What both templates show: text, cleaned of what could steer a terminal or reverse the reading direction."""
    order = {"failed": 0, "passed": 1, "skipped": 2}
    return {
        "target": clean(findings.target),
        "settings": [
            (clean(name), clean(json.dumps(value, default=str)))
            for name, value in findings.subject.content.items()
            if name != "_target_"
        ],
        "holds": not findings.failed,
        "overall": [clean(sentence, _SENTENCE) for sentence in verdict.overall(findings)],
        "contract": clean(verdict.contract(findings), _SENTENCE),
        "contract_model": clean(findings.contract_model),
        "checks": [
            (clean(check.name), check.status, clean(check.detail, _SENTENCE), seconds(check.seconds))
            for check in sorted(findings.checks, key=lambda check: order[check.status])
        ],
        "no_truth": clean(findings.no_truth, _SENTENCE),
        "truth": [_section(section, ()) for section in findings.truth],
        "no_sections": clean(findings.no_sections, _SENTENCE),
        "sections": [_section(section, findings.skill_comparisons) for section in findings.sections],
        "failures": [clean(failure, _SENTENCE) for failure in findings.failures],
        "version": version("assay"),
    }


def _section(section: Section, skills: Sequence[Comparison]) -> dict[str, Any]:
    """One section; the mean skill stands above the measures, where there is one."""
    here = [one for one in skills if (one.protocol, one.perturbation) == (section.key, section.perturbation)]
    compared = [*here, *section.comparisons]
    others = list(dict.fromkeys(one.other for one in compared))
    measures = [*([MEAN_SKILL] if here else []), *section.measures]
    meta, protocol = section.cells[0].meta, section.protocol
    named = {score.explainer: None for score in section.scores}
    return {
        "task": clean(protocol["task"]["name"], 60),
        "model": clean(protocol["model"]["name"], 80),
        "key": clean(section.key[:8]),
        "perturbation": clean(section.perturbation),
        "examples": f"{meta['counts']['examples']:,}",
        "accuracy": percent(meta["accuracy"]),
        "others": [clean(other) for other in others],
        "rows": [_row(section, compared, measure, others) for measure in measures],
        "numbers": [_numbers(one) for one in compared],
        "measures": [_heading(section, measure) for measure in measures],
        "scores": [(clean(name), [_spelled(section.score(name, measure)) for measure in measures]) for name in named],
        "costs": [_cost(cost) for cost in section.costs],
        "undefined": _undefined(section),
        "commands": [(clean(cell.explainer), clean(cell.meta["command"], _SENTENCE)) for cell in section.cells],
    }


def _row(section: Section, compared: Sequence[Comparison], measure: str, others: Sequence[str]) -> dict[str, Any]:
    own = [one for one in compared if one.metric == measure]
    by_other = {one.other: one for one in own}
    cells = []
    for other in others:
        one = by_other.get(other)
        cells.append((one.verdict, "" if one.reason else verdict.signed(one.advantage)) if one else ("no verdict", ""))
    return {
        "measure": _heading(section, measure),
        "own": _spelled(section.score(section.subject, measure)),
        "cells": cells,
        "words": clean(verdict.on_measure(own), _SENTENCE),
    }


def _heading(section: Section, measure: str) -> str:
    arrow = next((ARROWS.get(score.direction, "") for score in section.scores if score.metric == measure), "")
    return f"{title(measure)} {arrow}".strip()


def _spelled(score: Score | None) -> str:
    return f"{number(score.mean)} {interval(score.low, score.high)}".strip() if score else number(float("nan"))


def _numbers(one: Comparison) -> list[str]:
    """A row of the table of all numbers."""
    return [
        title(one.metric),
        clean(one.other),
        one.verdict,
        f"{verdict.signed(one.advantage)} {interval(one.low, one.high)}".strip(),
        number(one.d_z, 2),
        number(one.rank_biserial, 2),
        number(one.p, 4),
        number(one.p_corrected, 4),
        number(one.wilcoxon_corrected, 4),
        str(one.family),
        number(one.seen),
        str(one.examples),
        clean(one.reason),
    ]


def _cost(cost: Cost) -> list[str]:
    spent = (amount(cost.rows), amount(cost.tokens), seconds(cost.seconds))
    ratios = (cost.rows_ratio, cost.tokens_ratio, cost.seconds_ratio)
    return [clean(cost.explainer), *spent, *(verdict.times(ratio) for ratio in ratios)]


def _undefined(section: Section) -> list[str]:
    """Why the method has no attribution for some examples, the most frequent reasons first."""
    cell = next(cell for cell in section.cells if cell.explainer == section.subject)
    counts = cell.table("attributions")["reason"].dropna().value_counts().head(_REASONS)
    return [f"{count}: {clean(reason)}" for reason, count in counts.items()]


def _markdown(view: dict[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # What comes from data is escaped for Markdown by the filter; HTML's escapes would show.
    templates = Environment(
        loader=PackageLoader("assay", "validation"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters["md"] = lambda text: escaped(str(text), _SENTENCE)
    return templates.get_template("report.md").render(**view)


def _page(view: dict[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("assay", "validation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = files("assay.validation").joinpath("report.css").read_text("utf-8").strip()
    return templates.get_template("report.html").render(**view, style=style, policy=policy(style))
