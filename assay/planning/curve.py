"""From a few examples to all: how a quantity goes with the length of the text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from assay.conversation import Vector

# A form with more freedom is believed only where it foretells what it has not seen that much better.
_BETTER = 0.97

_Form = Callable[[Vector, Vector, Vector], Vector]


@dataclass(frozen=True)
class Foretold:
    """A quantity for every example, known from a few of them.

    Attributes:
        values: [examples].
        errors: [sample], how far each example of the sample lies from what the others say of it; NaN for a single one.
    """

    values: Vector
    errors: Vector


def foretell(lengths: Vector, found: Vector, everywhere: Vector) -> Foretold:
    """Foretell a quantity, which is never negative, for texts of any length.

    Counts of rows grow with the length (leave-one-out), with its square (a beam search) or stop growing at the number
    of samples that a method was given, so no one form fits all. The form is chosen for each quantity by how well it
    foretells every example of the sample from the others: a constant, a line, a parabola (from five lengths on), or
    lines from each length to the next.

    Args:
        lengths: [sample], of the texts where the quantity is known.
        found: [sample], the quantity.
        everywhere: [examples], of the texts where it is wanted.
    """
    order = np.argsort(lengths, kind="stable")
    x, y = np.asarray(lengths, dtype=np.float64)[order], np.asarray(found, dtype=np.float64)[order]
    if len(x) == 1 or np.ptp(y) == 0:
        errors = np.full(len(x), np.nan if len(x) == 1 else 0.0)
        return Foretold(np.full(len(everywhere), y[0]), errors)
    best, errors, least = _constant, _left_out(_constant, x, y), np.inf
    different = len(np.unique(x))
    for form, lengths_needed in ((_constant, 1), (_line, 2), (_parabola, 5), (_piecewise, 3)):
        if different < lengths_needed:
            continue
        missed = _left_out(form, x, y)
        error = float(np.square(missed).mean())
        if error < least * _BETTER**2:
            best, errors, least = form, missed, error
    in_place = np.empty(len(x))
    in_place[order] = errors
    return Foretold(best(x, y, np.asarray(everywhere, dtype=np.float64)), in_place)


def _left_out(form: _Form, x: Vector, y: Vector) -> Vector:
    """How far each lies from what the others say."""
    rest = ~np.eye(len(x), dtype=np.bool_)
    return np.array([form(x[others], y[others], x[[place]])[0] - y[place] for place, others in enumerate(rest)])


def _constant(x: Vector, y: Vector, at: Vector) -> Vector:
    return np.full(len(at), y.mean())


def _line(x: Vector, y: Vector, at: Vector) -> Vector:
    return _polynomial(x, y, at, 1)


def _parabola(x: Vector, y: Vector, at: Vector) -> Vector:
    return _polynomial(x, y, at, 2)


def _piecewise(x: Vector, y: Vector, at: Vector) -> Vector:
    """Lines between the means at each length; beyond the ends it stays what it is there."""
    different, place = np.unique(x, return_inverse=True)
    means = np.bincount(place, weights=y) / np.bincount(place)
    values: Vector = np.interp(at, different, means)
    return values


def _polynomial(x: Vector, y: Vector, at: Vector, degree: int) -> Vector:
    """By least squares; beyond the lengths that were seen it goes on as its tangent, so that it cannot run away."""
    scale = max(float(x.max()), 1.0)
    coefficients = np.linalg.lstsq(np.vander(x / scale, degree + 1), y, rcond=None)[0]
    inside = np.clip(at, x.min(), x.max())
    slope = np.polyval(np.polyder(coefficients), inside / scale) / scale
    values: Vector = np.maximum(np.polyval(coefficients, inside / scale) + slope * (at - inside), 0.0)
    return values
