"""An example's words as HTML, coloured by their scores. Everything that comes from data is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby

import numpy as np

from assay.conversation import Vector

WORDS = 300
"""More words than this are not shown."""

# Colours of a word that speaks for the class, against it, and of one whose score has no sign: red, green, blue.
_FOR, _AGAINST, _SIZE = (35, 135, 75), (200, 60, 45), (205, 140, 20)


def highlight(
    words: Sequence[str],
    segments: Sequence[int],
    scores: Vector,
    signed: bool,
    rationale: Sequence[bool] | None = None,
) -> str:
    """The words of one example, each on a colour as strong as its share of the largest score.

    Args:
        words: [n], the features.
        segments: [n], the text that each belongs to; the texts of a pair are set apart.
        scores: [n], the attribution.
        signed: whether a negative score speaks against the class.
        rationale: [n], True for the words that truly decide; they are underlined.
    """
    largest = float(np.abs(scores).max(initial=0.0)) or 1.0
    true = [False] * len(words) if rationale is None else list(rationale)
    features = list(zip(segments, words, np.asarray(scores).tolist(), true, strict=True))
    texts = [
        f'<p style="margin:0 0 6px">{" ".join(_word(*feature[1:], largest, signed) for feature in group)}</p>'
        for _, group in groupby(features[:WORDS], key=lambda feature: feature[0])
    ]
    more = f"<p>… {len(features) - WORDS} more words</p>" if len(features) > WORDS else ""
    return f'<div style="font:14px/1.7 sans-serif">{"".join(texts)}{more}</div>'


def _word(text: str, score: float, decides: bool, largest: float, signed: bool) -> str:
    red, green, blue = _SIZE if not signed else _FOR if score > 0 else _AGAINST
    style = f"background:rgba({red},{green},{blue},{0.65 * abs(score) / largest:.2f});border-radius:3px;padding:1px 2px"
    if decides:
        style += ";text-decoration:underline"
    # bdi keeps marks that turn the direction of writing inside their word.
    return f'<bdi style="{style}" title="{score:.4g}">{escape(text)}</bdi>'
