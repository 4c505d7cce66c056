"""Mean curves with bands."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from assay.benchmark.axes import axes as axes_of
from assay.benchmark.mean_curves import mean_curves
from assay.benchmark.summary import CONTROLS, overall, told_apart
from assay.errors import unknown_name
from assay.figures.chosen import Results, chosen, hiding
from assay.figures.drawing import COLOURS, CONTROL_LINES, DASHES, better, figure, plain_text, safe, title

METHODS = 4
"""So many methods' curves are drawn, the best ones, where none are named."""


@plain_text
def curves(
    results: Results,
    metric: str = "deletion",
    perturbation: str | None = None,
    explainers: Sequence[str] | None = None,
    task: str | None = None,
    model: str | None = None,
    protocol: str | None = None,
) -> Figure:
    """The mean curve of a measure by each explainer, with its bootstrap 95 % band.

    Args:
        results: a results folder, or cells of it.
        metric: a measure that has curves, such as `deletion` or `insertion`.
        perturbation: how features were hidden; None for the only way, or the protocol's first.
        explainers: whose curves; None for the four best and the controls.
        task: by name, where the results are of several.
        model: by name, likewise.
        protocol: the beginning of its key, likewise.

    Raises:
        AssayError: no such results, measure, perturbation or explainer, or several protocols to choose from.
    """
    cells = chosen(results, task, model, protocol)
    hidden_by = hiding(cells, perturbation)
    standing = overall(cells)
    standing = standing[standing["perturbation"] == hidden_by].sort_values(["rank", "explainer"], na_position="last")
    names = dict(zip((cell.key for cell in cells), told_apart(cells), strict=True))
    if explainers is not None:
        for name in explainers:
            if name not in names.values():
                raise unknown_name("explainer", name, names.values())
        keys = [key for name in explainers for key in names if names[key] == name]
    else:
        controls = [cell.key for name in CONTROLS for cell in cells if cell.explainer == name]
        keys = [*[key for key in standing["key"] if key not in controls][:METHODS], *controls]
    by_key = {cell.key: cell for cell in cells}
    drawing, axes = figure(5.2, 3.4)
    known: set[str] = set()
    drawn = 0
    for key in keys:
        found = mean_curves(by_key[key])
        found = found[found["perturbation"] == hidden_by]
        known |= set(found["metric"])
        curve = found[found["metric"] == metric]
        if not len(curve):
            continue
        name = by_key[key].explainer
        shade, dashes = CONTROL_LINES.get(name, (COLOURS[drawn % 6], DASHES[drawn // 6 % 3]))
        drawn += name not in CONTROL_LINES
        x, mean, low, high = (curve[column].to_numpy(np.float64) for column in ("x", "mean", "low", "high"))
        axes.fill_between(100 * x, low, high, color=shade, alpha=0.15, lw=0)
        axes.plot(100 * x, mean, color=shade, ls=dashes, lw=1.6, label=safe(names[key]))
    if not axes.lines:
        raise unknown_name("curve", metric, known)
    shown, along = axes_of(metric, cells[0].protocol)
    directions = {name: about["direction"] for cell in cells for name, about in cell.meta["measures"].items()}
    axes.set_title(f"{title(metric)}{better(directions.get(metric, 'none'))}", loc="left", fontsize=10)
    axes.set_ylabel("\n".join(textwrap.wrap(safe(shown), 42)))
    axes.set_xlabel(f"{safe(along)} (%)")
    axes.set_xlim(0, 100)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8)
    return drawing
