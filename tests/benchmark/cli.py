"""The command line inside this process, and a small real setting for it: a model folder and Parquet files."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq

from assay import command_line
from tests.tiny_models import CORPUS, tiny_model

LABELS = ("negative", "positive")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def assay(*arguments: str) -> Ended:
    """Run a command as its script does."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        patch.object(sys, "argv", ["assay", *arguments]),
        patch.object(sys, "path", list(sys.path)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            command_line.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
    return Ended(code, out.getvalue(), err.getvalue())


def save_model(path: Path, labels: tuple[str, ...] = LABELS, **settings: Any) -> Path:
    model, tokenizer = tiny_model("bert", num_labels=len(labels), **settings)
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: number for number, label in enumerate(labels)}
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def save_task(folder: Path, texts: tuple[str, ...] = CORPUS[:6], **columns: Any) -> Path:
    place = folder / "sst2"
    place.mkdir(parents=True, exist_ok=True)
    table = {"sentence": list(texts), "label": [i % 2 for i in range(len(texts))], "idx": list(range(len(texts)))}
    pq.write_table(pa.table({**table, **columns}), place / "validation.parquet")
    return folder
