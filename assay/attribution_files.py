"""Attributions as files, from any tool: JSON-lines with an example a line, CSV or Parquet with a row a feature."""

from __future__ import annotations

import csv
import json
import os
import re
import stat
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from assay.errors import AssayError, near_matches
from assay.stored_attributions import (
    MOST_FEATURES,
    MOST_LETTERS,
    MOST_SETTINGS,
    Name,
    Position,
    Score,
    Segment,
    StoredAttribution,
    Text,
)

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".jsonl", ".csv", ".parquet")
MOST_BYTES = 2**30
_MOST_LINE = 2**24
_MOST_ROWS = 50_000_000
_ROWS_AT_ONCE = 8192
# What a spreadsheet would take for a formula; with apostrophes before it, what is told apart from that by one more.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_SETTINGS = TypeAdapter(dict[str, JsonValue])


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
    reason: Annotated[str, Field(min_length=1, max_length=2_000)] | None = None

    @property
    def about(self) -> tuple[object, ...]:
        """What all rows of an attribution share beside its key."""
        return self.signed, self.unit, self.settings, self.reason


COLUMNS = tuple(_Row.model_fields)
_NEEDED = ("id", "feature", "position", "score")


def read_attributions(path: str | Path) -> list[StoredAttribution]:
    """The attributions in a file, or in all files of a folder.

    JSON-lines (`.jsonl`) has an attribution a line, with the fields of `StoredAttribution`. CSV (`.csv`, with a header)
    and Parquet (`.parquet`) have a row a feature, with the columns `id`, `feature`, `segment`, `position`, `score`,
    `target`, `signed`, `unit`, `method`, `settings` (as JSON) and `reason`; what has a default may be left out. An
    example without an attribution has one row with neither feature nor score, and a reason. In CSV, one apostrophe is
    taken off a text that begins with apostrophes before =, +, - or @.

    Args:
        path: a file with one of these suffixes, or a folder; of a folder, all files with one of them are read and
            those in its subfolders are not.

    Raises:
        AssayError: nothing can be read there, or something is not as it should be; the message names file and line.
    """
    path = Path(path)
    found: dict[tuple[str | None, str, str | None], StoredAttribution] = {}
    for file in _files(path):
        for where, one in _READERS[file.suffix](file):
            key = (one.method, one.id, one.target)
            if key in found:
                raise AssayError(f"{where}: there is another attribution of {_about(one)}; there must be one.")
            found[key] = one
    if not found:
        raise AssayError(f"{str(path)!r} holds no attributions.")
    targets: dict[tuple[str | None, str], set[str | None]] = {}
    for method, example, target in found:
        targets.setdefault((method, example), set()).add(target)
    for (_, example), named in targets.items():
        if None in named and len(named) > 1:
            raise AssayError(
                f"{str(path)!r}: example {shown(example)} has an attribution for the class "
                f"{shown(str(next(iter(named - {None}))))} and one that names no target; each must name its own."
            )
    return list(found.values())


