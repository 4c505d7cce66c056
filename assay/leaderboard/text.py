"""Numbers and names as a reader sees them. What comes from data is made harmless, and escaped by the templates."""

from __future__ import annotations

import math

from assay.leaderboard.protocols import MISSING
from assay.plain_text import clean

__all__ = ["ARROWS", "amount", "clean", "interval", "number", "percent", "seconds", "title"]

ARROWS = {"higher": "↑", "lower": "↓"}


def number(value: float, digits: int = 3) -> str:
    """A score; `—` where there is none, and never a negative zero."""
    if not math.isfinite(value):
        return MISSING
    text = f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:,.0f}"
    return text.removeprefix("-") if not text.strip("-0.,") else text.replace("-", "−")


def interval(low: float, high: float, digits: int = 3) -> str:
    """A 95 % interval in brackets; empty where there is none."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{number(low, digits)}, {number(high, digits)}]"


def amount(value: float) -> str:
    """A count or a duration: three digits that matter."""
    if not math.isfinite(value):
        return MISSING
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def seconds(value: float) -> str:
    """A duration, to the millisecond where it is short."""
    if not math.isfinite(value):
        return MISSING
    if 0 < value < 0.0005:
        return "< 0.001"
    return f"{value:.3f}" if value < 10 else f"{value:,.1f}"


def percent(value: float | None) -> str:
    """A share, such as an accuracy."""
    return MISSING if value is None or not math.isfinite(value) else f"{100 * value:.1f}\u00a0%"


def title(name: str) -> str:
    """A measure's name with spaces."""
    return clean(name, 60).replace("_", " ")
