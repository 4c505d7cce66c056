"""NAOPC: every word is one step, read between the worst and the best ranking there is (Edin et al. 2025).

The paper's repository is followed (`src/evaluation`): the published definition, without what its scripts fix.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator
from typing import ClassVar

import numpy as np

from assay.checks import whole_number
from assay.conversation import Answer, Case, Conversation, Objective, Question
from assay.errors import Undefined
from assay.metrics.base import Measure, Metric, Scores
from assay.search import Search

# As many as there are: the repository's beam tries every word that is left.
_ALL = 2**31


class NormalisedAopc(Metric):
    """The mean drop over every number of hidden words, alone and between its limits.

    The limits are the least and the largest mean drop that a ranking of this text's words can have when they are hidden
    from the most important on: of all n! rankings up to `exact_up_to` words, above by a beam search each way.

    Attributes:
        name: what is measured.
        hides: True: the most important words are hidden first. False: the least important ones are.
    """

    name: ClassVar[str]
    hides: ClassVar[bool]

    def __init__(
        self,
        exact_up_to: int = 10,
        width: int = 5,
        fixed_class: int | None = None,
        maximum_from_zero: bool = False,
    ) -> None:
        """Set how the limits are found, and what the repository's scripts do besides.

        Args:
            exact_up_to: the most words for which the limits are exact; the paper's short texts have up to 10.
            width: how many beginnings of a ranking the beam follows; the paper's tables have 5, it tried up to 50.
            fixed_class: the index of a class that is scored whichever is explained, as the scripts score class 1; None
                for the class that is explained.
            maximum_from_zero: whether the search of the upper limit starts at 0, as in the scripts, so that the limit
                is too high where no ranking has a positive sum of drops before its last step.

        Raises:
            ValueError: a setting outside its range.
        """
        self.search = Search(exact_up_to, width, candidates=_ALL)
        self.fixed_class = None if fixed_class is None else whole_number("fixed_class", fixed_class, at_least=0)
        self.maximum_from_zero = maximum_from_zero

    @property
    @abstractmethod
    def measures(self) -> tuple[Measure, ...]:
        """The mean drop and where it stands between its limits."""

    def objective(self, n: int) -> Objective:
        """The mean drop."""
        weights = np.full(n + 1, -1.0 / n)
        weights[0 if self.hides else n] = 1.0
        return Objective(weights, self.hides, maximise=self.hides)

    def converse(self, case: Case) -> Conversation[Scores]:
        """Ask for every step of the ranking, then for what the search of the limits visits."""
        if case.ranking is None:
            raise Undefined("there is no ranking to judge")
        target = case.target if self.fixed_class is None else self.fixed_class
        objective = self.objective(case.n)
        answers = yield objective.path(case.ranking, np.arange(case.n + 1))
        if target >= answers.shape[1]:
            raise Undefined(f"there is no class {target}; the model has {answers.shape[1]}")
        outputs = answers[:, target].astype(np.float64)
        full, empty = outputs[[0, -1]] if self.hides else outputs[[-1, 0]]
        lower, upper = yield from self._limits(case.n, target, float(full), float(empty))
        return self._between(float(objective.weights @ outputs), lower, upper)

    def _limits(
        self, n: int, target: int, full: float, empty: float
    ) -> Generator[Question, Answer, tuple[float, float]]:
        """The least and the largest mean drop of any ranking."""
        hiding = Objective(np.append(1.0, np.full(n, -1.0 / n)), hides=True, maximise=True)
        # The first step and the last, which all rankings share, are not in the sums.
        least, most = yield from self.search.bounds(hiding, n, target)
        if self.maximum_from_zero:
            most = max(most, -(n - 1) / n * full)
        return least + full - empty / n, most + full - empty / n

    def _between(self, value: float, lower: float, upper: float) -> Scores:
        values = {f"aopc_{self.name}": value, f"naopc_{self.name}": float("nan")}
        if self.hides:
            values |= {"lower_limit": lower, "upper_limit": upper}
        if upper - lower <= 1e-6:
            # Float32 answers leave the limits of a constant model that far apart.
            return Scores(values, {f"naopc_{self.name}": "every ranking scores the same"})
        values[f"naopc_{self.name}"] = (value - lower) / (upper - lower)
        return Scores(values)


class Comprehensiveness(NormalisedAopc):
    """Mean drop of the target's output while words are masked one after another, the most important first.

    - `aopc_comprehensiveness` = mean over k = 1 … n of f(x) − f(x∖R_k). Higher is better; in [−1, 1] for probabilities.
    - `naopc_comprehensiveness` = (that − lower limit) / (upper limit − lower limit). Higher is better; in [0, 1] where
      the limits are exact; beyond it where the method beats the search. Undefined where both limits are the same.
    - `lower_limit`, `upper_limit`: stored beside them.

    Edin et al. 2025. Sensitive to the mask token, the words, and above `exact_up_to` words to the width of the beam.
    """

    name = "comprehensiveness"
    hides = True

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The mean drop, where it stands between its limits, and the limits."""
        return (
            Measure("aopc_comprehensiveness", "higher", (-1.0, 1.0)),
            Measure("naopc_comprehensiveness", "higher", (0.0, 1.0)),
            Measure("lower_limit", "none", (-1.0, 1.0), headline=False),
            Measure("upper_limit", "none", (-1.0, 1.0), headline=False),
        )


class Sufficiency(NormalisedAopc):
    """Mean drop of the target's output while words are masked one after another, the least important first.

    - `aopc_sufficiency` = mean over k = 1 … n of f(x) − f(R_{n−k} alone). Lower is better; in [−1, 1] for
      probabilities.
    - `naopc_sufficiency` = (that − lower limit) / (upper limit − lower limit), the limits those of comprehensiveness.
      Lower is better; in [0, 1] where the limits are exact. Undefined where both limits are the same.

    Edin et al. 2025. Sensitive to the mask token, the words, and above `exact_up_to` words to the width of the beam.
    """

    name = "sufficiency"
    hides = False

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The mean drop and where it stands between its limits."""
        return (
            Measure("aopc_sufficiency", "lower", (-1.0, 1.0)),
            Measure("naopc_sufficiency", "lower", (0.0, 1.0)),
        )
