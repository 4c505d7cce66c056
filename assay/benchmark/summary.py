"""From the examples of a cell to its numbers: means with bootstrap intervals, skill, and mean curves with bands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.benchmark.bootstrap import (
    UNDEFINED,
    Estimate,
    Floats,
    bootstrap,
    estimate,
    mean_interval,
    mean_intervals,
    sign,
    skill_interval,
    skills,
)
from assay.benchmark.store import Cell

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CONTROLS",
    "GRID",
    "Estimate",
    "mean_curves",
    "mean_interval",
    "overall",
    "skill_interval",
    "summarise",
]

CONTROLS = ("random", "oracle")
GRID = np.linspace(0.0, 1.0, 51)
# Of the examples that have a value for one method, the share that must have one for another to be ranked beside it.
# Below, the two means are over different texts: a method that is defined for short ones alone would win by that.
COVERAGE = 0.8


def summarise(cells: Sequence[Cell]) -> pd.DataFrame:
    """A row for each cell, perturbation and measure, with intervals, skill and ranks.

    Columns: `key`, `protocol` (the protocol's key), `task`, `model`, `explainer`, `metric`, `perturbation`,
    `direction`, `headline`, `mean`, `ci_low`, `ci_high`, `n` (examples with a value), `undefined` (without), `skill`,
    `skill_low`, `skill_high`, `rank` (1 is best, within protocol, perturbation and measure; the controls `random` and
    `oracle` have none, nor have measures without a direction, nor methods that are undefined for more than a fifth of
    the examples) and the mean cost of an example: `forward_rows`,
    `forward_tokens`, `backward_rows`, `backward_tokens` and `seconds`.
    """
    import pandas as pd

    rows = []
    for judged in _judge(cells):
        cell, table = judged.cell, judged.table
        means = mean_intervals(table.values)
        counts = np.isfinite(table.values).sum(axis=0)
        for place, (perturbation, measure) in enumerate(table.columns):
            about = cell.meta["measures"][measure]
            relative = judged.mean_skill([place])
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
                    "n": int(counts[place]),
                    # An example without a stored value is as undefined as one whose value is NaN.
                    "undefined": int(cell.meta["counts"]["examples"] - counts[place]),
                    "skill": relative.mean,
                    "skill_low": relative.low,
                    "skill_high": relative.high,
                    **cell.meta["cost"],
                }
            )
    frame = pd.DataFrame(rows)
    if len(frame):
        frame["rank"] = _rank(frame, frame["mean"] * frame["direction"].map(sign), ["metric"])
    return frame


def overall(cells: Sequence[Cell]) -> pd.DataFrame:
    """A row for each cell and perturbation: the mean of its skills, which is what the leaderboard ranks by.

    The mean is over the headline measures on which the oracle beats chance; a method that lacks one of them has none,
    so that means over different measures are never compared.

    Columns: `key`, `protocol`, `task`, `model`, `explainer`, `perturbation`, `measures` (a tuple), `skill`,
    `skill_low`, `skill_high`, `n` (the fewest examples that one of the skills stands on) and `rank` (1 is best; the
    controls have none, nor have methods that are undefined for more than a fifth of the examples).
    """
    import pandas as pd

    everyone = list(_judge(cells))
    scales = {_protocol(judged.cell): judged.scales() for judged in everyone if judged.cell.explainer == "oracle"}
    rows = []
    for judged in everyone:
        table = judged.table
        for perturbation in dict.fromkeys(name for name, _ in table.columns):
            wanted = [column for column in scales.get(_protocol(judged.cell), ()) if column[0] == perturbation]
            places = [table.columns.index(column) for column in wanted if column in table.columns]
            whole = len(wanted) > 0 and len(places) == len(wanted)
            mean = judged.mean_skill(places) if whole else UNDEFINED
            rows.append(
                {
                    **_names(judged.cell),
                    "perturbation": perturbation,
                    "measures": tuple(measure for _, measure in wanted),
                    "skill": mean.mean,
                    "skill_low": mean.low,
                    "skill_high": mean.high,
                    "n": int(np.isfinite(table.values[:, places]).sum(axis=0).min()) if whole else 0,
                }
            )
    frame = pd.DataFrame(rows)
    if len(frame):
        frame["rank"] = _rank(frame, frame["skill"], [])
    return frame


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
    """The values of a cell, [examples, columns]; a column is a perturbation and a measure."""

    examples: pd.Index[Any]
    columns: list[tuple[str, str]]
    values: Floats

    @classmethod
    def of(cls, cell: Cell) -> _Table:
        scores = cell.scores
        columns = list(dict.fromkeys(zip(scores["perturbation"], scores["metric"], strict=True)))
        wide = scores.pivot(index="example", columns=["perturbation", "metric"], values="value")
        return cls(wide.index, columns, wide.reindex(columns=columns).to_numpy(np.float64))

    def like(self, other: _Table) -> Floats:
        """The values of the examples and columns of `other`; NaN where they are not known here."""
        rows = self.examples.get_indexer(other.examples)
        found = np.full(other.values.shape, np.nan)
        for place, column in enumerate(other.columns):
            if column in self.columns:
                values = self.values[:, self.columns.index(column)]
                found[:, place] = np.where(rows >= 0, values[rows], np.nan)
        return found


@dataclass(frozen=True)
class _Judged:
    """A cell beside its controls: the skill of each column, [columns], and its resamples, [resamples, columns]."""

    cell: Cell
    table: _Table
    skill: Floats
    samples: Floats

    def mean_skill(self, places: list[int]) -> Estimate:
        """The mean of the skills of some columns; NaN where one of them has none."""
        return estimate(self.skill[places].mean(), self.samples[:, places].mean(axis=1))

    def scales(self) -> list[tuple[str, str]]:
        """The headline columns that have a skill."""
        return [
            column
            for column, skill in zip(self.table.columns, self.skill, strict=True)
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
            else np.full(table.values.shape, np.nan)
            for name in CONTROLS
        ]
        better = np.array([sign(cell.meta["measures"][measure]["direction"]) for _, measure in table.columns])
        yield _Judged(cell, table, *skills(table.values, beside[0], beside[1], better))


def _rank(frame: pd.DataFrame, goodness: pd.Series[float], within: list[str]) -> pd.Series[float]:
    groups = [frame[name] for name in ("protocol", "perturbation", *within)]
    enough = frame["n"] >= COVERAGE * frame["n"].groupby(groups).transform("max")
    competing = goodness.where(enough & ~frame["explainer"].isin(CONTROLS))
    return competing.groupby(groups).rank(method="min", ascending=False)


def _names(cell: Cell) -> dict[str, str]:
    return {
        "key": cell.key,
        "protocol": _protocol(cell),
        "task": str(cell.protocol["task"]["name"]),
        "model": str(cell.protocol["model"]["name"]),
        "explainer": cell.explainer,
    }


def _protocol(cell: Cell) -> str:
    return str(cell.meta["protocol_key"])
