"""What Weights & Biases is told of a cell, and of a leaderboard."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.benchmark.cell import Cell
from assay.benchmark.mean_curves import mean_curves
from assay.benchmark.summary import CONTROLS, MEAN_SKILL
from assay.benchmark.work import work_of
from assay.content_policy import policy
from assay.digests import digest
from assay.highlight import highlight
from assay.plain_text import clean

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = 32
TAG_LENGTH = 64  # of W&B, as the next
NAME_LENGTH = 128
NUMBERS = {
    "mean": "mean",
    "ci_low": "ci_low",
    "ci_high": "ci_high",
    "skill": "skill",
    "skill_low": "skill_ci_low",
    "skill_high": "skill_ci_high",
}
PLOTS = 50
"""Of so many protocols and ways of hiding the skill is plotted; W&B shows no more on a page."""
LINKS = 500
"""So many cells at most are declared as a leaderboard's inputs, because each is a question to the server."""
_WORK = (
    "forward_rows",
    "forward_tokens",
    "backward_rows",
    "backward_tokens",
    "seconds",
    "rows_per_second",
    "tokens_per_second",
    "model_share",
    "padding_share",
    "asked_per_answered",
    "known_share",
)
ROWS = 200_000  # W&B's limit of a table


def about_cell(cell: Cell, sweep: str | None) -> dict[str, Any]:
    """What `wandb.init` is told: an id, so that the same cell replaces its run, names, tags, and the configuration."""
    task, model = str(cell.protocol["task"]["name"]), str(cell.protocol["model"]["name"])
    return {
        "id": cell.key,
        "name": clean(f"{cell.explainer} · {task} · {model}", NAME_LENGTH),
        "group": str(sweep or cell.meta["protocol_key"]),
        "job_type": "cell",
        "tags": [clean(tag, TAG_LENGTH) for tag in dict.fromkeys((task, model, cell.explainer)) if tag],
        "config": {
            "key": cell.key,
            "protocol_key": cell.meta["protocol_key"],
            "protocol": dict(cell.protocol),
            "explainer": dict(cell.meta["explainer"]),
            "environment": json.loads((cell.path / "environment.json").read_text("utf-8")),
            "command": cell.meta.get("command"),
        },
    }


def fill_cell(run: Any, cell: Cell, scores: pd.DataFrame, skills: pd.DataFrame) -> None:
    """Log a cell: scores, curves, a table of examples, and its files.

    Args:
        run: the W&B run.
        cell: what to log.
        scores: the cell's rows of `summarise`.
        skills: the cell's rows of `overall`.
    """
    import wandb

    run.summary.update(dict(summary(cell, scores, skills)))
    _log_curves(run, cell)
    run.log({"examples": _examples(cell)})
    metadata = {**cell.meta["counts"], "key": cell.key, "checksums": checksums(cell)}
    artifact = wandb.Artifact(artifact_name(cell), type="cell", metadata=metadata)
    for path in sorted(cell.path.iterdir()):
        # Not copied: a finished cell's files stay as they are.
        artifact.add_file(str(path), name=path.name, policy="immutable", skip_cache=True)
    run.log_artifact(artifact)


def artifact_name(cell: Cell) -> str:
    """What the artifact with a cell's files is called."""
    return _safe(f"{cell.explainer}-{cell.key}")


def checksums(cell: Cell) -> str:
    """What stands for all files of a cell: the SHA-256 of the file that holds the SHA-256 of every other."""
    return hashlib.sha256((cell.path / "checksums.json").read_bytes()).hexdigest()


def about_job(cells: Sequence[Cell], run_id: str, group: str | None) -> dict[str, Any]:
    """What `wandb.init` is told of a job that an agent of a sweep has started."""
    methods = [cell.explainer for cell in cells if cell.explainer not in CONTROLS]
    first = cells[0]
    names = str(first.protocol["task"]["name"]), str(first.protocol["model"]["name"])
    return {
        "id": run_id,
        "name": clean(" · ".join((", ".join(methods) or "controls", *names)), NAME_LENGTH),
        "group": group,
        "job_type": "job",
        "config": {"cells": [cell.key for cell in cells], "protocol_key": first.meta["protocol_key"]},
    }


