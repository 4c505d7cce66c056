"""From the examples of cells to their numbers: means with intervals, skill, ranks and groups.

The statistics themselves are those of `intervals`, `skill`, `significance` and `standing` beside this file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assay.benchmark.cell import Cell
from assay.benchmark.intervals import UNDEFINED, mean_intervals
from assay.benchmark.judging import CONTROLS as CONTROLS
from assay.benchmark.judging import Judged, judge, protocol_of
from assay.benchmark.resampling import Floats
from assay.benchmark.score_table import Column, ScoreTable, rows_of
from assay.benchmark.significance import Friedman, differences, friedman, too_few
from assay.benchmark.skill import sign
from assay.benchmark.standing import stand
from assay.conversation import Cost
from assay.errors import unknown_name

if TYPE_CHECKING:
    import pandas as pd

# Of the examples that have a value for one method, the share that must have one for another to be ranked beside it.
# Below, the two means are over different texts: a method that is defined for short ones alone would win by that.
COVERAGE = 0.8
# What the leaderboard ranks by, where it stands among measures.
MEAN_SKILL = "mean_skill"
_COSTS = frozenset(vars(Cost()))


@dataclass(frozen=True)
class Summary:
    """All numbers of some cells.

    Attributes:
        scores: see `summarise`.
        skills: see `overall`.
        contests: of the mean skill and of the measures that are ranked, by protocol, perturbation and measure.
        resamples: by protocol and perturbation the keys of the methods that have a mean skill, the controls left out,
            and that skill in each bootstrap sample, [resamples, methods] in single precision.
        tables: the scores of each cell that has some, by its key.
    """

    scores: pd.DataFrame
    skills: pd.DataFrame
    contests: Mapping[tuple[str, str, str], Contest]
    resamples: Mapping[tuple[str, str], tuple[list[str], NDArray[np.float32]]]
    tables: Mapping[str, ScoreTable]


def summarise(cells: Sequence[Cell]) -> pd.DataFrame:
    """A row for each cell, perturbation and measure, with intervals, skill, ranks and groups.

    Columns: `key`, `protocol` (the protocol's key), `task`, `model`, `explainer`, `explained_under` (the perturbation
    that the explainer itself hid features by; None for one that hides nothing), `metric`, `perturbation`, `direction`,
    `headline`, `mean`, `ci_low`, `ci_high`, `ci_method`, `n` (examples with a value), `undefined` (without), `skill`,
    `skill_low`, `skill_high`, `rank` (1 is best, within protocol, perturbation and measure; the controls `random` and
    `oracle` have none, nor have costs, sub-scores and measures without a direction, nor methods that are undefined for
    more than a fifth of the examples), `rank_low` and `rank_high` (the ranks that it may have, all of a measure
    together with a confidence of 95 %), `group` (letters: two methods that share one cannot be told apart; empty for
    what has no rank, and where there is no other to compare with), `leading` (the best method and those that cannot be
    told apart from it; none where the examples are too few for a test) and the mean cost of an example: `forward_rows`,
    `forward_tokens`, `backward_rows`, `backward_tokens` and `seconds`.
    """
    return summary(cells).scores


def overall(cells: Sequence[Cell]) -> pd.DataFrame:
    """A row for each cell and perturbation: the mean of its skills, which is what the leaderboard ranks by.

    The mean is over the headline measures on which the oracle beats chance; a method that lacks one of them has none,
    so that means over different measures are never compared.

    Columns: `key`, `protocol`, `task`, `model`, `explainer`, `explained_under`, `perturbation`, `direction`, `measures`
    (a tuple), `skill`, `skill_low`, `skill_high`, `ci_method`, `n` (the fewest examples that one of the skills stands
    on), `win_rate` (how often it beats the mean of `random`'s draws: for each example the share of these measures, ties
    half, and the mean over examples), `win_low`, `win_high`, and `rank`, `rank_low`, `rank_high`, `group` and `leading`
    as `summarise` has them.
    """
    return summary(cells).skills


def summary(cells: Sequence[Cell]) -> Summary:
    """All numbers of some cells, of one protocol or several, read once."""
    scores, skills = _Rows(), _Rows()
    entrants: dict[tuple[str, str, str], list[_Entrant]] = {}
    drawn: dict[tuple[str, str], list[tuple[str, NDArray[np.float32]]]] = {}
    tables: dict[str, ScoreTable] = {}
    won: list[Floats | None] = []
    for judged, under in _with_scales(cells):
        cell, table = judged.cell, judged.table
        tables[cell.key] = table
        competes = cell.explainer not in CONTROLS
        for place, row in enumerate(_score_rows(judged)):
            entrant = _Entrant(cell, table.examples, table.added[:, place])
            scores.add(row, entrant)
            if competes and _is_ranked(row):
                entrants.setdefault((protocol_of(cell), row["perturbation"], row["metric"]), []).append(entrant)
        for perturbation, wanted, places in under:
            added = judged.skills.mean_added(places) if places else None
            entrant = _Entrant(cell, table.examples, added)
            skills.add(_skill_row(judged, perturbation, wanted, places), entrant)
            won.append(_won(judged, places) if places else None)
            if competes and places:
                entrants.setdefault((protocol_of(cell), perturbation, MEAN_SKILL), []).append(entrant)
                samples = judged.skills.mean_samples(places).astype(np.float32)
                drawn.setdefault((protocol_of(cell), perturbation), []).append((cell.key, samples))
    _add_win_rates(skills.rows, won)
    return Summary(
        scores.ranked("mean", ["metric"]),
        skills.ranked("skill", []),
        {contest: _contest(*contest, group) for contest, group in entrants.items()},
        {
            here: ([key for key, _ in methods], np.stack([one for _, one in methods], axis=1))
            for here, methods in drawn.items()
        },
        tables,
    )


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
        """Each two methods against each other; see `assay.benchmark.significance.differences`."""
        return differences(self.values, self.names)

    def friedman(self) -> Friedman:
        """Whether all methods rank alike; see `assay.benchmark.significance.friedman`."""
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
    found: dict[tuple[str, str], list[_Entrant]] = {}
    known: dict[str, dict[str, None]] = {"measure": {MEAN_SKILL: None}, "perturbation": {}}
    for judged, under in _with_scales(cells):
        cell, table = judged.cell, judged.table
        known["measure"].update(dict.fromkeys(name for name in cell.meta["measures"] if _direction(cell, name)))
        left_out = cell.explainer in CONTROLS and cell.explainer not in controls
        for hidden_by, _, places in under:
            known["perturbation"][hidden_by] = None
            column = (hidden_by, metric)
            if left_out or perturbation not in (None, hidden_by):
                continue
            if metric == MEAN_SKILL and places:
                added = judged.skills.mean_added(places)
            elif column in table.columns and metric in known["measure"]:
                added = table.added[:, table.columns.index(column)]
            else:
                continue
            found.setdefault((protocol_of(cell), hidden_by), []).append(_Entrant(cell, table.examples, added))
    for kind, name in (("measure", metric), ("perturbation", perturbation)):
        if name is not None and name not in known[kind]:
            raise unknown_name(kind, name, known[kind])
    return [_contest(*place, metric, entrants) for place, entrants in found.items()]


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


@dataclass(frozen=True)
class _Entrant:
    """What each of some examples adds to a cell's score, [examples]; None where it has no score."""

    cell: Cell
    examples: list[str]
    added: Floats | None


