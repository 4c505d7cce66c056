"""Faithfulness against cost: every method as a point, and the front of those that no other beats on both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay.leaderboard.text import amount, clean, interval, number, seconds

WIDTH, HEIGHT = 460, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 18.0, 12.0, 44.0
# Of more methods than these, only those on the front are named in the plot.
NAMED = 20
# What costs nothing has no place on a logarithmic axis; it stands left of its beginning.
_NOTHING = 30.0
# The width of a letter, of one of a bold name, and the height of a line.
_LETTER, _BOLD, _LINE = 6.3, 6.9, 12.0


@dataclass(frozen=True)
class Method:
    """What a method costs for an example, and its mean skill with its interval; NaN where there is none."""

    name: str
    cost: float
    skill: float
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """A method as it is drawn; `label` is None where there is no room for its name, `whisker` without an interval.

    `skill` and `told` are its mean skill, with the interval, and its cost as text.
    """

    name: str
    skill: str
    x: float
    y: float
    whisker: tuple[float, float] | None
    on_front: bool
    label: tuple[float, float, str, str] | None
    told: str


@dataclass(frozen=True)
class Plot:
    """The plot as the parts of an SVG.

    Attributes:
        cost: what the x axis shows.
        points: of the methods, the cheapest first; the front's are those `on_front`.
        front: the line along the front.
        x_ticks: as (place, text).
        y_ticks: as (place, text).
        left_out: methods without a rank or a cost.
    """

    cost: str
    points: Sequence[Point]
    front: str
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    left_out: Sequence[str]


def front(costs: Sequence[float], skills: Sequence[float]) -> list[int]:
    """The places of those that no other equals or beats on both, the cheapest first (Pareto 1906).

    Of several with the same cost and the same skill the first stands for all.
    """
    best, found = -np.inf, []
    for place in sorted(range(len(costs)), key=lambda place: (costs[place], -skills[place], place)):
        if skills[place] > best:
            best = skills[place]
            found.append(place)
    return found


def plot(cost: str, methods: Sequence[Method]) -> Plot | None:
    """The plot; None if no method has both a skill and a cost.

    Args:
        cost: `rows` or `seconds`.
        methods: all that compete.
    """
    known = [method for method in methods if np.isfinite(method.skill) and np.isfinite(method.cost)]
    left_out = [clean(method.name) for method in methods if method not in known]
    if not known:
        return None
    known.sort(key=lambda method: (method.cost, -method.skill, method.name))
    across, x_ticks = _across([method.cost for method in known])
    ends = [end for method in known for end in (method.skill, method.low, method.high) if np.isfinite(end)]
    low, high = min(0.0, *ends), max(1.0, *ends)
    step = next(step for step in (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, np.inf) if (high - low) / step <= 8)
    bottom, top = (step * np.floor(low / step), step * np.ceil(high / step)) if np.isfinite(step) else (low, high)

    def down(skill: float) -> float:
        return round(float(_TOP + (top - skill) / (top - bottom) * (HEIGHT - _TOP - _BOTTOM)), 1)

    places = [(across(method.cost), down(method.skill)) for method in known]
    leading = front([method.cost for method in known], [method.skill for method in known])
    labels = _labels([clean(method.name, 28) for method in known], places, leading)
    told = amount if cost == "rows" else seconds
    points = []
    for place, (method, (x, y)) in enumerate(zip(known, places, strict=True)):
        whisker = (down(method.high), down(method.low)) if np.isfinite([method.low, method.high]).all() else None
        skill = f"{number(method.skill, 2)} {interval(method.low, method.high, 2)}".strip()
        points.append(
            Point(clean(method.name), skill, x, y, whisker, place in leading, labels[place], told(method.cost))
        )
    steps = [places[place] for place in leading]
    path = f"M{steps[0][0]} {steps[0][1]}" + "".join(f"H{x}V{y}" for x, y in steps[1:]) + f"H{WIDTH - _RIGHT}"
    marks = np.arange(bottom, top + step / 2, step) if np.isfinite(step) else [bottom, 0.0, 1.0, top]
    y_ticks = [(down(tick), number(float(tick), 1)) for tick in marks]
    return Plot(cost, points, path, x_ticks, y_ticks, left_out)


def _across(costs: Sequence[float]) -> tuple[_Axis, list[tuple[float, str]]]:
    some = [cost for cost in costs if cost > 0]
    free = len(some) < len(costs)
    low = int(np.floor(np.log10(min(some)))) if some else 0
    high = int(np.ceil(np.log10(max(some)))) if some else 1
    high = max(high, low + 1)
    axis = _Axis(low, high, _LEFT + (_NOTHING if free else 8.0))
    every = 1 if high - low <= 5 else 2
    ticks = [(axis(10.0**power), _written(10.0**power)) for power in range(low, high + 1, every)]
    if high - low <= 2:
        between = [times * 10.0**power for power in range(low, high) for times in (2, 5)]
        ticks += [(axis(value), _written(value)) for value in between]
    return axis, [(axis(0.0), "0"), *ticks] if free else ticks


def _written(value: float) -> str:
    """A tick: as a number where that is short, else as a power of ten."""
    if 0.001 <= value <= 100_000:
        return f"{value:,.10g}"
    return "10" + str(round(np.log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


@dataclass(frozen=True)
class _Axis:
    """A logarithmic axis from 10^low to 10^high; what costs nothing stands before its beginning."""

    low: int
    high: int
    start: float

    def __call__(self, cost: float) -> float:
        if cost <= 0:
            return _LEFT + 8.0
        share = (np.log10(cost) - self.low) / (self.high - self.low)
        return round(float(self.start + share * (WIDTH - _RIGHT - 8.0 - self.start)), 1)


def _labels(
    names: Sequence[str], places: Sequence[tuple[float, float]], leading: Sequence[int]
) -> list[tuple[float, float, str, str] | None]:
    """Where each name stands, as (x, y, anchor, name), the front's first; None where there is no room for it."""
    crowded = len(names) > NAMED
    # In a crowd a name may lie on points that have none.
    taken = [(x - 4, y - 4, x + 4, y + 4) for place, (x, y) in enumerate(places) if place in leading or not crowded]
    found: list[tuple[float, float, str, str] | None] = [None] * len(names)
    others = [] if crowded else [place for place in range(len(names)) if place not in leading]
    for place in [*leading, *others]:
        x, y = places[place]
        width = (_BOLD if place in leading else _LETTER) * len(names[place])
        tries = [(x + 7, y + 4, "start"), (x - 7, y + 4, "end"), (x, y - 8, "middle"), (x, y + 16, "middle")]
        tries += [(x + 6, y - 6, "start"), (x + 6, y + 14, "start"), (x - 6, y - 6, "end"), (x - 6, y + 14, "end")]
        for left, base, anchor in tries:
            start = left - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
            box = (start, base - _LINE + 3, start + width, base + 2)
            inside = box[0] >= _LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - _BOTTOM + 4
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                found[place] = (round(left, 1), round(base, 1), anchor, names[place])
                break
    return found


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
