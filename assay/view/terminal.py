"""A view in the terminal: coloured words with marks that need no colour, and plain tables of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from rich.console import Group
from rich.padding import Padding
from rich.style import Style
from rich.text import Text

from assay.benchmark.table import wrapped
from assay.conversation import Vector
from assay.highlight import LETTERS, LEVELS, WORDS, colour, level, shares
from assay.metrics.base import Curve
from assay.plain_text import clean
from assay.view.reading import Reading, View

_ARROWS = {"higher": " ↑", "lower": " ↓"}
_BARS = "▁▂▃▄▅▆▇█"
_POINTS = 16
_MARKS = {"p": "+", "m": "-", "u": "*"}
_INK = "rgb(29,33,38)"


def terminal_view(view: View) -> Group:
    """What the model says of the text, the words by each explainer, the scores word by word, and how each is judged.

    A word's colour is its share of the largest score; up to three marks behind it say the same without colour: `+` for
    the class, `-` against it, `*` where the scores have no sign.
    """
    parts: list[Any] = [Text(verdict(view), style="bold"), Text(explained(view))]
    for reading in view.readings:
        parts += _reading(view, reading)
    for table in (*_scores(view), *_judged(view)):
        parts += [Text(""), table]
    return Group(*parts, Text(_legend(view), style="dim"))


def verdict(view: View) -> str:
    """The prediction, and how probable each class is, the most probable first."""
    order = np.argsort(-view.probabilities, kind="stable")
    chances = ", ".join(f"{clean(view.labels[place], 40)} {view.probabilities[place]:.1%}" for place in order[:8])
    more = f", and {len(order) - 8} more classes" if len(order) > 8 else ""
    return f"{clean(view.model, 80)} predicts {clean(view.labels[order[0]], 40)} ({chances}{more})"


def explained(view: View) -> str:
    """What is explained, and how."""
    target = clean(view.labels[view.target], 40)
    rather = f" rather than {clean(view.labels[view.foil], 40)}" if view.foil is not None else ""
    cut = f"; {view.truncated:,} tokens are beyond what the model reads" if view.truncated else ""
    return f"Explained: {target}{rather}, by {view.settings.feature}, hidden by {', '.join(view.hiding)}{cut}."


def ordered(scores: Vector, signed: bool) -> list[str]:
    """Scores with as many digits as the largest needs, in one column; `—` for what is no number."""
    largest = float(np.abs(scores[np.isfinite(scores)]).max(initial=0.0))
    digits = 3 if largest == 0 or 0.1 <= largest < 100 else min(max(2 - math.floor(math.log10(largest)), 0), 12)
    return [f"{score:{'+' if signed else ''}.{digits}f}" if math.isfinite(score) else "—" for score in scores.tolist()]


def sparkline(curve: Curve, low: float, high: float) -> str:
    """A curve as a line of bars, from the left end of the x axis to the right, between two values of the y axis."""
    heights = np.interp(np.linspace(0, 1, _POINTS), curve.x, curve.y)
    if not np.isfinite(heights).all():
        return ""
    places = (heights - low) / ((high - low) or 1.0) * (len(_BARS) - 1)
    return "".join(_BARS[place] for place in np.clip(np.rint(places), 0, len(_BARS) - 1).astype(int))


def span(curves: Sequence[Curve], output: str) -> tuple[float, float]:
    """The y axis that several curves share: from 0 to 1 for probabilities, else from the least to the largest value."""
    if output == "probability" or not curves:
        return 0.0, 1.0
    values = np.concatenate([curve.y for curve in curves])
    return float(np.nanmin(values)), float(np.nanmax(values))


def _reading(view: View, reading: Reading) -> list[Any]:
    parts: list[Any] = [Text(f"\n{clean(reading.name, 60)}", style="bold")]
    if reading.scores is None:
        return [*parts, Padding(Text(f"no attribution: {clean(reading.problem)}"), (0, 0, 0, 2), expand=False)]
    told = zip(view.features, shares(reading.scores).tolist(), strict=True)
    several = len({feature.segment for feature in view.features}) > 1
    for segment, group in groupby(list(told)[:WORDS], key=lambda pair: pair[0].segment):
        line = Text(f"{segment + 1}: " if several else "")
        for place, (feature, share) in enumerate(group):
            line.append(" " if place else "")
            line.append(_word(feature.text, level(share, reading.signed)))
        parts.append(Padding(line, (0, 0, 0, 2), expand=False))
    if len(view.features) > WORDS:
        parts.append(
            Padding(Text(f"… {len(view.features) - WORDS} more words", style="dim"), (0, 0, 0, 2), expand=False)
        )
    if reading.report:
        said = ", ".join(f"{name} = {_said(value)}" for name, value in reading.report.items())
        parts.append(Padding(Text(clean(said, 400), style="dim"), (0, 0, 0, 2), expand=False))
    return parts


def _word(text: str, name: str) -> Text:
    shown = clean(text, LETTERS)
    if not name:
        return Text(shown)
    marks = _MARKS[name[0]] * round(3 * int(name[1:]) / LEVELS)
    return Text(f"{shown}{marks}", style=_style(name))


def _style(name: str) -> Style:
    """Dark letters on the colour as it looks on white paper, which can be read on a dark terminal too."""
    if not name:
        return Style.null()
    shade, strength = colour(name)
    red, green, blue = (round(255 * (1 - strength) + part * strength) for part in shade)
    return Style.parse(f"{_INK} on rgb({red},{green},{blue})")


def _said(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(_said, value)) if isinstance(value, list) else str(value)


def _scores(view: View) -> list[Any]:
    several = len({feature.segment for feature in view.features}) > 1
    labels = [
        Text(clean(f"{feature.segment + 1}: {feature.text}" if several else feature.text, 32))
        for feature in view.features
    ]
    columns: dict[str, list[Text]] = {}
    for reading in view.readings:
        if reading.scores is not None:
            names = [level(share, reading.signed) for share in shares(reading.scores).tolist()]
            numbers = ordered(reading.scores, reading.signed)
            columns[clean(reading.name, 40)] = [
                Text(number, style=_style(name)) for number, name in zip(numbers, names, strict=True)
            ]
    return wrapped(labels, columns, len(labels), view.settings.feature) if columns else []


def _judged(view: View) -> list[Any]:
    labels = [Text(clean(reading.name, 40)) for reading in view.readings]
    columns: dict[str, list[Text]] = {}
    for column, direction in view.directions.items():
        curves = [reading.curves[column] for reading in view.readings if column in reading.curves]
        low, high = span(curves, view.settings.output)
        heading = f"{clean(column, 40).replace('_', ' ')}{_ARROWS.get(direction, '')}"
        columns[heading] = [_value(reading.values, column) for reading in view.readings]
        if curves:
            columns[f"{clean(column, 40).replace('_', ' ')} curve"] = [
                Text(sparkline(reading.curves[column], low, high) if column in reading.curves else "")
                for reading in view.readings
            ]
    columns["rows"] = [Text(f"{reading.rows:,.0f}") for reading in view.readings]
    columns["seconds"] = [Text(f"{reading.seconds:.3f}") for reading in view.readings]
    return wrapped(labels, columns, len(labels))


def _value(values: Mapping[str, float], column: str) -> Text:
    value = values.get(column, math.nan)
    return Text(f"{value:.3f}" if math.isfinite(value) else "—")


def _legend(view: View) -> str:
    meant = []
    if any(reading.signed for reading in view.readings):
        meant.append(f"+ speaks for {clean(view.labels[view.target], 40)}, - against it")
    if not all(reading.signed for reading in view.readings):
        meant.append("* matters, by a method whose scores have no sign")
    curve = next((column for reading in view.readings for column in reading.curves), None)
    drawn = ""
    if curve is not None:
        drawn = (
            f" A curve is the {view.settings.output.replace('_', ' ')} of the class, from no {view.settings.feature} "
        )
        drawn += "to all of them, the most important first."
    return f"{'; '.join(meant)}; up to three marks, by the share of the largest score.{drawn}"
