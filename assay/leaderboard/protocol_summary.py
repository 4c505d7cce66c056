"""What the rest of a site needs to know of one protocol: kept as `summary.json` beside its pages.

A protocol whose cells have not changed is not computed again: the overview and the explainers' pages are made from
these summaries alone.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.benchmark.cell import Cell
from assay.benchmark.store import slug
from assay.leaderboard.board import Board, is_control

FILE = "summary.json"
# Of the bootstrap samples so many are kept, which is enough for the limits of a mean rank.
RESAMPLES_KEPT = 500


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval; None where there is none."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Standing:
    """One explainer on one measure, or on mean skill; the rank is 1 for the best, None where it has none."""

    score: Interval
    skill: Interval
    n: int
    undefined: int
    rank: int | None
    rank_low: int | None
    rank_high: int | None
    group: str
    leading: bool


@dataclass(frozen=True)
class Entry:
    """One explainer under one way of hiding.

    Attributes:
        key: of its cell.
        name: as shown, told apart by settings from others of the same explainer.
        explainer: its bare name.
        family: the file of Assay's explainers that it stands in; `own` for a class of somebody's own.
        control: whether it is the floor or the ceiling.
        mean_skill: what the leaderboard ranks by; its `score` and `skill` are the same.
        win_rate: how often it beats the mean of `random`'s draws: for each example the share of the measures of the
            mean skill, ties half, and the mean over examples.
        win_rate: how often it beats the mean of `random`'s draws: for each example the share of the measures of the
            mean skill, ties half, and the mean over examples.
        scores: by measure.
        shares_probe: what it asks the model that a measure asks too, by measure; those with which it shares nothing
            are left out.
        settings: of the explainer; `_target_` is its class.
        signed: whether the signs of its scores have a meaning.
        explained_under: how it hides features itself; None for one that hides none.
        rows: passes through the model for an example, forward and backward; None where nobody knows.
        seconds: for an example.
    """

    key: str
    name: str
    explainer: str
    family: str
    control: bool
    mean_skill: Standing
    win_rate: Interval
    scores: Mapping[str, Standing]
    shares_probe: Mapping[str, str]
    settings: Mapping[str, Any]
    signed: bool
    explained_under: str | None
    rows: float | None
    seconds: float | None


@dataclass(frozen=True)
class Hiding:
    """All explainers under one way of hiding, the best first and those without a rank last.

    Attributes:
        perturbation: its name.
        measures: the headline measures with their direction, `higher`, `lower` or `none`.
        skills_of: the measures that the mean skill is over.
        entries: the explainers.
        resampled: the keys of the methods that have a mean skill.
        resamples: that skill in some bootstrap samples of the examples, [samples, methods], as the bytes of
            little-endian single-precision numbers in base64; see `resamples_of`.
    """

    perturbation: str
    measures: Mapping[str, str]
    skills_of: Sequence[str]
    entries: Sequence[Entry]
    resampled: Sequence[str]
    resamples: str


@dataclass(frozen=True)
class ProtocolSummary:
    """One protocol.

    Attributes:
        fingerprint: of all that its pages were made from.
        key: the protocol's.
        folder: the name of its folder in the site's `protocols`.
        protocol: all that it fixes.
        examples: how many.
        accuracy: of the model on them; None without labels.
        commands: that made each cell, by the name of the explainer.
        hidings: the ways of hiding.
    """

    fingerprint: str
    key: str
    folder: str
    task: str
    model: str
    protocol: Mapping[str, Any]
    examples: int
    accuracy: float | None
    commands: Mapping[str, str]
    hidings: Sequence[Hiding]


def folder_name(protocol: Mapping[str, Any], key: str) -> str:
    """The name of a protocol's folder."""
    return f"{slug(str(protocol['task']['name']))[:40]}-{slug(str(protocol['model']['name']))[:60]}-{slug(key)[:8]}"