def write_attributions(path: str | Path, attributions: Iterable[StoredAttribution]) -> None:
    """Write attributions as the suffix says; the file appears when it is whole, in place of an older one.

    In CSV, a text that a spreadsheet would take for a formula gets an apostrophe, which `read_attributions` takes off.

    Args:
        path: a file that ends in `.jsonl`, `.csv` or `.parquet`.
        attributions: what to write.

    Raises:
        AssayError: another suffix, or a place that cannot be written.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise AssayError(f"{str(path)!r} must end in one of {', '.join(SUFFIXES)}.")
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _WRITERS[path.suffix](temporary, attributions)
        temporary.replace(path)
    except OSError as error:
        raise AssayError(f"{str(path)!r} cannot be written: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def shown(text: str) -> str:
    """Text of a file inside a message: quoted, clipped, and without anything that steers a terminal."""
    return repr(text if len(text) <= 60 else f"{text[:59]}…")


def _about(one: StoredAttribution) -> str:
    parts = [f"example {shown(one.id)}"]
    parts += [f"class {shown(one.target)}"] if one.target is not None else []
    parts += [f"method {shown(one.method)}"] if one.method is not None else []
    return ", ".join(parts)


def _files(path: Path) -> list[Path]:
    """The files to read, each a plain one of a size that can be read."""
    if path.is_symlink():
        raise AssayError(f"{str(path)!r} is a symbolic link, and those are not followed. Name what it leads to.")
    if not path.exists():
        raise AssayError(f"There are no attributions at {str(path)!r}: there is no such file or folder.")
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if one.suffix in SUFFIXES and not one.name.startswith("."))
        if not files:
            names = ", ".join(shown(one.name) for one in sorted(path.iterdir())[:5]) or "nothing"
            raise AssayError(f"The folder {str(path)!r} holds no {', '.join(SUFFIXES)} file, but {names}.")
    else:
        files = [path]
    for file in files:
        if file.suffix not in SUFFIXES:
            raise AssayError(
                f"{str(file)!r} is no file of attributions: it must end in one of {', '.join(SUFFIXES)}, and be "
                "neither compressed nor packed."
            )
        status = os.lstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise AssayError(f"{str(file)!r} is not a plain file; links, folders and pipes are not read.")
        if status.st_size > MOST_BYTES:
            raise AssayError(
                f"{str(file)!r} has {status.st_size:,} bytes; at most {MOST_BYTES:,} are read. Split it into several "
                "files in one folder."
            )
    return files


def _explained(error: ValidationError, known: Iterable[str]) -> str:
    """What the first fault is, with near matches for an unknown key."""
    fault = error.errors(include_url=False, include_input=True)[0]
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"unknown key {shown(place)}. {near_matches(place[:60], known)}"
    if fault["type"] == "missing":
        return f"{place} is missing."
    message = str(fault["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    given = fault.get("input")
    simple = isinstance(given, str | int | float) and fault["type"] != "value_error"
    told = f", not {shown(str(given))}" if simple else ""
    if fault["type"] == "finite_number":
        told += '. Without an attribution, "scores" are null (or the score is empty) and there is a reason'
    return f"{place}: {message}{told}." if place else f"{message}."


# JSON-lines


def _read_lines(file: Path) -> Iterator[tuple[str, StoredAttribution]]:
    with file.open("rb") as lines:
        number = 0
        while line := lines.readline(_MOST_LINE + 1):
            number += 1
            where = f"{file}, line {number}"
            if len(line) > _MOST_LINE:
                raise AssayError(f"{where}: the line has more than {_MOST_LINE:,} bytes; one example is a line.")
            if not line.strip():
                continue
            try:
                # A mark of the byte order is what some editors begin a file with.
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                yield where, StoredAttribution.model_validate_json(text)
            except UnicodeDecodeError as error:
                raise AssayError(f"{where}: {_no_text(error)}") from error
            except ValidationError as error:
                raise AssayError(f"{where}: {_explained(error, StoredAttribution.model_fields)}") from error


def _no_text(error: UnicodeDecodeError) -> str:
    return f"byte {error.start} is not UTF-8. Attributions are plain text in UTF-8; compressed files are not read."


def _write_lines(file: Path, attributions: Iterable[StoredAttribution]) -> None:
    with file.open("w", encoding="ascii") as lines:
        for one in attributions:
            lines.write(json.dumps(one.model_dump(exclude_defaults=True)) + "\n")


# A row a feature


def _grouped(rows: Iterable[tuple[str, _Row]]) -> Iterator[tuple[str, StoredAttribution]]:
    """Attributions of their rows, which may stand in any order."""
    groups: dict[tuple[str | None, str, str | None], list[tuple[str, _Row]]] = {}
    for where, row in rows:
        group = groups.setdefault((row.method, row.id, row.target), [])
        if group and group[0][1].about != row.about:
            raise AssayError(
                f"{where}: signed, unit, settings and reason must be the same in all rows of an example; "
                f"at {group[0][0]} they are others."
            )
        if len(group) == MOST_FEATURES:
            raise AssayError(f"{where}: example {shown(row.id)} has more than {MOST_FEATURES:,} features.")
        empty = row.feature is None and row.score is None
        if empty and row.reason is None:
            raise AssayError(f"{where}: a row needs a feature and a score, or else a reason why there are none.")
        if (empty and group) or (group and group[0][1].feature is None):
            raise AssayError(f"{where}: example {shown(row.id)} has other rows beside that of its reason.")
        if not empty and (row.feature is None or row.score is None or row.position is None):
            missing = next(name for name in ("feature", "score", "position") if getattr(row, name) is None)
            raise AssayError(f"{where}: {missing} is missing.")
        if not empty and row.reason is not None:
            raise AssayError(f"{where}: there is a score and a reason why there is none; there must be one of them.")
        group.append((where, row))
    for (method, example, target), members in groups.items():
        where, first = members[0]
        own = [row for _, row in members if row.feature is not None]
        places: dict[tuple[int, int | None], str] = {}
        for at, row in members:
            before = places.setdefault((row.segment, row.position), at)
            if before != at:
                raise AssayError(
                    f"{at}: segment {row.segment}, position {row.position} of example {shown(example)} stands in "
                    f"{before} as well; there must be one row for each feature."
                )
        own.sort(key=lambda row: (row.segment, row.position or 0))
        try:
            yield (
                where,
                StoredAttribution(
                    id=example,
                    features=tuple(row.feature or "" for row in own),
                    segments=tuple(row.segment for row in own),
                    positions=tuple(row.position or 0 for row in own),
                    scores=tuple(row.score or 0.0 for row in own) or None,
                    target=target,
                    signed=first.signed,
                    unit=first.unit,
                    method=method,
                    settings=None if first.settings is None else _SETTINGS.validate_json(first.settings),
                    reason=first.reason,
                ),
            )
        except ValidationError as error:
            raise AssayError(f"{where}: {_explained(error, COLUMNS)}") from error


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
            raise AssayError(f"{file}: unknown column {shown(name)}. {near_matches(name[:60], COLUMNS)}")
        if columns.count(name) > 1:
            raise AssayError(f"{file}: two columns are called {name!r}.")
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise AssayError(f"{file}: the column {missing[0]!r} is missing. Needed: {', '.join(_NEEDED)}.")


def _row(where: str, content: dict[str, Any]) -> _Row:
    try:
        return _Row.model_validate({name: value for name, value in content.items() if value is not None})
    except ValidationError as error:
        raise AssayError(f"{where}: {_explained(error, COLUMNS)}") from error


# CSV


def _read_table(file: Path) -> Iterator[tuple[str, StoredAttribution]]:
    yield from _grouped(_csv_rows(file))


def _csv_rows(file: Path) -> Iterator[tuple[str, _Row]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        # The module's own cap on a field, 131,072 letters, is what keeps a line from filling the memory.
        table = csv.reader(_capped(file, lines), strict=True)
        where = f"{file}, line 1"
        try:
            columns = next(table, None)
            if columns is None:
                raise AssayError(f"{file} is empty; the first line of a CSV file names its columns.")
            _check_columns(file, columns)
            for values in table:
                where = f"{file}, line {table.line_num}"
                if not values:
                    continue
                if len(values) != len(columns):
                    raise AssayError(f"{where}: {len(values)} values for {len(columns)} columns.")
                yield where, _row(where, {name: _unguarded(v) or None for name, v in zip(columns, values, strict=True)})
        except csv.Error as error:
            raise AssayError(f"{file}, line {table.line_num}: not CSV: {error}.") from error
        except UnicodeDecodeError as error:
            raise AssayError(f"{file}, after line {table.line_num}: {_no_text(error)}") from error


def _capped(file: Path, lines: Any) -> Iterator[str]:
    while line := lines.readline(_MOST_LINE + 1):
        if len(line) > _MOST_LINE:
            raise AssayError(f"{file}: a line has more than {_MOST_LINE:,} letters; one feature is a line.")
        yield line


def _write_table(file: Path, attributions: Iterable[StoredAttribution]) -> None:
    with file.open("w", encoding="utf-8", newline="") as lines:
        table = csv.writer(lines, lineterminator="\n")
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


def _read_parquet(file: Path) -> Iterator[tuple[str, StoredAttribution]]:
    yield from _grouped(_parquet_rows(file))


def _parquet_rows(file: Path) -> Iterator[tuple[str, _Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Words are kept as a dictionary: a long one that stands in every row is in memory once.
        texts = [name for name, kind in _parquet_kinds().items() if kind == "text"]
        with pq.ParquetFile(file, read_dictionary=texts, memory_map=False) as table:
            _check_columns(file, table.schema_arrow.names)
            _check_types(file, table.schema_arrow)
            if table.metadata.num_rows > _MOST_ROWS:
                raise AssayError(f"{file} has {table.metadata.num_rows:,} rows; at most {_MOST_ROWS:,} are read.")
            size = sum(table.metadata.row_group(i).total_byte_size for i in range(table.metadata.num_row_groups))
            if size > MOST_BYTES:
                raise AssayError(f"{file} holds {size:,} bytes unpacked; at most {MOST_BYTES:,} are read.")
            number = 0
            for batch in table.iter_batches(_ROWS_AT_ONCE):
                _check_lengths(file, batch)
                for content in batch.to_pylist():
                    number += 1
                    where = f"{file}, row {number}"
                    yield where, _row(where, content)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise AssayError(f"{file} is no Parquet file that can be read: {str(error).splitlines()[0]}") from error


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
            raise AssayError(f"{file}: the column {field.name!r} is of type {field.type}; it must be a {wanted}.")


def _check_lengths(file: Path, batch: pa.RecordBatch) -> None:
    """No text may be longer than any column takes, seen before it is unpacked row by row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            longest = pc.max(pc.binary_length(column.dictionary)).as_py() or 0
            if longest > 4 * max(MOST_LETTERS, MOST_SETTINGS):
                raise AssayError(f"{file}: the column {name!r} has a text of {longest:,} bytes; that is too long.")


def _write_parquet(file: Path, attributions: Iterable[StoredAttribution]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"text": pa.string(), "whole number": pa.int64(), "number": pa.float64(), "flag": pa.bool_()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in _parquet_kinds().items()])
    pq.write_table(pa.Table.from_pylist(list(_rows_of(attributions)), schema=schema), file, compression="zstd")


_READERS = {".jsonl": _read_lines, ".csv": _read_table, ".parquet": _read_parquet}
_WRITERS = {".jsonl": _write_lines, ".csv": _write_table, ".parquet": _write_parquet}
