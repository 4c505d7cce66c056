"""`assay leaderboard build`: from a results folder to files that can be published."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from assay.benchmark.store import Cell, Store
from assay.errors import AssayError

_NEEDED = {
    "key",
    "protocol_key",
    "protocol",
    "explainer",
    "measures",
    "counts",
    "accuracy",
    "majority",
    "cost",
    "command",
}


def build(results: Path, out: Path) -> Path:
    """Write the site: an overview, a folder for each protocol, and every table as data.

        index.html                  the overview
        protocols/<task>-<model>-<key>/
            index.html              tables, curves, examples, how to reproduce them
            summary.json            what the overview is made of
            scores.csv              the rows of `leaderboard.csv` under this protocol
        leaderboard.csv, leaderboard.json, leaderboard.md
        assets/                     style and script of all pages

    A protocol whose cells are those of the last time is not computed again. All files are made before the first is put
    in place; should that fail, what was there before is put back. Other files in `out` are left alone.

    Args:
        results: a folder that `assay run` filled.
        out: the folder to write into; made if it is not there.

    Returns:
        The path of `index.html`.

    Raises:
        AssayError: no such results folder, no finished cell in it, a damaged cell, or `out` cannot be written.
    """
    from assay.leaderboard.board import by_protocol, make_board
    from assay.leaderboard.files import as_csv, as_json, as_markdown, rows
    from assay.leaderboard.overview import overview_page
    from assay.leaderboard.page import ASSETS, asset, navigation
    from assay.leaderboard.protocol_page import protocol_pages
    from assay.leaderboard.protocol_summary import FILE, as_text, folder_name, summary_of

    groups = by_protocol(load(Path(results)))
    boards = [make_board(cells, siblings) for cells, siblings in groups]
    folders = {board.key: folder_name(board.protocol, board.key) for board in boards}
    summaries = [summary_of(board, "") for board in boards]
    contents = {"index.html": overview_page(summaries)}
    for board, summary in zip(boards, summaries, strict=True):
        place = f"protocols/{summary.folder}"
        contents |= {f"{place}/{name}": text for name, text in protocol_pages(board, folders).items()}
        contents[f"{place}/{FILE}"] = as_text(summary)
        contents[f"{place}/scores.csv"] = as_csv(rows([board]))
    table = rows(boards)
    contents |= {
        "leaderboard.csv": as_csv(table),
        "leaderboard.json": as_json(table, boards),
        "leaderboard.md": as_markdown(boards),
        **{f"assets/{name}": asset(name) for name in ASSETS},
        "assets/navigation.js": navigation(summaries),
    }
    write(Path(out), contents)
    return Path(out) / "index.html"


def load(results: Path) -> list[Cell]:
    """All finished cells, each checked against its checksums.

    Raises:
        AssayError: there is no such folder, it has no finished cell, or one of them is damaged.
    """
    cells = Store(results).checked_cells()
    for cell in cells:
        lacking = sorted(_NEEDED - set(cell.meta))
        if lacking:
            raise AssayError(f"{cell.path / 'cell.json'} is damaged: it lacks {', '.join(lacking)}.")
    return cells


def write(out: Path, contents: Mapping[str, str]) -> None:
    """Put files into a folder, all or none.

    Raises:
        AssayError: it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _beside(out) as staged:
            for name, content in contents.items():
                (staged / name).parent.mkdir(parents=True, exist_ok=True)
                (staged / name).write_text(content, "utf-8", newline="\n")
            _swap(staged, out, list(contents))
    except OSError as error:
        raise AssayError(f"The folder {str(out)!r} cannot be written: {error.strerror or error}.") from error


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    staged = out / f".staged-{uuid.uuid4().hex[:8]}"
    staged.mkdir()
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _swap(staged: Path, out: Path, names: list[str]) -> None:
    """Move the new files into place; if one cannot be, the old ones return."""
    old = staged / "old"
    old.mkdir()
    moved: list[str] = []
    try:
        for name in names:
            (old / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            if (out / name).exists():
                (out / name).rename(old / name)
            moved.append(name)
            (staged / name).rename(out / name)
    except OSError:
        for name in moved:
            (out / name).unlink(missing_ok=True)
            if (old / name).exists():
                (old / name).rename(out / name)
        raise