def summary_of(board: Board, fingerprint: str) -> ProtocolSummary:
    """What the site says of a board elsewhere than on its own pages."""
    about = board.cells[0].meta
    return ProtocolSummary(
        fingerprint,
        board.key,
        folder_name(board.protocol, board.key),
        board.task,
        board.model,
        board.protocol,
        int(about["counts"]["examples"]),
        _finite(about["accuracy"]),
        {name: str(cell.meta["command"]) for name, cell in board.named()},
        [_hiding(board, perturbation) for perturbation in board.perturbations],
    )


def resamples_of(hiding: Hiding) -> NDArray[np.float32]:
    """The mean skill of the methods in `resampled`, [samples, methods]."""
    found = np.frombuffer(base64.b64decode(hiding.resamples), "<f4")
    return found.reshape(-1, len(hiding.resampled)) if hiding.resampled else np.zeros((0, 0), np.float32)


def read(path: Path) -> ProtocolSummary:
    """The summary in a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not one.
    """
    from pydantic import TypeAdapter

    return TypeAdapter(ProtocolSummary).validate_json(path.read_bytes())


def as_text(summary: ProtocolSummary) -> str:
    """A summary as JSON."""
    from pydantic import TypeAdapter

    return TypeAdapter(ProtocolSummary).dump_json(summary, indent=1).decode() + "\n"


def family(cell: Cell) -> str:
    """The file that a cell's explainer stands in; `own` for a class of somebody's own."""
    target = str(cell.meta["explainer"]["settings"].get("_target_", ""))
    own = "assay.explainers."
    return target.removeprefix(own).split(".")[0] if target.startswith(own) else "own"


def _hiding(board: Board, perturbation: str) -> Hiding:
    measures = board.measures(perturbation)
    by_place = board.by_place[perturbation]
    directions = {metric: row["direction"] for (_, metric), row in by_place.items()}
    cells = {cell.key: cell for cell in board.cells}
    standing = board.standing(perturbation).to_dict("records")
    return Hiding(
        perturbation,
        {measure: str(directions[measure]) for measure in measures},
        list(standing[0]["measures"]) if standing else [],
        [_entry(row, cells[row["key"]], measures, by_place) for row in standing],
        *_resamples(board, perturbation),
    )


def _resamples(board: Board, perturbation: str) -> tuple[list[str], str]:
    if perturbation not in board.resamples:
        return [], ""
    keys, samples = board.resamples[perturbation]
    return keys, base64.b64encode(samples[:RESAMPLES_KEPT].astype("<f4").tobytes()).decode()


def _entry(row: Mapping[Any, Any], cell: Cell, measures: Sequence[str], by_place: Mapping[Any, Any]) -> Entry:
    cost = cell.meta["cost"]
    own = {measure: by_place[cell.key, measure] for measure in measures if (cell.key, measure) in by_place}
    return Entry(
        cell.key,
        str(row["name"]),
        cell.explainer,
        family(cell),
        is_control(cell),
        _standing({**row, "mean": np.nan, "ci_low": np.nan, "ci_high": np.nan, "undefined": 0}),
        Interval(*(_finite(row[name]) for name in ("win_rate", "win_low", "win_high"))),
        {measure: _standing(found) for measure, found in own.items()},
        {measure: str(found["shares_probe"]) for measure, found in own.items() if found["shares_probe"]},
        cell.meta["explainer"]["settings"],
        bool(cell.meta["explainer"]["signed"]),
        cell.meta["explainer"].get("perturbation"),
        _finite(cost["forward_rows"] + cost["backward_rows"]),
        _finite(cost["seconds"]),
    )


def _standing(row: Mapping[Any, Any]) -> Standing:
    return Standing(
        Interval(*(_finite(row[name]) for name in ("mean", "ci_low", "ci_high"))),
        Interval(*(_finite(row[name]) for name in ("skill", "skill_low", "skill_high"))),
        int(row["n"]),
        int(row["undefined"]),
        _rank(row["rank"]),
        _rank(row["rank_low"]),
        _rank(row["rank_high"]),
        str(row["group"]),
        bool(row["leading"]),
    )


def _rank(value: float) -> int | None:
    return None if np.isnan(value) else int(value)


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
