"""What arithmetic in less than float32 changes in a model's answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Change:
    """How far low precision moves the answers to whole inputs.

    Attributes:
        dtype: the precision.
        examples: how many were looked at.
        flips: share of them whose most likely class is another one, in [0, 1].
        mean: of the changes of a class's probability, the mean over examples and classes.
        largest: the largest of them.
    """

    dtype: str
    examples: int
    flips: float
    mean: float
    largest: float

    @classmethod
    def between(cls, dtype: str, full: NDArray[np.floating], low: NDArray[np.floating]) -> Change:
        """Compare logits in float32 with those in low precision, both [examples, classes]; NaN for no answer."""
        from scipy.special import softmax

        answered = np.isfinite(full).all(axis=1) & np.isfinite(low).all(axis=1)
        full, low = full[answered].astype(np.float64), low[answered].astype(np.float64)
        if not len(full):
            return cls(dtype, 0, float("nan"), float("nan"), float("nan"))
        moved = np.abs(softmax(full, axis=1) - softmax(low, axis=1))
        flips = full.argmax(axis=1) != low.argmax(axis=1)
        return cls(dtype, len(full), float(flips.mean()), float(moved.mean()), float(moved.max()))

    def __str__(self) -> str:
        return (
            f"{self.dtype} in place of float32 changes the predicted class of {self.flips:.1%} of {self.examples} "
            f"examples and a probability by {self.mean:.4f} on average, {self.largest:.4f} at most. "
            "What is explained is the class that float32 predicts"
        )

    @property
    def content(self) -> dict[str, Any]:
        """As cell.json has it."""
        return dict(vars(self))
