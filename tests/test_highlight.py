"""Words coloured by their scores: as strong as they should be, told apart without colour, and harmless."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from assay import Attribution, Feature
from assay.highlight import LETTERS, WORDS, colour, highlight, level, shares, stylesheet

HOSTILE = "</script><img src=x onerror=alert(1)>"


class Words(HTMLParser):
    """The words, their styles and all tags of some HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.styles: list[str] = []
        self.words: list[str] = []
        self.paragraphs = 0
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.paragraphs += tag == "p"
        if tag == "bdi":
            self.styles.append(str(dict(attrs)["style"]))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append(data)


def read(html: str) -> Words:
    parser = Words()
    parser.feed(html)
    return parser


def attribution(words: list[str], scores: list[float], signed: bool = True) -> Attribution:
    features = tuple(Feature(word, 0, place) for place, word in enumerate(words))
    return Attribution(features, np.array(scores), 1, signed)


def test_words_are_as_strong_as_their_share_of_the_largest_score() -> None:
    found = read(highlight(["good", "not", "the"], [0, 0, 0], np.array([2.0, -1.0, 0.0]), True, [True, False, False]))
    assert found.words == ["good", "not", "the"]
    assert "rgba(0,106,178,0.57)" in found.styles[0]
    assert "rgba(213,94,0,0.29)" in found.styles[1]
    assert "rgba" not in found.styles[2]
    assert ["border-bottom" in style for style in found.styles] == [True, False, False]


def test_what_speaks_against_is_marked_without_colour_too() -> None:
    found = read(highlight(["good", "bad"], [0, 0], np.array([1.0, -1.0]), True))
    assert ["dotted" in style for style in found.styles] == [False, True]


def test_scores_without_a_sign_have_one_colour_and_zeros_do_not_divide() -> None:
    assert "rgba(0,135,95" in highlight(["a"], [0], np.array([1.0]), False)
    assert "rgba" not in highlight(["a"], [0], np.array([0.0]), True)
    assert read(highlight([], [], np.array([]), True)).words == []


def test_scores_that_are_not_finite_have_no_colour_and_drown_no_other() -> None:
    assert shares(np.array([np.nan, np.inf, -np.inf, 2.0, -1.0])).tolist() == [0, 0, 0, 1, -0.5]


@pytest.mark.parametrize(
    ("share", "signed", "name"), [(1, True, "p8"), (-0.5, True, "m4"), (-1, False, "u8"), (0.06, True, ""), (0, 1, "")]
)
def test_levels(share: float, signed: bool, name: str) -> None:
    assert level(share, signed) == name


def test_texts_of_a_pair_stand_apart_and_long_ones_are_cut() -> None:
    assert read(highlight(["a", "b", "a"], [0, 0, 1], np.ones(3), True)).paragraphs == 2
    long = read(highlight(["a"] * (WORDS + 5), [0] * (WORDS + 5), np.ones(WORDS + 5), True))
    assert len(long.styles) == WORDS
    assert long.words[-1] == "… 5 more words"
    assert len(read(highlight(["a" * 10_000_000], [0], np.ones(1), True)).words[0]) == LETTERS


@pytest.mark.parametrize("word", [HOSTILE, "\"' onmouseover='x", "<b>&amp;", "{{ 7*7 }}", "$x^2$", "=1+1"])
def test_hostile_words_stay_words(word: str) -> None:
    found = read(highlight([word], [0], np.array([1.0]), True))
    assert found.words == [word]
    assert found.tags == {"div", "p", "bdi"}


@pytest.mark.parametrize("word", ["\u202eevil", "\x1b[2Jevil", "\u2066evil", "\x00evil"])
def test_words_that_steer_are_disarmed(word: str) -> None:
    (shown,) = read(highlight([word], [0], np.array([1.0]), True)).words
    assert shown.endswith("evil")
    assert shown.startswith("\ufffd")


def test_a_notebook_shows_an_attribution_with_the_meaning_of_its_colours() -> None:
    html = attribution([HOSTILE, "dull"], [0.5, -0.25])._repr_html_()
    found = read(html)
    assert found.words[:2] == [HOSTILE, "dull"]
    assert found.words[2:] == ["class 1: ", "speaks for it", "against it"]
    assert found.tags == {"div", "p", "bdi", "span"}
    assert "against" not in attribution(["a"], [1.0], signed=False)._repr_html_()


def test_every_level_has_its_rule_in_light_and_dark() -> None:
    css = stylesheet()
    for name in (f"{letter}{strength}" for letter in "pmu" for strength in range(1, 9)):
        (strength,) = re.findall(rf"\.{name} {{ background: rgb\(var\(--\w+\) / ([\d.]+)\); }}", css)
        assert float(strength) == colour(name)[1]
    assert css.count("--for: ") == 2


def test_dark_letters_can_be_read_on_every_colour() -> None:
    """The contrast of #1d2126 on white paper under the colour, as WCAG 2 defines it; 4.5 is asked of text."""
    for name in ("p8", "m8", "u8"):
        shade, strength = colour(name)
        mixed = tuple(round(255 * (1 - strength) + part * strength) for part in shade)
        assert contrast(mixed, (29, 33, 38)) > 4.5


def contrast(first: tuple[int, ...], second: tuple[int, ...]) -> float:
    lights = sorted(luminance(one) for one in (first, second))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def luminance(shade: tuple[int, ...]) -> float:
    parts = [part / 255 for part in shade]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