def fill_job(run: Any, cells: Sequence[Cell], scores: pd.DataFrame, skills: pd.DataFrame) -> None:
    """Log a job of a sweep: the numbers of its methods, for the sweep to compare and to optimise.

    They have the names that they have in a cell's run; of several methods, each name begins with the method's.

    Args:
        run: the W&B run.
        cells: of the job, the controls included.
        scores: of all of them, as `summarise` gives them.
        skills: as `overall` gives them.
    """
    methods = [cell for cell in cells if cell.explainer not in CONTROLS] or list(cells)
    for cell in methods:
        own = [frame[frame["key"] == cell.key] if len(frame) else frame for frame in (scores, skills)]
        before = f"{cell.explainer}/" if len(methods) > 1 else ""
        run.summary.update({f"{before}{name}": value for name, value in summary(cell, own[0], own[1])})


def summary(cell: Cell, scores: pd.DataFrame, skills: pd.DataFrame) -> Iterator[tuple[str, Any]]:
    """Names and values of a cell's numbers; one that is undefined is left out.

    A score is `<measure>/<perturbation>/` and `mean`, `ci_low`, `ci_high`, `n`, `undefined`, `skill`, `skill_ci_low` or
    `skill_ci_high`. What the leaderboard ranks by is `mean_skill/<perturbation>/` and `mean`, `ci_low`, `ci_high` or
    `n`. Beside them are `cost/...`, the mean for an example, `counts/...`, the model's `accuracy`, and `work/...`: the
    cell's share of what its job took, and how well the machine was used.
    """
    for row in skills.to_dict("records"):
        if np.isfinite(row["skill"]):
            name = f"{MEAN_SKILL}/{row['perturbation']}"
            yield f"{name}/mean", float(row["skill"])
            yield f"{name}/n", int(row["n"])
            for column, short in (("skill_low", "ci_low"), ("skill_high", "ci_high")):
                if np.isfinite(row[column]):
                    yield f"{name}/{short}", float(row[column])
    for row in scores.to_dict("records"):
        if not row["headline"] or row["metric"] in cell.meta["cost"]:
            continue
        name = f"{row['metric']}/{row['perturbation']}"
        for column, short in NUMBERS.items():
            if np.isfinite(row[column]):
                yield f"{name}/{short}", float(row[column])
        yield f"{name}/n", int(row["n"])
        yield f"{name}/undefined", int(row["undefined"])
    for cost, value in cell.meta["cost"].items():
        if np.isfinite(value):
            yield f"cost/{cost}", float(value)
    for name in ("examples", "truncated_examples", "truncated_tokens"):
        yield f"counts/{name}", int(cell.meta["counts"][name])
    for measure, count in cell.meta["counts"]["undefined"].items():
        yield f"counts/undefined/{measure}", int(count)
    work = work_of(cell)
    if work is not None:
        for name in _WORK:
            value = getattr(work, name)
            if np.isfinite(value):
                yield f"work/{name}", float(value)
    accuracy = cell.meta.get("accuracy")
    if accuracy is not None and np.isfinite(accuracy):
        yield "accuracy", float(accuracy)


