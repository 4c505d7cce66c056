"""`assay compare-protocols`: how the ranking of explainers, and the winner, change with the definition of a metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group

from assay.benchmark.cell import Cell
from assay.benchmark.summary import CONTROLS, summarise
from assay.conversation import Cost
from assay.digests import digest
from assay.errors import AssayError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Definition:
    """One measure under one perturbation of one protocol.

    Attributes:
        protocol: the preset's name, or `assay`; with its feature unit or key where several of one name differ.
        feature: what is scored and hidden.
        measure: the measure's name.
        perturbation: how features leave the input.
        direction: which values are better.
    """

    protocol: str
    feature: str
    measure: str
    perturbation: str
    direction: str


@dataclass(frozen=True)
class Comparison:
    """The explainers that all protocols of one task and model have in common, ranked by every definition.

    Attributes:
        task: the task's name.
        model: the model's name.
        examples: how many examples were explained.
        definitions: the columns.
        ranks: [explainers, definitions], 1 is best; NaN where an explainer has no rank.
        means: [explainers, definitions].
        leading: [explainers, definitions], whether an explainer is the best or cannot be told apart from it.
        explainers: their names, the best on average first.
        left_out: explainers that some protocol lacks.
    """

    task: str
    model: str
    examples: int
    definitions: Sequence[Definition]
    ranks: np.ndarray[Any, np.dtype[np.float64]]
    means: np.ndarray[Any, np.dtype[np.float64]]
    leading: np.ndarray[Any, np.dtype[np.bool_]]
    explainers: Sequence[str]
    left_out: Sequence[str]

    def winner(self, column: int) -> str | None:
        """The best explainer by a definition; None where none has a rank."""
        ranks = self.ranks[:, column]
        return None if np.isnan(ranks).all() else self.explainers[int(np.nanargmin(ranks))]

    def agreement(self, one: int, two: int) -> float:
        """Kendall's τ-b between the rankings of two definitions; NaN where one of them ranks nothing apart."""
        from scipy.stats import kendalltau

        both = ~np.isnan(self.ranks[:, [one, two]]).any(axis=1)
        ranks = self.ranks[both]
        if len(ranks) < 2 or any(len(set(ranks[:, column])) < 2 for column in (one, two)):
            return float("nan")
        return float(kendalltau(ranks[:, one], ranks[:, two]).statistic)

    def disagreements(self) -> list[tuple[int, int, bool]]:
        """The pairs of definitions with different winners, and whether that is more than noise.

        It is where the winner by either can be told apart from the best by the other.
        """
        found = []
        for one, two in combinations(range(len(self.definitions)), 2):
            first, second = self.winner(one), self.winner(two)
            if first is not None and second is not None and first != second:
                places = self.explainers.index(first), self.explainers.index(second)
                tested = bool(self.leading[:, one].any() and self.leading[:, two].any())
                sure = tested and not self.leading[places[0], two] and not self.leading[places[1], one]
                found.append((one, two, sure))
        return found

    def frame(self) -> pd.DataFrame:
        """A row for each definition and explainer."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "task": self.task,
                    "model": self.model,
                    **vars(definition),
                    "explainer": explainer,
                    "mean": self.means[row, column],
                    "rank": self.ranks[row, column],
                    "leading": bool(self.leading[row, column]),
                }
                for column, definition in enumerate(self.definitions)
                for row, explainer in enumerate(self.explainers)
            ]
        )


def compare(cells: Sequence[Cell]) -> list[Comparison]:
    """Compare the protocols under which the same examples of a task were explained for the same model.

    Raises:
        AssayError: no task and model has two definitions, or two explainers in common to rank by them.
    """
    subjects: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        key = cell.protocol["task"]["fingerprint"], cell.protocol["model"]["fingerprint"]
        subjects.setdefault(key, []).append(cell)
    found = [_compare(group) for _, group in sorted(subjects.items(), key=lambda item: _title(item[1][0]))]
    useful = [one for one in found if len(one.definitions) > 1 and len(one.explainers) > 1]
    if not useful:
        raise AssayError(
            "There is nothing to compare: the same examples must have been judged by two measures or more, with two "
            "explainers or more beside the controls. For example: assay score RESULTS protocol=eraser."
        )
    return useful


def _title(cell: Cell) -> tuple[str, str]:
    return str(cell.protocol["task"]["name"]), str(cell.protocol["model"]["name"])


def _compare(cells: Sequence[Cell]) -> Comparison:
    by_protocol: dict[str, list[Cell]] = {}
    for cell in cells:
        by_protocol.setdefault(str(cell.meta["protocol_key"]), []).append(cell)
    methods = [{cell.explainer for cell in group if cell.explainer not in CONTROLS} for group in by_protocol.values()]
    common = set.intersection(*methods)
    names = _names({key: group[0].protocol for key, group in by_protocol.items()})
    kept = [cell for cell in cells if cell.explainer in {*common, *CONTROLS}]
    frame = summarise(kept)
    frame = frame[
        frame["headline"] & frame["direction"].isin(["higher", "lower"]) & ~frame["metric"].isin(list(vars(Cost())))
    ]
    frame = frame[~frame["explainer"].isin(CONTROLS)]
    columns = frame[["protocol", "metric", "perturbation", "direction"]].drop_duplicates().itertuples(index=False)
    definitions, ranks, means, leading = [], [], [], []
    explainers = sorted(common)
    seen = set()
    for protocol, metric, perturbation, direction in columns:
        # What a run has measured and was scored once more is one definition.
        identity = _identity(by_protocol[protocol][0], metric, perturbation)
        if identity in seen:
            continue
        seen.add(identity)
        chosen = (frame["protocol"] == protocol) & (frame["metric"] == metric) & (frame["perturbation"] == perturbation)
        here = frame[chosen].set_index("explainer").reindex(explainers)
        feature = str(by_protocol[protocol][0].protocol["feature"])
        definitions.append(Definition(names[protocol], feature, metric, perturbation, direction))
        ranks.append(here["rank"].to_numpy(np.float64))
        means.append(here["mean"].to_numpy(np.float64))
        leading.append(here["leading"].fillna(False).to_numpy(np.bool_))
    table = np.array(ranks).reshape(len(definitions), len(explainers)).T
    ranked = ~np.isnan(table)
    sums = np.where(ranked, table, 0.0).sum(axis=1)
    average = np.divide(sums, ranked.sum(axis=1), out=np.full(len(explainers), np.inf), where=ranked.any(axis=1))
    order = np.argsort(average, kind="stable")
    task, model = _title(cells[0])
    return Comparison(
        task,
        model,
        int(cells[0].meta["counts"]["examples"]),
        definitions,
        table[order],
        np.array(means).reshape(len(definitions), len(explainers)).T[order],
        np.array(leading).reshape(len(definitions), len(explainers)).T[order],
        [explainers[place] for place in order],
        sorted(set.union(*methods) - common),
    )


def _identity(cell: Cell, measure: str, perturbation: str) -> str:
    protocol = cell.protocol
    judge = protocol["metrics"].get(cell.meta["measures"][measure]["metric"])
    about = [protocol.get(name) for name in ("preset", "feature", "target", "contrast", "output", "seed")]
    return digest([measure, judge, perturbation, protocol["perturbations"].get(perturbation), *about])


def _names(protocols: dict[str, Any]) -> dict[str, str]:
    """What each protocol is called: its preset's name or `assay`; where that is not unique, with its key."""
    plain = {key: str(protocol.get("preset") or "assay") for key, protocol in protocols.items()}
    return {key: name if list(plain.values()).count(name) == 1 else f"{name} {key[:6]}" for key, name in plain.items()}


