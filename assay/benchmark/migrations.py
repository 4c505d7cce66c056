"""Results of older schemas, read as the present one: what was not recorded then stays unknown, and files stay as is.

Schema 1 had no reports of methods about themselves, schema 2 no value of each draw of a random method. A migration
changes the form alone. Numbers of older protocol versions stay in groups of their own, because their protocol's key,
which is kept, is another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import AssayError

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 3
"""Raised whenever what is stored of a cell takes another form."""

Meta = dict[str, Any]


def migrated(meta: Mapping[str, Any], path: Path) -> Meta:
    """The content of a cell.json in the present schema.

    Where something had to be done, `migrated` holds the schema that was stored (`from`) and the names of what nobody
    recorded then (`unknown`); the keys are those that were stored.

    Args:
        meta: the content, of this schema or an older one.
        path: the file, for messages.

    Raises:
        AssayError: a schema that no version up to this one has written.
    """
    schema = meta["schema"]
    if schema == SCHEMA_VERSION:
        return dict(meta)
    if schema not in _STEPS:
        raise AssayError(
            f"{path} has schema {schema!r}; this version of Assay reads schemas 1 to {SCHEMA_VERSION}.{_advice(path)}"
        )
    found: Meta = json.loads(json.dumps(meta))
    unknown: list[str] = []
    for step in range(schema, SCHEMA_VERSION):
        unknown += _STEPS[step](found)
    return {**found, "schema": SCHEMA_VERSION, "migrated": {"from": schema, "unknown": unknown}}


def _advice(path: Path) -> str:
    """Which version to install, where the cell says what wrote it."""
    try:
        version = json.loads((path.parent / "environment.json").read_text("utf-8"))["packages"]["assay"]
    except (OSError, ValueError, KeyError, TypeError):
        return " Install a newer one: pip install --upgrade assay."
    return f" It was written by Assay {str(version)[:40]}: install that or a newer one."


def _reports_and_contrast(meta: Meta) -> list[str]:
    """From 1 to 2: methods say something about themselves, and may hide features in a way of their own."""
    model, protocol = meta["protocol"]["model"], meta["protocol"]
    unknown = ["attributions.report", "explainer.perturbation"]
    unknown += [f"protocol.model.{name}" for name in ("labels", "max_length") if name not in model]
    # There was no contrast and no prompted model yet.
    protocol.setdefault("contrast", None)
    model.setdefault("prompt", None)
    return unknown


def _draws_and_presets(meta: Meta) -> list[str]:
    """From 2 to 3: the value of each draw of a random method, ratios of means, presets."""
    meta["protocol"].setdefault("contrast", None)
    meta["protocol"]["model"].setdefault("prompt", None)
    # There was no preset yet, and no measure was a ratio.
    meta["protocol"].setdefault("preset", None)
    for measure in meta["measures"].values():
        measure.setdefault("per", None)
    return ["scores.draws"]


_STEPS: dict[int, Callable[[Meta], list[str]]] = {1: _reports_and_contrast, 2: _draws_and_presets}


def completed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A stored table with the columns that it lacked when it was written, all null, in the present order.

    Args:
        table: as it was read.
        schema: of that table today.
    """
    if table.schema.names == schema.names:
        return table
    import pyarrow as pa

    columns = [
        table[field.name] if field.name in table.schema.names else pa.nulls(len(table), field.type) for field in schema
    ]
    return pa.table(columns, names=schema.names)
