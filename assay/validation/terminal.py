"""The verdicts of a validation as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from assay.benchmark.summary import MEAN_SKILL
from assay.leaderboard.text import clean, title
from assay.validation import verdict
from assay.validation.comparison import Comparison
from assay.validation.findings import Findings, Section

_STYLES = {"better": "bold cyan", "worse": "bold yellow"}
_SHORT = {"not distinguishable": "not dist."}


def verdict_table(findings: Findings) -> Group:
    """The overall verdict, and for each section a table of verdicts: measures down, the other methods across."""
    parts: list[RenderableType] = []
    for check in findings.failed:
        parts.append(Text(clean(f"Contract: {check.name}: {check.detail}", 2000), style="bold red"))
    for section in (*findings.truth, *findings.sections):
        here = (section.key, section.perturbation)
        skills = [one for one in findings.skill_comparisons if (one.protocol, one.perturbation) == here]
        parts += [Text(clean(f"\n{section.title}, hidden by {section.perturbation}", 300), style="bold")]
        parts += [_table(section, [*skills, *section.comparisons])]
    parts.append(Text("\n" + "\n".join(clean(sentence, 4000) for sentence in verdict.overall(findings))))
    return Group(*parts)


def _table(section: Section, compared: Sequence[Comparison]) -> Table:
    others = list(dict.fromkeys(one.other for one in compared))
    found = {(one.metric, one.other): one for one in compared}
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", show_edge=False)
    table.add_column("measure", no_wrap=True)
    for other in others:
        table.add_column(clean(other, 24), no_wrap=True)
    for metric in [name for name in (MEAN_SKILL, *section.measures) if any(one.metric == name for one in compared)]:
        table.add_row(title(metric), *(_cell(found.get((metric, other))) for other in others))
    return table


def _cell(one: Comparison | None) -> Text:
    if one is None or one.reason:
        return Text("no verdict", style="dim")
    text = f"{_SHORT.get(one.verdict, one.verdict)} {verdict.signed(one.advantage)}"
    return Text(text, style=_STYLES.get(one.verdict, ""))
