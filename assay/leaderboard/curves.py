"""Mean deletion and insertion curves with bands, as the paths of a small SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from assay.benchmark.axes import axes
from assay.benchmark.mean_curves import mean_curves
from assay.benchmark.summary import CONTROLS
from assay.leaderboard.board import Board, is_control
from assay.leaderboard.text import clean, number, title

if TYPE_CHECKING:
    import pandas as pd

# The curves of so many methods can be chosen from; the table has the areas of all.
LIMIT = 30
COLOURS, DASHES = 6, 3
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 44, 18, 10, 40


@dataclass(frozen=True)
class Line:
    """One explainer's curve; `means` are its values at the ticks of the x axis."""

    name: str
    path: str
    band: str
    means: list[str]


@dataclass(frozen=True)
class Chart:
    """One measure's curves: lines by explainer and the ticks of both axes, as (place, text).

    `drawn` says what the lines show, and `along` what is on the x axis.
    """

    measure: str
    drawn: str
    along: str
    direction: str
    lines: list[Line]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


def charts(board: Board) -> dict[str, list[Chart]]:
    """By way of hiding, a chart for each measure that has curves; the lines in the order of `Board.names`.

    Of many methods the best `LIMIT` are there, and the controls.
    """
    curves: dict[tuple[str, str], dict[str, pd.DataFrame]] = {}
    shown = {perturbation: _shown(board, perturbation) for perturbation in board.perturbations}
    for name, cell in board.named():
        if not any(name in names for names in shown.values()):
            continue
        for (perturbation, metric), curve in mean_curves(cell).groupby(["perturbation", "metric"], sort=False):
            if name in shown.get(str(perturbation), ()):
                curves.setdefault((str(perturbation), str(metric)), {})[clean(name)] = curve
    directions = dict(zip(board.scores["metric"], board.scores["direction"], strict=True))
    drawn: dict[str, list[Chart]] = {}
    for (perturbation, metric), by_name in curves.items():
        told, along = (clean(text) for text in axes(metric, board.protocol))
        drawn.setdefault(perturbation, []).append(_chart(metric, told, along, directions.get(metric, "none"), by_name))
    return drawn


def looks(names: Sequence[str]) -> dict[str, str]:
    """Classes for the lines of explainers: six colours by three dashes, then again; the controls have their own.

    Args:
        names: the explainers, the best first: those that are drawn first look least alike.
    """
    methods = [name for name in names if name not in CONTROLS]
    found = {name: f"s{place % COLOURS} d{place // COLOURS % DASHES}" for place, name in enumerate(methods)}
    return {**found, "random": "floor", "oracle": "ceiling"}


def _shown(board: Board, perturbation: str) -> set[str]:
    names = list(board.standing(perturbation)["name"])
    controls = {name for name, cell in board.named() if is_control(cell)}
    return {*[name for name in names if name not in controls][:LIMIT], *controls}


def _chart(metric: str, drawn: str, along: str, direction: str, curves: dict[str, pd.DataFrame]) -> Chart:
    values = np.concatenate([curve[["mean", "low", "high"]].to_numpy(np.float64).ravel() for curve in curves.values()])
    bottom, top, ticks = _range(values[np.isfinite(values)])

    def place(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[tuple[float, float]]:
        across = LEFT + x * (WIDTH - LEFT - RIGHT)
        down = TOP + (top - y) / (top - bottom) * (HEIGHT - TOP - BOTTOM)
        return list(zip(across.tolist(), down.tolist(), strict=True))

    lines = []
    for name, curve in curves.items():
        x, mean, low, high = (curve[column].to_numpy(np.float64) for column in ("x", "mean", "low", "high"))
        whole = bool(np.isfinite(low).all() and np.isfinite(high).all())
        band = _path([*place(x, high), *reversed(place(x, low))]) + "Z" if whole else ""
        means = [number(value) for value in np.interp(TICKS, x, mean).tolist()]
        lines.append(Line(name, _path(place(x, mean)), band, means))
    x_ticks = [(place(np.array([tick]), np.array([bottom]))[0][0], f"{tick:.0%}") for tick in TICKS]
    y_ticks = [(place(np.array([0.0]), np.array([tick]))[0][1], number(tick, 2)) for tick in ticks]
    return Chart(title(metric), drawn, along, direction, lines, x_ticks, y_ticks)


def _range(values: NDArray[np.float64]) -> tuple[float, float, list[float]]:
    """Bottom, top and ticks of the y axis; 0 to 1 where all values lie there, because probabilities do."""
    if not len(values) or (values.min() >= -1e-9 and values.max() <= 1 + 1e-9):
        return 0.0, 1.0, [0.0, 0.25, 0.5, 0.75, 1.0]
    bottom, top = float(values.min()), float(values.max())
    rough = max(top - bottom, 1e-6) / 4
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = np.floor(bottom / step), np.ceil(top / step)
    ticks = [float(step * one) for one in np.arange(first, last + 1)]
    return ticks[0], ticks[-1] if len(ticks) > 1 else ticks[0] + step, ticks


def _path(points: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