def _log_curves(run: Any, cell: Cell) -> None:
    """Mean curves twice: as history, so that W&B lays several runs over each other; and as a plot with the band."""
    import wandb

    along = "share of features"
    steps: dict[float, dict[str, float]] = {}
    plots = {}
    for (perturbation, measure), curve in mean_curves(cell).groupby(["perturbation", "metric"], sort=False):
        name = f"{measure}/{perturbation}"
        run.define_metric(f"curve/{name}", step_metric=along, summary="none")
        for x, mean in zip(curve["x"].tolist(), curve["mean"].tolist(), strict=True):
            steps.setdefault(x, {})[f"curve/{name}"] = mean
        lines = {column: curve[column].tolist() for column in ("mean", "low", "high") if curve[column].notna().all()}
        plots[f"band/{name}"] = wandb.plot.line_series(
            xs=curve["x"].tolist(),
            ys=list(lines.values()),
            keys=list(lines),
            title=f"{clean(measure)} ({clean(perturbation)}): mean and 95 % band",
            xname=along,
        )
    if steps:
        run.define_metric(along, hidden=True, summary="none")
        for x, values in steps.items():
            run.log({along: x, **values})
        run.log(plots)


def _examples(cell: Cell) -> Any:
    """Some examples, evenly spaced, their words highlighted by score."""
    import wandb

    examples = cell.table("examples")
    chosen = examples.iloc[np.linspace(0, len(examples) - 1, min(EXAMPLES, len(examples))).round().astype(int)]
    # Of several draws the first; a search has one attribution for each metric, and says for which.
    attributions = cell.table("attributions").drop_duplicates("example").set_index("example")
    scores = cell.scores[cell.scores["example"].isin(chosen["example"])]
    values = scores.set_index(["example", "metric", "perturbation"])["value"].to_dict()
    headlines = [
        (measure, perturbation)
        for perturbation in dict.fromkeys(scores["perturbation"])
        for measure, about in cell.meta["measures"].items()
        if about["headline"] and measure not in cell.meta["cost"]
    ]
    table = wandb.Table(
        columns=["id", "words", "label", "predicted", "explained", "searched for", "no attribution because"]
        + [f"{measure} ({perturbation})" for measure, perturbation in headlines]
    )
    for row in chosen.to_dict("records"):
        attribution = attributions.loc[row["example"]]
        known = attribution["scores"] is not None
        drawn = np.asarray(attribution["scores"], dtype=np.float64) if known else np.zeros(len(row["features"]))
        html = highlight(
            list(row["features"]), list(row["segments"]), drawn, bool(attribution["signed"]), _list(row["rationale"])
        )
        table.add_data(
            clean(row["example"]),
            wandb.Html(html, inject=False),
            *(_label(cell, row[name]) for name in ("label", "predicted", "target")),
            attribution["metric"],
            None if known else clean(attribution["reason"]),
            *(_finite(values.get((row["example"], *headline))) for headline in headlines),
        )
    return table


def about_leaderboard(out: Path) -> dict[str, Any]:
    """What `wandb.init` is told; the id stands for the content, so that the same leaderboard replaces its run."""
    content = json.loads((out / "leaderboard.json").read_text("utf-8"))
    return {
        "id": f"leaderboard-{digest((out / 'leaderboard.csv').read_text('utf-8'))}",
        "name": clean(f"leaderboard · {out.absolute().name}", NAME_LENGTH),
        "job_type": "leaderboard",
        "tags": ["leaderboard"],
        "config": {"protocol_keys": sorted(content["protocols"]), "ranked_by": content["ranked_by"]},
    }


def fill_leaderboard(run: Any, out: Path, cells: Sequence[Cell] = ()) -> None:
    """Log a leaderboard: its rows, plots of skill, its first page, its files, and the cells that it was made of.

    Args:
        run: the W&B run.
        out: the folder of the site.
        cells: which the site was made of.
    """
    import pandas as pd
    import wandb

    rows = pd.read_csv(out / "leaderboard.csv")
    for column in ("protocol", "task", "model", "explainer"):
        run.summary[f"{column}s"] = int(rows[column].nunique())
    shown = rows if len(rows) <= ROWS else rows[rows["metric"] == MEAN_SKILL].head(ROWS)
    # Objects, because a whole number that is missing is neither an integer nor NaN to W&B.
    table = wandb.Table(dataframe=shown.astype(object).where(shown.notna(), None), allow_mixed_types=True)
    run.log({"leaderboard": table, "page": wandb.Html(_on_its_own(out), inject=False), **_skill_plots(rows)})
    metadata = {"cells": len(cells), "protocols": int(rows["protocol"].nunique())}
    artifact = wandb.Artifact("leaderboard", type="leaderboard", metadata=metadata)
    artifact.add_dir(str(out), skip_cache=True)
    if cells:
        _log_lineage(run, cells)
    run.log_artifact(artifact)


