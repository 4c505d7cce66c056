"""Conversations run against a made-up function in place of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.conversation import (
    Answer,
    Case,
    Conversation,
    Feature,
    Keep,
    Objective,
    Question,
    Rough,
    Soften,
    generator,
)

# [queries, n] -> the target's output, [queries], or that of all classes, [queries, classes]
SetFunction = Callable[[Keep], NDArray[np.floating]]
TARGET = 1


@dataclass
class Transcript:
    """What one conversation said: its result, and every round of questions."""

    result: Any
    rounds: list[Question]

    @property
    def rows(self) -> int:
        return sum(
            len(asked.retention) * asked.draws
            if isinstance(asked, Soften)
            else len(asked.keep)
            if isinstance(asked, Rough)
            else len(asked)
            for asked in self.rounds
        )


def make_case(n: int, seed: int = 0, objective: Objective | None = None, segments: Sequence[int] | None = None) -> Case:
    """A case of n made-up words; with `segments`, of a pair."""
    segments = [0] * n if segments is None else segments
    places = [list(segments[:index]).count(segment) for index, segment in enumerate(segments)]
    features = tuple(Feature(f"word{i}", *key) for i, key in enumerate(zip(segments, places, strict=True)))
    return Case(f"case{n}", features, TARGET, generator(seed, n), objective=objective)


def run(conversation: Conversation[Any], function: SetFunction) -> Transcript:
    """Answer a conversation until it returns."""
    return pool([conversation], [function])[0][0]


def pool(conversations: Sequence[Conversation[Any]], functions: Sequence[SetFunction]) -> tuple[list[Transcript], int]:
    """Run conversations side by side as an engine does; also count how many calls of a pooled model that takes."""
    transcripts = [Transcript(None, []) for _ in conversations]
    waiting: dict[int, Question] = {}

    def go_on(index: int, answer: Answer | None) -> None:
        try:
            waiting[index] = conversations[index].send(answer)  # type: ignore[arg-type]
            transcripts[index].rounds.append(waiting[index])
        except StopIteration as stop:
            transcripts[index].result = stop.value

    for index in range(len(conversations)):
        go_on(index, None)
    calls = 0
    while waiting:
        calls += 1
        asked, waiting = waiting, {}
        for index, keep in asked.items():
            go_on(index, answers(softened(functions[index], keep)))
    return transcripts, calls


def softened(function: SetFunction, asked: Question) -> NDArray[np.floating]:
    """The function of a keep-mask, in low precision where that is asked for.

    Of retentions it is the mean over the sets that they draw (its multilinear extension).
    """
    if isinstance(asked, Rough):
        return function(asked.keep).astype(np.float16).astype(np.float64)
    if not isinstance(asked, Soften):
        return function(asked)
    n = asked.retention.shape[1]
    sets = (np.arange(2**n)[:, None] >> np.arange(n)) % 2 == 1
    chances = np.where(sets[None], asked.retention[:, None], 1 - asked.retention[:, None]).prod(axis=2)
    return chances @ function(sets)


def answers(outputs: NDArray[np.floating]) -> Answer:
    """The target's outputs as a classifier of three classes would answer, [queries, 3]; those of all as they are."""
    if outputs.ndim == 2:
        return outputs.astype(np.float32)
    answer = np.full((len(outputs), 3), 99.0, dtype=np.float32)
    answer[:, TARGET] = outputs
    return answer


def table(values: NDArray[np.floating]) -> SetFunction:
    """The set function whose value for a set is listed at the number that the set's bits spell, [2^n]."""
    bits = 1 << np.arange(int(np.log2(len(values))))
    return lambda keep: values[keep @ bits]
