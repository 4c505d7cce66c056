"""An explainer that is watched while it works: what it returns, raises, asks, draws and leaves behind."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from assay.conversation import Case, Conversation, Explanation, Keep, Rough, Soften
from assay.errors import Undefined
from assay.explainers.base import BlackBoxExplainer, Explainer, WhiteBoxExplainer
from assay.validation import surroundings
from assay.validation.users_code import described

if TYPE_CHECKING:
    from torch import Tensor

    from assay.classifier import Classifier
    from assay.encoding import Batch
    from assay.example import Example

_CLAIMS = (
    "signed",
    "searches",
    "repeats",
    "background",
    "perturbation",
    "asks",
    "feature",
    "scores_features",
    "subwords",
)


@dataclass
class Seen:
    """What was seen of an explainer.

    Attributes:
        crashes: what it raised and where, in a line each; reasons that it gave on purpose (`Undefined`) are not among
            them.
        misshapen: what it returned in place of one score a feature.
        infinite: scores that are not finite.
        altered: what was not left as it was.
        rows: how many inputs it asked about.
        draws: whether it drew from the random numbers that it was handed.
        read_background: whether it looked at the background.
    """

    crashes: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    infinite: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    rows: int = 0
    draws: bool = False
    read_background: bool = False


def watched(explainer: Explainer, seen: Seen) -> Explainer:
    """The explainer, with what is seen of it written down; it works as before."""
    if isinstance(explainer, WhiteBoxExplainer):
        return _LooksInside(explainer, seen)
    assert isinstance(explainer, BlackBoxExplainer)
    return _Asks(explainer, seen)


class _Watched(Explainer):
    """What both kinds share."""

    def __init__(self, inner: Any, seen: Seen) -> None:
        self._inner = inner
        self._seen = seen
        for name in _CLAIMS:
            if hasattr(inner, name):
                setattr(self, name, getattr(inner, name))

    def check(self, model: Classifier) -> None:
        """As the explainer does."""
        self._inner.check(model)

    def prepare(self, model: Classifier, background: Sequence[Example]) -> None:
        """As the explainer does; its crashes are written down."""
        try:
            self._inner.prepare(model, _Background(background, self._seen))
        except Exception as error:
            self._seen.crashes.append(f"prepare: {described(error)}")
            raise


class _Asks(_Watched, BlackBoxExplainer):
    """A black-box explainer that is watched."""

    def converse(self, case: Case) -> Conversation[Any]:
        """As the explainer does."""
        seen, drawn = self._seen, case.rng.bit_generator.state
        try:
            conversation = self._inner.converse(case)
            if not isinstance(conversation, Generator):
                raise TypeError(
                    f"converse returned {type(conversation).__name__} and not a conversation: it must yield what it "
                    "asks (`yield from ()` where it asks nothing) and return its scores"
                )
            result = yield from self._questions(conversation)
        except Undefined:
            raise
        except Exception as error:
            seen.crashes.append(described(error))
            raise
        finally:
            seen.draws |= case.rng.bit_generator.state != drawn
        scores = result.scores if isinstance(result, Explanation) else result
        _look_at(scores, (case.n,), np.ones(case.n, dtype=np.bool_), [str(one) for one in case.features], seen)
        return result

    def _questions(self, conversation: Generator[Keep | Soften, Any, Any]) -> Conversation[Any]:
        answer = None
        try:
            while True:
                before = surroundings.of_process()
                try:
                    question = conversation.send(answer)
                except StopIteration as end:
                    return end.value
                finally:
                    self._seen.altered += surroundings.changed(before, surroundings.of_process())
                plain = question.keep if isinstance(question, Rough) else question
                asked = plain.retention if isinstance(plain, Soften) else plain
                self._seen.rows += len(asked) if np.ndim(asked) else 0
                answer = yield question
        finally:
            conversation.close()


class _LooksInside(_Watched, WhiteBoxExplainer):
    """A white-box explainer that is watched."""

    def attribute(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor | Explanation:
        """As the explainer does."""
        seen, drawn = self._seen, [rng.bit_generator.state for rng in batch.rngs]

        def state() -> surroundings.State:
            return {
                **surroundings.of_process(),
                **surroundings.of_network(model.model),
                **surroundings.of_batch(batch, target),
            }

        # As if another method had been there before, whose results are kept for this one too. Where the model gives no
        # gradient, there is none to be kept.
        with suppress(Exception):
            model.input_gradient(batch, target)
        before = state()
        try:
            found: Tensor | Explanation = self._inner.attribute(model, batch, target)
            scores = _numbers(found.scores if isinstance(found, Explanation) else found)
        except Exception as error:
            rows = len(batch.input_ids)
            seen.crashes.append(f"{described(error)}{f', in a batch of {rows}' if rows > 1 else ''}")
            raise
        finally:
            seen.altered += surroundings.changed(before, state())
            seen.draws |= [rng.bit_generator.state for rng in batch.rngs] != drawn
        features = batch.feature_of_token.cpu().numpy()
        widest = int(features.max()) + 1
        counts = features.max(1) + 1
        own = np.arange(widest)[None, :] < counts[:, None] if self.scores_features else features >= 0
        _look_at(scores, own.shape, own, [], seen)
        return found


class _Background(Sequence["Example"]):
    """Training examples that tell whether anyone looked at them."""

    def __init__(self, examples: Sequence[Example], seen: Seen) -> None:
        self._examples = examples
        self._seen = seen

    def __len__(self) -> int:
        return len(self._examples)

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Example]: ...
    def __getitem__(self, place: int | slice) -> Example | Sequence[Example]:
        self._seen.read_background = True
        return self._examples[place]


def _numbers(scores: Any) -> NDArray[np.float64]:
    """The scores as an array.

    Raises:
        TypeError: they are no numbers.
    """
    if isinstance(scores, torch.Tensor):
        scores = scores.detach().float().cpu().numpy()
    try:
        return np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"it returned {type(scores).__name__}, which is no array of numbers: {error}") from error


def _look_at(scores: Any, shape: tuple[int, ...], own: NDArray[np.bool_], names: Sequence[str], seen: Seen) -> None:
    """Write down what is wrong with scores.

    Args:
        scores: what was returned.
        shape: what it should have.
        own: of that shape, True where a score counts.
        names: of the features, where there is a score for each.
        seen: what is written into.
    """
    try:
        array = _numbers(scores)
    except TypeError as error:
        seen.misshapen.append(str(error))
        return
    if array.shape != shape:
        seen.misshapen.append(f"it returned scores of shape {array.shape} where {shape} are due")
        return
    for place in np.argwhere(own & ~np.isfinite(array))[:1]:
        name = f"{names[place[0]]!r}" if names else f"place {tuple(int(one) for one in place)}"
        seen.infinite.append(f"the score of {name} is {array[tuple(place)]}")
