"""The rows and columns of a board's table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.benchmark.cell import Cell
from assay.benchmark.summary import CONTROLS, explained_otherwise
from assay.leaderboard.board import Board, is_control
from assay.leaderboard.page import page_name
from assay.leaderboard.protocol_summary import family
from assay.leaderboard.protocols import MISSING
from assay.leaderboard.text import ARROWS, amount, clean, interval, number, seconds, title

# The skill's plot: its width in pixels, and the skills at its ends.
BAR, BAR_LOW, BAR_HIGH = 90, -0.2, 1.1


@dataclass(frozen=True)
class Heading:
    """A column for one measure."""

    measure: str
    title: str
    arrow: str
    best_first: str


@dataclass(frozen=True)
class Value:
    """A number as it is shown, with its interval, and as it is sorted; `sort` is empty where there is none."""

    text: str = MISSING
    interval: str = ""
    sort: str = ""


@dataclass(frozen=True)
class Score:
    """One measure of one explainer, as a score and as a skill.

    `best` is true of the best method and of those that cannot be told apart from it; `note` counts examples where not
    all have a value; `shares` is what the explainer asks the model that the measure asks too, in words.
    """

    score: Value
    skill: Value
    best: bool
    note: str
    shares: str


@dataclass(frozen=True)
class Bar:
    """The mean skill on a line from chance to the best ranking: places of its dot and its interval, in pixels."""

    dot: float
    left: float
    right: float


@dataclass(frozen=True)
class Row:
    """One explainer; `page` names its page, `ranks` are those that it may have, where it was compared with others."""

    name: str
    page: str
    family: str
    rank: str
    ranks: str
    skill: Value
    bar: Bar | None
    scores: list[Score]
    rows: Value
    rows_detail: str
    seconds: Value
    n: str
    undefined: int
    present: bool = True


@dataclass(frozen=True)
class Table:
    """All explainers under one way of hiding; the controls stand apart, and are there even if they were not run."""

    perturbation: str
    headings: list[Heading]
    methods: list[Row]
    controls: list[Row]
    skills_of: list[str]
    ticks: tuple[float, float]

    @property
    def shares(self) -> bool:
        """Whether a method asks the model what a measure asks too."""
        return any(score.shares for row in self.methods for score in row.scores)


@dataclass(frozen=True)
class Reason:
    """Why some values of an explainer are undefined, and for how many examples."""

    explainer: str
    perturbation: str
    measure: str
    reason: str
    count: int


def make_table(board: Board, perturbation: str) -> Table:
    """The table of one way of hiding, the best method first."""
    measures = board.measures(perturbation)
    by_place = board.by_place[perturbation]
    directions = {metric: row["direction"] for (_, metric), row in by_place.items()}
    cells = {cell.key: cell for cell in board.cells}
    standing = board.standing(perturbation).to_dict("records")
    rows = {row["key"]: _row(row, cells[row["key"]], measures, by_place) for row in standing}
    controls = []
    for control in CONTROLS:
        found = [rows[key] for key in rows if cells[key].explainer == control]
        controls += found or [_absent(control, len(measures))]
    return Table(
        clean(perturbation),
        [_heading(measure, directions[measure]) for measure in measures],
        [row for key, row in rows.items() if not is_control(cells[key])],
        controls,
        [title(measure) for measure in standing[0]["measures"]] if standing else [],
        (_across(0.0), _across(1.0)),
    )


def reasons(board: Board) -> list[Reason]:
    """Every undefined value of the headline measures, counted by reason; measures that share one stand together."""
    found = []
    headline = {perturbation: set(board.measures(perturbation)) for perturbation in board.perturbations}
    for name, cell in board.named():
        if cell.key not in board.tables:
            continue
        table, examples = board.tables[cell.key], int(cell.meta["counts"]["examples"])
        lacking = {
            (column, "no value was stored"): examples - stored
            for column, stored in zip(table.columns, table.stored.tolist(), strict=True)
        }
        concerned: dict[tuple[str, str, int], list[str]] = {}
        for ((perturbation, measure), reason), count in [*table.reasons.items(), *lacking.items()]:
            if count > 0 and measure in headline.get(perturbation, ()):
                concerned.setdefault((perturbation, reason, count), []).append(title(measure))
        for (perturbation, reason, count), measures in concerned.items():
            found.append(Reason(clean(name), clean(perturbation), ", ".join(measures), clean(reason), count))
    return found


def _row(standing: Mapping[Any, Any], cell: Cell, measures: list[str], by_place: Mapping[Any, Any]) -> Row:
    own = [by_place.get((cell.key, measure)) for measure in measures]
    cost, examples = cell.meta["cost"], int(cell.meta["counts"]["examples"])
    forward, backward = cost["forward_rows"], cost["backward_rows"]
    undefined = [int(row["undefined"]) for row in own if row is not None]
    return Row(
        name=clean(explained_otherwise(standing["name"], standing["explained_under"], standing["perturbation"])),
        page=page_name(cell.explainer),
        family=family(cell),
        rank="" if np.isnan(standing["rank"]) else str(int(standing["rank"])),
        ranks=_ranks(standing["rank_low"], standing["rank_high"]) if standing["group"] else "",
        skill=_value(standing["skill"], standing["skill_low"], standing["skill_high"], digits=2),
        bar=_bar(standing["skill"], standing["skill_low"], standing["skill_high"]),
        scores=[_score(row, examples, is_control(cell)) for row in own],
        rows=Value(amount(forward + backward), "", _sortable(forward + backward)),
        rows_detail=f"{amount(forward)} forward, {amount(backward)} backward",
        seconds=Value(seconds(cost["seconds"]), "", _sortable(cost["seconds"])),
        n=f"{examples:,}",
        undefined=max(undefined, default=0),
    )


def _ranks(low: float, high: float) -> str:
    return f"{low:.0f}" if low == high else f"{low:.0f}–{high:.0f}"


def _score(row: Mapping[str, Any] | None, examples: int, control: bool) -> Score:
    if row is None:
        return Score(Value(), Value(), False, "", "")
    return Score(
        _value(row["mean"], row["ci_low"], row["ci_high"]),
        _value(row["skill"], row["skill_low"], row["skill_high"], digits=2),
        best=row["leading"],
        note=f"n = {row['n']:,}" if row["n"] != examples else "",
        shares="" if control else row["shares_probe"],
    )


def _absent(name: str, measures: int) -> Row:
    nothing = [Score(Value(), Value(), False, "", "")] * measures
    return Row(name, "", "", "", "", Value(), None, nothing, Value(), "", Value(), MISSING, 0, present=False)


def _heading(measure: str, direction: str) -> Heading:
    best_first = "ascending" if direction == "lower" else "descending"
    return Heading(clean(measure, 60), title(measure), ARROWS.get(direction, ""), best_first)


def _value(mean: float, low: float, high: float, digits: int = 3) -> Value:
    return Value(number(mean, digits), interval(low, high, digits), _sortable(mean))


def _sortable(value: float) -> str:
    return repr(float(value)) if np.isfinite(value) else ""


def _bar(skill: float, low: float, high: float) -> Bar | None:
    if not np.isfinite(skill):
        return None
    low, high = (low, high) if np.isfinite(low) and np.isfinite(high) else (skill, skill)
    return Bar(_across(skill), _across(low), _across(high))


def _across(skill: float) -> float:
    share = (min(max(skill, BAR_LOW), BAR_HIGH) - BAR_LOW) / (BAR_HIGH - BAR_LOW)
    return round(3 + share * (BAR - 6), 1)
