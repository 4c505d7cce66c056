"""The conversation: how a metric or a black-box explainer asks a classifier about inputs with parts hidden.

A conversation is a generator. It yields a keep-mask for each input that it wants answered and receives the classifier's
output for each; it holds no model, no batch and no device. The engine (`assay.benchmark.engine`) runs thousands of
them at once.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from assay.encoding import Output

LowPrecision = Literal["bfloat16", "float16"]
Keep = NDArray[np.bool_]  # [queries, features]; True = the feature stays visible
Answer = NDArray[np.float32]  # [queries, classes]; the classifier's output, in the order asked
Vector = NDArray[np.float64]

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Soften:
    """A question about inputs whose features stay in part: each element of a word embedding stays or becomes zero.

    Attributes:
        retention: [queries, n], the chance of each element of a feature's embeddings to stay, from 0 to 1. Special
            tokens stay whole.
        draws: how many inputs are drawn for each query; the outputs are averaged over them.
        seed: of the draws, which hang besides on the example alone and are the same for each query.
    """

    retention: Vector
    draws: int = 1
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Rough:
    """A question whose answers may be rough, because what they lead to is measured again: for a search.

    Attributes:
        keep: [queries, n], the keep-masks.
        dtype: the precision of the arithmetic. The answers are kept apart from all others, and are not stored.
    """

    keep: Keep
    dtype: LowPrecision


Question = Keep | Soften | Rough
Conversation = Generator[Question, Answer, Result]


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A random generator that depends on the seed and the names alone, the same on every machine and in every run."""
    digest = hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


@dataclass(frozen=True)
class Feature:
    """What is scored and hidden: a word (or a token) of one of the texts.

    Attributes:
        text: the word as written, or the token as the tokenizer names it.
        segment: which text it stands in: 0, or 1 for the second text of a pair.
        position: its place among the words (or tokens) of that text, from 0.
    """

    text: str
    segment: int
    position: int

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Attribution:
    """One score for each feature of an example.

    Attributes:
        features: the n features, in reading order.
        scores: [n]; where `signed`, positive means: speaks for the target. Otherwise a magnitude.
        target: the class that is explained.
        signed: whether the sign of a score has a meaning.
        report: what the method says about itself, such as a completeness error or a rule; empty for most.
    """

    features: tuple[Feature, ...]
    scores: Vector
    target: int
    signed: bool = True
    report: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.features)

    def ranking(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """Features by falling score, [n]. Ties are broken by a permutation drawn from `rng`, never by position."""
        return rank(self.scores, rng)

    def _repr_html_(self) -> str:
        """The words on colours as strong as their scores, which is how a notebook shows an attribution."""
        from assay.highlight import of_attribution

        return of_attribution(self)


@dataclass(frozen=True)
class Explanation:
    """What an explainer returns that has more to say than its scores.

    Attributes:
        scores: [n] from a conversation; [batch, tokens] or [batch, features] from a look inside the model.
        report: what the method says about itself: plain numbers, strings and lists from a conversation; a tensor
            [batch] for each name from a look inside.
    """

    scores: NDArray[np.floating] | Tensor
    report: Mapping[str, Any]


def rank(scores: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.intp]:
    """Indices by falling score, [n]; equal scores stand in an order drawn from `rng`."""
    return np.lexsort((rng.permutation(len(scores)), -np.asarray(scores, dtype=np.float64)))


def highest(ranking: NDArray[np.intp], counts: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which features are among the highest ranking ones, [counts, n], for each of several numbers of them."""
    place = np.empty(len(ranking), dtype=np.intp)
    place[ranking] = np.arange(len(ranking))
    return place[None, :] < counts[:, None]


@dataclass(frozen=True)
class Objective:
    """What the search of the oracle optimises: a weighted sum of the target's output along one ranking's path.

    Attributes:
        weights: [n + 1]; the weight of the output after k = 0 … n steps.
        hides: True: step k hides the k highest ranking features. False: step k shows them alone.
        maximise: whether a larger sum is better.
    """

    weights: Vector
    hides: bool
    maximise: bool

    def path(self, ranking: NDArray[np.intp], steps: NDArray[np.intp]) -> Keep:
        """Keep-masks after each of `steps`, [steps, n]."""
        top = highest(ranking, steps)
        return ~top if self.hides else top


@dataclass
class Cost:
    """What something asked of the model: rows and tokens, forward and backward, and seconds."""

    forward_rows: float = 0.0
    forward_tokens: float = 0.0
    backward_rows: float = 0.0
    backward_tokens: float = 0.0
    seconds: float = 0.0

    @classmethod
    def unknown(cls) -> Cost:
        """The cost of what was not made here: NaN throughout."""
        return cls(*[float("nan")] * 5)

    @property
    def known(self) -> bool:
        """Whether all of it is known."""
        return not any(math.isnan(spent) for spent in vars(self).values())

    def add(self, other: Cost, share: float = 1.0) -> None:
        """Add `other`, or a share of it, in place."""
        for name in vars(self):
            setattr(self, name, getattr(self, name) + share * getattr(other, name))

    def copy(self) -> Cost:
        """The same figures, which stay while these grow."""
        return Cost(**vars(self))

    def since(self, before: Cost) -> Cost:
        """What was added after `before` was copied."""
        spent = self.copy()
        spent.add(before, share=-1.0)
        return spent


@dataclass(frozen=True)
class Case:
    """One example as a conversation is handed it.

    Attributes:
        id: the example's id.
        features: its n features.
        target: the class that is explained, an index into the last axis of every answer.
        rng: random numbers, seeded by the seed, the example and the method.
        attribution: what a metric judges; None for an explainer.
        ranking: [n], the attribution's features by falling score, ties broken by the example's seed.
        rationale: [n], True for the features that truly decide; None where that is unknown.
        highlights: [annotators, n], 1 for the features that a person marked as deciding, 0 for the others, NaN for what
            was not put before that person; None where nobody was asked. It says nothing about a model.
        objective: what to search for; only for explainers that search (`Explainer.searches`).
        cost: what the attribution cost; only for a metric.
        output: what the answers are: `probability`, `logit` or `log_probability`.
        foil: the class whose output has been taken off that of every class, or None.
        label: the example's true class, or None where it is unknown.
    """

    id: str
    features: tuple[Feature, ...]
    target: int
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    attribution: Attribution | None = None
    ranking: NDArray[np.intp] | None = None
    rationale: NDArray[np.bool_] | None = None
    objective: Objective | None = None
    cost: Cost | None = None
    highlights: NDArray[np.float64] | None = None
    output: Output = "probability"
    foil: int | None = None
    label: int | None = None

    @property
    def n(self) -> int:
        """The number of features."""
        return len(self.features)

    @cached_property
    def segments(self) -> NDArray[np.intp]:
        """[n]; the text that each feature stands in."""
        return np.array([feature.segment for feature in self.features], dtype=np.intp)
