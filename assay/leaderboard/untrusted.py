"""Reading files that strangers wrote: what they may hold is capped before it is read, and nothing in them runs.

Whatever is wrong with such a file raises `Refused`. It says so of the file, not of the user, who may have come by it
innocently: the command line decides what to make of it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from assay.benchmark.records import Record
from assay.benchmark.tables import table_schema
from assay.plain_text import clean
from assay.stored_attributions import MOST_LETTERS

if TYPE_CHECKING:
    import pyarrow as pa

MOST_FILES = 100_000
MOST_JSON_BYTES = 2**22
MOST_JSON_DEPTH = 40
MOST_TABLE_BYTES = 2**28  # packed
MOST_UNPACKED_BYTES = 2**29
MOST_ROWS = 10_000_000
_MOST_DEPTH = 6  # of folders
_MOST_FOOTER = 2**24
_MOST_TEXT = {"report": 100_000}
# A row may leave these open: what a task does not know, and what has no value.
_MAY_BE_NULL = {
    "examples": {"label", "rationale", "highlights"},
    "attributions": {"metric", "perturbation", "scores", "reason", "report"},
    "scores": {"reason", "draws"},
}

Schema = TypeVar("Schema", bound=BaseModel)


class Refused(Exception):
    """A file or folder that is not what it should be; the message says which, and how."""


def plain_files(folder: Path) -> list[str]:
    """The paths of all files in a folder and below, relative to it, `/` between their parts.

    Raises:
        Refused: it is a symbolic link or holds one, holds something that is neither file nor folder, or is too much.
    """
    if folder.is_symlink():
        raise Refused(f"{folder} is a symbolic link")
    found = sorted(_walk(folder, "", 0))
    if len(found) > MOST_FILES:
        raise Refused(f"{folder} holds more than {MOST_FILES:,} files")
    return found


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[str]:
    if depth > _MOST_DEPTH:
        raise Refused(f"{clean(prefix)} lies too deep")
    with os.scandir(folder) as entries:
        for count, entry in enumerate(entries):
            if count > MOST_FILES:
                raise Refused(f"{folder} holds more than {MOST_FILES:,} files")
            place = f"{prefix}{entry.name}"
            if entry.is_symlink():
                raise Refused(f"{clean(place)} is a symbolic link")
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), f"{place}/", depth + 1)
            elif entry.is_file(follow_symlinks=False):
                yield place
            else:
                raise Refused(f"{clean(place)} is neither a file nor a folder")


def _plain(path: Path, most: int) -> None:
    try:
        status = os.lstat(path)
    except OSError as error:
        raise Refused(f"{_name(path)} is missing") from error
    if not stat.S_ISREG(status.st_mode):
        raise Refused(f"{_name(path)} is not a plain file")
    if status.st_size > most:
        raise Refused(f"{_name(path)} has {status.st_size:,} bytes; at most {most:,} are read")


def read_json(path: Path) -> Any:
    """The content of a JSON file of at most `MOST_JSON_BYTES` bytes and `MOST_JSON_DEPTH` levels.

    Raises:
        Refused: it is missing, too large or too deep, no JSON in UTF-8, or names a key twice.
    """
    _plain(path, MOST_JSON_BYTES)
    try:
        return parse_json(path.read_bytes().decode("utf-8"))
    except ValueError as error:
        raise Refused(f"{_name(path)}: {clean(error)}") from error


def parse_json(text: str) -> Any:
    """The content of JSON of at most `MOST_JSON_DEPTH` levels in which no key stands twice.

    Raises:
        ValueError: it is not that.
    """
    depth = 0
    quoted = escaped = False
    for letter in text:
        if quoted:
            quoted = escaped or letter != '"'
            escaped = not escaped and letter == "\\"
        elif letter == '"':
            quoted = True
        elif letter in "[{":
            depth += 1
            if depth > MOST_JSON_DEPTH:
                raise ValueError(f"it is nested more than {MOST_JSON_DEPTH} levels deep")
        elif letter in "]}":
            depth -= 1
    return json.loads(text, object_pairs_hook=_distinct)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it names {next(name for name in names if names.count(name) > 1)!r} twice")
    return content


def validated(schema: type[Schema], content: Any, where: str) -> Schema:
    """JSON content as what it has to be.

    Raises:
        Refused: it is something else; the message names the first fault, and `where` it is.
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        told = "an unknown key" if fault["type"] == "extra_forbidden" else str(fault["msg"])
        raise Refused(f"{where}: {clean(place)}: {clean(told)}") from error


