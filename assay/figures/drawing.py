"""What all figures share: colours, axes, and text from data that cannot do anything but be read."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from assay.benchmark.summary import CONTROLS
from assay.plain_text import clean

Given = ParamSpec("Given")

INK, QUIET, HAIR = "#1d2126", "#59616b", "#c9ced4"
# Those of the leaderboard: six that can be told apart by people who do not see all colours, then with dashes.
COLOURS = ("#0072b2", "#d55e00", "#00875f", "#b0579a", "#3fa0d8", "#b98300")
DASHES: tuple[Any, ...] = ("solid", (0, (6, 2)), (0, (2, 2)))
CONTROL_LINES: dict[str, tuple[str, Any]] = {"random": ("#8a929b", (0, (4, 3))), "oracle": (INK, (0, (1, 2)))}
ROW = 0.24
"""The height of a row with a name, in inches."""


class Drawing(Figure):
    """A figure that a notebook draws, although pyplot knows nothing of it."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=144, bbox_inches="tight")
        return buffer.getvalue()


def plain_text(draw: Callable[Given, Figure]) -> Callable[Given, Figure]:
    """Keep names away from TeX, whatever the user's style says of it."""

    @wraps(draw)
    def drawn(*args: Given.args, **kwargs: Given.kwargs) -> Figure:
        with mpl.rc_context({"text.usetex": False}):
            return draw(*args, **kwargs)

    return drawn


def figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of a width and a height in inches, with one pair of axes."""
    drawing = Drawing(figsize=(width, height), layout="constrained")
    axes = drawing.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return drawing, axes


def dots(axes: Axes, names: Sequence[str], means: Any, lows: Any, highs: Any) -> None:
    """A dot and an interval for each name, the first on top."""
    places = np.arange(len(names))
    axes.hlines(places, np.asarray(lows), np.asarray(highs), color=COLOURS[0], lw=1.6, alpha=0.55)
    shades = ["#8a929b" if name in CONTROLS else COLOURS[0] for name in names]
    axes.scatter(np.asarray(means), places, s=18, c=shades, zorder=3)
    axes.set_yticks(places, [safe(name) for name in names], fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", color=HAIR, lw=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(labelsize=8)


def safe(text: str) -> str:
    """Text from data: no control characters, and no dollar begins a formula; a legend hides what begins with `_`."""
    shown = clean(text, 80).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def title(measure: str) -> str:
    """A measure's name with spaces."""
    return safe(measure).replace("_", " ").strip()


def better(direction: str) -> str:
    """An arrow that says which values are better."""
    return {"higher": " ↑", "lower": " ↓"}.get(direction, "")
