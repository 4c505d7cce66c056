"""Checks of settings: the value as it should be, or an error that names the setting and what was given."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index


def whole_number(name: str, value: int, at_least: int, at_most: int | None = None) -> int:
    """The value of a setting that must be a whole number in a range.

    Raises:
        ValueError: it is not; the message names the setting and what was given.
    """
    bounds = f"at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
    if isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number {bounds}, not {value!r}")
    try:
        number = index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number {bounds}, not {value!r}") from None
    if number < at_least or (at_most is not None and number > at_most):
        raise ValueError(f"{name} must be {bounds}, not {number}")
    return number


def shares(name: str, values: Iterable[float]) -> tuple[float, ...]:
    """The value of a setting that must be a list of shares, each in (0, 1] and each once.

    Raises:
        ValueError: it is not; the message names the setting and what was given.
    """
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise ValueError(f"{name} must be a list, not {values!r}")
    numbers = tuple(float(value) for value in values)
    if not numbers or not all(0 < number <= 1 for number in numbers):
        raise ValueError(f"{name} must lie in (0, 1], not {list(numbers)}")
    # Each is a measure of its own, named by six digits of it.
    if len({f"{number:g}" for number in numbers}) < len(numbers):
        raise ValueError(f"{name} must not name one more than once: {list(numbers)}")
    return numbers


def not_below_zero(name: str, value: float) -> float:
    """The value of a setting that must be a finite number of at least 0.

    Raises:
        ValueError: it is not; the message names the setting and what was given.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a finite number of at least 0, not {value!r}")
    return float(value)


def above_zero(name: str, value: float) -> float:
    """The value of a setting that must be a finite number above 0.

    Raises:
        ValueError: it is not; the message names the setting and what was given.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a number above 0, not {value!r}")
    return float(value)
