"""Dots with intervals: skill from stored results, and scores from `assay.evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from assay.benchmark.intervals import mean_interval
from assay.benchmark.summary import CONTROLS, overall, summarise
from assay.errors import AssayError, unknown_name
from assay.figures.chosen import Results, chosen, hiding, named
from assay.figures.drawing import CONTROL_LINES, QUIET, ROW, Drawing, better, dots, figure, plain_text, title

if TYPE_CHECKING:
    import pandas as pd


@plain_text
def skill(
    results: Results,
    metric: str | None = None,
    perturbation: str | None = None,
    task: str | None = None,
    model: str | None = None,
    protocol: str | None = None,
) -> Figure:
    """The skill of every explainer with its 95 % interval, the best first; 0 is random, 1 is the oracle.

    Letters stand at the right: two methods that share one cannot be told apart by paired tests.

    Args:
        results: a results folder, or cells of it; the controls are needed.
        metric: a measure; None for the mean skill, which the leaderboard ranks by.
        perturbation: how features were hidden; None for the only way, or the protocol's first.
        task: by name, where the results are of several.
        model: by name, likewise.
        protocol: the beginning of its key, likewise.

    Raises:
        AssayError: no such results, measure or perturbation, several protocols to choose from, or no skill, because a
            control is missing or the measure has no oracle.
    """
    cells = chosen(results, task, model, protocol)
    hidden_by = hiding(cells, perturbation)
    frame = overall(cells) if metric is None else summarise(cells)
    if metric is not None:
        if metric not in set(frame["metric"]):
            raise unknown_name("measure", metric, frame["metric"])
        frame = frame[frame["metric"] == metric]
    frame = frame[(frame["perturbation"] == hidden_by) & ~frame["explainer"].isin(CONTROLS)]
    frame = frame[frame["skill"].notna()].sort_values("skill", ascending=False)
    if not len(frame):
        raise AssayError(
            f"There is no skill to draw for {metric or 'any measure'}, hidden by {hidden_by}: a control is missing, or "
            "the oracle does not beat chance."
        )
    drawing, axes = figure(5.2, 0.9 + ROW * len(frame))
    dots(axes, named(frame, cells), frame["skill"], frame["skill_low"], frame["skill_high"])
    for place, group in enumerate(frame["group"]):
        axes.annotate(group, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=7, color=QUIET)
    for level, dashes in ((0.0, CONTROL_LINES["random"][1]), (1.0, CONTROL_LINES["oracle"][1])):
        axes.axvline(level, color=QUIET, lw=0.8, ls=dashes, zorder=0)
    axes.set_xlabel(f"{'mean skill' if metric is None else f'skill in {title(metric)}'} ↑  (0 = random, 1 = oracle)")
    return drawing


@plain_text
def scores(frame: pd.DataFrame) -> Figure:
    """What `assay.evaluate` has found: the mean of each measure by each explainer, with its bootstrap 95 % interval.

    Args:
        frame: with the columns `explainer`, `id` and one for each measure.

    Raises:
        AssayError: it is no such frame, or has no value.
    """
    measures = [column for column in frame.columns if column not in ("explainer", "id")]
    if "explainer" not in frame.columns or not measures:
        raise AssayError("These are no results of assay.evaluate: the columns explainer, id and measures are expected.")
    measures = [one for one in measures if frame[one].notna().any()]
    if not measures:
        raise AssayError("There is no value to draw: all of them are undefined.")
    names = list(dict.fromkeys(frame["explainer"]))
    names = [*(name for name in names if name not in CONTROLS), *(name for name in CONTROLS if name in names)]
    drawing = Drawing(figsize=(2.0 + 1.9 * len(measures), 0.9 + ROW * len(names)), layout="constrained")
    panels = drawing.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    directions = frame.attrs.get("directions", {})
    for panel, measure in zip(panels, measures, strict=True):
        found = [mean_interval(frame.loc[frame["explainer"] == name, measure].to_numpy(np.float64)) for name in names]
        dots(panel, names, *([getattr(one, part) for one in found] for part in ("mean", "low", "high")))
        panel.set_xlabel(f"{title(measure)}{better(directions.get(measure, 'none'))}")
    return drawing
