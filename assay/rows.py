"""The model's inputs: one row, and many rows in arrays, which is how they are made, told apart and batched."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

# What rows of one batch share: their length, whether tokens are hidden from attention, and the width of what hides
# embeddings, 0 where nothing does.
Kind = tuple[int, bool, int]


@dataclass(frozen=True)
class Row:
    """One input of the model.

    Attributes:
        ids: [tokens], the token ids, special tokens included.
        segments: [tokens], the segment ids, or None where the model has none.
        attended: [tokens], False for tokens that the attention mask hides; None where all are attended to.
        embedded: [tokens, width], or [tokens, 1] for all elements alike: False where a word embedding becomes zero,
            before positions and segments are added; None where all stays.
    """

    ids: Ids
    segments: Ids | None = None
    attended: NDArray[np.bool_] | None = None
    embedded: NDArray[np.bool_] | None = None

    @property
    def key(self) -> bytes:
        """A digest of 16 bytes, the same for two rows when the model would see the same."""
        digest = blake2b(self.ids.tobytes(), digest_size=16)
        if self.segments is not None:
            digest.update(self.segments.tobytes())
        for name, part in (("attended", self.attended), ("embedded", self.embedded)):
            # What hides nothing is the plain input.
            if part is not None and not part.all():
                digest.update(f"{name}{part.shape}".encode() + np.packbits(part).tobytes())
        return digest.digest()

    @property
    def kind(self) -> Kind:
        """What rows of one batch must share: their length, and how some of it is hidden behind the ids.

        The last is the width of `embedded`, 0 where it hides nothing.
        """
        return (
            len(self.ids),
            self.attended is not None and not self.attended.all(),
            0 if self.embedded is None or self.embedded.all() else self.embedded.shape[1],
        )


@dataclass(frozen=True, eq=False)
class Stack:
    """Rows of one kind in arrays.

    Attributes:
        ids: [rows, tokens].
        segments: [rows, tokens], or None where the model has none.
        attended: [rows, tokens], each of which hides a token; None where all are attended to.
        embedded: [rows, tokens, width], each of which hides something; None where all stays.
    """

    ids: NDArray[np.int32]
    segments: NDArray[np.int32] | None = None
    attended: NDArray[np.bool_] | None = None
    embedded: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Stack:
        """Some rows of one kind."""
        _, hides_from_attention, hides_embeddings = rows[0].kind
        return cls(
            np.stack([row.ids for row in rows]).astype(np.int32),
            None if rows[0].segments is None else _stacked(row.segments for row in rows).astype(np.int32),
            _stacked(row.attended for row in rows) if hides_from_attention else None,
            _stacked(row.embedded for row in rows) if hides_embeddings else None,
        )

    @classmethod
    def join(cls, stacks: Sequence[Stack]) -> Stack:
        """The rows of several stacks of one kind."""
        if len(stacks) == 1:
            return stacks[0]

        def joined(parts: list[NDArray[Any] | None]) -> Any:
            return None if parts[0] is None else np.concatenate([part for part in parts if part is not None])

        return cls(
            joined([one.ids for one in stacks]),
            joined([one.segments for one in stacks]),
            joined([one.attended for one in stacks]),
            joined([one.embedded for one in stacks]),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, chosen: slice | NDArray[np.integer[Any]]) -> Stack:
        """Some of the rows."""
        segments = self.segments
        if segments is not None:
            # The same segments for all rows stay one row in memory.
            alike = len(self) and not segments.strides[0]
            count = len(self.ids[chosen])
            segments = np.broadcast_to(segments[0], (count, segments.shape[1])) if alike else segments[chosen]
        return Stack(
            self.ids[chosen],
            segments,
            None if self.attended is None else self.attended[chosen],
            None if self.embedded is None else self.embedded[chosen],
        )

    @property
    def kind(self) -> Kind:
        """What the rows share."""
        return self.ids.shape[1], self.attended is not None, 0 if self.embedded is None else self.embedded.shape[2]

    @property
    def memory(self) -> int:
        """About how many bytes the rows take."""
        return sum(part.nbytes for part in (self.ids, self.attended, self.embedded) if part is not None)

    @property
    def readable(self) -> NDArray[np.bool_]:
        """[rows], False where the model is left nothing to read."""
        if self.attended is None:
            return np.full(len(self), self.ids.shape[1] > 0)
        return np.asarray(self.attended.any(axis=1))

    def row(self, place: int) -> Row:
        """One of the rows."""
        return Row(
            self.ids[place].astype(np.int64),
            None if self.segments is None else self.segments[place].astype(np.int64),
            None if self.attended is None else self.attended[place],
            None if self.embedded is None else self.embedded[place],
        )

    def keys(self, entropy: int | None = None) -> list[bytes]:
        """A digest of 16 bytes for each row; among rows of one kind, the same when the model would see the same.

        Two sums modulo 2⁶⁴ of the row's numbers times random odd numbers (multilinear hashing, Carter & Wegman 1979):
        two rows that differ get the same digest with a chance below 2⁻⁹⁰.

        Args:
            entropy: what the random numbers are drawn from, a secret; by default drawn anew in each process.
        """
        entropy = _ENTROPY if entropy is None else entropy
        digests = np.zeros((len(self), 2), dtype=np.uint64)
        for number, part in enumerate((self.ids, self.segments, self.attended)):
            if part is not None:
                digests += _hashed(part, number, entropy)
        if self.embedded is not None:
            digests += _hashed(np.packbits(self.embedded.reshape(len(self), -1), axis=1), 3, entropy)
        keys: list[bytes] = digests.view("V16").ravel().tolist()
        return keys


class Rows(Sequence[Row]):
    """Rows of several kinds, in order: what a list of `Row` would hold, without an object for each.

    Attributes:
        parts: the rows of each kind, and their places.
    """

    def __init__(self, parts: Sequence[tuple[NDArray[np.intp], Stack]]) -> None:
        """Take in rows.

        Args:
            parts: for each stack the places of its rows; all together 0, 1, … in some order.
        """
        self.parts = parts
        self._length = sum(len(stack) for _, stack in parts)

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Rows:
        """Rows from a list."""
        if isinstance(rows, Rows):
            return rows
        by_kind: dict[tuple[Kind, bool], list[int]] = {}
        for place, row in enumerate(rows):
            by_kind.setdefault((row.kind, row.segments is None), []).append(place)
        return cls([(np.array(places), Stack.of([rows[at] for at in places])) for places in by_kind.values()])

    @classmethod
    def hiding(
        cls,
        ids: NDArray[np.int32],
        segments: Ids | None,
        attended: NDArray[np.bool_] | None = None,
        embedded: NDArray[np.bool_] | None = None,
    ) -> Rows:
        """Rows of one length and the same segments.

        Args:
            ids: [rows, tokens].
            segments: [tokens], or None.
            attended: [rows, tokens], or None; those that hide nothing are plain rows.
            embedded: [rows, tokens, width], or None; likewise.
        """
        whole = Stack(
            ids,
            None if segments is None else np.broadcast_to(segments.astype(np.int32), ids.shape),
            attended,
            embedded,
        )
        hides = attended if attended is not None else embedded
        if hides is None:
            return cls([(np.arange(len(ids)), whole)])
        plain = hides.reshape(len(ids), -1).all(axis=1)
        places = [np.flatnonzero(plain), np.flatnonzero(~plain)]
        stacks = [Stack(whole.ids[places[0]], None if whole.segments is None else whole.segments[places[0]])]
        return cls([part for part in zip(places, [*stacks, whole[places[1]]], strict=True) if len(part[0])])

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Row]:
        found: dict[int, Row] = {}
        for places, stack in self.parts:
            found |= {int(place): stack.row(index) for index, place in enumerate(places)}
        return iter(found[place] for place in range(len(self)))

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        return list(self)[place]


def _stacked(parts: Iterable[NDArray[Any] | None]) -> NDArray[Any]:
    return np.stack([part for part in parts if part is not None])


def _hashed(part: NDArray[Any], number: int, entropy: int) -> NDArray[np.uint64]:
    """Two numbers for each row, [rows, 2], or [1, 2] where all rows are one and the same in memory.

    Args:
        part: [rows, tokens].
        number: which part of a row it is.
        entropy: what the random numbers are drawn from.
    """
    if part.strides[0] == 0:
        part = part[:1]
    factors = _factors(number, part.shape[1], entropy)
    # The wider copy of many long rows would take more memory than the rows.
    at_once = max(1, _NUMBERS_AT_ONCE // max(1, part.shape[1]))
    found = [part[at : at + at_once].astype(np.uint64) @ factors for at in range(0, len(part), at_once)]
    return np.concatenate(found) if found else np.empty((0, 2), dtype=np.uint64)


_NUMBERS_AT_ONCE = 2**18
_ENTROPY = int.from_bytes(os.urandom(16), "little")


@cache
def _factors(number: int, length: int, entropy: int) -> NDArray[np.uint64]:
    """Random odd numbers, [length, 2]."""
    rng = np.random.default_rng([entropy, number, length])
    return rng.integers(2**64, size=(length, 2), dtype=np.uint64) | np.uint64(1)
