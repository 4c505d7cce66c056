"""Cost: what an attribution took."""

from __future__ import annotations

import numpy as np

from assay.conversation import Case, Conversation
from assay.errors import Undefined
from assay.metrics.base import Measure, Metric, Scores


class ModelCost(Metric):
    """Model rows and tokens, forward and backward, and seconds for each attribution.

    Rows and tokens are counted at the model and are those that the method would have taken on its own: distinct rows,
    whether or not another method in the same run asked for them too. Seconds are the method's share of the time of the
    batches that its rows were in, plus its own computing. Lower is better; at least 0.
    """

    @property
    def measures(self) -> tuple[Measure, ...]:
        """One for each quantity."""
        endless = (0.0, float("inf"))
        return (
            Measure("forward_rows", "lower", endless),
            Measure("forward_tokens", "lower", endless, headline=False),
            Measure("backward_rows", "lower", endless),
            Measure("backward_tokens", "lower", endless, headline=False),
            Measure("seconds", "lower", endless),
        )

    def converse(self, case: Case) -> Conversation[Scores]:
        """Ask nothing of the model."""
        if case.cost is None or not case.cost.known:
            raise Undefined("the attribution was not made here, so its cost is unknown")
        yield np.empty((0, case.n), dtype=np.bool_)
        return Scores(dict(vars(case.cost)))
