"""What computing results took: rows, tokens, padding, repeats, and how much of the time was the model's."""

from __future__ import annotations

from dataclasses import dataclass

from assay.conversation import Cost


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
