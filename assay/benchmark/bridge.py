"""The bridge: a plain function that calls `predict` whenever it likes, run as a conversation.

Most methods are written against a function: explain(predict, ...), with predict called at any moment. Run in a
greenlet, each call of predict turns into a yield of the conversation, so that many examples share the model's batches
without a line of the method changed.
"""

from __future__ import annotations

import contextvars
import inspect
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from greenlet import getcurrent, greenlet
from numpy.typing import ArrayLike

from assay import registry
from assay.conversation import Case, Conversation, Keep, Vector
from assay.explainers.base import BlackBoxExplainer

Predict = Callable[[ArrayLike], Vector]


class Bridge(BlackBoxExplainer):
    """Any function explain(predict, features) that returns one score a feature, from a library or your own.

    The function receives

    - `predict(masks) -> outputs`: masks [queries, n] (or [n] for a single one), anything true = the feature stays
      visible; outputs [queries], the target's output in float64;
    - `features`: the n words (or tokens), a tuple of strings;
    - `rng`, where it takes an argument of that name: a `numpy.random.Generator` seeded by the example. Libraries that
      want a number take `int(rng.integers(2**31))`;
    - the settings given beside `explain`.

    It returns [n] scores in units of its own. It may draw from the global random state of Python, numpy and torch: that
    is seeded by the example while the function runs and is given back whenever it pauses, as are torch's gradient mode
    and the warnings filters. It must call `predict` from the thread that it was called in. Whatever it raises reaches
    whoever runs the conversation. Cost: what the function asks; calls with many masks at once make few rounds.

    Args:
        explain: the function, or its dotted path such as `my_module.explain`.
        signed: whether a positive score speaks for the target.
        settings: further arguments of the function.

    Raises:
        ValueError: `explain` is not a function, or does not take one of the settings.
        AssayError: the dotted path leads nowhere.
    """

    def __init__(self, explain: Callable[..., ArrayLike] | str, signed: bool = True, **settings: Any) -> None:
        function = registry.locate(explain) if isinstance(explain, str) else explain
        if not callable(function):
            raise ValueError(f"explain must be a function or the dotted path of one, not {explain!r}")
        self.explain: Callable[..., ArrayLike] = function
        self.signed = signed
        self.settings = settings
        self._takes_rng = _check(function, settings)

    def converse(self, case: Case) -> Conversation[Vector]:
        """Run the function, asking what it asks; return its scores, [n]."""
        features = tuple(str(feature) for feature in case.features)
        settings = {**self.settings, "rng": case.rng} if self._takes_rng else self.settings

        def predict(masks: ArrayLike) -> Vector:
            keep = np.atleast_2d(np.asarray(masks)).astype(np.bool_)
            if keep.ndim != 2 or keep.shape[1] != case.n:
                raise ValueError(f"predict takes masks of shape [queries, {case.n}], not {np.shape(masks)}")
            if len(keep) == 0:
                return np.empty(0)
            outputs: Vector = ask(keep)
            return outputs

        def ask(keep: Keep) -> Any:
            return getcurrent().parent.switch(keep)

        surroundings = _Surroundings(int(case.rng.integers(2**32)))
        worker = greenlet(lambda: self.explain(predict, features, **settings))
        worker.gr_context = contextvars.copy_context()
        result = yield from _exchange(worker, surroundings, case.target)
        return np.asarray(result, dtype=np.float64)


def _exchange(worker: greenlet, surroundings: _Surroundings, target: int) -> Conversation[Any]:
    """Carry questions out of the greenlet and answers into it until it returns."""
    answer: tuple[Vector, ...] = ()
    try:
        while True:
            # Whoever resumes the conversation is the one to come back to.
            worker.parent = getcurrent()
            with surroundings:
                said = worker.switch(*answer)
            if worker.dead:
                return said
            answers = yield said
            answer = (answers[:, target].astype(np.float64),)
    finally:
        if not worker.dead:
            # The conversation was closed midway; let the function run its own clean-up.
            worker.parent = getcurrent()
            with surroundings:
                worker.throw()


class _Surroundings:
    """What a function may change in its process, kept apart from everyone else's while it pauses.

    Functions pause in the middle of `with torch.no_grad()` or `with warnings.catch_warnings()`. Were those blocks left
    in another order than they were entered, one function would restore what another had set.
    """

    def __init__(self, seed: int) -> None:
        self._own: tuple[Any, ...] = (
            random.Random(seed).getstate(),
            np.random.RandomState(seed).get_state(),
            torch.Generator().manual_seed(seed).get_state(),
            torch.is_grad_enabled(),
            list(warnings.filters),
            warnings.showwarning,
        )
        self._others: tuple[Any, ...] = ()

    def __enter__(self) -> None:
        self._others = _capture()
        _restore(self._own)

    def __exit__(self, *_: object) -> None:
        self._own = _capture()
        _restore(self._others)


def _capture() -> tuple[Any, ...]:
    return (
        random.getstate(),
        np.random.get_state(),
        torch.get_rng_state(),
        torch.is_grad_enabled(),
        warnings.filters,
        warnings.showwarning,
    )


def _restore(state: tuple[Any, ...]) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])
    torch.set_grad_enabled(state[3])
    warnings.filters, warnings.showwarning = state[4], state[5]


def _check(function: Callable[..., Any], settings: dict[str, Any]) -> bool:
    """Refuse settings that the function does not take; say whether it takes a random generator."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some functions written in C do not tell
        return False
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name in settings:
        if name not in parameters and not takes_any:
            raise ValueError(f"{function!r} takes no setting {name!r}")
    return "rng" in parameters
