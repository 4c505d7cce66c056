"""What an evaluation finds, as rows of tables."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

Record = dict[str, Any]


@dataclass
class Records:
    """What is known of one explainer on some examples, as rows of tables; the store gives their columns.

    Every list stands in the order of the examples.
    """

    examples: list[Record] = field(default_factory=list)
    attributions: list[Record] = field(default_factory=list)
    scores: list[Record] = field(default_factory=list)
    curves: list[Record] = field(default_factory=list)
    answers: list[Record] = field(default_factory=list)

    def extend(self, other: Records) -> None:
        """Append the rows of `other`."""
        for table in fields(self):
            getattr(self, table.name).extend(getattr(other, table.name))
