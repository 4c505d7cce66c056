"""What a metric is: it judges an attribution in a conversation, or a method by having it explain again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from assay.conversation import Answer, Attribution, Case, Conversation, Keep, Objective, Vector

if TYPE_CHECKING:
    from assay.classifier import Classifier
    from assay.encoding import Encoding, FeatureUnit, Output, Row
    from assay.errors import Undefined
    from assay.example import Example

Direction = Literal["higher", "lower", "none"]

ALL = -1  # as a number of training examples


@dataclass(frozen=True)
class Measure:
    """One number that a metric gives.

    Attributes:
        name: the column it has in every table.
        direction: which values are better.
        range: the least and the largest possible value, for an output that is a probability.
        headline: whether tables show it; other measures are stored only.
        per: the measure of the same metric by whose mean this one's mean is divided: the score of a cell is then a
            ratio of two means over its examples. None for a plain mean.
    """

    name: str
    direction: Direction
    range: tuple[float, float]
    headline: bool = True
    per: str | None = None


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


def undefined(metric: Metric | MethodMetric, reason: str) -> Scores:
    """No value for any measure, for one reason."""
    names = [measure.name for measure in metric.measures]
    return Scores(dict.fromkeys(names, float("nan")), dict.fromkeys(names, reason))


class Metric(ABC):
    """Base of all metrics. A subclass is one metric; its settings are the arguments of its constructor.

    Attributes:
        measures: the numbers that it gives.
        needs_rationale: whether it is defined only for examples whose true rationale is known.
        needs_highlights: whether it is defined only for examples in which people marked what they found to decide.
    """

    needs_rationale: bool = False
    needs_highlights: bool = False

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


class Method(ABC):
    """An explainer at work on the examples of a cell, as a `MethodMetric` is handed it.

    Attributes:
        name: the explainer's name.
        signed: whether the signs of its scores have a meaning.
        model: the classifier that was explained.
        examples: the cell's examples, their labels in the order of the model's classes.
        encodings: the examples as the model reads them.
        attributions: what the run found for each example (of several draws the first), or why there is none.
        train: the examples of the task's train split that the metric asked for by `background`.
        perturbation: the name of the perturbation that the scores are recorded under.
        feature: what is scored and hidden.
        output: what of the model is explained.
        seed: of all random numbers.
    """

    name: str
    signed: bool
    model: Classifier
    examples: Sequence[Example]
    encodings: Sequence[Encoding]
    attributions: Sequence[Attribution | Undefined]
    train: Sequence[Example]
    perturbation: str
    feature: FeatureUnit
    output: Output
    seed: int

    @abstractmethod
    def explain(
        self,
        model: Classifier | None = None,
        examples: Sequence[Example] | None = None,
        encodings: Sequence[Encoding] | None = None,
        targets: Sequence[int] | None = None,
        seed: int | None = None,
    ) -> list[Attribution | Undefined]:
        """Explain again, in one respect otherwise; what is not given is as it was in the run.

        Args:
            model: another classifier that reads the same tokens, such as one with other weights.
            examples: other examples, ids unique; their targets are what the model predicts, unless `targets` says else.
            encodings: of the examples, in place of the model's own, such as with a token exchanged.
            targets: the class to explain for each example.
            seed: of the explainer's random numbers.
        """

    @abstractmethod
    def answer(
        self, keeps: Sequence[Keep], model: Classifier | None = None, encodings: Sequence[Encoding] | None = None
    ) -> list[Answer]:
        """The output of every class for each example and keep-mask: for each example [queries, classes].

        Hidden features leave the input by `perturbation`.

        Args:
            keeps: for each example [queries, n].
            model: another classifier, in place of the one that was explained.
            encodings: other inputs, in place of the examples' own.
        """

    @abstractmethod
    def hide(self, keeps: Sequence[Keep]) -> list[Sequence[Row]]:
        """The model's inputs in which features have left by `perturbation`: for each example those of its keep-masks.

        Args:
            keeps: for each example [queries, n]. A perturbation of several draws gives that many inputs for each query,
                next to each other.
        """


class MethodMetric(ABC):
    """Base of the metrics that judge a method rather than an attribution: they have it explain again, or train a model.

    They run once for a cell, after all its attributions are there; a control that searches is not judged by them.

    Attributes:
        measures: the numbers that it gives.
        background: how many examples of the task's train split it wants (`Method.train`); `ALL` for all there are.
        each_perturbation: whether it judges under each perturbation of the protocol rather than under the first alone.
        needs_rationale: whether it is defined only for examples whose true rationale is known.
    """

    background: int = 0
    each_perturbation: ClassVar[bool] = False
    needs_rationale: ClassVar[bool] = False

    @property
    @abstractmethod
    def measures(self) -> tuple[Measure, ...]:
        """The numbers that this metric gives."""

    def check(self, model: Classifier) -> None:  # noqa: B027 (most suit every model)
        """Find out, before any work, whether it can be measured on a model.

        Raises:
            AssayError: it cannot; the message says why, and what would be right.
        """

    @abstractmethod
    def judge(self, method: Method) -> Sequence[Scores]:
        """The scores of each example, in the order of `method.examples`.

        Raises:
            Undefined: no measure has a value for any example; the message is the reason.
        """
