"""A board: all cells of one protocol, beside each other. Nothing on a page or in a file is averaged across boards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assay.benchmark.cell import Cell
from assay.benchmark.score_table import ScoreTable
from assay.benchmark.summary import CONTROLS, Contest, summary
from assay.leaderboard.probes import shared, shared_by_any
from assay.leaderboard.protocols import differences, distinct_names

if TYPE_CHECKING:
    import pandas as pd

COSTS = ("forward_rows", "forward_tokens", "backward_rows", "backward_tokens", "seconds")


@dataclass(frozen=True)
class Board:
    """The cells of one protocol.

    Attributes:
        key: the protocol's key.
        protocol: all that it fixes.
        cells: one for each explainer, by name.
        names: of the cells, told apart by their settings where two explainers share a name.
        scores: as `summarise` gives them, with the columns `name` and `shares_probe` (see `assay.leaderboard.probes`).
        skills: as `overall` gives them, with the same columns.
        differences: from the other boards of the same task and model: by dotted path, the values on each of
            `siblings`; empty if there is no other.
        siblings: the keys of the boards of the same task and model, this one's included.
        contests: of the mean skill and of the measures that are ranked, by way of hiding and measure.
        resamples: by way of hiding the keys of the methods that have a mean skill, and that skill in each bootstrap
            sample, [resamples, methods].
        tables: the scores of each cell as arrays, by its key; a cell without scores has none.
    """

    key: str
    protocol: Mapping[str, Any]
    cells: Sequence[Cell]
    names: Sequence[str]
    scores: pd.DataFrame
    skills: pd.DataFrame
    differences: Mapping[str, Sequence[str]]
    siblings: Sequence[str]
    contests: Mapping[tuple[str, str], Contest]
    resamples: Mapping[str, tuple[list[str], NDArray[np.float32]]]
    tables: Mapping[str, ScoreTable]

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.protocol["task"]["name"])

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.protocol["model"]["name"])

    @property
    def perturbations(self) -> list[str]:
        """The ways of hiding that have scores, in the protocol's order."""
        present = set(self.scores["perturbation"])
        return [name for name in self.protocol["perturbations"] if name in present]

    def named(self) -> list[tuple[str, Cell]]:
        """The cells with their names."""
        return list(zip(self.names, self.cells, strict=True))

    def measures(self, perturbation: str) -> list[str]:
        """The headline measures that judge an attribution; its cost stands apart."""
        shown = self.scores[(self.scores["perturbation"] == perturbation) & self.scores["headline"]]
        return [measure for measure in dict.fromkeys(shown["metric"]) if measure not in COSTS]

    @cached_property
    def by_place(self) -> Mapping[str, Mapping[tuple[str, str], Mapping[str, Any]]]:
        """The rows of `scores` for headline measures, by way of hiding, and then by the cell's key and the measure."""
        found: dict[str, dict[tuple[str, str], Mapping[str, Any]]] = {name: {} for name in self.perturbations}
        shown = self.scores[self.scores["headline"]]
        names = [str(name) for name in shown]
        for values in zip(*(shown[name].tolist() for name in names), strict=True):
            row = dict(zip(names, values, strict=True))
            found[row["perturbation"]][row["key"], row["metric"]] = row
        return found

    def standing(self, perturbation: str) -> pd.DataFrame:
        """The rows of `skills` for one way of hiding, the best method first; those without a rank last, by name."""
        rows = self.skills[self.skills["perturbation"] == perturbation]
        return rows.sort_values(["rank", "name"], na_position="last")


def boards(cells: Sequence[Cell]) -> list[Board]:
    """Group cells by protocol, in the order of task, model and key."""
    groups = by_protocol(cells)
    return [make_board(group, others) for group, others in groups]


def by_protocol(cells: Sequence[Cell]) -> list[tuple[list[Cell], list[Mapping[str, Any]]]]:
    """The cells of each protocol, with all protocols of its task and model, in the order of task, model and key.

    The second list is by key, and holds the protocol of the cells too.
    """
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(str(cell.meta["protocol_key"]), []).append(cell)
    subjects: dict[tuple[str, str], list[str]] = {}
    for key, group in sorted(groups.items()):
        subjects.setdefault(_subject(group[0]), []).append(key)
    return [
        (groups[key], [{"key": other, "protocol": groups[other][0].protocol} for other in keys])
        for _, keys in sorted(subjects.items())
        for key in keys
    ]


def make_board(group: Sequence[Cell], siblings: Sequence[Mapping[str, Any]]) -> Board:
    """The cells of one protocol beside each other.

    Args:
        group: the cells.
        siblings: `key` and `protocol` of each protocol of the same task and model, this one's included.
    """
    cells = sorted(group, key=lambda cell: (cell.explainer, cell.key))
    names = distinct_names([cell.meta["explainer"] for cell in cells])
    named = {cell.key: (name, cell) for name, cell in zip(names, cells, strict=True)}
    found = summary(cells)
    scores, skills = found.scores, found.skills
    if len(scores):
        places = scores[["key", "metric", "perturbation"]].itertuples(index=False, name=None)
        scores["name"] = [named[key][0] for key in scores["key"]]
        scores["shares_probe"] = [shared(named[key][1], *place) for key, *place in places]
    if len(skills):
        wanted = skills[["key", "measures", "perturbation"]].itertuples(index=False, name=None)
        skills["name"] = [named[key][0] for key in skills["key"]]
        skills["shares_probe"] = [shared_by_any(named[key][1], *place) for key, *place in wanted]
    return Board(
        str(cells[0].meta["protocol_key"]),
        cells[0].protocol,
        cells,
        names,
        scores,
        skills,
        differences([one["protocol"] for one in siblings]),
        [str(one["key"]) for one in siblings],
        {(contest.perturbation, contest.metric): contest for contest in found.contests.values()},
        {perturbation: drawn for (_, perturbation), drawn in found.resamples.items()},
        found.tables,
    )


def is_control(cell: Cell) -> bool:
    """Whether a cell is the floor or the ceiling that others are read against."""
    return cell.explainer in CONTROLS


def _subject(cell: Cell) -> tuple[str, str]:
    return str(cell.protocol["task"]["name"]), str(cell.protocol["model"]["name"])
