"""Attributions as files, from any tool: JSON-lines with an example a line, CSV or Parquet with a row a feature."""

from __future__ import annotations

import json
import os
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from assay.attribution_rows import read_csv, read_parquet, write_csv, write_parquet
from assay.errors import AssayError
from assay.stored_attributions import MOST_BYTES, MOST_LINE, StoredAttribution, explained, no_text, shown

SUFFIXES = (".jsonl", ".csv", ".parquet")


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
        try:
            for where, one in _READERS[file.suffix](file):
                key = (one.method, one.id, one.target)
                if key in found:
                    raise AssayError(f"{where}: there is another attribution of {_about(one)}; there must be one.")
                found[key] = one
        except OSError as error:
            raise AssayError(f"{str(file)!r} cannot be read: {error.strerror or error}.") from error
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
        with suppress(OSError):
            temporary.unlink()


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
    size = 0
    for file in files:
        if file.suffix not in SUFFIXES:
            raise AssayError(
                f"{str(file)!r} is no file of attributions: it must end in one of {', '.join(SUFFIXES)}, and be "
                "neither compressed nor packed."
            )
        status = os.lstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise AssayError(f"{str(file)!r} is not a plain file; links, folders and pipes are not read.")
        size += status.st_size
    if size > MOST_BYTES:
        raise AssayError(
            f"{str(path)!r} has {size:,} bytes; at most {MOST_BYTES:,} are read. Split it by task or method, or write "
            "it as Parquet, which is smaller."
        )
    return files


def _read_lines(file: Path) -> Iterator[tuple[str, StoredAttribution]]:
    with file.open("rb") as lines:
        number = 0
        while line := lines.readline(MOST_LINE + 1):
            number += 1
            where = f"{str(file)!r}, line {number}"
            if len(line) > MOST_LINE:
                raise AssayError(f"{where}: the line has more than {MOST_LINE:,} bytes; one example is a line.")
            if not line.strip():
                continue
            try:
                # A mark of the byte order is what some editors begin a file with.
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                yield where, StoredAttribution.model_validate_json(text)
            except UnicodeDecodeError as error:
                raise AssayError(f"{where}: {no_text(error)}") from error
            except ValidationError as error:
                raise AssayError(f"{where}: {explained(error, StoredAttribution.model_fields)}") from error


def _write_lines(file: Path, attributions: Iterable[StoredAttribution]) -> None:
    with file.open("w", encoding="ascii") as lines:
        for one in attributions:
            lines.write(json.dumps(one.model_dump(exclude_defaults=True)) + "\n")


_READERS = {".jsonl": _read_lines, ".csv": read_csv, ".parquet": read_parquet}
_WRITERS = {".jsonl": _write_lines, ".csv": write_csv, ".parquet": write_parquet}
