"""What a classifier would answer to inputs that were not asked: a Gaussian process through the answers that were."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from assay.conversation import Keep, Vector

Signs = NDArray[np.float64]  # [rows, n]; +1 = visible, -1 = hidden

# More rows than this cost more in algebra than they are worth in answers; fewer suffice to choose the interactions.
MOST_ROWS = 2048
_ROWS_TO_CHOOSE_BY = 256

_STRENGTHS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
_STRONGEST = 0.95
_LEAST_IMPORTANCE = 0.05
_PRIOR_OF_LINEAR_PART = 100.0
_JITTER = 1e-6


def signs(keep: Keep) -> Signs:
    """Visible as +1 and hidden as -1."""
    return np.where(keep, 1.0, -1.0)


def true_or_false(name: str, value: bool) -> bool:
    """The value of a setting that must be true or false.

    Raises:
        ValueError: it is neither; the message names the setting and what was given.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, not {value!r}")
    return value


class Interpolation:
    """A function of which features are visible, drawn through some of its values.

    The prior is a linear function with coefficients of any size plus interactions of all orders: the one among the
    features in U has a variance in proportion to Π_{i∈U} r_i, so that interactions are weaker the more features act
    together, and strongest among features that matter by themselves (r_i in proportion to `importance`). How strong
    they are is the one thing that is fitted, by the likelihood of the values.

    Args:
        inputs: [rows, n], all different.
        values: [rows], with what is known beforehand, such as a first linear fit, taken off.
        importance: [n], how much each feature matters by a first estimate.
        odd: whether the function changes its sign when every feature changes its own; of each such pair of inputs only
            one is then to be given.
    """

    def __init__(self, inputs: Signs, values: Vector, importance: Vector, odd: bool) -> None:
        n = inputs.shape[1]
        self._inputs = inputs
        self._odd = odd
        self._linear_variance = _PRIOR_OF_LINEAR_PART / n
        relative = np.abs(importance) / max(np.abs(importance).max(), np.finfo(np.float64).tiny) + _LEAST_IMPORTANCE
        # Rows come in an order that has a meaning; every k-th of them is a fair choice.
        some = np.linspace(0, len(inputs) - 1, min(len(inputs), _ROWS_TO_CHOOSE_BY)).round().astype(np.intp)
        strengths = [np.minimum(strength * relative / relative.max(), _STRONGEST) for strength in _STRENGTHS]
        self._r = max(
            strengths, key=lambda r: _log_likelihood(self._kernel(inputs[some], inputs[some], r), values[some])
        )
        factor = _factor(self._kernel(inputs, inputs, self._r))
        self._weights: Vector = cho_solve(factor, values)

    def predict(self, inputs: Signs) -> Vector:
        """The values at other inputs, [rows]."""
        predicted: Vector = self._kernel(inputs, self._inputs, self._r) @ self._weights
        return predicted

    def slopes(self, points: Vector, shares: Vector) -> Vector:
        """[n]; the mean gain from showing each feature, when each other is visible with a probability.

        Args:
            points: several values of 2 · probability − 1.
            shares: the weight of each in the mean.
        """
        n = self._inputs.shape[1]
        signed = self._r * self._inputs
        scale = self._log_scale(self._r)
        gains: Vector = np.zeros(n)
        for point, share in zip(points, shares, strict=True):
            gain = self._gain(point * signed, scale)
            gains += share * (self._weights @ (signed * gain))
        # The gain of a linear function is the same everywhere, and each coefficient counts twice: from -1 to +1.
        linear = self._linear_variance * 2 * (self._inputs.T @ self._weights)
        gains = 2 * gains + shares.sum() * linear
        return gains

    def _gain(self, signed: Signs, scale: float) -> Signs:
        """The product over all other features of 1 + signed, [rows, n]; for an odd function made even."""
        gain: Signs = np.exp(np.log1p(signed).sum(axis=1, keepdims=True) - scale) / (1 + signed)
        if self._odd:
            gain += np.exp(np.log1p(-signed).sum(axis=1, keepdims=True) - scale) / (1 - signed)
            gain /= 2
        return gain

    def _kernel(self, one: Signs, other: Signs, r: Vector) -> NDArray[np.float64]:
        """The prior covariance of the values at two sets of inputs; the interactions' variance is 1."""
        same, different = np.log1p(r), np.log1p(-r)
        agreement = (one * ((same - different) / 2)) @ other.T
        constant = (same + different).sum() / 2 - self._log_scale(r)
        kernel: NDArray[np.float64] = np.exp(constant + agreement)
        if self._odd:
            kernel -= np.exp(constant - agreement)
            kernel /= 2
        else:
            kernel += self._linear_variance
        kernel += self._linear_variance * (one @ other.T)
        return kernel

    def _log_scale(self, r: Vector) -> float:
        """The logarithm of the interactions' variance before it is made 1."""
        most = np.log1p(r).sum()
        if not self._odd:
            return float(most)
        return float(most + np.log1p(-np.exp(np.log1p(-r).sum() - most)) - np.log(2))


def _factor(covariance: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    covariance[np.diag_indices_from(covariance)] += _JITTER
    factor: tuple[NDArray[np.float64], bool] = cho_factor(covariance, lower=True, overwrite_a=True)
    return factor


def _log_likelihood(covariance: NDArray[np.float64], values: Vector) -> float:
    """Of the values under a covariance that is known but for its scale; constants are left out."""
    try:
        factor = _factor(covariance)
    except np.linalg.LinAlgError:
        return -np.inf
    variance = values @ cho_solve(factor, values) / len(values)
    return float(-len(values) / 2 * np.log(variance) - np.log(np.diag(factor[0])).sum())
