"""An overview of 200 explainers under 50 protocols, in a real browser."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.leaderboard.overview import overview_page
from assay.leaderboard.page import ASSETS, asset, navigation
from assay.leaderboard.protocol_summary import FILE, Interval, ProtocolSummary, read
from tests.leaderboard.conftest import Visit

EXPLAINERS, PROTOCOLS = 200, 50
FAMILIES = ("attention", "gradient", "surrogate", "perturbation", "own")


def summary(base: ProtocolSummary, number: int) -> ProtocolSummary:
    """A protocol of its own task and model, whose explainers have ranks and skills from a seed."""
    hiding, first = base.hidings[0], base.hidings[0].entries[0]
    names = np.random.default_rng(number).permutation(EXPLAINERS)
    entries = []
    for place, name in enumerate(names.tolist()):
        skill = 1 - place / EXPLAINERS
        shown = Interval(skill, skill - 0.1, skill + 0.1)
        standing = replace(first.mean_skill, skill=shown, rank=place + 1, leading=place < 5)
        told = f"explainer_{name:03}"
        family = FAMILIES[name % len(FAMILIES)]
        entries.append(
            replace(first, key=told, name=told, explainer=told, family=family, control=False, mean_skill=standing)
        )
    drawn = np.random.default_rng(number).uniform(size=(50, EXPLAINERS)).astype("<f4")
    resamples = base64.b64encode(drawn.tobytes()).decode()
    task, model = f"task-{number // 10}", f"model-{number % 10}"
    protocol = {name: part for name, part in base.protocol.items() if name not in ("task", "model")}
    return replace(
        base,
        key=f"{number:016x}",
        folder=f"{task}-{model}",
        task=task,
        model=model,
        protocol={**protocol, "task": {"name": task}, "model": {"name": model}},
        hidings=[replace(hiding, entries=entries, resampled=[one.key for one in entries], resamples=resamples)],
    )


@pytest.fixture(scope="module")
def site(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("large")
    (out / "assets").mkdir()
    (path,) = built.glob(f"protocols/mnli-*/{FILE}")
    summaries = [summary(read(path), number) for number in range(PROTOCOLS)]
    (out / "index.html").write_text(overview_page(summaries), "utf-8")
    (out / "assets" / "navigation.js").write_text(navigation(summaries), "utf-8")
    for name in ASSETS:
        (out / "assets" / name).write_text(asset(name), "utf-8")
    return out


def seconds(measured: Any) -> float:
    metrics = {one["name"]: float(one["value"]) for one in measured.send("Performance.getMetrics")["metrics"]}
    return metrics["TaskDuration"]


def test_it_is_loaded_and_sorted_in_less_than_two_seconds(visit: Visit, site: Path) -> None:
    page = visit(site, "index.html")
    # Seconds of the page's own thread, so that what else runs on the machine does not count.
    measured = page.context.new_cdp_session(page)
    measured.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = seconds(measured)
    page.reload()
    table = page.locator("table.matrix")
    table.locator("thead th[data-measure] button").first.evaluate("button => button.click()")
    assert seconds(measured) - before < 2
    assert table.locator("tbody.methods tr").count() == EXPLAINERS
    assert table.locator("tbody.methods td[data-shown-rank]").count() == EXPLAINERS * PROTOCOLS
    skills = table.locator("tbody.methods tr").evaluate_all(
        "rows => rows.map(row => Number(row.cells[5].dataset.score))"
    )
    assert skills == sorted(skills, reverse=True)
    assert table.locator("td small").first.is_hidden()
    page.get_by_label("Intervals").check()
    assert table.locator("td small").first.is_visible()
