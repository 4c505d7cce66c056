"""The site's first page: every explainer under every protocol, and nothing averaged that is not comparable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assay.leaderboard.page import render
from assay.leaderboard.protocol_summary import Interval, ProtocolSummary
from assay.leaderboard.text import clean, interval, number, percent, title


def overview_page(summaries: Sequence[ProtocolSummary]) -> str:
    """The page, from the summaries of all protocols."""
    columns = [(summary, hiding) for summary in summaries for hiding in summary.hidings]
    found: dict[str, dict[int, tuple[str, str, bool]]] = {}
    for place, (_, hiding) in enumerate(columns):
        for entry in hiding.entries:
            if not entry.control:
                shown = (*_told(entry.mean_skill.skill), entry.mean_skill.leading)
                found.setdefault(clean(entry.name), {})[place] = shown
    missing = (*_told(Interval()), False)
    return render(
        "overview.html",
        depth=0,
        protocols=[_card(summary, summaries) for summary in summaries],
        columns=[
            {**_card(summary, summaries), "perturbation": clean(hiding.perturbation)} for summary, hiding in columns
        ],
        rows=[(name, [found[name].get(place, missing) for place in range(len(columns))]) for name in sorted(found)],
        tasks=len({summary.task for summary in summaries}),
        models=len({summary.model for summary in summaries}),
        skills_of=[title(one) for one in max((hiding.skills_of for _, hiding in columns), key=len, default=[])],
    )


def _told(value: Interval) -> tuple[str, str]:
    mean, low, high = (float("nan") if one is None else one for one in (value.mean, value.low, value.high))
    return number(mean, 2), interval(low, high, 2)


def _card(summary: ProtocolSummary, summaries: Sequence[ProtocolSummary]) -> dict[str, Any]:
    namesakes = sum((other.task, other.model) == (summary.task, summary.model) for other in summaries)
    return {
        "folder": summary.folder,
        "task": clean(summary.task, 60),
        "model": clean(summary.model, 80),
        "key": clean(summary.key[:8]),
        "alone": namesakes == 1,
        "examples": f"{summary.examples:,}",
        "accuracy": percent(summary.accuracy),
    }
