"""Faithfulness against cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from assay.benchmark.summary import overall
from assay.errors import AssayError, unknown_name
from assay.figures.chosen import Results, chosen, hiding, named
from assay.figures.drawing import COLOURS, CONTROL_LINES, HAIR, INK, QUIET, figure, plain_text, safe


@plain_text
def pareto(
    results: Results,
    cost: Literal["rows", "seconds"] = "rows",
    perturbation: str | None = None,
    task: str | None = None,
    model: str | None = None,
    protocol: str | None = None,
) -> Figure:
    """Mean skill against what one explanation costs; a line joins the methods that no other beats in both.

    A method without a rank, because it is defined for too few of the examples, is left out.

    Args:
        results: a results folder, or cells of it; the controls are needed.
        cost: `rows` (through the model, forward and backward) or `seconds`; a mean over the examples.
        perturbation: how features were hidden; None for the only way, or the protocol's first.
        task: by name, where the results are of several.
        model: by name, likewise.
        protocol: the beginning of its key, likewise.

    Raises:
        AssayError: no such results or perturbation, several protocols to choose from, or no skill or cost to draw.
    """
    if cost not in ("rows", "seconds"):
        raise unknown_name("cost", str(cost), ("rows", "seconds"))
    cells = chosen(results, task, model, protocol)
    hidden_by = hiding(cells, perturbation)
    frame = overall(cells)
    frame = frame[(frame["perturbation"] == hidden_by) & frame["rank"].notna()]
    spent = {cell.key: cell.meta["cost"] for cell in cells}
    priced = [_price(spent[key], cost) for key in frame["key"]]
    frame = frame.assign(price=priced, name=named(frame, cells))
    unknown = [name for name, price in zip(frame["name"], priced, strict=True) if not np.isfinite(price)]
    frame = frame[np.isfinite(frame["price"])].sort_values(["price", "skill"], ascending=[True, False])
    if not len(frame):
        raise AssayError(f"No method has both a skill and a cost, hidden by {hidden_by}: there is nothing to draw.")
    prices, skills = frame["price"].to_numpy(np.float64), frame["skill"].to_numpy(np.float64)
    best = front(prices, skills)
    drawing, axes = figure(6.4, 4.2)
    for members, shade in ((~best, HAIR), (best, COLOURS[0])):
        part = frame[members]
        errors = np.abs(np.stack([part["skill"] - part["skill_low"], part["skill_high"] - part["skill"]]))
        axes.errorbar(part["price"], part["skill"], yerr=errors, fmt="o", ms=4, lw=1, color=shade, ecolor=shade)
    axes.step(prices[best], skills[best], where="post", color=COLOURS[0], lw=1, alpha=0.6)
    shown = [place for place in range(len(frame)) if best[place] or len(frame) <= 12]
    for place, label in zip(shown, frame["name"].iloc[shown], strict=True):
        below = any(_near(prices, skills, other, place) and skills[other] > skills[place] for other in shown)
        axes.annotate(
            safe(label),
            (prices[place], skills[place]),
            xytext=(4, -11 if below else 5),
            textcoords="offset points",
            fontsize=7.5,
            color=INK if best[place] else QUIET,
        )
    positive = prices[prices > 0]
    linear = 1.0 if cost == "rows" else float(positive.min(initial=1.0))
    axes.set_xscale("symlog", linthresh=linear)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(left=-linear / 8, right=float(prices.max(initial=1.0)) * 4)
    axes.axhline(0, color=QUIET, lw=0.8, ls=CONTROL_LINES["random"][1], zorder=0)
    axes.set_ylabel("mean skill ↑  (0 = random, 1 = oracle)")
    told = f"\nnot drawn, cost unknown: {safe(', '.join(unknown))}" if unknown else ""
    unit = "rows through the model" if cost == "rows" else "seconds"
    axes.set_xlabel(f"{unit} for one explanation ↓{told}")
    return drawing


def front(prices: NDArray[np.float64], skills: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points no other beats, being cheaper and no worse, or better and no dearer, [points]."""
    cheaper, dearer = prices[:, None], prices[None, :]
    better, worse = skills[:, None], skills[None, :]
    beats = (cheaper <= dearer) & (better >= worse) & ((cheaper < dearer) | (better > worse))
    return np.asarray(~beats.any(axis=0))


def _near(prices: NDArray[np.float64], skills: NDArray[np.float64], one: int, other: int) -> bool:
    """Whether the names of two points would lie on each other."""
    return bool(abs(np.log1p(prices[one]) - np.log1p(prices[other])) < 1.0 and abs(skills[one] - skills[other]) < 0.04)


def _price(spent: Mapping[str, float], cost: str) -> float:
    return float(spent["forward_rows"] + spent["backward_rows"] if cost == "rows" else spent["seconds"])
