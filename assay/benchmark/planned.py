"""What a job was planned to take, kept beside its results, and read back when it has ended."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from assay.benchmark.amounts import amount, duration, size
from assay.benchmark.cell import Cell
from assay.benchmark.store import Store
from assay.benchmark.work import Work, known_work
from assay.digests import digest
from assay.errors import AssayError

FOLDER = ".plans"
_LARGEST = 1_000_000  # bytes of a file that is read


@dataclass(frozen=True)
class Planned:
    """What the cells of a job were planned to take, all their shards together.

    Attributes:
        cells: the keys of the cells that were not finished then.
        rows: through the model, forward and backward.
        tokens: of these rows.
        seconds: that shards take to compute, one after the other.
        bytes: on disk.
    """

    cells: tuple[str, ...]
    rows: float
    tokens: float
    seconds: float
    bytes: float


def keep(store: Store, metas: Mapping[str, Mapping[str, Any]], planned: Planned) -> Path:
    """Write down what a job is planned to take, in place of what was planned before.

    Args:
        store: the results.
        metas: of all cells of the job, by explainer; they name the plan.
        planned: what it will take.

    Raises:
        AssayError: it cannot be written.
    """
    path = _path(store, metas)
    temporary = path.with_name(f"{path.stem}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(asdict(planned), indent=2) + "\n", "utf-8")
        temporary.replace(path)
    except OSError as error:
        raise AssayError(f"The plan cannot be kept as {str(path)!r}: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def compare(store: Store, metas: Mapping[str, Mapping[str, Any]], fresh: Sequence[Cell]) -> str | None:
    """What a job was planned to take beside what it took; None where it was not planned, or where that is not known.

    Args:
        store: the results.
        metas: of all cells of the job, by explainer.
        fresh: the cells that it has computed, all of their shards.
    """
    planned = _read(_path(store, metas))
    work = known_work(fresh)
    if planned is None or work is None or set(planned.cells) != {cell.key for cell in fresh}:
        return None
    took = _true(fresh, work)
    parts = [
        f"{_beside(planned.rows, took.rows, amount)} rows",
        f"{_beside(planned.tokens, took.tokens, amount)} tokens",
        f"{_beside(planned.seconds, took.seconds, duration)} of computing",
        f"{_beside(planned.bytes, took.bytes, size)} on disk",
    ]
    if work.rows_known:
        parts.append(f"{amount(work.rows_known)} rows of the plan were known from other cells")
    return f"Planned → true: {'; '.join(parts)}."


def _true(fresh: Sequence[Cell], work: Work) -> Planned:
    return Planned(
        tuple(cell.key for cell in fresh),
        work.forward_rows + work.backward_rows,
        work.forward_tokens + work.backward_tokens,
        work.seconds,
        float(sum(file.stat().st_size for cell in fresh for file in cell.path.iterdir())),
    )


def _beside(planned: float, true: float, form: Any) -> str:
    off = f" ({planned / true - 1:+.0%})" if true else ""
    return f"{form(planned)} → {form(true)}{off}"


def _read(path: Path) -> Planned | None:
    """The plan in a file; one that is damaged is as good as none, because nothing hangs on it."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        if path.stat().st_size <= _LARGEST:
            content = json.loads(path.read_text("utf-8"))
            numbers = {name: float(content[name]) for name in ("rows", "tokens", "seconds", "bytes")}
            return Planned(tuple(str(key) for key in content["cells"]), **numbers)
    return None


def _path(store: Store, metas: Mapping[str, Mapping[str, Any]]) -> Path:
    return store.root / FOLDER / f"{digest(sorted(str(meta['key']) for meta in metas.values()))}.json"
