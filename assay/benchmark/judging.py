"""Cells beside their controls: the means of their scores with intervals, and their skills."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from assay.benchmark.cell import Cell
from assay.benchmark.intervals import Estimate, intervals, two_level_intervals
from assay.benchmark.resampling import Bools, Floats, bootstrap
from assay.benchmark.score_table import Column, ScoreTable
from assay.benchmark.skill import Skills, relative, sign, skills

CONTROLS = ("random", "oracle")
# The resamples of so many cells are one matrix product, which takes half the time of one for each.
_TOGETHER = 16


@dataclass(frozen=True)
class Judged:
    """A cell beside its controls.

    Attributes:
        cell: it.
        table: its scores.
        means: of each column of the table, with intervals.
        skills: of each column.
        random: the scores of `random` on the same examples and columns; NaN where there are none.
    """

    cell: Cell
    table: ScoreTable
    means: Sequence[Estimate]
    skills: Skills
    random: Floats

    def scales(self) -> list[Column]:
        """The headline columns that have a skill."""
        return [
            column
            for column, skill in zip(self.table.columns, self.skills.point, strict=True)
            if np.isfinite(skill) and self.cell.meta["measures"][column[1]]["headline"]
        ]


def judge(cells: Sequence[Cell], controls: Sequence[Cell]) -> Iterator[Judged]:
    """Each cell that has scores beside the controls of its protocol.

    Args:
        cells: of one protocol or several.
        controls: cells among which the controls are found. If one was run with several settings, the first by key is
            the one that scores are read against.
    """
    tables: dict[tuple[str, str], ScoreTable] = {}
    for cell in sorted((cell for cell in controls if cell.explainer in CONTROLS), key=lambda cell: cell.key):
        if (protocol_of(cell), cell.explainer) not in tables:
            tables[protocol_of(cell), cell.explainer] = ScoreTable.of(cell)
    beside: dict[tuple[str, tuple[Column, ...], tuple[str, ...]], _Beside] = {}
    waiting: list[tuple[Cell, ScoreTable]] = []
    for cell in cells:
        table = ScoreTable.of(cell)
        if not table.values.size:
            continue
        if waiting and (len(waiting) == _TOGETHER or len(waiting[0][1].examples) != len(table.examples)):
            yield from _judge_together(waiting, tables, beside)
            waiting = []
        waiting.append((cell, table))
    yield from _judge_together(waiting, tables, beside)


def protocol_of(cell: Cell) -> str:
    """The key of a cell's protocol."""
    return str(cell.meta["protocol_key"])


@dataclass(frozen=True)
class _Beside:
    """The controls on some examples and columns: values and divisors, [2, examples, columns], random first."""

    values: Floats
    per: Floats

    @cached_property
    def defined(self) -> Bools:
        """Which examples have a score, [2, examples, columns]."""
        return np.asarray(np.isfinite(self.values))

    @cached_property
    def resampled(self) -> tuple[Floats, Floats]:
        """The means, [2, columns], and those of each resample, [2, columns, resamples]."""
        count = self.values.shape[2]
        points, samples = bootstrap(np.concatenate(list(self.values), axis=1))
        return points.reshape(2, count), samples.T.reshape(2, count, -1)


def _judge_together(
    group: Sequence[tuple[Cell, ScoreTable]],
    tables: Mapping[tuple[str, str], ScoreTable],
    beside: dict[tuple[str, tuple[Column, ...], tuple[str, ...]], _Beside],
) -> Iterator[Judged]:
    """Judge cells with equally many examples."""
    if not group:
        return
    # The controls of another protocol, or of other examples, are not needed again.
    places = {(protocol_of(cell), tuple(table.columns), tuple(table.examples)) for cell, table in group}
    for place in set(beside) - places:
        del beside[place]
    plain = [table.values for _, table in group if table.per is None]
    points, samples = bootstrap(np.concatenate(plain, axis=1)) if plain else (np.empty(0), np.empty((0, 0)))
    first = 0
    for cell, table in group:
        key = (protocol_of(cell), tuple(table.columns), tuple(table.examples))
        if key not in beside:
            beside[key] = _controls(key[0], table, tables)
        if table.per is None:
            chosen = slice(first, first + len(table.columns))
            first += len(table.columns)
            point, own = points[chosen], samples[:, chosen]
        else:
            point, own = bootstrap(table.values, table.per)
        yield _judged(cell, table, point, own, beside[key])


def _controls(protocol: str, table: ScoreTable, tables: Mapping[tuple[str, str], ScoreTable]) -> _Beside:
    nothing = (np.full(table.values.shape, np.nan), np.ones(table.values.shape))
    found = [
        tables[protocol, name].like(table.examples, table.columns) if (protocol, name) in tables else nothing
        for name in CONTROLS
    ]
    return _Beside(np.stack([values for values, _ in found]), np.stack([per for _, per in found]))


def _judged(cell: Cell, table: ScoreTable, point: Floats, samples: Floats, beside: _Beside) -> Judged:
    means = intervals(point, samples, table.added)
    if table.draws is not None:
        # Where a method was drawn several times, its score varies over its draws too.
        for place, one in zip(table.draws[0], two_level_intervals(table.draws[1]), strict=True):
            means[place] = one
    better = np.array([sign(cell.meta["measures"][measure]["direction"]) for _, measure in table.columns])
    return Judged(cell, table, means, _skills(table, point, samples, beside, better), beside.values[0])


def _skills(table: ScoreTable, point: Floats, samples: Floats, beside: _Beside, better: Floats) -> Skills:
    """The skill of each column; over examples that the three share, resampled anew only where one lacks some."""
    if table.per is not None:
        per = np.stack([table.per, *beside.per])
        return skills(table.values, beside.values[0], beside.values[1], better, per)
    floor, ceiling = beside.defined
    alike = (table.defined == floor).all(axis=0) & (table.defined == ceiling).all(axis=0)
    others = ~alike & (table.defined & floor & ceiling).any(axis=0)
    count = len(table.columns)
    found = Skills(
        np.full(count, np.nan), np.full((count, len(samples)), np.nan).T, np.full(table.values.shape, np.nan)
    )
    if alike.any():
        points, of_controls = beside.resampled
        shared = relative(
            np.stack([point[alike], *points[:, alike]]),
            [samples[:, alike], *(one[alike].T for one in of_controls)],
            [table.values[:, alike], *(one[:, alike] for one in beside.values)],
            better[alike],
        )
        _put(found, alike, shared)
    if others.any():
        own, random, oracle = (values[:, others] for values in (table.values, *beside.values))
        _put(found, others, skills(own, random, oracle, better[others]))
    return found


def _put(found: Skills, places: NDArray[np.bool_], some: Skills) -> None:
    found.point[places], found.samples[:, places], found.added[:, places] = some.point, some.samples, some.added
