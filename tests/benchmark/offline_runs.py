"""What W&B wrote of an offline run, read back; and a user who is not logged in."""

from __future__ import annotations

import json
import os
import struct
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from assay.benchmark.cell import Cell
from assay.benchmark.wandb_content import EXAMPLES
from tests.leaderboard.synthetic import HOSTILE, METHODS, UNSIGNED, protocol, write_cell

NAMES = ("attention", "kernel_shap", "oracle", "random")


@contextmanager
def not_logged_in(folder: Path) -> Iterator[Path]:
    """A home without a key, and an empty folder in it to work in."""
    (folder / "here").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("WANDB_", "XDG_")) or name == "NETRC":
                patch.delenv(name)
        patch.setenv("HOME", str(folder))
        patch.chdir(folder / "here")
        yield folder


def make_cells(root: Path) -> list[Cell]:
    about = protocol(examples=EXAMPLES + 8)
    return [
        write_cell(root, name, about, METHODS[name], signed=name not in UNSIGNED, first_words=(HOSTILE, "\u202eevil"))
        for name in NAMES
    ]


def read_run(folder: Path, run_id: str) -> dict[str, list[Any]]:
    """The records of an offline run, once W&B's own process has written the last of them."""
    (path,) = folder.glob(f"offline-run-*-{run_id}/run-{run_id}.wandb")
    deadline = time.monotonic() + 20
    while "exit" not in (records := read_records(path.read_bytes())) and time.monotonic() < deadline:
        time.sleep(0.1)
    return records


def read_records(content: bytes) -> dict[str, list[Any]]:
    """What W&B wrote, by kind: a log of protobuf messages in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    place, parts = 7, b""
    records: dict[str, list[Any]] = defaultdict(list)
    while place + 7 <= len(content):
        left_in_block = 32768 - place % 32768
        if left_in_block < 7:
            place += left_in_block
            continue
        _, size, kind = struct.unpack("<IHB", content[place : place + 7])
        parts += content[place + 7 : place + 7 + size]
        place += 7 + size
        if place > len(content):
            break
        if kind in (1, 4):  # whole, or the last part
            record = Record.FromString(parts)
            name = record.WhichOneof("record_type")
            records[name].append(getattr(record, name))
            parts = b""
    return records


def items(records: list[Any], field: str = "item") -> dict[str, Any]:
    """The last value under each key."""
    return {
        "/".join(item.nested_key) or item.key: json.loads(item.value_json)
        for record in records
        for item in getattr(record, field)
    }
