"""The scores of a cell as arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from assay.benchmark.cell import Cell
from assay.benchmark.resampling import Floats, contributions
from assay.errors import AssayError

if TYPE_CHECKING:
    import pyarrow as pa

Column = tuple[str, str]
"""A perturbation and a measure."""


@dataclass(frozen=True)
class ScoreTable:
    """The values of a cell.

    Attributes:
        examples: their names, in order.
        columns: the perturbations and measures, as they are stored.
        values: [examples, columns]; NaN where there is none.
        per: what the means are divided by, [examples, columns]; None where all scores are plain means.
        draws: of a random method the places of the columns that were drawn several times, and
            [examples, draws, columns]; None where nothing was.
        stored: for how many examples a column has a value or a reason, [columns].
        reasons: how often each column is undefined for each reason.
    """

    examples: list[str]
    columns: list[Column]
    values: Floats
    per: Floats | None
    draws: tuple[list[int], Floats] | None
    stored: NDArray[np.intp]
    reasons: Mapping[tuple[Column, str], int]

    @classmethod
    def of(cls, cell: Cell) -> ScoreTable:
        """The scores of a cell.

        Raises:
            AssayError: its file is not what was written, or holds two values for one example and measure.
        """
        table = cell.score_rows
        codes, names = zip(*(coded(table[name]) for name in ("example", "perturbation", "metric")), strict=True)
        # The order of examples decides which of them a resample holds, so it must not hang on how a cell was stored.
        order = sorted(range(len(names[0])), key=names[0].__getitem__)
        row = np.argsort(order)[codes[0]] if order else codes[0]
        pair = codes[1] * max(len(names[2]), 1) + codes[2]
        kinds, column = _in_order_of_appearance(pair)
        columns = [(names[1][kind // len(names[2])], names[2][kind % len(names[2])]) for kind in kinds.tolist()]
        place = row * len(columns) + column
        if np.bincount(place, minlength=1).max() > 1:
            raise AssayError(f"{cell.path / 'scores.parquet'} is damaged: an example has two values of one measure.")
        stored = table["value"].to_numpy()
        values = np.full((len(order), len(columns)), np.nan)
        values.ravel()[place] = stored
        under = [cell.meta["measures"][measure].get("per") for _, measure in columns]
        return cls(
            [names[0][one] for one in order],
            columns,
            values,
            _divisors(values, columns, under),
            _draws(table, row, column, values.shape, under),
            np.bincount(column, minlength=len(columns)),
            _reasons(table, columns, column),
        )

    @cached_property
    def defined(self) -> NDArray[np.bool_]:
        """Which examples have a score, [examples, columns]."""
        return np.isfinite(self.values) if self.per is None else np.isfinite(self.values) & np.isfinite(self.per)

    @cached_property
    def added(self) -> Floats:
        """What each example adds to the cell's score, [examples, columns]."""
        return contributions(self.values, self.per)

    def like(self, examples: Sequence[str], columns: Sequence[Column]) -> tuple[Floats, Floats]:
        """Values and what they are divided by, for other examples and columns; NaN where not known here."""
        found, per = np.full((len(examples), len(columns)), np.nan), np.ones((len(examples), len(columns)))
        places = {column: place for place, column in enumerate(self.columns)}
        rows = rows_of(examples, self.examples)
        known = rows >= 0
        for place, column in enumerate(columns):
            if column in places:
                found[known, place] = self.values[rows[known], places[column]]
                if self.per is not None:
                    per[known, place] = self.per[rows[known], places[column]]
        return found, per


def rows_of(names: Sequence[str], among: Sequence[str]) -> NDArray[np.intp]:
    """The place of each name among others, [names]; -1 where it is not there."""
    if names == among:
        return np.arange(len(names))
    places = {name: place for place, name in enumerate(among)}
    return np.array([places.get(name, -1) for name in names], np.intp)


def coded(column: pa.ChunkedArray) -> tuple[NDArray[np.intp], list[str]]:
    """A column of text as codes and the texts that they stand for."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    whole = column.unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0) if whole.num_chunks else pa.array([], column.type)
    return whole.indices.to_numpy(zero_copy_only=False).astype(np.intp), whole.dictionary.to_pylist()


def _in_order_of_appearance(codes: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The different codes, small numbers all of them, as they first appear, and the place of each one among them."""
    first = np.full(int(codes.max(initial=-1)) + 1, len(codes))
    # Of several values for one place numpy keeps the last, which is the first to appear.
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    order = np.argsort(first)[: int((first < len(codes)).sum())]
    place = np.empty(len(first), np.intp)
    place[order] = np.arange(len(order))
    return order, place[codes]


def _divisors(values: Floats, columns: Sequence[Column], under: Sequence[str | None]) -> Floats | None:
    if not any(under):
        return None
    per = np.ones_like(values)
    for place, ((perturbation, _), name) in enumerate(zip(columns, under, strict=True)):
        if name is not None:
            known = (perturbation, name) in columns
            per[:, place] = values[:, columns.index((perturbation, name))] if known else np.nan
    return per


def _draws(
    table: pa.Table,
    row: NDArray[np.intp],
    column: NDArray[np.intp],
    shape: tuple[int, ...],
    under: Sequence[str | None],
) -> tuple[list[int], Floats] | None:
    """The columns that were drawn several times, ratios aside, and [examples, draws, columns]."""
    import pyarrow as pa

    if "draws" not in table.schema.names or table["draws"].null_count == len(table):
        return None
    lists = table["draws"].combine_chunks()
    drawn = np.flatnonzero(lists.is_valid().to_numpy(zero_copy_only=False))
    each = lists.drop_null().flatten().cast(pa.float64()).to_numpy(zero_copy_only=False).reshape(len(drawn), -1)
    places = [place for place in dict.fromkeys(column[drawn].tolist()) if under[place] is None]
    if not places:
        return None
    found = np.full((shape[0], each.shape[1], shape[1]), np.nan)
    found[row[drawn], :, column[drawn]] = each
    return places, found[:, :, places]


def _reasons(table: pa.Table, columns: Sequence[Column], column: NDArray[np.intp]) -> Mapping[tuple[Column, str], int]:
    if table["reason"].null_count == len(table):
        return {}
    told = table["reason"].is_valid().to_numpy()
    texts = table["reason"].drop_null().to_pylist()
    return Counter(zip([columns[place] for place in column[told].tolist()], texts, strict=True))
