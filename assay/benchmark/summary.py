"""From the examples of cells to their numbers: means with intervals, skill, ranks, groups, and mean curves with bands.

The statistics themselves are those of `assay.benchmark.statistics`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assay.benchmark.standing import stand
from assay.benchmark.statistics import (
    UNDEFINED,
    Estimate,
    Floats,
    Friedman,
    Skills,
    bootstrap,
    contributions,
    differences,
    friedman,
    mean_intervals,
    sign,
    skills,
    too_few,
    two_level_intervals,
)
from assay.benchmark.store import Cell
from assay.errors import unknown_name

if TYPE_CHECKING:
    import pandas as pd

CONTROLS = ("random", "oracle")
GRID = np.linspace(0.0, 1.0, 51)
# Of the examples that have a value for one method, the share that must have one for another to be ranked beside it.
# Below, the two means are over different texts: a method that is defined for short ones alone would win by that.
COVERAGE = 0.8
# What the leaderboard ranks by, where it stands among measures.
MEAN_SKILL = "mean_skill"


def summarise(cells: Sequence[Cell]) -> pd.DataFrame:
    """A row for each cell, perturbation and measure, with intervals, skill, ranks and groups.

    Columns: `key`, `protocol` (the protocol's key), `task`, `model`, `explainer`, `explained_under` (the perturbation
    that the explainer itself hid features by; None for one that hides nothing), `metric`, `perturbation`, `direction`,
    `headline`, `mean`, `ci_low`, `ci_high`, `ci_method`, `n` (examples with a value), `undefined` (without), `skill`,
    `skill_low`, `skill_high`, `rank` (1 is best, within protocol, perturbation and measure; the controls `random` and
    `oracle` have none, nor have measures without a direction, nor methods that are undefined for more than a fifth of
    the examples), `rank_low` and `rank_high` (the ranks that it may have, all of a measure together with a confidence
    of 95 %), `group` (letters: two methods that share one cannot be told apart; empty for what has no rank, and where
    there is no other to compare with), `leading` (the best method and those that cannot be told apart from it; none
    where the examples are too few for a test) and the mean cost of an example: `forward_rows`, `forward_tokens`,
    `backward_rows`, `backward_tokens` and `seconds`.
    """
    import pandas as pd

    rows, added = [], []
    for judged in _judge(cells):
        cell, table = judged.cell, judged.table
        means = table.means()
        counts = table.defined.sum(axis=0)
        for place, (perturbation, measure) in enumerate(table.columns):
            about = cell.meta["measures"][measure]
            relative = judged.skills.mean([place])
            rows.append(
                {
                    **_names(cell),
                    "metric": measure,
                    "perturbation": perturbation,
                    "direction": about["direction"],
                    "headline": about["headline"],
                    "mean": means[place].mean,
                    "ci_low": means[place].low,
                    "ci_high": means[place].high,
                    "ci_method": means[place].method,
                    "n": int(counts[place]),
                    # An example without a stored value is as undefined as one whose value is NaN.
                    "undefined": int(cell.meta["counts"]["examples"] - counts[place]),
                    "skill": relative.mean,
                    "skill_low": relative.low,
                    "skill_high": relative.high,
                    **cell.meta["cost"],
                }
            )
            added.append((table.examples, table.added[:, place]))
    frame = pd.DataFrame(rows)
    return _ranked(frame, "mean", ["metric"], added) if len(frame) else frame


def overall(cells: Sequence[Cell]) -> pd.DataFrame:
    """A row for each cell and perturbation: the mean of its skills, which is what the leaderboard ranks by.

    The mean is over the headline measures on which the oracle beats chance; a method that lacks one of them has none,
    so that means over different measures are never compared.

    Columns: `key`, `protocol`, `task`, `model`, `explainer`, `explained_under`, `perturbation`, `direction`, `measures`
    (a tuple), `skill`, `skill_low`, `skill_high`, `ci_method`, `n` (the fewest examples that one of the skills stands
    on), and `rank`, `rank_low`, `rank_high`, `group` and `leading` as `summarise` has them.
    """
    import pandas as pd

    rows, added = [], []
    for judged, perturbation, wanted, places in _with_scales(cells):
        mean = judged.skills.mean(places) if places else UNDEFINED
        rows.append(
            {
                **_names(judged.cell),
                "perturbation": perturbation,
                "direction": "higher",
                "measures": tuple(measure for _, measure in wanted),
                "skill": mean.mean,
                "skill_low": mean.low,
                "skill_high": mean.high,
                "ci_method": mean.method,
                "n": int(judged.table.defined[:, places].sum(axis=0).min()) if places else 0,
            }
        )
        added.append((judged.table.examples, judged.skills.mean_added(places) if places else None))
    frame = pd.DataFrame(rows)
    return _ranked(frame, "skill", [], added) if len(frame) else frame


@dataclass(frozen=True)
class Contest:
    """The methods of one protocol on one measure under one perturbation, on the same examples.

    Attributes:
        protocol: the protocol's key.
        perturbation: how features were hidden.
        metric: the measure, or `mean_skill`.
        better: 1 where larger values are better, -1 where smaller ones are.
        keys: of the methods' cells; the controls only where they were asked for.
        names: of the methods.
        values: [examples, methods], what each example adds to the method's score; NaN where undefined.
    """

    protocol: str
    perturbation: str
    metric: str
    better: float
    keys: list[str]
    names: list[str]
    values: Floats

    def differences(self) -> pd.DataFrame:
        """Each two methods against each other; see `assay.benchmark.statistics.differences`."""
        return differences(self.values, self.names)

    def friedman(self) -> Friedman:
        """Whether all methods rank alike; see `assay.benchmark.statistics.friedman`."""
        return friedman(self.values, self.better)


def contests(
    cells: Sequence[Cell],
    metric: str = MEAN_SKILL,
    perturbation: str | None = None,
    controls: Collection[str] = (),
) -> list[Contest]:
    """The methods beside each other, for each protocol and perturbation.

    Args:
        cells: of one protocol or several; the controls are needed for `mean_skill`.
        metric: a measure that has a direction, or `mean_skill`.
        perturbation: one of those that the scores were measured under; None for each of them.
        controls: those of `random` and `oracle` that compete like any method.

    Raises:
        AssayError: no such measure or perturbation.
    """
    found: dict[tuple[str, str], list[tuple[Cell, pd.Index[Any], Floats]]] = {}
    known: dict[str, dict[str, None]] = {"measure": {MEAN_SKILL: None}, "perturbation": {}}
    better = 1.0
    for judged, hidden_by, _, places in _with_scales(cells):
        cell, table = judged.cell, judged.table
        known["perturbation"][hidden_by] = None
        directions = {name: sign(about["direction"]) for name, about in cell.meta["measures"].items()}
        known["measure"].update(dict.fromkeys(name for name, one in directions.items() if np.isfinite(one)))
        column = (hidden_by, metric)
        left_out = cell.explainer in CONTROLS and cell.explainer not in controls
        if left_out or perturbation not in (None, hidden_by):
            continue
        if metric == MEAN_SKILL and places:
            added = judged.skills.mean_added(places)
        elif column in table.columns and metric in known["measure"]:
            added, better = table.added[:, table.columns.index(column)], directions[metric]
        else:
            continue
        found.setdefault((_protocol(cell), hidden_by), []).append((cell, table.examples, added))
    for kind, name in (("measure", metric), ("perturbation", perturbation)):
        if name is not None and name not in known[kind]:
            raise unknown_name(kind, name, known[kind])
    return [
        Contest(
            protocol,
            hidden_by,
            metric,
            better,
            [cell.key for cell, *_ in group],
            told_apart([cell for cell, *_ in group]),
            _aligned([one[1:] for one in group]),
        )
        for (protocol, hidden_by), group in found.items()
    ]


def explained_otherwise(name: str, explained_under: object, perturbation: str) -> str:
    """An explainer's name, with the perturbation that it hid features by itself where that is not the metric's.

    Args:
        name: of the explainer.
        explained_under: as a table has it; no text where the explainer hides nothing.
        perturbation: the metric's.
    """
    told = isinstance(explained_under, str) and explained_under != perturbation
    return f"{name} ({explained_under})" if told else name


def told_apart(cells: Sequence[Cell]) -> list[str]:
    """The explainers' names; where two share one, with the beginning of their keys."""
    names = [cell.explainer for cell in cells]
    return [
        f"{cell.explainer} ({cell.key[:6]})" if names.count(cell.explainer) > 1 else cell.explainer for cell in cells
    ]


