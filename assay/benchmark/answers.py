"""Every distinct row that was asked, by its number, and what the model has said of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay.classifier import transform
from assay.encoding import Output
from assay.model_loading import Dtype
from assay.rows import Kind, Stack

Numbers = NDArray[np.intp]

_FIRST_ROOM = 1024


class Answers:
    """Rows and answers in arrays; there are hundreds of thousands of them in a shard.

    Attributes:
        logits: [rows, classes].
        outputs: [rows, classes], what conversations receive, before it is rounded to float32.
        tokens: [rows], how long each is.
        seconds: [rows], each row's share of the batch that it was in.
        block: [rows], the block of rows that each is waiting in, from 1 on; 0 where it has been answered.
        stored: [rows], whether the answer was known before anyone asked.
    """

    def __init__(self, classes: int, output: Output, entropy: int | None = None) -> None:
        """Begin without a row.

        Args:
            classes: of the model.
            output: what the conversations receive.
            entropy: what the digests of rows hang on (`Stack.keys`).
        """
        self._entropy = entropy
        self._output: Output = output
        # Which answers a conversation gets must not hang on what others ask, so each precision has its own.
        self._numbers: dict[tuple[str, Dtype | None, Kind], dict[bytes, int]] = {}
        self._length = 0
        self.logits = np.empty((_FIRST_ROOM, classes), dtype=np.float32)
        self.outputs = np.empty((_FIRST_ROOM, classes), dtype=np.float64)
        self.tokens = np.empty(_FIRST_ROOM, dtype=np.int32)
        self.seconds = np.empty(_FIRST_ROOM, dtype=np.float64)
        self.block = np.empty(_FIRST_ROOM, dtype=np.int32)
        self.stored = np.empty(_FIRST_ROOM, dtype=np.bool_)
        self._met = np.empty(_FIRST_ROOM, dtype=np.bool_)
        self._has_stored = False

    def __len__(self) -> int:
        return self._length

    def number(self, example: str, stack: Stack, dtype: Dtype | None) -> tuple[Numbers, Numbers]:
        """The numbers of rows of one example, [rows], and the places among them of those that are new, in order.

        New rows have numbers that follow each other.
        """
        known = self._numbers.setdefault((example, dtype, stack.kind), {})
        numbers: list[int] = []
        fresh: list[int] = []
        for place, key in enumerate(stack.keys(self._entropy)):
            number = known.get(key)
            if number is None:
                number = known[key] = self._length + len(fresh)
                fresh.append(place)
            numbers.append(number)
        self._make_room(len(fresh), stack.kind)
        return np.array(numbers, dtype=np.intp), np.array(fresh, dtype=np.intp)

    def recall(
        self,
        example: str,
        kind: Kind,
        keys: Sequence[bytes],
        logits: NDArray[np.float32],
        seconds: NDArray[np.floating],
    ) -> None:
        """Take in what the model has said before, in its own precision, of rows of one kind of one example.

        Args:
            example: its id.
            kind: of the rows.
            keys: their digests.
            logits: [rows, classes].
            seconds: [rows], what each of them took.
        """
        known = self._numbers.setdefault((example, None, kind), {})
        fresh: list[int] = []
        for place, key in enumerate(keys):
            if key not in known:
                known[key] = self._length + len(fresh)
                fresh.append(place)
        rows = self._make_room(len(fresh), kind)
        self.take(rows, logits[fresh], seconds[fresh])
        self.store(rows)

    def store(self, numbers: Numbers | slice) -> None:
        """Have it known that the answers to these rows were there before anyone asked."""
        self.stored[numbers] = True
        self._has_stored = True

    def meet(self, numbers: Numbers) -> int:
        """How many of the rows that are asked were stored before and have not been asked yet."""
        if not self._has_stored:
            return 0
        met = np.unique(numbers[self.stored[numbers] & ~self._met[numbers]])
        self._met[met] = True
        return len(met)

    def found_out(self) -> Iterator[tuple[str, Kind, list[bytes], Numbers]]:
        """What the model itself has answered in its own precision: example, kind, digests and numbers of its rows."""
        for (example, dtype, kind), known in self._numbers.items():
            if dtype is None:
                numbers = np.fromiter(known.values(), dtype=np.intp, count=len(known))
                (new,) = np.nonzero(~self.stored[numbers] & (self.block[numbers] == 0))
                if len(new):
                    keys = list(known)
                    yield example, kind, [keys[place] for place in new], numbers[new]

    def take(
        self, numbers: Numbers | slice, logits: NDArray[np.float32], seconds: float | NDArray[np.floating]
    ) -> None:
        """Take in what the model said of rows.

        Args:
            numbers: of the rows.
            logits: [rows, classes].
            seconds: what each of them took, one number for all or [rows].
        """
        self.logits[numbers] = logits
        self.outputs[numbers] = transform(torch.from_numpy(logits).double(), self._output).numpy()
        self.seconds[numbers] = seconds
        self.block[numbers] = 0

    def mean_logits(self, numbers: Numbers, draws: int) -> NDArray[np.float32]:
        """Logits for each keep-mask, [queries, classes]; over several draws, those of the mean output."""
        logits = self.logits[numbers]
        if draws == 1 or not len(logits):
            return logits
        drawn = logits.reshape(-1, draws, logits.shape[1])
        mean: NDArray[np.float32] = drawn.mean(axis=1)
        if self._output != "logit":
            mean = torch.from_numpy(drawn).double().softmax(-1).mean(1).log().float().numpy()
        return mean

    def heard(self, numbers: Numbers, draws: int, foil: int | None) -> NDArray[np.float32]:
        """The output for each keep-mask, [queries, classes], as a conversation receives it.

        Args:
            numbers: of the rows, `draws` for each mask.
            draws: how many rows stand for a mask.
            foil: a class whose output is taken off that of every class, or None.
        """
        if draws == 1:
            outputs = self.outputs[numbers]
        else:
            outputs = transform(torch.from_numpy(self.mean_logits(numbers, draws)).double(), self._output).numpy()
        if foil is not None:
            outputs = outputs - outputs[:, [foil]]
        return outputs.astype(np.float32)

    def _make_room(self, count: int, kind: Kind) -> slice:
        """Number some more rows of one kind."""
        rows = slice(self._length, self._length + count)
        self._length, room = rows.stop, len(self.tokens)
        if self._length > room:
            more = max(self._length, 2 * room) - room
            for name in ("logits", "outputs", "tokens", "seconds", "block", "stored", "_met"):
                setattr(self, name, _longer(getattr(self, name), more))
        self.tokens[rows] = kind[0]
        self.stored[rows] = self._met[rows] = False
        return rows


def _longer(array: NDArray[Any], more: int) -> NDArray[Any]:
    return np.concatenate([array, np.empty((more, *array.shape[1:]), dtype=array.dtype)])
