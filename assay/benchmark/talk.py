"""A conversation under way: what it has asked so far, what it hears, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.benchmark.answers import Answers, Numbers
from assay.conversation import Answer, Conversation, Cost, Keep, Question, Rough, Soften
from assay.encoding import Encoding
from assay.perturbation import Perturbation


@dataclass(eq=False)
class Talk:
    """A conversation under way."""

    conversation: Conversation[Any]
    encoding: Encoding
    perturbation: Perturbation
    finish: Callable[[Outcome], None]
    foil: int | None = None
    # What it asked, and the numbers of the rows, in order; the last may still be waited for.
    history: list[tuple[Question, Numbers]] = field(default_factory=list)
    asked: Question | None = None
    unanswered: int = 0
    seconds: float = 0.0

    @property
    def can_join(self) -> bool:
        """Whether the rows that it asks for may be planned with those of another."""
        return self.perturbation.draws == 1 and not isinstance(self.asked, Soften)

    def heard(self, answers: Answers) -> Answer:
        """What it hears to its last question, whose rows are all answered."""
        asked, numbers = self.history[-1]
        draws = asked.draws if isinstance(asked, Soften) else self.perturbation.draws
        return answers.heard(numbers, draws, self.foil)

    def end(self, answers: Answers, result: Any, error: Exception | None) -> None:
        """Tell how it ended.

        Args:
            answers: to all that it asked.
            result: what it returned.
            error: what it raised.
        """
        masks = [(what, numbers) for what, numbers in self.history if not isinstance(what, Soften | Rough)]
        # Quicker than np.unique for the few rows that most conversations ask.
        distinct = list(dict.fromkeys(number for _, numbers in self.history for number in numbers.tolist()))
        cost = Cost(
            forward_rows=len(distinct),
            forward_tokens=int(answers.tokens[distinct].sum()),
            seconds=self.seconds + float(answers.seconds[distinct].sum()),
        )
        keeps = [keep for keep, _ in masks] or [np.empty((0, self.encoding.n), dtype=np.bool_)]
        under_masks = [numbers for _, numbers in masks] or [np.empty(0, dtype=np.intp)]
        logits = answers.mean_logits(_joined(under_masks), self.perturbation.draws)
        self.finish(Outcome(result, error, _joined(keeps), logits, cost))


@dataclass(frozen=True)
class Outcome:
    """How a conversation ended.

    Attributes:
        result: what it returned; None if it raised.
        error: what it raised.
        keep: [queries, n], the keep-masks that it asked, in order.
        logits: [queries, classes], the model's answers to them.
        cost: the distinct rows and tokens that it would have cost on its own; seconds are its share of the batches that
            its rows were in, and its own computing.
    """

    result: Any
    error: Exception | None
    keep: Keep
    logits: NDArray[np.float32]
    cost: Cost


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
