"""What the pictures of a protocol show: who leads for certain, at what cost, and who says the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from assay.benchmark.cell import Cell
from assay.benchmark.resampling import Floats
from assay.benchmark.skill import sign
from assay.benchmark.summary import MEAN_SKILL
from assay.leaderboard.agreement import of_explainers, of_measures, of_measures_by_example
from assay.leaderboard.board import Board, is_control
from assay.leaderboard.critical_difference import Diagram, diagram
from assay.leaderboard.heatmap import Heatmap, heatmap
from assay.leaderboard.pareto import Method, Plot, plot
from assay.leaderboard.text import title

# More explainers would make a table that nobody reads: of more, those that rank best are compared.
COMPARED = 30


@dataclass(frozen=True)
class Comparison:
    """The pictures of one way of hiding.

    Attributes:
        perturbation: its name.
        diagrams: critical differences on the mean skill, where there is one, and on each measure.
        plots: mean skill against rows and against seconds.
        measures: how far measures agree; None where no two can be compared.
        explainers: how far explainers agree, which hangs on no hiding and is shown with the first; None elsewhere, and
            where no two can be compared.
    """

    perturbation: str
    diagrams: Sequence[Diagram]
    plots: Sequence[Plot]
    measures: Heatmap | None
    explainers: Heatmap | None


def comparisons(board: Board) -> list[Comparison]:
    """The pictures of each way of hiding, in the protocol's order; of the methods that have a rank there."""
    added = _added(board)
    return [
        Comparison(
            perturbation,
            _diagrams(board, perturbation, added),
            _plots(board, perturbation),
            _measures(board, perturbation, added),
            _explainers(board, perturbation) if place == 0 else None,
        )
        for place, perturbation in enumerate(board.perturbations)
    ]


Added = Mapping[tuple[str, str], tuple[Sequence[str], Floats]]


def _added(board: Board) -> Added:
    """What each example adds to a method's score: by hiding and measure, the cells' keys and [examples, methods]."""
    return {place: (contest.keys, contest.values) for place, contest in board.contests.items()}


def _directed(board: Board, perturbation: str) -> list[str]:
    """The headline measures that say which values are better."""
    directions = dict(zip(board.scores["metric"], board.scores["direction"], strict=True))
    return [measure for measure in board.measures(perturbation) if np.isfinite(sign(directions[measure]))]


def _diagrams(board: Board, perturbation: str, added: Added) -> list[Diagram]:
    chosen = board.scores[board.scores["perturbation"] == perturbation]
    ranked = {MEAN_SKILL: board.standing(perturbation)}
    ranked |= {measure: chosen[chosen["metric"] == measure] for measure in _directed(board, perturbation)}
    found = []
    for measure, rows in ranked.items():
        names = dict(zip(rows["key"], rows["name"], strict=True))
        competing = set(rows["key"][rows["rank"].notna()])
        keys, values = added.get((perturbation, measure), ((), np.empty((0, 0))))
        places = [place for place, key in enumerate(keys) if key in competing]
        if places:
            better = 1.0 if measure == MEAN_SKILL else sign(rows["direction"].iloc[0])
            found.append(diagram(title(measure), [names[keys[place]] for place in places], values[:, places], better))
    return found


def _plots(board: Board, perturbation: str) -> list[Plot]:
    cells = {cell.key: cell for cell in board.cells}
    standing = board.standing(perturbation)
    # A method without a rank stands on too few of the examples to be compared with the others.
    standing["skill"] = standing["skill"].where(standing["rank"].notna())
    methods = [row for row in standing.to_dict("records") if not is_control(cells[row["key"]])]
    found = []
    for cost in ("rows", "seconds"):
        points = [
            Method(row["name"], _cost(cells[row["key"]], cost), row["skill"], row["skill_low"], row["skill_high"])
            for row in methods
        ]
        found.append(plot(cost, points))
    return [one for one in found if one is not None]


def _cost(cell: Cell, cost: str) -> float:
    spent = cell.meta["cost"]
    return float(spent["seconds"] if cost == "seconds" else spent["forward_rows"] + spent["backward_rows"])


def _measures(board: Board, perturbation: str, added: Added) -> Heatmap | None:
    """Below the diagonal whether two measures give one leaderboard, above it whether they agree on single examples."""
    rows = board.scores[(board.scores["perturbation"] == perturbation) & board.scores["rank"].notna()]
    measures = [one for one in _directed(board, perturbation) if (perturbation, one) in added]
    competing = rows.groupby("key")["metric"].agg(set)
    keys = [str(key) for key, has in competing.items() if has >= set(measures)]
    if len(measures) < 2 or len(keys) < 2:
        return None
    better = np.array([sign(rows["direction"][rows["metric"] == measure].iloc[0]) for measure in measures])
    parts = [added[perturbation, measure] for measure in measures]
    values = np.stack([part[:, [list(own).index(key) for key in keys]] for own, part in parts])
    with np.errstate(invalid="ignore"):
        means = np.nanmean(values, axis=1)
    names = [title(measure) for measure in measures]
    overall, by_example = of_measures(means, better), of_measures_by_example(values, better)
    return heatmap(names, overall, by_example, ("methods", "examples"))


def _explainers(board: Board, perturbation: str) -> Heatmap | None:
    cells = {cell.key: cell for cell in board.cells}
    standing = board.standing(perturbation)
    keys = [str(key) for key in standing["key"] if not is_control(cells[key])]
    names = dict(zip(standing["key"], standing["name"], strict=True))
    scores, lengths = attributions([cells[key] for key in keys[:COMPARED]])
    signed = np.array([bool(cells[key].meta["explainer"]["signed"]) for key in keys[:COMPARED]], dtype=np.bool_)
    found = of_explainers(scores, lengths, signed)
    shown = [str(names[key]) for key in keys[:COMPARED]]
    return heatmap(shown, found, found, ("examples", "examples"), len(keys) - len(shown))


def attributions(cells: Sequence[Cell]) -> tuple[Floats, list[int]]:
    """The scores of some cells on the examples of the first: [cells, features], and how many features each example has.

    Of a method that is drawn several times, the first draw. NaN where there is no attribution.
    """
    columns = ["example", "draw", "scores"]
    tables = [cell.arrow("attributions").select(columns).to_pandas() for cell in cells]
    found = [table[(table["draw"] == 0) & table["scores"].notna()] for table in tables]
    by_example = [dict(zip(table["example"], table["scores"], strict=True)) for table in found]
    sizes: dict[str, int] = {}
    for own in by_example:
        sizes.update({example: len(scores) for example, scores in own.items() if example not in sizes})
    nothing = {example: np.full(size, np.nan) for example, size in sizes.items()}
    rows = [np.concatenate([own.get(example, none) for example, none in nothing.items()]) for own in by_example]
    return np.array(rows).reshape(len(cells), sum(sizes.values())), list(sizes.values())
