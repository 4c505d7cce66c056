"""Mean ranks and what cannot be told apart among them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from assay.benchmark.summary import MEAN_SKILL, Contest, contests
from assay.errors import AssayError
from assay.figures.chosen import Results, chosen, hiding
from assay.figures.drawing import COLOURS, HAIR, INK, QUIET, ROW, figure, plain_text, safe, title


@plain_text
def critical_difference(
    results: Results | Contest,
    metric: str = MEAN_SKILL,
    perturbation: str | None = None,
    task: str | None = None,
    model: str | None = None,
    protocol: str | None = None,
) -> Figure:
    """Mean ranks over the examples; a bar joins methods that Nemenyi's test cannot tell apart (Demšar 2006, figure 1).

    Args:
        results: a results folder, cells of it, or one of `assay.benchmark.summary.contests`.
        metric: a measure with a direction; by default the mean skill.
        perturbation: how features were hidden; None for the only way, or the protocol's first.
        task: by name, where the results are of several.
        model: by name, likewise.
        protocol: the beginning of its key, likewise.

    Raises:
        AssayError: no such results, measure or perturbation, several protocols to choose from, or too few methods or
            examples for the test.
    """
    if isinstance(results, Contest):
        contest = results
    else:
        cells = chosen(results, task, model, protocol)
        found = contests(cells, metric, hiding(cells, perturbation))
        if not found:
            raise AssayError(f"No method has a value for {metric}, so there is nothing to rank.")
        contest = found[0]
    test = contest.friedman()
    if test.reason:
        raise AssayError(f"There is no critical difference: {test.reason}.")
    order = np.argsort(test.mean_ranks, kind="stable")
    ranks, names = test.mean_ranks[order], [contest.names[place] for place in order]
    bars = cliques(ranks.tolist(), test.critical_difference)
    count, half = len(names), (len(names) + 1) // 2
    top = 0.35 + 0.13 * len(bars)
    drawing, axes = figure(6.4, 0.4 + top + ROW * half)
    axes.set_axis_off()
    axes.set_xlim(0.5 - 0.45 * count, 0.5 + 1.45 * count)
    axes.set_ylim(-(top + ROW * (half + 0.5)), 0.75)
    axes.plot([1, count], [0, 0], color=INK, lw=1)
    for tick in range(1, count + 1, max(1, count // 10)):
        axes.plot([tick, tick], [0, 0.06], color=INK, lw=1)
        axes.text(tick, 0.1, str(tick), ha="center", va="bottom", fontsize=8, color=INK)
    if np.isfinite(test.critical_difference):
        end = 1 + min(test.critical_difference, count - 1.0)
        axes.plot([1, 1, end, end], [0.4, 0.48, 0.48, 0.4], color=QUIET, lw=1)
        axes.text(
            (1 + end) / 2, 0.52, f"critical difference {test.critical_difference:.2f}", ha="center", fontsize=7.5,
            color=QUIET,
        )  # fmt: skip
    for place, (first, last) in enumerate(bars):
        y = -0.12 - 0.13 * place
        axes.plot([ranks[first] - 0.06, ranks[last] + 0.06], [y, y], color=COLOURS[0], lw=3, solid_capstyle="round")
    for place, (rank, name) in enumerate(zip(ranks, names, strict=True)):
        left = place < half
        row = place if left else count - 1 - place
        y, edge = -(top + ROW * row), 0.6 if left else count + 0.4
        axes.plot([rank, rank, edge], [0, y, y], color=HAIR if place % 2 else QUIET, lw=0.8, zorder=0)
        axes.text(
            edge + (-0.1 if left else 0.1), y, f"{safe(name)}  {rank:.2f}" if left else f"{rank:.2f}  {safe(name)}",
            ha="right" if left else "left", va="center", fontsize=8, color=INK,
        )  # fmt: skip
    axes.set_title(
        f"mean rank (1 is best) by {title(contest.metric)}: {test.examples} examples, Friedman p = {test.p:.2g}",
        fontsize=9,
    )
    return drawing


def cliques(ranks: Sequence[float], difference: float) -> list[tuple[int, int]]:
    """The longest runs of sorted mean ranks that span no more than the critical difference, as (first, last) places.

    A run of a single method, or one that lies in another, is left out.
    """
    found: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = max(place for place, other in enumerate(ranks) if other - rank <= difference or place == first)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found
