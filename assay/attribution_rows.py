"""Attributions with a row a feature: CSV and Parquet."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from assay.errors import AssayError, near_matches
from assay.stored_attributions import (
    MOST_BYTES,
    MOST_FEATURES,
    MOST_LETTERS,
    MOST_LINE,
    MOST_REASON,
    MOST_SETTINGS,
    Name,
    Position,
    Score,
    Segment,
    StoredAttribution,
    Text,
    explained,
    no_text,
    shown,
)

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_ROWS = 10_000_000
_ROWS_AT_ONCE = 8192
# What a spreadsheet would take for a formula; with apostrophes before it, what is told apart from that by one more.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_SETTINGS = TypeAdapter(dict[str, JsonValue])

At = Callable[[int], str]  # the number of a row -> where that is, for messages


class _Row(BaseModel):
    """One feature of one example: a row of a CSV or Parquet file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Name
    feature: Text | None = None
    segment: Segment = 0
    position: Position | None = None
    score: Score | None = None
    target: Name | None = None
    signed: bool = True
    unit: Literal["word", "token"] = "word"
    method: Name | None = None
    settings: Annotated[str, Field(max_length=MOST_SETTINGS)] | None = None
    reason: Annotated[str, Field(min_length=1, max_length=MOST_REASON)] | None = None


COLUMNS = tuple(_Row.model_fields)
_NEEDED = ("id", "feature", "position", "score")


class _Group(NamedTuple):
    """The rows of one attribution: what they share, and each feature with its row's number."""

    about: tuple[Any, ...]
    number: int
    features: list[tuple[int, int, str, float, int]]


def _grouped(rows: Iterable[tuple[int, _Row]], at: At) -> Iterator[tuple[str, StoredAttribution]]:
    """Attributions of their rows, which may stand in any order; of a row no more is kept than is needed."""
    groups: dict[tuple[str | None, str, str | None], _Group] = {}
    for number, row in rows:
        about = (row.signed, row.unit, row.settings, row.reason)
        group = groups.setdefault((row.method, row.id, row.target), _Group(about, number, []))
        fault = _fault(row, group, number, at)
        if fault is not None:
            raise AssayError(f"{at(number)}: {fault}")
        if row.feature is not None and row.position is not None and row.score is not None:
            group.features.append((row.segment, row.position, row.feature, row.score, number))
    for (method, example, target), (about, first, features) in groups.items():
        features.sort()
        for one, other in pairwise(features):
            if one[:2] == other[:2]:
                before, after = sorted((one[4], other[4]))
                raise AssayError(
                    f"{at(after)}: segment {one[0]}, position {one[1]} of example {shown(example)} stands in "
                    f"{at(before)} as well; there must be one row for each feature."
                )
        signed, unit, settings, reason = about
        try:
            yield (
                at(first),
                StoredAttribution(
                    id=example,
                    segments=tuple(one[0] for one in features),
                    positions=tuple(one[1] for one in features),
                    features=tuple(one[2] for one in features),
                    scores=tuple(one[3] for one in features) or None,
                    target=target,
                    signed=signed,
                    unit=unit,
                    method=method,
                    settings=None if settings is None else _SETTINGS.validate_json(settings),
                    reason=reason,
                ),
            )
        except ValidationError as error:
            raise AssayError(f"{at(first)}: {explained(error, COLUMNS)}") from error


def _fault(row: _Row, group: _Group, number: int, at: At) -> str | None:
    """What is wrong with a row on its own, or beside those of its group that came before."""
    if group.about != (row.signed, row.unit, row.settings, row.reason):
        return (
            "signed, unit, settings and reason must be the same in all rows of an example; "
            f"at {at(group.number)} they are others."
        )
    if len(group.features) == MOST_FEATURES:
        return f"example {shown(row.id)} has more than {MOST_FEATURES:,} features."
    if row.feature is None and row.score is None:
        if row.reason is None:
            return "a row needs a feature and a score, or else a reason why there are none."
        if group.number != number:
            return f"example {shown(row.id)} has other rows beside that of its reason."
        return None
    missing = [name for name in ("feature", "score", "position") if getattr(row, name) is None]
    if missing:
        return f"{missing[0]} is missing."
    return None if row.reason is None else "there is a score and a reason why there is none; there must be one of them."


def _rows_of(attributions: Iterable[StoredAttribution]) -> Iterator[dict[str, Any]]:
    for one in attributions:
        about = {
            "id": one.id,
            "target": one.target,
            "signed": one.signed,
            "unit": one.unit,
            "method": one.method,
            "settings": None if one.settings is None else json.dumps(one.settings),
            "reason": one.reason,
        }
        if one.scores is None:
            yield {**about, "feature": None, "segment": 0, "position": None, "score": None}
            continue
        for feature, score in one.scored.items():
            yield {
                **about,
                "feature": feature.text,
                "segment": feature.segment,
                "position": feature.position,
                "score": score,
            }


def _check_columns(file: Path, columns: Sequence[str]) -> None:
    for name in columns:
        if name not in COLUMNS:
            raise AssayError(f"{str(file)!r}: unknown column {shown(name)}. {near_matches(name[:60], COLUMNS)}")
        if columns.count(name) > 1:
            raise AssayError(f"{str(file)!r}: two columns are called {name!r}.")
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise AssayError(f"{str(file)!r}: the column {missing[0]!r} is missing. Needed: {', '.join(_NEEDED)}.")


def _row(content: dict[str, Any], number: int, at: At) -> _Row:
    try:
        return _Row.model_validate({name: value for name, value in content.items() if value is not None})
    except ValidationError as error:
        raise AssayError(f"{at(number)}: {explained(error, COLUMNS)}") from error


# CSV


