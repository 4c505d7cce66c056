"""The folder of one protocol: its pages, tables, examples and summary, and whether one that stands is still right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from assay.leaderboard.board import Board, make_board
from assay.leaderboard.example_data import example_files
from assay.leaderboard.files import as_csv, as_json, as_markdown, rows
from assay.leaderboard.inventory import Group, read_cell
from assay.leaderboard.latex import protocol_tables
from assay.leaderboard.protocol_page import protocol_pages
from assay.leaderboard.protocol_summary import FILE, ProtocolSummary, as_text, read, summary_of

SUMS = "checksums.json"
# A list of checksums or a summary that is larger is none of ours.
_LARGEST = 64_000_000


def make_protocol(group: Group, folders: Mapping[str, str], target: Path) -> None:
    """Make the folder of a protocol.

    Args:
        group: its cells.
        folders: of each protocol of the same task and model, by key.
        target: where; it must not be there yet.

    Raises:
        AssayError: a cell is damaged.
        OSError: it cannot be written.
    """
    board = make_board([read_cell(path) for path in group.paths], group.siblings)
    target.mkdir(parents=True)
    sums = {}
    for name, text in _contents(board, group, folders).items():
        content = text.encode()
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_bytes(content)
        sums[name] = hashlib.sha256(content).hexdigest()
    (target / SUMS).write_text(json.dumps(sums, indent=1) + "\n", "utf-8", newline="\n")


def unchanged(folder: Path, fingerprint: str) -> ProtocolSummary | None:
    """The summary of a folder that was made from the same cells by the same program, and that nobody has touched."""
    try:
        if any((folder / name).stat().st_size > _LARGEST for name in (SUMS, FILE)):
            return None
        sums = json.loads((folder / SUMS).read_text("utf-8"))
        summary = read(folder / FILE)
        if summary.fingerprint != fingerprint or FILE not in sums or "index.html" not in sums:
            return None
        for name, expected in sums.items():
            inside = PurePosixPath(name)
            if inside.is_absolute() or ".." in inside.parts or (folder / inside).is_symlink():
                return None
            with (folder / inside).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    return None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        # Whatever stands there, it is not what a build has made.
        return None
    return summary


def _contents(board: Board, group: Group, folders: Mapping[str, str]) -> dict[str, str]:
    table = rows(board)
    return {
        **protocol_pages(board, folders),
        **{f"examples/{name}": text for name, text in example_files(board).items()},
        FILE: as_text(summary_of(board, group.fingerprint)),
        "scores.csv": as_csv(table),
        "scores.json": as_json(table, board),
        "scores.md": as_markdown(board),
        "scores.tex": protocol_tables(board),
    }