def terminal_comparison(comparisons: Sequence[Comparison]) -> Group:
    """For each task and model the definitions with their winners, the ranks by each, and where winners change."""
    return Group(*(part for one in comparisons for part in _parts(one)))


def _parts(one: Comparison) -> list[Any]:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    letters = [_letter(place) for place in range(len(one.definitions))]
    about, ranks = (
        Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", show_edge=False)
        for _ in range(2)
    )
    for heading, width in (("", 2), ("protocol", 10), ("measure", 20), ("hidden by", 8), ("of", 6), ("best", 20)):
        about.add_column(heading, no_wrap=True, min_width=width)
    about.add_column("agreement", justify="right", no_wrap=True, min_width=9)
    everyone = range(len(one.definitions))
    for place, definition in enumerate(one.definitions):
        others = [one.agreement(place, other) for other in everyone if other != place]
        defined = [value for value in others if not np.isnan(value)]
        peers = [name for name, lead in zip(one.explainers, one.leading[:, place], strict=True) if lead]
        best = one.winner(place) or "—"
        others_alike = sum(name != best for name in peers)
        about.add_row(
            letters[place],
            definition.protocol,
            f"{definition.measure} {'↑' if definition.direction == 'higher' else '↓'}",
            definition.perturbation,
            f"{definition.feature}s",
            Text(best + (f" (or {others_alike} other{'s' if others_alike > 1 else ''})" if others_alike else "")),
            f"{np.mean(defined):.2f}" if defined else "—",
        )
    ranks.add_column("explainer", no_wrap=True)
    for letter in letters:
        ranks.add_column(letter, justify="right", no_wrap=True)
    for row, explainer in enumerate(one.explainers):
        texts = []
        for column in everyone:
            rank = one.ranks[row, column]
            leads = bool(one.leading[row, column]) or rank == 1
            texts.append(Text("—" if np.isnan(rank) else f"{rank:.0f}", style="bold" if leads else ""))
        ranks.add_row(Text(explainer), *texts)
    disagreements = one.disagreements()
    winners = [winner for winner in (one.winner(column) for column in everyone) if winner is not None]
    counts = {name: winners.count(name) for name in dict.fromkeys(winners)}
    said = ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))
    sure = [(first, second) for first, second, certain in disagreements if certain]
    pairs = len(one.definitions) * (len(one.definitions) - 1) // 2
    lines = [
        f"Best by how many of the {len(winners)} definitions: {said}.",
        f"Of {pairs} pairs of definitions, {len(disagreements)} name different winners; in {len(sure)} of these the "
        f"winner by each can be told apart from the best by the other{_listed(sure, letters)}.",
    ]
    if one.left_out:
        lines.append(f"Left out, because some protocol lacks them: {', '.join(one.left_out)}.")
    title = f"\n{one.task} × {one.model}, {one.examples} examples"
    legend = (
        "Agreement: mean of Kendall's τ between this ranking and each of the others. In brackets, and below in bold: "
        "those that cannot be told apart from the best."
    )
    return [Text(title, style="bold"), about, Text(legend, style="dim"), Text(""), ranks, Text(""), *map(Text, lines)]


def _listed(pairs: Sequence[tuple[int, int]], letters: Sequence[str]) -> str:
    shown = ", ".join(f"{letters[one]}–{letters[two]}" for one, two in pairs[:8])
    return f" ({shown}{', …' if len(pairs) > 8 else ''})" if pairs else ""


def _letter(place: int) -> str:
    return (chr(ord("A") + place // 26 - 1) if place >= 26 else "") + chr(ord("A") + place % 26)
