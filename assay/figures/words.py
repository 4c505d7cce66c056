"""Words on colours as strong as their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextToPath

from assay.conversation import Attribution
from assay.errors import AssayError
from assay.figures.drawing import INK, figure, plain_text, safe
from assay.highlight import LETTERS, WORDS, colour, level, shares
from assay.plain_text import clean

_LINE, _MARGIN = 0.28, 0.12


@plain_text
def highlight(
    attributions: Attribution | Mapping[str, Attribution], width: float = 6.0, fontsize: float = 10.0
) -> Figure:
    """Words on colours as strong as their scores: blue for the class, orange against it, green without a sign.

    Args:
        attributions: one, or several by name, such as of several methods for one text.
        width: of the figure, in inches.
        fontsize: in points.
    """
    named = {"": attributions} if isinstance(attributions, Attribution) else dict(attributions)
    if not named:
        raise AssayError("There is no attribution to draw.")
    lines: list[list[tuple[str, str, float, float]]] = []  # of (word, colour, left, width)
    headings: dict[int, str] = {}
    for name, attribution in named.items():
        if name:
            headings[len(lines)] = name
            lines.append([])
        levels = [level(share, attribution.signed) for share in shares(attribution.scores).tolist()]
        told = list(zip(attribution.features, levels, strict=True))
        for _, group in groupby(told[:WORDS], key=lambda pair: pair[0].segment):
            lines += _broken([(clean(feature.text, LETTERS), shade) for feature, shade in group], width, fontsize)
        if len(told) > WORDS:
            lines += _broken([(f"… {len(told) - WORDS} more words", "")], width, fontsize)
    height = _LINE * fontsize / 10 * len(lines) + 2 * _MARGIN
    drawing, axes = figure(width, height)
    axes.set_axis_off()
    axes.set_position((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    for place, line in enumerate(lines):
        y = _MARGIN + _LINE * fontsize / 10 * (place + 0.5)
        if place in headings:
            axes.text(_MARGIN, y, safe(headings[place]), fontsize=fontsize, weight="bold", va="center", color=INK)
        for word, shade, left, long in line:
            if shade:
                shade_of, strength = colour(shade)
                paper = [1 - strength + strength * part / 255 for part in shade_of]
                pad, tall = 0.03, 0.8 * _LINE * fontsize / 10
                axes.add_patch(Rectangle((left - pad, y - tall / 2), long + 2 * pad, tall, color=paper, lw=0))
                if shade[0] == "m":
                    axes.plot([left, left + long], [y + tall / 2.4] * 2, color=INK, lw=0.8, ls=":")
            axes.text(left, y, safe(word), fontsize=fontsize, va="center", color=INK)
    return drawing


def _broken(
    words: Sequence[tuple[str, str]], width: float, fontsize: float
) -> list[list[tuple[str, str, float, float]]]:
    """Words with their places, in lines that are no longer than the figure is wide."""
    font = FontProperties(size=fontsize)
    measure = TextToPath()

    def long(text: str) -> float:
        return float(measure.get_text_width_height_descent(text, font, ismath=False)[0]) / 72

    space = long("x x") - long("xx") + 0.05
    lines: list[list[tuple[str, str, float, float]]] = [[]]
    left = _MARGIN
    for word, shade in words:
        needed = long(word)
        if lines[-1] and left + needed > width - _MARGIN:
            lines.append([])
            left = _MARGIN
        lines[-1].append((word, shade, left, needed))
        left += needed + space
    return lines
