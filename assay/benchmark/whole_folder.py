"""A folder of files with their checksums, written whole or not at all, whoever else writes it at the same time."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from assay.errors import AssayError

_PIECE = 2**18


class Damaged(Exception):
    """A stored folder that is not what was written; the message says which file and how."""


@contextmanager
def staged(place: Path) -> Iterator[Path]:
    """A new folder in `place` to write into; it is gone at the end, unless it has been moved."""
    temporary = temporary_path(place)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def seal(folder: Path) -> None:
    """Write the checksums of all files in a folder."""
    write_json(folder / "checksums.json", {file.name: checksum(file) for file in sorted(folder.iterdir())})


def flush(folder: Path) -> None:
    """Have the disk hold all files of a folder, and not the system's memory alone."""
    for file in folder.iterdir():
        # For writing, since some systems flush nothing else.
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())


def put(temporary: Path, path: Path, replace: bool = True) -> None:
    """Move a folder to its place.

    Args:
        temporary: the folder.
        path: its place, where nothing may be or an older one.
        replace: also an older one that is undamaged; else that stays, and nobody who reads it finds it missing.

    Raises:
        FileNotFoundError: somebody has removed the folder before it was in its place.
    """
    # Another process may write the same at the same time, or drop the folder that this goes into.
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.rename(path)
            return
        except FileNotFoundError:
            if not temporary.exists():
                raise
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if not replace:
                with suppress(Damaged):
                    verify(path)
                    return
            old = temporary_path(temporary.parent)
            with suppress(FileNotFoundError):
                path.rename(old)
            shutil.rmtree(old, ignore_errors=True)


def temporary_path(place: Path) -> Path:
    """A name in `place` that nobody else takes, and that tells whose it is."""
    return place / f"temporary-{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def clear_dead(place: Path) -> None:
    """Drop what processes of this machine have left half-written in `place` that are no more."""
    for left in place.glob(f"temporary-{_machine()}-*"):
        process = left.name.split("-")[-2]
        if process.isdigit() and not alive(int(process)):
            shutil.rmtree(left, ignore_errors=True)


@cache
def _machine() -> str:
    """A name for where the numbers of processes mean the same: containers often share a host's name, or its file."""
    told = [socket.gethostname()]
    with suppress(OSError):
        told.append(Path("/etc/machine-id").read_text("utf-8"))
    with suppress(OSError):
        told.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]


def verify(path: Path) -> None:
    """Check every file of a stored folder against its checksum.

    Raises:
        Damaged: a file is missing, truncated or changed.
    """
    # Of 10,000 cells there are 90,000 files, most of them small: paths are kept as text.
    folder = str(path)
    try:
        sums = json.loads((path / "checksums.json").read_bytes())
        if not sums:
            raise Damaged(f"{path / 'checksums.json'} names no file")
        for name, expected in sums.items():
            if os.path.basename(name) != name or name in ("", ".", ".."):
                raise Damaged(f"{path / 'checksums.json'} names {name[:80]!r}, which is no file of that folder")
            if checksum(os.path.join(folder, name)) != expected:
                raise Damaged(f"{path / name} is not what was written")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise Damaged(f"{path} is damaged: {error}") from error


def checksum(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    found = hashlib.sha256()
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        while piece := os.read(file, _PIECE):
            found.update(piece)
    finally:
        os.close(file)
    return found.hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write JSON as results have it."""
    path.write_text(json.dumps(content, indent=2, default=list) + "\n", "utf-8")


def unwritable(place: Path, error: OSError) -> AssayError:
    """What to tell whose results cannot be written: what to do, what is kept, and how to go on."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return AssayError(f"The results folder {str(place)!r} cannot be written: {error.strerror or error}.")
    damaged = place / ".damaged"
    spare = f", for example {str(damaged)!r}, which is not read any more" if damaged.is_dir() else ""
    return AssayError(
        f"No space is left for the results folder {str(place)!r}. Free some{spare}, and run the same command again to "
        "go on: finished cells and finished shards are kept, and nothing half-written is."
    )


def alive(process: int) -> bool:
    """Whether a process of this machine is running."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
