"""What an explainer is: it scores the features of an example, by conversation or with a look inside the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from operator import index
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.conversation import Case, Conversation

if TYPE_CHECKING:
    from torch import Tensor

    from assay.classifier import Classifier
    from assay.encoding import Batch


class Explainer(ABC):  # noqa: B024 (the two kinds below say what a method must do)
    """Base of all explainers. A subclass is one method; its settings are the arguments of its constructor.

    Attributes:
        signed: whether the sign of a score has a meaning (positive = speaks for the target).
        searches: whether it searches for the best ranking of one metric; it is then run once for each metric that has
            an objective, and finds that in `case.objective`.
        repeats: how many attributions to draw for each example; a metric's score is the mean over them.
    """

    signed: ClassVar[bool] = True
    searches: ClassVar[bool] = False
    repeats: int = 1


class BlackBoxExplainer(Explainer):
    """An explainer that sees the model's answers only."""

    @abstractmethod
    def converse(self, case: Case) -> Conversation[NDArray[np.floating]]:
        """Ask about inputs with features hidden; return one score for each feature, [n]."""


class WhiteBoxExplainer(Explainer):
    """An explainer that needs the inside of the network: gradients, attention, relevance."""

    @abstractmethod
    def attribute(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """Scores for each token, [batch, tokens]; padding and special tokens are ignored by the caller.

        Args:
            model: the classifier, in eval mode with frozen parameters.
            batch: the encoded examples; `batch.output` is the output to explain.
            target: [batch], the class that is explained for each example.
        """


def whole_number(name: str, value: int, at_least: int, at_most: int | None = None) -> int:
    """The value of a setting that must be a whole number in a range.

    Raises:
        ValueError: it is not; the message names the setting and what was given.
    """
    bounds = f"at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
    try:
        number = index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number {bounds}, not {value!r}") from None
    if number < at_least or (at_most is not None and number > at_most):
        raise ValueError(f"{name} must be {bounds}, not {number}")
    return number