def _skill_plots(rows: pd.DataFrame) -> dict[str, Any]:
    """For each protocol and way of hiding, the mean skill of the methods as bars, the best first, and against cost."""
    import wandb

    plots: dict[str, Any] = {}
    ranked = rows[(rows["metric"] == MEAN_SKILL) & rows["rank"].notna()]
    for (protocol, perturbation), group in list(ranked.groupby(["protocol", "perturbation"], sort=False))[:PLOTS]:
        group = group.sort_values("rank").astype(object)
        group = group.assign(rows=group["forward_rows"] + group["backward_rows"])
        about = clean(f"{group['task'].iloc[0]} × {group['model'].iloc[0]}, {perturbation}")
        columns = ["explainer", "mean", "ci_low", "ci_high", "rows", "seconds"]
        table = wandb.Table(dataframe=group[columns].where(group[columns].notna(), None), allow_mixed_types=True)
        name = f"{str(protocol)[:8]}/{perturbation}"
        plots[f"skill/{name}"] = wandb.plot.bar(table, "explainer", "mean", title=f"mean skill: {about}")
        plots[f"cost/{name}"] = wandb.plot.scatter(table, "rows", "mean", title=f"mean skill over rows: {about}")
    return plots


def _on_its_own(out: Path) -> str:
    """The first page of the site without the files that lie beside it: its style inside, its scripts left out."""
    page = (out / "index.html").read_text("utf-8")
    style = (out / "assets" / "site.css").read_text("utf-8")
    page = re.sub(r'<link rel="stylesheet"[^>]*>', lambda _: f"<style>{style}</style>", page)
    page = re.sub(r"<script src=[^>]*></script>", "", page)
    allowed = f'<meta http-equiv="Content-Security-Policy" content="{escape(policy(style))}">'
    return re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', lambda _: allowed, page)


def _log_lineage(run: Any, cells: Sequence[Cell]) -> None:
    """Tell which cells a leaderboard was made of: by names and checksums always, and to W&B's graph where it is online.

    A cell whose artifact is not at the server, because its run has not been uploaded, is counted and left out.
    """
    import wandb

    table = wandb.Table(columns=["artifact", "run", "explainer", "task", "model", "protocol", "checksums"])
    for cell in cells:
        names = str(cell.protocol["task"]["name"]), str(cell.protocol["model"]["name"])
        about = cell.explainer, *names, str(cell.meta["protocol_key"]), checksums(cell)
        table.add_data(artifact_name(cell), cell.key, *about)
    run.log({"cells": table})
    linked, missing = 0, 0
    if not run.offline:
        for cell in cells[:LINKS]:
            try:
                run.use_artifact(f"{artifact_name(cell)}:latest", type="cell")
                linked += 1
            except (wandb.errors.CommError, ValueError):
                missing += 1
    run.summary.update({"cells": len(cells), "cells_linked": linked, "cells_missing": missing})


def _label(cell: Cell, index: Any) -> str | None:
    """A class by its name where the protocol holds the model's own order, else by its index."""
    if index is None or not np.isfinite(index):
        return None
    names = cell.protocol["model"].get("labels") or []
    return clean(names[int(index)]) if int(index) < len(names) else f"class {int(index)}"


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def _list(array: Any) -> list[bool] | None:
    return None if array is None else [bool(one) for one in array]


def _safe(name: str) -> str:
    """A name that W&B takes for an artifact."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[-120:]