def mean_curves(cell: Cell) -> pd.DataFrame:
    """The mean curve of each measure on a common grid, with a bootstrap 95 % band.

    Columns: `perturbation`, `metric`, `x` (51 points from 0 to 1), `mean`, `low`, `high`. Between its own points an
    example's curve is interpolated linearly, as the trapezoid rule does.
    """
    import pandas as pd

    frames = []
    for (perturbation, metric), group in cell.table("curves").groupby(["perturbation", "metric"], sort=False):
        curves = np.stack([np.interp(GRID, x, y) for x, y in zip(group["x"], group["y"], strict=True)])
        mean, samples = bootstrap(curves)
        low, high = np.percentile(samples, [2.5, 97.5], axis=0) if len(curves) > 1 else np.full((2, len(GRID)), np.nan)
        about = {"perturbation": perturbation, "metric": metric}
        frames.append(pd.DataFrame({**about, "x": GRID, "mean": mean, "low": low, "high": high}))
    columns = ["perturbation", "metric", "x", "mean", "low", "high"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


@dataclass(frozen=True)
class _Table:
    """The values of a cell, [examples, columns]; a column is a perturbation and a measure.

    `per` holds what the means are divided by, [examples, columns], or is None where all scores are plain means; `draws`
    holds, for a random method, the places of the columns that were drawn several times, and [examples, draws, columns].
    """

    examples: pd.Index[Any]
    columns: list[tuple[str, str]]
    values: Floats
    per: Floats | None
    draws: tuple[list[int], Floats] | None

    @classmethod
    def of(cls, cell: Cell) -> _Table:
        scores = cell.scores
        pairs = scores[["perturbation", "metric"]].drop_duplicates()
        columns = list(zip(pairs["perturbation"], pairs["metric"], strict=True))
        wide = scores.pivot(index="example", columns=["perturbation", "metric"], values="value")
        values = wide.reindex(columns=columns).to_numpy(np.float64)
        under = [cell.meta["measures"][measure].get("per") for _, measure in columns]
        plain = {column: place for place, (column, name) in enumerate(zip(columns, under, strict=True)) if name is None}
        per = None
        if any(under):
            per = np.ones_like(values)
            for place, ((perturbation, _), name) in enumerate(zip(columns, under, strict=True)):
                if name is not None:
                    known = (perturbation, name) in columns
                    per[:, place] = values[:, columns.index((perturbation, name))] if known else np.nan
        return cls(wide.index, columns, values, per, _draws(scores, wide.index, plain))

    @cached_property
    def defined(self) -> NDArray[np.bool_]:
        """Which examples have a score, [examples, columns]."""
        return np.isfinite(self.values) if self.per is None else np.isfinite(self.values) & np.isfinite(self.per)

    @cached_property
    def added(self) -> Floats:
        """What each example adds to the cell's score, [examples, columns]."""
        return contributions(self.values, self.per)

    def means(self) -> list[Estimate]:
        """The score of each column with its interval; where a method was drawn several times, over its draws too."""
        found = mean_intervals(self.values, self.per)
        if self.draws is not None:
            places, draws = self.draws
            for place, one in zip(places, two_level_intervals(draws), strict=True):
                found[place] = one
        return found

    def like(self, other: _Table) -> tuple[Floats, Floats]:
        """Values and what they are divided by, for the examples and columns of `other`; NaN where not known here."""
        rows = self.examples.get_indexer(other.examples)
        found, per = np.full(other.values.shape, np.nan), np.ones(other.values.shape)
        places = {column: place for place, column in enumerate(self.columns)}
        for place, column in enumerate(other.columns):
            if column in places:
                found[:, place] = np.where(rows >= 0, self.values[rows, places[column]], np.nan)
                if self.per is not None:
                    per[:, place] = self.per[rows, places[column]]
        return found, per


def _draws(
    scores: pd.DataFrame, examples: pd.Index[Any], places: Mapping[tuple[str, str], int]
) -> tuple[list[int], Floats] | None:
    """Of the columns at some places those that were drawn several times, and [examples, draws, columns]."""
    import pandas as pd

    if "draws" not in scores or not scores["draws"].notna().any():
        return None
    drawn = scores[scores["draws"].notna()]
    shape = (len(examples), len(drawn["draws"].iloc[0]))
    found: dict[int, Floats] = {}
    for (perturbation, measure), group in drawn.groupby(["perturbation", "metric"], sort=False):
        place = places.get((str(perturbation), str(measure)))
        if place is not None:
            found[place] = np.full(shape, np.nan)
            found[place][examples.get_indexer(pd.Index(group["example"]))] = np.stack(group["draws"].tolist())
    return (list(found), np.stack(list(found.values()), axis=-1)) if found else None


@dataclass(frozen=True)
class _Judged:
    """A cell beside its controls; the skills are those of its table's columns."""

    cell: Cell
    table: _Table
    skills: Skills

    def scales(self) -> list[tuple[str, str]]:
        """The headline columns that have a skill."""
        return [
            column
            for column, skill in zip(self.table.columns, self.skills.point, strict=True)
            if np.isfinite(skill) and self.cell.meta["measures"][column[1]]["headline"]
        ]


def _judge(cells: Sequence[Cell]) -> Iterator[_Judged]:
    controls: dict[tuple[str, str], _Table] = {}
    # If a control was run with several settings, the first by key is the one that scores are read against.
    for cell in sorted((cell for cell in cells if cell.explainer in CONTROLS), key=lambda cell: cell.key):
        controls.setdefault((_protocol(cell), cell.explainer), _Table.of(cell))
    for cell in cells:
        table = _Table.of(cell)
        if not table.values.size:
            continue
        beside = [
            controls[_protocol(cell), name].like(table)
            if (_protocol(cell), name) in controls
            else (np.full(table.values.shape, np.nan), np.ones(table.values.shape))
            for name in CONTROLS
        ]
        better = np.array([sign(cell.meta["measures"][measure]["direction"]) for _, measure in table.columns])
        per = None if table.per is None else np.stack([table.per, beside[0][1], beside[1][1]])
        yield _Judged(cell, table, skills(table.values, beside[0][0], beside[1][0], better, per))


def _with_scales(cells: Sequence[Cell]) -> Iterator[tuple[_Judged, str, list[tuple[str, str]], list[int]]]:
    """Each cell and perturbation, with the columns that the mean skill is over and their places; none if one lacks."""
    everyone = list(_judge(cells))
    scales = {_protocol(judged.cell): judged.scales() for judged in everyone if judged.cell.explainer == "oracle"}
    for judged in everyone:
        columns = judged.table.columns
        for perturbation in dict.fromkeys(name for name, _ in columns):
            wanted = [column for column in scales.get(_protocol(judged.cell), ()) if column[0] == perturbation]
            places = [columns.index(column) for column in wanted if column in columns]
            yield judged, perturbation, wanted, places if len(places) == len(wanted) else []


def _ranked(
    frame: pd.DataFrame, score: str, within: list[str], added: Sequence[tuple[pd.Index[Any], Floats | None]]
) -> pd.DataFrame:
    """The rows with rank, the ranks that each may have, and groups.

    Args:
        frame: rows of `summarise` or `overall`.
        score: the column that is ranked.
        within: what else than protocol and perturbation sets a contest apart.
        added: for each row the examples, and what each adds to the score.
    """
    better = frame["direction"].map(sign)
    groups = [frame[name] for name in ("protocol", "perturbation", *within)]
    enough = frame["n"] >= COVERAGE * frame["n"].groupby(groups).transform("max")
    competing = (frame[score] * better).where(enough & ~frame["explainer"].isin(CONTROLS))
    rank = competing.groupby(groups).rank(method="min", ascending=False)
    low, high, letters, leading = rank.copy(), rank.copy(), [""] * len(frame), [False] * len(frame)
    for _, contest in rank.dropna().groupby([one[rank.notna()] for one in groups]):
        rows = [int(row) for row in contest.index]
        standing = stand(_aligned([added[row] for row in rows]), float(better[rows[0]]))
        low[rows], high[rows] = standing.low, standing.high
        tested = not too_few(int(frame["n"].loc[rows].min()))
        for row, group, leads in zip(rows, standing.groups, standing.leading.tolist(), strict=True):
            letters[row] = group
            leading[row] = tested and leads and len(rows) > 1
    return frame.assign(rank=rank, rank_low=low, rank_high=high, group=letters, leading=leading)


def _aligned(added: Sequence[tuple[pd.Index[Any], Floats | None]]) -> Floats:
    """[examples, methods] over the examples that any of the methods has."""
    examples = added[0][0]
    for other, _ in added[1:]:
        if not other.equals(examples):
            examples = examples.union(other)
    values = np.full((len(examples), len(added)), np.nan)
    for place, (own, column) in enumerate(added):
        if column is not None:
            values[examples.get_indexer(own), place] = column
    return values


def _names(cell: Cell) -> dict[str, Any]:
    return {
        "key": cell.key,
        "protocol": _protocol(cell),
        "task": str(cell.protocol["task"]["name"]),
        "model": str(cell.protocol["model"]["name"]),
        "explainer": cell.explainer,
        "explained_under": cell.meta["explainer"].get("perturbation"),
    }


def _protocol(cell: Cell) -> str:
    return str(cell.meta["protocol_key"])
