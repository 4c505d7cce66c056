"""Text that comes from data, made harmless: it steers no terminal, turns no line around and breaks none."""

from __future__ import annotations

# Marks that turn the direction of what follows them, and so can make one name look like another.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_BREAKS = frozenset("\t\n\r\x0b\x0c\x85\u2028\u2029")


def clean(text: object, limit: int = 200) -> str:
    """Text on one line without control characters, clipped to `limit` characters."""
    whole = str(text)
    clipped = whole if len(whole) <= limit else whole[: limit - 1] + "…"
    if clipped.isascii() and clipped.isprintable():
        return clipped
    return "".join(" " if letter in _BREAKS else "\ufffd" if _is_control(letter) else letter for letter in clipped)


def clean_lines(text: object) -> str:
    """Text of several lines, each of which is made harmless on its own."""
    return "\n".join(clean(line, 10_000) for line in str(text).split("\n"))


def _is_control(letter: str) -> bool:
    return letter in _TURNING or letter < " " or "\x7f" <= letter < "\xa0" or "\ud800" <= letter <= "\udfff"
