"""From what a few examples took to what all of them will take, shard by shard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from assay.benchmark.waiting_rows import rows_in_batch
from assay.conversation import Vector
from assay.encoding import Encoding
from assay.planning.counting import QUANTITIES, START
from assay.planning.curve import foretell
from assay.planning.sample import Sample

COUNTS = ("forward_rows", "forward_tokens", "backward_rows", "backward_tokens")
# What goes with the length of the rows besides their number.
_BY_TOKENS = frozenset({"forward_tokens", "backward_tokens", "engine_tokens", "inside_seconds"})


@dataclass(frozen=True)
class Estimate:
    """What shards will take.

    Attributes:
        counts: rows and tokens, forward and backward, altogether.
        explainers: for each explainer with its metrics, and `START`, the counts and its seconds.
        shards: [shards], seconds of each.
        bytes: on disk.
        rows_error: by how much rows and tokens may lie off, as a share: half of a 95 % interval.
        seconds_error: by how much the time may.
    """

    counts: Mapping[str, float]
    explainers: Mapping[str, Mapping[str, float]]
    shards: Vector
    bytes: float
    rows_error: float
    seconds_error: float

    @property
    def rows(self) -> float:
        """Forward and backward."""
        return self.counts["forward_rows"] + self.counts["backward_rows"]

    @property
    def tokens(self) -> float:
        """Forward and backward."""
        return self.counts["forward_tokens"] + self.counts["backward_tokens"]


class Foresight:
    """What every example of a job will take, known from a sample."""

    def __init__(self, sample: Sample, encodings: Sequence[Encoding]) -> None:
        """Foretell each quantity of each explainer by the length of the text.

        Args:
            sample: what some examples took.
            encodings: of all examples.
        """
        self._sample = sample
        self._tokens = np.array([len(encoding.row.ids) for encoding in encodings], dtype=np.float64)
        features = np.array([encoding.n for encoding in encodings], dtype=np.float64)
        self._foretold: dict[str, dict[str, Vector]] = {}
        missed = dict.fromkeys(COUNTS, np.zeros(len(sample.places)))
        for name in sample.spent[0]:
            self._foretold[name] = {}
            for quantity in QUANTITIES:
                found = np.array([getattr(spent[name], quantity) for spent in sample.spent])
                scale = self._tokens if quantity in _BY_TOKENS else np.ones(len(features))
                here = scale[sample.places]
                foretold = foretell(features[sample.places], found / here, features)
                values = foretold.values * scale
                values[sample.places] = found
                self._foretold[name][quantity] = values
                if quantity in COUNTS:
                    missed[quantity] = missed[quantity] + foretold.errors * here
        self._rows_error = self._share(missed["forward_tokens"] + missed["backward_tokens"])

    def _share(self, missed: Vector) -> float:
        """Half of a 95 % interval of a mean, as a share of it, from by how much single examples were missed."""
        from scipy.stats import t

        known, every = len(missed), len(self._tokens)
        if known == every:
            return 0.0
        total = sum(float((one["forward_tokens"] + one["backward_tokens"]).sum()) for one in self._foretold.values())
        if known < 2 or not total:
            return math.inf if known < 2 else 0.0
        off = float(np.sqrt(np.square(missed).mean() / known * (1 - known / every)))
        return float(t.ppf(0.975, known - 1)) * off * every / total

    def estimate(self, bounds: Sequence[tuple[int, int]], bytes_beside: float = 0.0) -> Estimate:
        """What some shards will take.

        Args:
            bounds: the first example of each shard and the one after its last.
            bytes_beside: of what their cells hold besides tables.
        """
        sample, speed = self._sample, self._sample.throughput
        correction = self._correction()
        seconds = np.zeros(len(bounds))
        explainers = {name: dict.fromkeys((*COUNTS, "seconds"), 0.0) for name in self._foretold}
        for place, (first, last) in enumerate(bounds):
            here = slice(first, last)
            in_batches = 0.0
            for name, quantities in self._foretold.items():
                own = explainers[name]
                for quantity in COUNTS:
                    own[quantity] += float(quantities[quantity][here].sum())
                answered = float((quantities["engine_tokens"] * speed.tokens(self._tokens))[here].sum()) * correction
                elsewhere = float(quantities["host_seconds"][here].sum()) + self._inside(name, here)
                own["seconds"] += answered + elsewhere
                in_batches += answered
                seconds[place] += answered + elsewhere
            seconds[place] += self._batches(here) * speed.a_batch * correction
            seconds[place] += sample.seconds_to_write * (len(explainers) - 1)
        # What belongs to no explainer is shared among them as the rest is.
        beside = float(seconds.sum()) / max(1e-9, sum(own["seconds"] for own in explainers.values()))
        for own in explainers.values():
            own["seconds"] *= beside
        examples = sum(last - first for first, last in bounds)
        size = examples * self._stored_share() * sum(sample.bytes_an_example.values())
        return Estimate(
            {quantity: sum(own[quantity] for own in explainers.values()) for quantity in COUNTS},
            explainers,
            seconds,
            bytes_beside + size + len(bounds) * sum(sample.bytes_a_shard.values()),
            self._rows_error,
            math.hypot(self._rows_error, speed.spread, 0.1),
        )

    def seconds_to_start(self) -> float:
        """Seconds to find out what the model predicts for each example."""
        start = self._foretold[START]
        a_token = self._sample.throughput.tokens(self._tokens)
        return float((start["engine_tokens"] * a_token + start["host_seconds"]).sum())

    def _correction(self) -> float:
        """How much longer batches took in the sample than the throughput says: other masks and precisions."""
        said, took = 0.0, 0.0
        for place, spent in zip(self._sample.places, self._sample.spent, strict=True):
            a_token = float(self._sample.throughput.tokens(self._tokens[[place]])[0])
            for one in spent.values():
                said += one.engine_tokens * a_token + one.batches * self._sample.throughput.a_batch
                took += one.engine_seconds
        return took / said if said > 0 else 1.0

    def _inside(self, name: str, here: slice) -> float:
        """Seconds of an explainer that looks inside the model, whose batches hold examples of one length."""
        fixed = self._sample.fixed.get(name)
        if fixed is None:
            return 0.0
        alone, tokens, total = self._foretold[name]["inside_seconds"][here], self._tokens[here], 0.0
        for length in set(tokens.tolist()):
            equal = alone[tokens == length]
            a_batch = rows_in_batch(self._sample.tokens_per_batch, max(1, int(length)))
            total += (1 - fixed) * float(equal.sum()) + fixed * float(equal.mean()) * math.ceil(len(equal) / a_batch)
        return total

    def _batches(self, here: slice) -> float:
        """How many batches the engine makes of a shard: full ones, but for each length as many as one example needs.

        An adaptive conversation waits for its answers between its questions, so a length that few examples have goes
        through the model in many small batches.
        """
        lengths = self._tokens[here]
        waits = np.max([one["batches"][here] for one in self._foretold.values()], axis=0)
        tokens = np.sum([one["engine_tokens"][here] for one in self._foretold.values()], axis=0)
        batches = 0.0
        for length in set(lengths.tolist()):
            full = length * rows_in_batch(self._sample.tokens_per_batch, max(1, int(length)))
            equal = lengths == length
            batches += max(float(waits[equal].max()), float(tokens[equal].sum()) / max(1.0, full))
        return batches

    def _stored_share(self) -> float:
        """What is stored goes with the rows: those of all examples beside those of the sample."""
        rows = np.sum([one["engine_rows"] for one in self._foretold.values()], axis=0)
        here = float(rows[self._sample.places].mean())
        return float(rows.mean()) / here if here else 1.0