def _contest(protocol: str, perturbation: str, metric: str, entrants: Sequence[_Entrant]) -> Contest:
    cells = [entrant.cell for entrant in entrants]
    better = 1.0 if metric == MEAN_SKILL else _direction(cells[0], metric)
    keys, names = [cell.key for cell in cells], told_apart(cells)
    return Contest(protocol, perturbation, metric, better, keys, names, _aligned(entrants))


def _direction(cell: Cell, measure: str) -> float:
    """1 where larger values are better, -1 where smaller ones are, 0 where neither."""
    return float(np.nan_to_num(sign(cell.meta["measures"][measure]["direction"])))


def _with_scales(cells: Sequence[Cell]) -> Iterator[tuple[Judged, list[tuple[str, list[Column], list[int]]]]]:
    """Each cell, and for each perturbation the columns of its mean skill with their places; none if it lacks one."""
    controls = [cell for cell in cells if cell.explainer in CONTROLS]
    oracles = [cell for cell in controls if cell.explainer == "oracle"]
    scales = {protocol_of(judged.cell): judged.scales() for judged in judge(oracles, controls)}
    for judged in judge(cells, controls):
        columns = judged.table.columns
        under = []
        for perturbation in dict.fromkeys(name for name, _ in columns):
            wanted = [column for column in scales.get(protocol_of(judged.cell), ()) if column[0] == perturbation]
            places = [columns.index(column) for column in wanted if column in columns]
            under.append((perturbation, wanted, places if len(places) == len(wanted) else []))
        yield judged, under


def _score_rows(judged: Judged) -> Iterator[dict[str, Any]]:
    """A row of `summarise` for each column, without what hangs on the other cells."""
    cell, table = judged.cell, judged.table
    counts = table.defined.sum(axis=0).tolist()
    names, examples = _names(cell), int(cell.meta["counts"]["examples"])
    for (perturbation, measure), mean, skill, count in zip(
        table.columns, judged.means, judged.skills.each(), counts, strict=True
    ):
        about = cell.meta["measures"][measure]
        yield {
            **names,
            "metric": measure,
            "perturbation": perturbation,
            "direction": about["direction"],
            "headline": about["headline"],
            "mean": mean.mean,
            "ci_low": mean.low,
            "ci_high": mean.high,
            "ci_method": mean.method,
            "n": count,
            # An example without a stored value is as undefined as one whose value is NaN.
            "undefined": examples - count,
            "skill": skill.mean,
            "skill_low": skill.low,
            "skill_high": skill.high,
            **cell.meta["cost"],
        }