def read_table(path: Path, name: str) -> pa.Table:
    """One of the tables of a cell, its texts kept as dictionaries, so that a word costs memory once.

    Args:
        path: the Parquet file.
        name: which table it is; its columns and their types have to be exactly that table's.

    Raises:
        Refused: it is missing or no Parquet file, has other columns or types, unpacks to too much, has words that are
            too long, or a value missing where there must be one.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    _plain(path, MOST_TABLE_BYTES)
    wanted = table_schema(name)
    limits = {"thrift_string_size_limit": _MOST_FOOTER, "thrift_container_size_limit": 10**6}
    try:
        with pq.ParquetFile(path, memory_map=False, **limits) as file:
            _check_promise(path, file, wanted)
            texts = [column for column in _leaves(file) if column.physical_type == "BYTE_ARRAY"]
        texts_at = [column.path for column in texts if column.logical_type.type == "STRING"]
        with pq.ParquetFile(path, memory_map=False, read_dictionary=texts_at, **limits) as file:
            table = file.read()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise Refused(
            f"{_name(path)} is no Parquet file that can be read: {clean(str(error).split(chr(10))[0])}"
        ) from error
    if table.nbytes > MOST_UNPACKED_BYTES:
        raise Refused(f"{_name(path)} unpacks to {table.nbytes:,} bytes; at most {MOST_UNPACKED_BYTES:,} are read")
    unpacked = 0
    for field in wanted:
        column = table[field.name]
        if column.null_count and field.name not in _MAY_BE_NULL.get(name, set()):
            raise Refused(f"{_name(path)}: a value of {field.name!r} is missing")
        while pa.types.is_list(column.type):
            column = pc.list_flatten(column)
            # Whoever marked words was not shown every text: only there may a list hold nothing.
            if column.null_count and field.name != "highlights":
                raise Refused(f"{_name(path)}: a value in {field.name!r} is missing")
        for chunk in column.chunks if pa.types.is_dictionary(column.type) else ():
            lengths = pc.binary_length(chunk.dictionary)
            longest = pc.max(lengths).as_py() or 0
            if longest > 4 * _MOST_TEXT.get(field.name, MOST_LETTERS):
                raise Refused(f"{_name(path)}: {field.name!r} holds a text of {longest:,} bytes")
            unpacked += pc.sum(pc.take(lengths, chunk.indices)).as_py() or 0
    if unpacked > MOST_UNPACKED_BYTES:
        raise Refused(
            f"{_name(path)}: its texts unpack to {unpacked:,} bytes; at most {MOST_UNPACKED_BYTES:,} are read"
        )
    return table


def rows_of(table: pa.Table) -> list[Record]:
    """The rows of a table that `read_table` gave."""
    rows: list[Record] = table.to_pylist()
    return rows


def _check_promise(path: Path, file: Any, wanted: pa.Schema) -> None:
    """Compare what a file says of itself, before anything of it is unpacked."""
    metadata, schema = file.metadata, file.schema_arrow
    types = {field.name: field.type for field in schema}
    if [*types] != wanted.names:
        raise Refused(
            f"{_name(path)} has the columns {clean(', '.join(types))}; they must be {', '.join(wanted.names)}"
        )
    for field in wanted:
        if types[field.name] != field.type:
            raise Refused(f"{_name(path)}: {field.name!r} is of type {clean(types[field.name])}, not {field.type}")
    if metadata.num_rows > MOST_ROWS:
        raise Refused(f"{_name(path)} has {metadata.num_rows:,} rows; at most {MOST_ROWS:,} are read")
    chunks = [
        metadata.row_group(group).column(column)
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    ]
    size = sum(chunk.total_uncompressed_size for chunk in chunks)
    # A number that repeats packs to almost nothing, so that its count is what tells.
    values = 8 * sum(chunk.num_values for chunk in chunks)
    if max(size, values) > MOST_UNPACKED_BYTES or min(size, values) < 0:
        raise Refused(f"{_name(path)} unpacks to {max(size, values):,} bytes; at most {MOST_UNPACKED_BYTES:,} are read")


def _leaves(file: Any) -> list[Any]:
    return [file.schema.column(number) for number in range(len(file.schema.names))]


def _name(path: Path) -> str:
    return clean("/".join(path.parts[-2:]))
