"""Files are put into a folder whole or not at all."""

from __future__ import annotations

import os
import shutil
import socket
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from assay.benchmark.whole_folder import alive
from assay.errors import AssayError

_STAGED = ".staged-"


def write(out: Path, contents: Mapping[str, str]) -> None:
    """Put files into a folder, all or none.

    Raises:
        AssayError: it cannot be written.
    """
    with staging(out) as staged:
        for name, content in contents.items():
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_text(content, "utf-8", newline="\n")
        put(staged, out, list(contents))


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A folder inside `out` to make things in; it is gone at the end, and `out` too if there is nothing in it.

    What an earlier process left that was killed is cleared first: what it had taken out of the way is put back.

    Raises:
        AssayError: it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        _recover(out)
        staged = out / f"{_STAGED}{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        staged.mkdir()
        try:
            yield staged
        finally:
            shutil.rmtree(staged, ignore_errors=True)
            with suppress(OSError):
                out.rmdir()
    except OSError as error:
        raise AssayError(f"The folder {str(out)!r} cannot be written: {error.strerror or error}.") from error


def put(staged: Path, out: Path, names: Sequence[str], stale: Sequence[str] = ()) -> None:
    """Move files and folders into place, and others away; if one cannot be moved, the old ones return.

    Args:
        staged: where the new ones stand; the old ones are kept there, in `old`, until that is gone.
        out: where they go.
        names: of the new ones, under both.
        stale: what goes away.

    Raises:
        OSError: one cannot be moved.
    """
    old = staged / "old"
    old.mkdir()
    moved: list[str] = []
    try:
        for name in [*names, *stale]:
            (old / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            moved.append(name)
            if (out / name).exists():
                (out / name).rename(old / name)
            if name not in stale:
                (staged / name).rename(out / name)
    except OSError:
        for name in moved:
            # What was not taken out of the way has nothing new in its place.
            if (old / name).exists():
                _remove(out / name)
                (old / name).rename(out / name)
            elif not (staged / name).exists():
                _remove(out / name)
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _recover(out: Path) -> None:
    """Clear what killed processes left."""
    for left in out.glob(f"{_STAGED}{socket.gethostname()}-*"):
        process = left.name.split("-")[-2]
        if left.is_symlink() or not process.isdigit() or alive(int(process)):
            continue
        _put_back(left / "old", out)
        shutil.rmtree(left, ignore_errors=True)


def _put_back(old: Path, place: Path) -> None:
    """Whatever stands in `old` and is missing in its place returns there."""
    if not old.is_dir():
        return
    for path in old.iterdir():
        if not (place / path.name).exists():
            path.rename(place / path.name)
        elif path.is_dir():
            _put_back(path, place / path.name)
