"""Errors that tell a user what was wrong, where, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AssayError(Exception):
    """Something the user asked for cannot be done. The command line prints it without a traceback and exits with 2."""


class Undefined(Exception):
    """A score or an attribution that has no value for one example; the message is the reason that is stored."""


def near_matches(name: str, known: Iterable[str]) -> str:
    """A sentence naming the closest known names, or all of them where none is close."""
    choices = sorted(set(known))
    close = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(repr(match) for match in close)}?"
    return f"Known: {', '.join(choices) or 'none'}."


def unknown_name(kind: str, name: str, known: Iterable[str]) -> AssayError:
    """The error for a name that is not known, for example an explainer's."""
    return AssayError(f"Unknown {kind} {name!r}. {near_matches(name, known)}")
