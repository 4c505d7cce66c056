"""Rows that wait to be answered, by what a batch must share, and the conversations that wait for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from assay.benchmark.answers import Numbers
from assay.model_loading import Dtype
from assay.rows import Kind, Stack

# What a batch holds alike: the kind of its rows, and the precision of the arithmetic.
BatchKind = tuple[Kind, Dtype | None]
Asker = TypeVar("Asker")

_LONG = 512


@dataclass(eq=False)
class Block(Generic[Asker]):
    """Rows that were asked at the same time, and who waits for all of them."""

    number: int
    unanswered: int
    waiting: list[Asker] = field(default_factory=list)


@dataclass(eq=False)
class Part(Generic[Asker]):
    """Some rows of a block, whose numbers follow each other from `first` on."""

    block: Block[Asker]
    stack: Stack
    first: int


@dataclass(eq=False)
class RowBatch(Generic[Asker]):
    """Rows that the model is given together."""

    kind: BatchKind
    parts: list[Part[Asker]]

    def __len__(self) -> int:
        return sum(len(part.stack) for part in self.parts)

    @property
    def tokens(self) -> int:
        """How many tokens its rows hold."""
        return len(self) * self.kind[0][0]

    @property
    def stack(self) -> Stack:
        """Its rows."""
        return Stack.join([part.stack for part in self.parts])

    @property
    def numbers(self) -> Numbers:
        """The numbers of its rows."""
        return np.concatenate([np.arange(part.first, part.first + len(part.stack)) for part in self.parts])

    def finished(self) -> list[Block[Asker]]:
        """Tell the blocks that these rows are answered; those of which nothing is left to answer."""
        for part in self.parts:
            part.block.unanswered -= len(part.stack)
        return [part.block for part in self.parts if not part.block.unanswered]


def rows_in_batch(tokens: int, length: int) -> int:
    """How many rows of a length a batch of at most so many tokens holds, at least one.

    Attention takes memory and time by the square of the length: beyond 512 tokens a batch holds no more pairs of tokens
    than a full batch of rows of 512.
    """
    return max(1, tokens // length * min(length, _LONG) // length)


class WaitingRows(Generic[Asker]):
    """Blocks of rows in the order asked, those of one kind together.

    Attributes:
        memory: about how many bytes they take.
    """

    def __init__(self) -> None:
        self.memory = 0
        self._parts: dict[BatchKind, deque[Part[Asker]]] = {}
        self._rows: dict[BatchKind, int] = {}

    def add(self, part: Part[Asker], dtype: Dtype | None) -> None:
        """Put rows at the end of their kind."""
        kind = (part.stack.kind, dtype)
        self._parts.setdefault(kind, deque()).append(part)
        self._rows[kind] = self._rows.get(kind, 0) + len(part.stack)
        self.memory += part.stack.memory

    def fullest(self, tokens: int, under_way: Collection[BatchKind]) -> BatchKind | None:
        """The kind of which most tokens wait; None where nothing waits.

        Args:
            tokens: of a full batch.
            under_way: kinds whose answers are still to come, and with them perhaps more rows to ask: of these, only
                what fills a batch already.
        """
        able = {
            kind: kind[0][0] * rows
            for kind, rows in self._rows.items()
            if kind not in under_way or rows >= rows_in_batch(tokens, kind[0][0])
        }
        return max(able, key=able.__getitem__) if able else None

    def batch(self, kind: BatchKind, tokens: int) -> RowBatch[Asker]:
        """Take out rows of a kind, those asked first, at least one and at most as many as `tokens` allow."""
        size, waiting = rows_in_batch(tokens, kind[0][0]), self._parts[kind]
        parts: list[Part[Asker]] = []
        while size and waiting:
            part = waiting.popleft()
            if len(part.stack) > size:
                waiting.appendleft(Part(part.block, part.stack[size:], part.first + size))
                part = Part(part.block, part.stack[:size], part.first)
            parts.append(part)
            size -= len(part.stack)
        found = RowBatch(kind, parts)
        self._rows[kind] -= len(found)
        self.memory -= sum(part.stack.memory for part in parts)
        if not waiting:
            del self._parts[kind], self._rows[kind]
        return found

    def put_back(self, batch: RowBatch[Asker]) -> None:
        """Rows that could not be answered wait again, before all others of their kind."""
        self._parts.setdefault(batch.kind, deque()).extendleft(reversed(batch.parts))
        self._rows[batch.kind] = self._rows.get(batch.kind, 0) + len(batch)
        self.memory += sum(part.stack.memory for part in batch.parts)