def read_csv(file: Path) -> Iterator[tuple[str, StoredAttribution]]:
    """The attributions in a CSV file, each with where it begins.

    Raises:
        AssayError: something is not as it should be.
    """

    def at(number: int) -> str:
        return f"{str(file)!r}, line {number}"

    yield from _grouped(_csv_rows(file, at), at)


def _csv_rows(file: Path, at: At) -> Iterator[tuple[int, _Row]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        # The module's own cap on a field, 131,072 letters, is what keeps a line from filling the memory.
        table = csv.reader(_capped(file, lines), strict=True)
        try:
            columns = next(table, None)
            if columns is None:
                raise AssayError(f"{str(file)!r} is empty; the first line of a CSV file names its columns.")
            _check_columns(file, columns)
            for values in table:
                number = table.line_num
                if not values:
                    continue
                if len(values) != len(columns):
                    raise AssayError(f"{at(number)}: {len(values)} values for {len(columns)} columns.")
                content = {name: _unguarded(value) or None for name, value in zip(columns, values, strict=True)}
                yield number, _row(content, number, at)
        except csv.Error as error:
            raise AssayError(f"{at(table.line_num)}: not CSV: {error}.") from error
        except UnicodeDecodeError as error:
            raise AssayError(f"{str(file)!r}, after line {table.line_num}: {no_text(error)}") from error


def _capped(file: Path, lines: Any) -> Iterator[str]:
    while line := lines.readline(MOST_LINE + 1):
        if len(line) > MOST_LINE:
            raise AssayError(f"{str(file)!r}: a line has more than {MOST_LINE:,} letters; one feature is a line.")
        yield line


def write_csv(file: Path, attributions: Iterable[StoredAttribution]) -> None:
    """Write a row a feature; what a spreadsheet would take for a formula gets an apostrophe."""
    with file.open("w", encoding="utf-8", newline="") as lines:
        # With both marks at a line's end, a text that holds either is put into quotes.
        table = csv.writer(lines, lineterminator="\r\n")
        table.writerow(COLUMNS)
        for row in _rows_of(attributions):
            table.writerow([_guarded(row[name]) for name in COLUMNS])


def _guarded(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value}" if _FORMULA.match(value) else value
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else repr(value)


def _unguarded(value: str) -> str:
    return value[1:] if value.startswith("'") and _FORMULA.match(value) else value


# Parquet


def read_parquet(file: Path) -> Iterator[tuple[str, StoredAttribution]]:
    """The attributions in a Parquet file, each with where it begins.

    Raises:
        AssayError: something is not as it should be.
    """

    def at(number: int) -> str:
        return f"{str(file)!r}, row {number}"

    yield from _grouped(_parquet_rows(file, at), at)


def _parquet_rows(file: Path, at: At) -> Iterator[tuple[int, _Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            schema, about = table.schema_arrow, table.metadata
        _check_columns(file, schema.names)
        _check_types(file, schema)
        if about.num_rows > _MOST_ROWS:
            raise AssayError(f"{str(file)!r} has {about.num_rows:,} rows; at most {_MOST_ROWS:,} are read.")
        size = sum(about.row_group(place).total_byte_size for place in range(about.num_row_groups))
        if size > MOST_BYTES:
            raise AssayError(f"{str(file)!r} holds {size:,} bytes unpacked; at most {MOST_BYTES:,} are read.")
        # Words are kept as a dictionary: a long one that stands in every row is in memory once.
        texts = [name for name in schema.names if _parquet_kinds()[name] == "text"]
        with pq.ParquetFile(file, read_dictionary=texts) as table:
            number = 0
            for batch in table.iter_batches(_ROWS_AT_ONCE):
                _check_lengths(file, batch)
                for content in batch.to_pylist():
                    number += 1
                    yield number, _row(content, number, at)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise AssayError(f"{str(file)!r} is no Parquet file that can be read: {str(error).splitlines()[0]}") from error


def _parquet_kinds() -> dict[str, str]:
    other = {"segment": "whole number", "position": "whole number", "score": "number", "signed": "flag"}
    return {name: other.get(name, "text") for name in COLUMNS}


def _check_types(file: Path, schema: pa.Schema) -> None:
    """Plain texts, numbers and flags only: no extension types, no nested ones, nothing that something must decode."""
    import pyarrow as pa

    types = pa.types
    fits = {
        "text": lambda kind: types.is_string(kind) or types.is_large_string(kind),
        "whole number": types.is_integer,
        "number": lambda kind: types.is_floating(kind) or types.is_integer(kind),
        "flag": types.is_boolean,
    }
    for field in schema:
        wanted = _parquet_kinds()[field.name]
        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        # A column that is empty throughout may have no type of its own.
        if not fits[wanted](kind) and not types.is_null(kind):
            raise AssayError(
                f"{str(file)!r}: the column {field.name!r} is of type {field.type}; it must be a {wanted}."
            )


def _check_lengths(file: Path, batch: pa.RecordBatch) -> None:
    """No text may be longer than any column takes, seen before it is unpacked row by row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            longest = pc.max(pc.binary_length(column.dictionary)).as_py() or 0
            if longest > 4 * max(MOST_LETTERS, MOST_SETTINGS):
                raise AssayError(
                    f"{str(file)!r}: the column {name!r} has a text of {longest:,} bytes; that is too long."
                )


def write_parquet(file: Path, attributions: Iterable[StoredAttribution]) -> None:
    """Write a row a feature."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"text": pa.string(), "whole number": pa.int64(), "number": pa.float64(), "flag": pa.bool_()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in _parquet_kinds().items()])
    pq.write_table(pa.Table.from_pylist(list(_rows_of(attributions)), schema=schema), file, compression="zstd")
