"""Points of a curve chosen where it bends, until the error of its area is small enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from assay.conversation import Conversation, Keep, Vector

# Points are asked first at so many even stretches, and next to both ends: hiding one or two words of a text often turns
# the prediction, and hiding more turns it back.
_STRETCHES = 4
# What is expected of a stretch between two points that are known, by how far the curve gets in it and by how rough it
# is next to it and in all. A step at a place that is anywhere alike leaves a quarter of its height; the others were
# fitted to the curves of real explanations.
_OF_THE_STEP, _OF_THE_NEIGHBOURS, _OF_ALL = 0.25, 0.15, 0.02
# The error that is stated is so many times the one that is expected.
_STATED = 2.5
# Stretches with an expected error of at least this share of the largest are halved in the same turn.
_SHARE = 0.5


class ChosenPoints:
    """A curve of which some points are known, and what its area may be off for the others.

    Between known points the curve is taken to be straight. Where it is not, the area is off by an amount that is not
    known; what is expected of a stretch of L steps between outputs a and b, w wide, is

        w · (|b − a| / 4 + √L · (0.15 · r_next + 0.02 · r_all)),

    r_next being the mean of |b − a| / √L over the one or two stretches beside it and r_all that over all stretches.
    The stated error is 2.5 times the root of the sum of their squares. It is a guess from what the curve does where it
    is known, not a bound: a dip between two points that leaves no trace at either is in no guess.

    Attributes:
        x: [points], where the curve could be asked, rising.
        known: the outputs, by the number of the point.
    """

    def __init__(self, x: Vector, tolerance: float) -> None:
        """Begin without any point.

        Args:
            x: [points].
            tolerance: the stated error at which no more points are wanted.
        """
        self.x = x
        self.tolerance = tolerance
        self.known: dict[int, float] = {}

    @property
    def places(self) -> NDArray[np.intp]:
        """The points that are known, rising."""
        return np.array(sorted(self.known), dtype=np.intp)

    @property
    def error(self) -> float:
        """The stated error of the area; 0 where every point is known."""
        return _STATED * float(np.sqrt(np.square(self._expected()).sum()))

    def wanted(self) -> NDArray[np.intp]:
        """The points to ask next, rising; none when the error is small enough."""
        last = len(self.x) - 1
        if not self.known:
            evenly = np.round(np.linspace(0, last, _STRETCHES + 1)).astype(np.intp)
            return np.unique(np.append(evenly, [min(1, last), max(0, last - 1)]))
        if self.error <= self.tolerance:
            return np.empty(0, dtype=np.intp)
        expected = self._expected()
        ends = self.places
        halved = (expected > 0) & (expected >= _SHARE * expected.max())
        middles: NDArray[np.intp] = (ends[:-1] + ends[1:])[halved] // 2
        return middles

    def learn(self, outputs: Mapping[int, float]) -> None:
        """Take in outputs, by the number of the point."""
        self.known.update(outputs)

    def everywhere(self) -> Vector:
        """The output at every point, [points]; on a straight line where it is not known."""
        places = self.places
        outputs: Vector = np.interp(self.x, self.x[places], [self.known[place] for place in places.tolist()])
        return outputs

    def _expected(self) -> Vector:
        """The expected error of each stretch between known points, [known - 1]; 0 where none lies between."""
        places = self.places
        steps = np.diff(places).astype(np.float64)
        rise = np.abs(np.diff([self.known[place] for place in places.tolist()]))
        rough = rise / np.sqrt(steps)
        beside, sides = np.zeros_like(rough), np.zeros_like(rough)
        for here, there in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
            beside[here] += rough[there]
            sides[here] += 1
        beside = beside / sides if len(rough) > 1 else rough
        inside = _OF_THE_NEIGHBOURS * beside + _OF_ALL * rough.mean()
        expected: Vector = np.diff(self.x[places]) * (_OF_THE_STEP * rise + np.sqrt(steps) * inside)
        expected[steps == 1] = 0.0
        return expected


def ask(curves: Sequence[tuple[ChosenPoints, Keep]], target: int) -> Conversation[None]:
    """Ask for the points that curves want, turn by turn, until they want none.

    Args:
        curves: each with the keep-mask of each of its points, [points, n].
        target: the class whose output the curves are of.
    """
    while True:
        wanted = [curve.wanted() for curve, _ in curves]
        if not any(len(places) for places in wanted):
            return
        answers = yield np.concatenate([path[places] for places, (_, path) in zip(wanted, curves, strict=True)])
        outputs = iter(answers[:, target].astype(np.float64).tolist())
        for places, (curve, _) in zip(wanted, curves, strict=True):
            curve.learn({place: next(outputs) for place in places.tolist()})
