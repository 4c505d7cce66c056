"""Attributions of a run as files that other tools read, and that the explainer `precomputed` reads again.

<out>/<task>/<model>/<protocol key>/<explainer>-<cell key>.jsonl
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from assay.attribution_files import SUFFIXES, write_attributions
from assay.benchmark.cell import Cell
from assay.benchmark.store import Store, slug
from assay.benchmark.summary import told_apart
from assay.errors import AssayError, unknown_name
from assay.stored_attributions import MOST_REASON, StoredAttribution, explained


@dataclass(frozen=True)
class Exported:
    """What became of a cell.

    Attributes:
        explainer: its name, told apart from others of the same name by its settings.
        path: the file; None for a cell that was left out.
        examples: how many the file has.
        without: how many of them have a reason in place of an attribution.
        left_out: why there is no file.
    """

    explainer: str
    path: Path | None = None
    examples: int = 0
    without: int = 0
    left_out: str | None = None


def export(results: str | Path, out: Path, format: str = "jsonl") -> list[Exported]:
    """Write the attributions of every cell, a file each, in a folder for each protocol.

    Left out is what has no one attribution of an example: a search, which has one for each metric, and a method that is
    drawn several times.

    Args:
        results: a folder that `assay run` filled, or its URL.
        out: a folder to write into; made if it is not there, and refused if something stands where files would go.
        format: `jsonl`, `csv` or `parquet`.

    Raises:
        AssayError: no such results or format, or `out` cannot be written.
    """
    if f".{format}" not in SUFFIXES:
        raise unknown_name("format", format, [suffix[1:] for suffix in SUFFIXES])
    cells = Store(results).checked_cells()
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(str(cell.meta["protocol_key"]), []).append(cell)
    folders = {key: _folder(group[0]) for key, group in groups.items()}
    for folder in folders.values():
        if (out / folder).exists():
            raise AssayError(f"{str(out / folder)!r} exists; name another folder, or remove it first.")
    temporary = out / f".writing-{uuid.uuid4().hex[:8]}"
    found = []
    try:
        for key, group in groups.items():
            for cell, name in zip(group, told_apart(group), strict=True):
                reason = _why_not(cell)
                if reason is not None:
                    found.append(Exported(name, left_out=reason))
                    continue
                place = folders[key] / f"{cell.path.name}.{format}"
                attributions = list(_attributions(cell, name))
                write_attributions(temporary / place, attributions)
                without = sum(one.scores is None for one in attributions)
                found.append(Exported(name, out / place, len(attributions), without))
        for folder in folders.values():
            if (temporary / folder).exists():
                (out / folder).parent.mkdir(parents=True, exist_ok=True)
                (temporary / folder).rename(out / folder)
    except OSError as error:
        raise AssayError(f"The folder {str(out)!r} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if all(one.path is None for one in found):
        raise AssayError(f"Nothing can be exported: {found[0].explainer} {found[0].left_out}.")
    return found


def _folder(cell: Cell) -> Path:
    protocol = cell.protocol
    return Path(slug(protocol["task"]["name"]), slug(protocol["model"]["name"]), str(cell.meta["protocol_key"]))


def _why_not(cell: Cell) -> str | None:
    if cell.meta["explainer"]["searches"]:
        return "searches for another ranking under each metric"
    if any(row["draw"] > 0 for row in cell.rows("attributions")):
        return "draws several attributions of an example"
    return None


def _attributions(cell: Cell, name: str) -> Iterator[StoredAttribution]:
    labels, unit = cell.protocol["model"]["labels"], cell.protocol["feature"]
    about = {row["example"]: row for row in cell.rows("examples")}
    for row in cell.rows("attributions"):
        example = about[row["example"]]
        try:
            yield StoredAttribution(
                id=row["example"],
                features=tuple(example["features"]),
                segments=tuple(example["segments"]),
                positions=tuple(example["positions"]),
                scores=None if row["scores"] is None else tuple(row["scores"]),
                target=labels[example["target"]],
                signed=row["signed"],
                unit=unit,
                method=name,
                settings=dict(cell.meta["explainer"]["settings"]),
                reason=None if row["reason"] is None else row["reason"][:MOST_REASON],
            )
        except ValidationError as error:
            fault = explained(error, StoredAttribution.model_fields)
            raise AssayError(f"{cell.path}, example {row['example']!r} cannot be exported: {fault}") from error
