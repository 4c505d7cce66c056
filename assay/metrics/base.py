"""What a metric is: it judges an attribution in a conversation and never touches the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

from assay.conversation import Case, Conversation, Objective, Vector

Direction = Literal["higher", "lower", "none"]


@dataclass(frozen=True)
class Measure:
    """One number that a metric gives.

    Attributes:
        name: the column it has in every table.
        direction: which values are better.
        range: the least and the largest possible value, for an output that is a probability.
        headline: whether tables show it; other measures are stored only.
    """

    name: str
    direction: Direction
    range: tuple[float, float]
    headline: bool = True


@dataclass(frozen=True)
class Curve:
    """A measure's course: `y` over `x`, both [points]; `x` rises from 0 to 1, the share of the features."""

    x: Vector
    y: Vector


@dataclass(frozen=True)
class Scores:
    """What a metric says of one attribution.

    Attributes:
        values: a value for each measure; NaN where it is undefined.
        undefined: the reason for each NaN.
        curves: by the measure's name.
    """

    values: dict[str, float]
    undefined: dict[str, str] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)


class Metric(ABC):
    """Base of all metrics. A subclass is one metric; its settings are the arguments of its constructor.

    Attributes:
        measures: the numbers that it gives.
        needs_rationale: whether it is defined only for examples whose true rationale is known.
    """

    needs_rationale: bool = False

    @property
    @abstractmethod
    def measures(self) -> tuple[Measure, ...]:
        """The numbers that this metric gives."""

    @abstractmethod
    def converse(self, case: Case) -> Conversation[Scores]:
        """Ask about inputs with features hidden; return the scores. `case.attribution` is what is judged.

        Raises:
            Undefined: no measure has a value for this example; the message is the reason.
        """

    def objective(self, n: int) -> Objective | None:
        """What the oracle optimises for this metric over n features; None where there is nothing to search for."""
        return None