def _skill_row(judged: Judged, perturbation: str, wanted: Sequence[Column], places: list[int]) -> dict[str, Any]:
    """A row of `overall`, without what hangs on the other cells."""
    mean = judged.skills.mean(places) if places else UNDEFINED
    return {
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


def _won(judged: Judged, places: list[int]) -> Floats:
    """For each example the share of measures on which a cell beats `random`, ties half; NaN where none is known."""
    better = np.array([_direction(judged.cell, judged.table.columns[place][1]) for place in places])
    ahead = better * (judged.table.values[:, places] - judged.random[:, places])
    known = np.isfinite(ahead)
    won = np.where(known, 0.5 * (1 + np.sign(ahead)), 0.0).sum(axis=1)
    with np.errstate(invalid="ignore"):
        shares: Floats = won / known.sum(axis=1)
    return shares


def _add_win_rates(rows: Sequence[dict[str, Any]], won: Sequence[Floats | None]) -> None:
    """The mean share of measures on which each beats `random`, with its interval, all of one size at a time."""
    for row in rows:
        row |= {"win_rate": np.nan, "win_low": np.nan, "win_high": np.nan}
    for size in {len(one) for one in won if one is not None}:
        chosen = [(row, one) for row, one in zip(rows, won, strict=True) if one is not None and len(one) == size]
        for (row, _), rate in zip(chosen, mean_intervals(np.stack([one for _, one in chosen], axis=1)), strict=True):
            row |= {"win_rate": rate.mean, "win_low": rate.low, "win_high": rate.high}


def _is_ranked(row: Mapping[str, Any]) -> bool:
    """Whether methods are compared on a measure: the headlines are, sub-scores and costs are not."""
    return bool(row["headline"]) and row["metric"] not in _COSTS and bool(np.isfinite(sign(row["direction"])))


class _Rows:
    """Rows of `summarise` or `overall`, with what each example adds to their scores."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.entrants: list[_Entrant] = []

    def add(self, row: dict[str, Any], entrant: _Entrant) -> None:
        """One row more."""
        self.rows.append(row)
        self.entrants.append(entrant)

    def ranked(self, score: str, within: list[str]) -> pd.DataFrame:
        """The rows with rank, the ranks that each may have, and groups.

        Args:
            score: the column that is ranked.
            within: what else than protocol and perturbation sets a contest apart.
        """
        import pandas as pd

        frame = pd.DataFrame(self.rows)
        if not self.rows:
            return frame
        compared = np.array(["metric" not in row or _is_ranked(row) for row in self.rows])
        groups = [frame[name] for name in ("protocol", "perturbation", *within)]
        enough = frame["n"] >= COVERAGE * frame["n"].groupby(groups).transform("max")
        better = frame["direction"].map(sign)
        competing = (frame[score] * better).where(enough & compared & ~frame["explainer"].isin(CONTROLS))
        rank = competing.groupby(groups).rank(method="min", ascending=False)
        low, high = rank.to_numpy(copy=True), rank.to_numpy(copy=True)
        letters, leading = [""] * len(frame), [False] * len(frame)
        for _, contest in rank.dropna().groupby([one[rank.notna()] for one in groups]):
            rows = [int(row) for row in contest.index]
            standing = stand(_aligned([self.entrants[row] for row in rows]), float(better[rows[0]]))
            low[rows], high[rows] = standing.low, standing.high
            tested = len(rows) > 1 and not too_few(int(frame["n"].loc[rows].min()))
            for row, group, leads in zip(rows, standing.groups, standing.leading.tolist(), strict=True):
                letters[row] = group
                leading[row] = tested and leads
        return frame.assign(rank=rank, rank_low=low, rank_high=high, group=letters, leading=leading)


def _aligned(entrants: Sequence[_Entrant]) -> Floats:
    """[examples, methods] over the examples that any of the methods has."""
    examples = entrants[0].examples
    for entrant in entrants[1:]:
        if entrant.examples != examples:
            examples = sorted({*examples, *entrant.examples})
    values = np.full((len(examples), len(entrants)), np.nan)
    for place, entrant in enumerate(entrants):
        if entrant.added is not None:
            values[rows_of(entrant.examples, examples), place] = entrant.added
    return values


def _names(cell: Cell) -> dict[str, Any]:
    return {
        "key": cell.key,
        "protocol": protocol_of(cell),
        "task": str(cell.protocol["task"]["name"]),
        "model": str(cell.protocol["model"]["name"]),
        "explainer": cell.explainer,
        "explained_under": cell.meta["explainer"].get("perturbation"),
    }
