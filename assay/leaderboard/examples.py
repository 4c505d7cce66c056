"""A few examples whose words are coloured by what each explainer says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assay.benchmark.cell import Cell
from assay.benchmark.summary import CONTROLS
from assay.highlight import level, shares
from assay.leaderboard.board import Board
from assay.leaderboard.text import clean, number, percent

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = 6
EXPLAINERS = 6
WORDS = 60


@dataclass(frozen=True)
class Word:
    """A word with its colour: `p1` to `p8` for the target, `m1` to `m8` against it, `u1` to `u8` without a sign."""

    text: str
    colour: str
    score: str
    true: bool


@dataclass(frozen=True)
class Text:
    """One of the texts of an example; `more` words were clipped."""

    words: list[Word]
    more: int


@dataclass(frozen=True)
class Reading:
    """What one explainer says of an example; `problem` says why it says nothing."""

    name: str
    control: bool
    signed: bool
    score: str
    texts: list[Text]
    problem: str


@dataclass(frozen=True)
class Shown:
    """An example and its readings.

    `number` is its place in the task, from 1; `facts` are pairs of a term and what holds.
    """

    number: int
    id: str
    facts: list[tuple[str, str]]
    readings: list[Reading]
    has_rationale: bool


def examples(board: Board, perturbation: str, measure: str | None) -> list[Shown]:
    """Examples from the easiest to the hardest: evenly spaced by the methods' mean of `measure`, ties by id.

    The methods stand in the order of their rank, then `random`; methods that search for a metric's optimum, such as
    `oracle`, are left out, because they have no one attribution for all metrics.
    """
    if measure is None:
        return []
    order = {name: place for place, name in enumerate(board.standing(perturbation)["name"])}
    shown = [(name, cell) for name, cell in board.named() if not cell.meta["explainer"]["searches"]]
    shown.sort(key=lambda pair: (pair[1].explainer in CONTROLS, order.get(pair[0], len(order))))
    methods = [pair for pair in shown if pair[1].explainer not in CONTROLS][:EXPLAINERS]
    shown = [*methods, *(pair for pair in shown if pair[1].explainer in CONTROLS)]
    if not shown:
        return []
    values = {name: _values(cell, perturbation, measure) for name, cell in shown}
    chosen = choose([values[name] for name, _ in methods or shown])
    readings: dict[str, list[Reading]] = {example: [] for example in chosen}
    for name, cell in shown:
        about = _rows(cell, "examples", chosen)
        attributions = _rows(cell, "attributions", chosen)
        for example in chosen:
            if example in about:
                score = number(float(values[name].get(example, np.nan)))
                readings[example].append(_reading(name, cell, score, about[example], attributions.get(example)))
    facts = _rows(shown[0][1], "examples", chosen)
    places = {str(one): place for place, one in enumerate(shown[0][1].table("examples")["example"], start=1)}
    return [
        Shown(
            places[example],
            clean(example, 60),
            _facts(facts[example], board.protocol),
            readings[example],
            facts[example]["rationale"] is not None,
        )
        for example in chosen
        if example in facts
    ]


def choose(values: Sequence[pd.Series[float]]) -> list[str]:
    """Ids of examples, evenly spaced from the highest mean value to the lowest; those without a value come last."""
    import pandas as pd

    means = pd.concat(list(values), axis=1).mean(axis=1)
    ids = sorted(means.index, key=lambda one: (not np.isfinite(means[one]), -np.nan_to_num(means[one]), str(one)))
    places = np.linspace(0, len(ids) - 1, min(EXAMPLES, len(ids))).round().astype(int)
    return [ids[place] for place in places]


def _values(cell: Cell, perturbation: str, measure: str) -> pd.Series[float]:
    scores = cell.scores
    rows = scores[(scores["perturbation"] == perturbation) & (scores["metric"] == measure)]
    return rows.set_index("example")["value"]


def _rows(cell: Cell, table: str, examples: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The first row of each of some examples: of several draws, the first."""
    frame = cell.table(table)
    frame = frame[frame["example"].isin(examples)].drop_duplicates("example")
    return {str(row["example"]): {str(name): value for name, value in row.items()} for row in frame.to_dict("records")}


def _reading(name: str, cell: Cell, score: str, about: dict[str, Any], attribution: dict[str, Any] | None) -> Reading:
    signed = bool(cell.meta["explainer"]["signed"])
    control = cell.explainer in CONTROLS
    if attribution is None or attribution["scores"] is None:
        reason = attribution["reason"] if attribution else None
        said = clean(reason) if isinstance(reason, str) else "none was stored"
        return Reading(clean(name), control, signed, score, [], said)
    texts = _texts(about, np.asarray(attribution["scores"], dtype=np.float64), signed)
    return Reading(clean(name), control, signed, score, texts, "")


def _texts(about: dict[str, Any], scores: NDArray[np.float64], signed: bool) -> list[Text]:
    rationale = about["rationale"]
    true = [False] * len(scores) if rationale is None else list(rationale)
    texts = []
    features = list(
        zip(about["segments"], about["features"], scores.tolist(), shares(scores).tolist(), true, strict=True)
    )
    for _, group in groupby(features, key=lambda feature: feature[0]):
        words = list(group)
        limit = WORDS if len(set(about["segments"])) == 1 else WORDS // 2
        shown = [
            Word(clean(text, 40), level(share, signed), number(score, 4), bool(decides))
            for _, text, score, share, decides in words[:limit]
        ]
        texts.append(Text(shown, max(0, len(words) - limit)))
    return texts


def _facts(row: dict[str, Any], protocol: Any) -> list[tuple[str, str]]:
    """What the model made of an example. Classes are named only where the protocol holds the model's own order."""
    names = protocol["model"].get("labels")

    def label(index: Any) -> str:
        if index is None or not np.isfinite(index):
            return "none"
        return clean(names[int(index)], 40) if names and int(index) < len(names) else f"class {int(index)}"

    logits = np.asarray(row["logits"], dtype=np.float64)
    shares = np.exp(logits - logits.max())
    target = int(row["target"])
    probability = float(shares[target] / shares.sum()) if target < len(shares) else None
    return [
        ("label", label(row["label"])),
        ("predicted", label(row["predicted"])),
        ("explained", f"{label(row['target'])}, probability {percent(probability)}"),
    ]
