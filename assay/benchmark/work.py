"""What computing results took: rows, tokens, padding, repeats, and how much of the time was the model's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from assay.benchmark.amounts import amount, duration
from assay.conversation import Cost

if TYPE_CHECKING:
    from assay.benchmark.cell import Cell


@dataclass
class Work:
    """What was done for some cells, all together; of the machine that did it, unlike `Cost`, which is of a method.

    Attributes:
        rows_asked: rows that conversations asked for, repeats included.
        rows_answered: distinct rows that the model was given for them.
        rows_known: distinct rows whose answers were stored before, so that the model was not asked.
        tokens: tokens of the rows that the model was given, padding included.
        padding: how many of those tokens were padding.
        batches: how many batches the model was given.
        model_seconds: seconds inside the model: in batches of the engine, and in explainers that look inside.
        seconds: seconds altogether.
        forward_rows: all rows that went forward through the model, those of explainers that look inside it as well.
        forward_tokens: their tokens.
        backward_rows: rows that went back through it.
        backward_tokens: their tokens.
    """

    rows_asked: float = 0.0
    rows_answered: float = 0.0
    rows_known: float = 0.0
    tokens: float = 0.0
    padding: float = 0.0
    batches: float = 0.0
    model_seconds: float = 0.0
    seconds: float = 0.0
    forward_rows: float = 0.0
    forward_tokens: float = 0.0
    backward_rows: float = 0.0
    backward_tokens: float = 0.0

    def add(self, other: Work, share: float = 1.0) -> None:
        """Add `other`, or a share of it, in place."""
        for name in vars(self):
            setattr(self, name, getattr(self, name) + share * getattr(other, name))

    def passed(self, cost: Cost) -> None:
        """Count what went through the model."""
        for name in ("forward_rows", "forward_tokens", "backward_rows", "backward_tokens"):
            setattr(self, name, getattr(self, name) + getattr(cost, name))

    def shared(self, cells: int) -> Work:
        """The share of one of several cells that the work was done for, so that their sum is the whole."""
        share = Work()
        share.add(self, share=1 / cells)
        return share

    @property
    def rows_per_second(self) -> float:
        """Rows through the model, forward and backward, for each second altogether."""
        return (self.forward_rows + self.backward_rows) / self.seconds

    @property
    def tokens_per_second(self) -> float:
        """Their tokens."""
        return (self.forward_tokens + self.backward_tokens) / self.seconds

    @property
    def model_share(self) -> float:
        """Share of the time that was spent inside the model, 0 to 1."""
        return self.model_seconds / self.seconds

    @property
    def padding_share(self) -> float:
        """Share of padding among the tokens of the engine's rows, 0 to 1; 0 where it had none."""
        return self.padding / self.tokens if self.tokens else 0.0

    @property
    def asked_per_answered(self) -> float:
        """How many rows were asked for each that the engine had to answer or know; NaN where nothing was asked."""
        distinct = self.rows_answered + self.rows_known
        return self.rows_asked / distinct if distinct else float("nan")

    @property
    def known_share(self) -> float:
        """Share of the distinct rows whose answers were known from before, 0 to 1; 0 where there were none."""
        distinct = self.rows_answered + self.rows_known
        return self.rows_known / distinct if distinct else 0.0

    def __str__(self) -> str:
        """All of it in a line."""
        parts = [
            f"{amount(self.forward_rows + self.backward_rows)} rows of "
            f"{amount(self.forward_tokens + self.backward_tokens)} tokens through the model in "
            f"{duration(self.seconds)} of computing",
            f"{amount(self.rows_per_second)} rows and {amount(self.tokens_per_second)} tokens a second",
            f"{self.model_share:.0%} of the time inside the model",
        ]
        if self.rows_answered or self.rows_known:
            parts.append(f"{self.asked_per_answered:.1f} rows asked for each distinct one")
            parts.append(f"{self.padding_share:.1%} padding" if self.padding else "no padding")
        if self.rows_known:
            parts.append(f"{self.known_share:.0%} of the distinct rows known from before")
        return "; ".join(parts)


def work_of(cell: Cell) -> Work | None:
    """What a cell took; None where that is unknown, because an older version computed it or stored answers sufficed."""
    told = cell.meta.get("work")
    if not isinstance(told, dict):
        return None
    numbers = {one.name: told.get(one.name, 0.0) for one in fields(Work)}
    if not all(isinstance(number, int | float) for number in numbers.values()):
        return None
    work = Work(**numbers)
    # A cell whose parts have no count holds nothing but zeros; where all was known from before, the model was idle.
    return work if work.seconds > 0 and (work.forward_rows > 0 or work.rows_known > 0) else None


def known_work(cells: Sequence[Cell]) -> Work | None:
    """What some cells took together; None if that is unknown of one of them."""
    total = Work()
    for cell in cells:
        work = work_of(cell)
        if work is None:
            return None
        total.add(work)
    return total if cells else None
