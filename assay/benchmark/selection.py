"""Which cells are meant: those of a task, a model, a protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from assay.benchmark.cell import Cell
from assay.errors import AssayError, unknown_name


def select(
    cells: Sequence[Cell], task: str | None = None, model: str | None = None, protocol: str | None = None
) -> list[Cell]:
    """The cells of a task, of a model and of a protocol; None stands for all of them.

    Args:
        cells: to choose from.
        task: its name.
        model: its name.
        protocol: its key, or as much of the key's beginning as tells it from others.

    Raises:
        AssayError: there are none.
    """
    chosen = list(cells)
    asked: tuple[tuple[str, str | None, Callable[[Cell], str]], ...] = (("task", task, _task), ("model", model, _model))
    for kind, name, of in asked:
        if name is not None:
            known = {of(cell) for cell in chosen}
            if name not in known:
                raise unknown_name(kind, name, known)
            chosen = [cell for cell in chosen if of(cell) == name]
    if protocol is not None:
        known = {_protocol(cell) for cell in chosen}
        meant = {key for key in known if key.startswith(protocol)} if protocol else set()
        if not meant:
            raise unknown_name("protocol", protocol, known)
        chosen = [cell for cell in chosen if _protocol(cell) in meant]
    return chosen


def one_protocol(cells: Sequence[Cell]) -> list[Cell]:
    """The cells, if they are all of one protocol.

    Raises:
        AssayError: they are not; the message names the protocols.
    """
    about: dict[str, list[Cell]] = {}
    for cell in cells:
        about.setdefault(_protocol(cell), []).append(cell)
    if len(about) > 1:
        told = "; ".join(f"protocol {key[:8]!r}: {_told(group)}" for key, group in sorted(about.items())[:8])
        more = f"; and {len(about) - 8} more" if len(about) > 8 else ""
        raise AssayError(
            f"The results are of {len(about)} protocols, which cannot be compared. Say which by task, model or "
            f"protocol. {told}{more}."
        )
    return list(cells)


def _told(cells: Sequence[Cell]) -> str:
    examples = cells[0].meta["counts"]["examples"]
    return f"{_task(cells[0])} × {_model(cells[0])}, {examples} examples, {len(cells)} explainers"


def _task(cell: Cell) -> str:
    return str(cell.protocol["task"]["name"])


def _model(cell: Cell) -> str:
    return str(cell.protocol["model"]["name"])


def _protocol(cell: Cell) -> str:
    return str(cell.meta["protocol_key"])
