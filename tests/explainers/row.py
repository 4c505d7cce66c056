"""What the laws need to know of an explainer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """An explainer under test.

    Attributes:
        name: its name on the command line.
        signed: whether its scores have a sign.
        asks: whether its scores depend on the model at all.
        random: whether its scores depend on the seed.
        quick: settings that make it cheap; the laws hold for any.
        bad: settings that it must refuse, and what the message names.
        longest: the most words for which it is defined, or quick enough here.
        unsupported: the architectures for which it has no definition and says so.
    """

    name: str
    signed: bool = True
    asks: bool = True
    random: bool = False
    quick: dict[str, Any] = field(default_factory=dict)
    bad: tuple[tuple[dict[str, Any], str], ...] = ()
    longest: int = 200
    unsupported: tuple[str, ...] = ()
