"""What Weights & Biases is told of a cell, and of a leaderboard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.benchmark.store import Cell, digest
from assay.benchmark.summary import mean_curves
from assay.highlight import highlight

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = 32
TAG_LENGTH = 64  # of W&B
NUMBERS = {
    "mean": "mean",
    "ci_low": "ci_low",
    "ci_high": "ci_high",
    "skill": "skill",
    "skill_low": "skill_ci_low",
    "skill_high": "skill_ci_high",
}
FILES = ("leaderboard.csv", "leaderboard.json", "leaderboard.md", "index.html")


def about_cell(cell: Cell, sweep: str | None) -> dict[str, Any]:
    """What `wandb.init` is told: an id, so that the same cell replaces its run, names, tags, and the configuration."""
    task, model = str(cell.protocol["task"]["name"]), str(cell.protocol["model"]["name"])
    return {
        "id": cell.key,
        "name": f"{cell.explainer} · {task} · {model}",
        "group": str(sweep or cell.meta["protocol_key"]),
        "job_type": "cell",
        "tags": [tag[:TAG_LENGTH] for tag in dict.fromkeys((task, model, cell.explainer)) if tag],
        "config": {
            "key": cell.key,
            "protocol_key": cell.meta["protocol_key"],
            "protocol": dict(cell.protocol),
            "explainer": dict(cell.meta["explainer"]),
            "environment": json.loads((cell.path / "environment.json").read_text("utf-8")),
            "command": cell.meta.get("command"),
        },
    }


def fill_cell(run: Any, cell: Cell, rows: pd.DataFrame) -> None:
    """Log a cell: scores, curves, a table of examples, and its files.

    Args:
        run: the W&B run.
        cell: what to log.
        rows: the cell's rows of `summarise`.
    """
    import wandb

    run.summary.update(dict(summary(cell, rows)))
    _log_curves(run, cell)
    run.log({"examples": _examples(cell)})
    artifact = wandb.Artifact(_safe(f"{cell.explainer}-{cell.key}"), type="cell", metadata=dict(cell.meta["counts"]))
    for path in sorted(cell.path.iterdir()):
        # Not copied: a finished cell's files stay as they are.
        artifact.add_file(str(path), name=path.name, policy="immutable", skip_cache=True)
    run.log_artifact(artifact)


def summary(cell: Cell, rows: pd.DataFrame) -> Iterator[tuple[str, Any]]:
    """Names and values of a cell's numbers; one that is undefined is left out.

    A score is `<measure>/<perturbation>/` and `mean`, `ci_low`, `ci_high`, `n`, `undefined`, `skill`, `skill_ci_low` or
    `skill_ci_high`; beside them are `cost/...`, the mean for an example, `counts/...` and the model's `accuracy`.
    """
    for row in rows.to_dict("records"):
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
            title=f"{measure} ({perturbation}): mean and 95 % band",
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
            row["example"],
            wandb.Html(html, inject=False),
            *(_label(cell, row[name]) for name in ("label", "predicted", "target")),
            attribution["metric"],
            None if known else attribution["reason"],
            *(_finite(values.get((row["example"], *headline))) for headline in headlines),
        )
    return table


def about_leaderboard(out: Path) -> dict[str, Any]:
    """What `wandb.init` is told; the id stands for the content, so that the same leaderboard replaces its run."""
    return {
        "id": f"leaderboard-{digest((out / FILES[0]).read_text('utf-8'))}",
        "name": f"leaderboard · {out.absolute().name}",
        "job_type": "leaderboard",
        "tags": ["leaderboard"],
        "config": {},
    }


def fill_leaderboard(run: Any, out: Path) -> None:
    """Log a leaderboard: its rows as a table, its page, and its files."""
    import pandas as pd
    import wandb

    rows = pd.read_csv(out / FILES[0])
    for column in ("protocol", "task", "model", "explainer"):
        run.summary[f"{column}s"] = int(rows[column].nunique())
    # Objects, because a whole number that is missing is neither an integer nor NaN to W&B.
    table = wandb.Table(dataframe=rows.astype(object).where(rows.notna(), None), allow_mixed_types=True)
    run.log({"leaderboard": table, "page": wandb.Html(str(out / "index.html"), inject=False)})
    artifact = wandb.Artifact("leaderboard", type="leaderboard")
    for name in FILES:
        if (out / name).is_file():
            artifact.add_file(str(out / name), name=name, skip_cache=True)
    run.log_artifact(artifact)


def _label(cell: Cell, index: Any) -> str | None:
    """A class by its name where the protocol holds the model's own order, else by its index."""
    if index is None or not np.isfinite(index):
        return None
    names = cell.protocol["model"].get("labels") or []
    return str(names[int(index)]) if int(index) < len(names) else f"class {int(index)}"


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def _list(array: Any) -> list[bool] | None:
    return None if array is None else [bool(one) for one in array]


def _safe(name: str) -> str:
    """A name that W&B takes for an artifact."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[-120:]
