"""How fast the model answers on this device: a few batches, timed warm."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay.benchmark.waiting_rows import rows_in_batch
from assay.classifier import Classifier
from assay.conversation import Vector
from assay.device import is_out_of_memory
from assay.encoding import Row

ROUNDS = 3
# A batch is timed with fewer rows where a full one would take longer.
SECONDS_A_BATCH = 2.0


@dataclass(frozen=True)
class Throughput:
    """Seconds that a batch takes: a part that it takes in any case, and one for each token.

    Attributes:
        lengths: [points], of the rows that were timed.
        a_token: [points], seconds for a token in a full batch of that length.
        a_batch: seconds for any batch.
        spread: how much longer the slowest of several equal batches took than the fastest, as a share of the middle.
    """

    lengths: Vector
    a_token: Vector
    a_batch: float
    spread: float

    def tokens(self, lengths: Vector) -> Vector:
        """Seconds for a token in rows of these lengths."""
        seconds: Vector = np.interp(lengths, self.lengths, self.a_token)
        return seconds


def measure(model: Classifier, rows: Sequence[Row], tokens_per_batch: int) -> Throughput:
    """Time single rows and full batches.

    Args:
        model: the classifier.
        rows: one of each length that is to be timed.
        tokens_per_batch: the most tokens in a batch.
    """
    lengths, a_token, fixed, spreads = [], [], [], []
    for length, row in sorted({len(row.ids): row for row in rows}.items()):
        single = _seconds(model, [row])
        size = max(
            1, min(rows_in_batch(tokens_per_batch, length), int(SECONDS_A_BATCH / max(float(np.median(single)), 1e-9)))
        )
        full = _seconds_halving(model, row, size)
        lengths.append(float(length))
        a_token.append(float(np.median(full)))
        fixed.append(max(0.0, float(np.median(single)) - length * a_token[-1]))
        spreads.append(float(np.ptp(full)) / a_token[-1])
    return Throughput(np.array(lengths), np.array(a_token), float(np.mean(fixed)), float(np.mean(spreads)))


def _seconds_halving(model: Classifier, row: Row, size: int) -> Vector:
    """Seconds for a token, in as large a batch as there is room for."""
    while True:
        try:
            return _seconds(model, [row] * size) / (size * len(row.ids))
        except RuntimeError as error:
            if not is_out_of_memory(error) or size == 1:
                raise
            size //= 2


def _seconds(model: Classifier, batch: Sequence[Row]) -> Vector:
    """Seconds of several passes, the first of which is not counted."""
    seconds = []
    with model.at_work():
        for _ in range(ROUNDS + 1):
            started = time.perf_counter()
            model.answer(batch)
            seconds.append(time.perf_counter() - started)
    return np.array(seconds[1:])
