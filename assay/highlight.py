"""Words coloured by their scores: the same colours in a notebook, on a page, in a figure and in a terminal.

Blue speaks for the explained class, orange against it, and green is for scores without a sign; the three can be told
apart by people who do not see all colours. What comes from data is made harmless and escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from assay.plain_text import clean

if TYPE_CHECKING:
    from assay.conversation import Attribution, Vector

WORDS = 300
"""More words than this are not shown."""
LETTERS = 60
"""A longer word is clipped."""

LEVELS = 8
"""So many steps of colour there are between nothing and the largest score of a text."""

Colour = tuple[int, int, int]
FOR: Colour = (0, 106, 178)
AGAINST: Colour = (213, 94, 0)
MAGNITUDE: Colour = (0, 135, 95)
_ON_DARK: dict[Colour, Colour] = {FOR: (40, 130, 210), AGAINST: (214, 100, 20), MAGNITUDE: (10, 150, 110)}
_LETTER = {"p": FOR, "m": AGAINST, "u": MAGNITUDE}


def shares(scores: Vector) -> Vector:
    """Each score as a share of the largest in size, from -1 to 1; 0 where it is not finite."""
    known = np.nan_to_num(np.asarray(scores, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return np.asarray(known / (np.abs(known).max(initial=0.0) or 1.0), dtype=np.float64)


def level(share: float, signed: bool) -> str:
    """The colour of a word: `p1` to `p8` for the target, `m1` to `m8` against it, `u1` to `u8` without a sign.

    Empty where the share of the largest score is next to nothing.
    """
    strength = round(abs(share) * LEVELS)
    if not strength:
        return ""
    return f"{('p' if share > 0 else 'm') if signed else 'u'}{strength}"


def colour(name: str) -> tuple[Colour, float]:
    """Red, green and blue (0 to 255) of a `level`, and how much of it lies over the paper (0 to 1)."""
    return _LETTER[name[0]], round(0.01 + 0.07 * int(name[1:]), 2)


def stylesheet() -> str:
    """CSS for words of the class `w` and of their `level`, in light and dark; what speaks against is dotted too."""
    names = {"p": "--for", "m": "--against", "u": "--magnitude"}
    light = " ".join(f"{names[letter]}: {_spaced(shade)};" for letter, shade in _LETTER.items())
    dark = " ".join(f"{names[letter]}: {_spaced(_ON_DARK[shade])};" for letter, shade in _LETTER.items())
    rules = [
        f":root {{ {light} }}",
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}",
        ".w { padding: 0.08em 0.18em; border-radius: 3px; unicode-bidi: isolate; }",
        '[class*=" m"].w { text-decoration: underline dotted 1px; text-underline-offset: 0.25em; }',
    ]
    for letter, variable in names.items():
        for strength in range(1, LEVELS + 1):
            rules.append(
                f".{letter}{strength} {{ background: rgb(var({variable}) / {colour(f'{letter}{strength}')[1]}); }}"
            )
    return "\n".join(rules)


def highlight(
    words: Sequence[str],
    segments: Sequence[int],
    scores: Vector,
    signed: bool,
    rationale: Sequence[bool] | None = None,
) -> str:
    """The words of one example as HTML, each on a colour as strong as its share of the largest score.

    It needs no stylesheet, so that it can be shown inside anything.

    Args:
        words: [n], the features.
        segments: [n], the text that each belongs to; the texts of a pair are set apart.
        scores: [n], the attribution.
        signed: whether a negative score speaks against the class.
        rationale: [n], True for the words that truly decide; they have a solid line below.
    """
    true = [False] * len(words) if rationale is None else list(rationale)
    values = np.asarray(scores, dtype=np.float64)
    features = list(zip(segments, words, values.tolist(), shares(values).tolist(), true, strict=True))
    texts = [
        f'<p style="margin:0 0 6px">{" ".join(_word(*feature[1:], signed) for feature in group)}</p>'
        for _, group in groupby(features[:WORDS], key=lambda feature: feature[0])
    ]
    more = f"<p>… {len(features) - WORDS} more words</p>" if len(features) > WORDS else ""
    return f'<div style="font:14px/1.7 sans-serif">{"".join(texts)}{more}</div>'


def of_attribution(attribution: Attribution) -> str:
    """An attribution as HTML: its words, and what their colours mean."""
    features = attribution.features
    words = highlight(
        [feature.text for feature in features],
        [feature.segment for feature in features],
        attribution.scores,
        attribution.signed,
    )
    meant = [("p7", "speaks for it"), ("m7", "against it")] if attribution.signed else [("u7", "matters")]
    key = " ".join(f'<span style="{_style(name)}">{text}</span>' for name, text in meant)
    return f'{words}<div style="font:12px/1.6 sans-serif;opacity:.75">class {attribution.target}: {key}</div>'


def _word(text: str, score: float, share: float, decides: bool, signed: bool) -> str:
    style = _style(level(share, signed)) + (";border-bottom:2px solid" if decides else "")
    # bdi keeps letters that are written from right to left inside their word.
    return f'<bdi style="{style}" title="{score:.4g}">{escape(clean(text, LETTERS))}</bdi>'


def _style(name: str) -> str:
    if not name:
        return "padding:1px 2px"
    (red, green, blue), strength = colour(name)
    dotted = ";text-decoration:underline dotted" if name[0] == "m" else ""
    return f"background:rgba({red},{green},{blue},{strength});border-radius:3px;padding:1px 2px{dotted}"


def _spaced(shade: Colour) -> str:
    return " ".join(map(str, shade))
