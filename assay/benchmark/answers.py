"""Every distinct row that was asked, by its number, and what the model has said of it."""

from __future__ import annotations

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
    """

    def __init__(self, classes: int, output: Output) -> None:
        """Begin without a row.

        Args:
            classes: of the model.
            output: what the conversations receive.
        """
        self._output: Output = output
        # Which answers a conversation gets must not hang on what others ask, so each precision has its own.
        self._numbers: dict[tuple[str, Dtype | None, Kind], dict[bytes, int]] = {}
        self._length = 0
        self.logits = np.empty((_FIRST_ROOM, classes), dtype=np.float32)
        self.outputs = np.empty((_FIRST_ROOM, classes), dtype=np.float64)
        self.tokens = np.empty(_FIRST_ROOM, dtype=np.int32)
        self.seconds = np.empty(_FIRST_ROOM, dtype=np.float64)
        self.block = np.empty(_FIRST_ROOM, dtype=np.int32)

    def __len__(self) -> int:
        return self._length

    def number(self, example: str, stack: Stack, dtype: Dtype | None) -> tuple[Numbers, Numbers]:
        """The numbers of rows of one example, [rows], and the places among them of those that are new, in order.

        New rows have numbers that follow each other.
        """
        known = self._numbers.setdefault((example, dtype, stack.kind), {})
        numbers: list[int] = []
        fresh: list[int] = []
        for place, key in enumerate(stack.keys()):
            number = known.get(key)
            if number is None:
                number = known[key] = self._length + len(fresh)
                fresh.append(place)
            numbers.append(number)
        first, self._length = self._length, self._length + len(fresh)
        self._make_room()
        self.tokens[first : self._length] = stack.kind[0]
        return np.array(numbers, dtype=np.intp), np.array(fresh, dtype=np.intp)

    def take(self, numbers: Numbers | slice, logits: NDArray[np.float32], seconds: float) -> None:
        """Take in what the model said of rows.

        Args:
            numbers: of the rows.
            logits: [rows, classes].
            seconds: what each of them took.
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

    def _make_room(self) -> None:
        room = len(self.tokens)
        if self._length > room:
            more = max(self._length, 2 * room) - room
            for name in ("logits", "outputs", "tokens", "seconds", "block"):
                setattr(self, name, _longer(getattr(self, name), more))


def _longer(array: NDArray[Any], more: int) -> NDArray[Any]:
    return np.concatenate([array, np.empty((more, *array.shape[1:]), dtype=array.dtype)])
