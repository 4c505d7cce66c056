"""The examples of a protocol for the site's viewer: small scripts that a page adds as it needs them.

A script can be loaded from a disk too, where a page may fetch nothing. Numbers are bytes in base64, because there is
one for each word, explainer and example; what each file holds stands beside the function that makes it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.benchmark.cell import Cell
from assay.benchmark.mean_curves import curves_of
from assay.benchmark.resampling import Floats
from assay.benchmark.score_table import coded, rows_of
from assay.errors import AssayError
from assay.leaderboard.board import Board, is_control
from assay.leaderboard.text import clean

# So many examples are in a file, and so many of a protocol are shown, in the order of the task.
CHUNK = 20
EXAMPLES = 2000
# Of each example so many words, shared among its texts, and of each word so many letters.
WORDS = 240
LETTERS = 40
START = 60
_CURVE = "deletion"
_NO_CURVE = 255
_TOP = 254


def example_files(board: Board) -> dict[str, str]:
    """The files of `examples`, by name: `list.js`, and one for each chunk, called by its number.

    Attributions are those of the first draw. Methods that search for a metric's optimum have one attribution for each
    metric and so none here; their curves are here as the others' are.
    """
    if not board.perturbations:
        return {}
    perturbation = board.perturbations[0]
    order = {name: place for place, name in enumerate(board.standing(perturbation)["name"])}
    named = sorted(board.named(), key=lambda pair: (is_control(pair[1]), order.get(pair[0], len(order))))
    texts = _Texts.of(next((cell for _, cell in named if not _searches(cell)), named[0][1]))
    measure = _measure(board, perturbation)
    curves = _Curves.of([cell for _, cell in named], texts.names, perturbation, str(board.protocol["output"]))
    explainers = [
        _Explainer.of(cell, texts, _values(board, cell, texts.names, perturbation, measure)) for _, cell in named
    ]
    methods = [one for (_, cell), one in zip(named, explainers, strict=True) if not is_control(cell)]
    found = {"list.js": _list(board, named, texts, methods, curves, perturbation, measure)}
    for number, first in enumerate(range(0, len(texts.names), CHUNK)):
        found[f"{number}.js"] = _chunk(number, slice(first, first + CHUNK), texts, explainers, curves)
    return found


@dataclass(frozen=True)
class _Texts:
    """The examples, in the order of the task.

    Attributes:
        rows: what is known of each.
        left_out: how many there are beyond those.
        sizes: features of each, [examples].
        shown: which features are shown, those of all examples one after the other.
    """

    rows: list[dict[str, Any]]
    left_out: int
    sizes: NDArray[np.intp]
    shown: NDArray[np.bool_]

    @classmethod
    def of(cls, cell: Cell) -> _Texts:
        table = cell.arrow("examples")
        names = ("example", "label", "predicted", "target", "features", "segments", "rationale", "logits")
        rows = table.select(list(names)).slice(0, EXAMPLES).to_pylist()
        if any(len(row["features"]) != len(row["segments"]) for row in rows):
            raise AssayError(f"{cell.path / 'examples.parquet'} is damaged: a feature belongs to no text.")
        shown = [_shown(row["segments"]) for row in rows]
        return cls(
            rows,
            max(0, len(table) - EXAMPLES),
            np.array([len(row["features"]) for row in rows], np.intp),
            np.concatenate([np.zeros(0, bool), *shown]),
        )

    @cached_property
    def names(self) -> list[str]:
        """Of the examples."""
        return [str(row["example"]) for row in self.rows]

    @cached_property
    def starts(self) -> NDArray[np.intp]:
        """Where the features of each example begin, and where the last ones end."""
        return np.concatenate([[0], np.cumsum(self.sizes)])

    @cached_property
    def shown_before(self) -> NDArray[np.intp]:
        """How many features are shown before those of each example, and in all."""
        return np.concatenate([[0], np.cumsum(self.shown)])[self.starts]


def _shown(segments: Sequence[int]) -> NDArray[np.bool_]:
    """Which features are shown: of each text the first ones."""
    found = np.zeros(len(segments), bool)
    texts = np.asarray(segments)
    for text in dict.fromkeys(segments):
        found[np.flatnonzero(texts == text)[: WORDS // len(set(segments))]] = True
    return found


@dataclass(frozen=True)
class _Explainer:
    """What one explainer says: shares of each example's largest score, and the largest, NaN where there is none."""

    shares: NDArray[np.int8]
    largest: NDArray[np.float32]
    problems: Mapping[int, str]
    values: NDArray[np.float32]

    @classmethod
    def of(cls, cell: Cell, texts: _Texts, values: NDArray[np.float32]) -> _Explainer:
        if _searches(cell):
            return cls(np.zeros(0, np.int8), np.zeros(0, np.float32), {}, values)
        table = cell.arrow("attributions", ["example"])
        codes, names = coded(table["example"])
        row_of_name = np.full(len(names), -1)
        # Of several values for one place numpy keeps the last, which is the first draw.
        row_of_name[codes[::-1]] = np.arange(len(codes))[::-1]
        place = rows_of(texts.names, names)
        row = np.where(place >= 0, row_of_name[place] if len(names) else -1, -1)
        lists = table["scores"].combine_chunks()
        starts = np.asarray(lists.offsets)[:-1]
        lengths = lists.value_lengths().fill_null(-1).to_numpy(zero_copy_only=False)
        there = row >= 0
        there[there] = lengths[row[there]] == texts.sizes[there]
        scores, there = _scores(lists, starts, row, there, texts)
        largest = np.zeros(len(row))
        some = np.flatnonzero(texts.sizes)
        if len(some):
            largest[some] = np.maximum.reduceat(np.abs(scores), texts.starts[:-1][some])
        scale = np.repeat(np.divide(127.0, largest, out=np.zeros_like(largest), where=largest > 0), texts.sizes)
        reasons = table["reason"].to_pylist() if not there.all() else []
        problems = {
            int(one): clean(reasons[row[one]]) if row[one] >= 0 and reasons[row[one]] else "none was stored"
            for one in np.flatnonzero(~there)
        }
        shares = np.round(scores * scale).astype(np.int8)[texts.shown]
        return cls(shares, np.where(there, largest, np.nan).astype(np.float32), problems, values)


def _scores(
    lists: Any, starts: NDArray[np.intp], row: NDArray[np.intp], there: NDArray[np.bool_], texts: _Texts
) -> tuple[Floats, NDArray[np.bool_]]:
    """The scores of all features, 0 where there are none, and of which examples there are."""
    scores, sizes = np.zeros(int(texts.starts[-1])), texts.sizes[there]
    offsets = np.repeat(starts[row[there]] - np.cumsum(sizes) + sizes, sizes) + np.arange(int(sizes.sum()))
    scores[np.repeat(there, texts.sizes)] = lists.values.to_numpy(zero_copy_only=False)[offsets]
    broken = ~np.isfinite(scores)
    if broken.any():
        there = there.copy()
        there[np.unique(np.repeat(np.arange(len(there)), texts.sizes)[broken])] = False
        scores[np.repeat(~there, texts.sizes)] = 0.0
    return scores, there


@dataclass(frozen=True)
class _Curves:
    """The curves of all explainers over the shares that most of them have.

    Attributes:
        lengths: points of each example's curve; 0 where nobody has one.
        x: the shares, from 0 to 254.
        y: of each explainer, from 0 to 254 between the lowest and the highest value; 255 where it has no such curve.
        low: the lowest value.
        high: the highest.
    """

    lengths: NDArray[np.intp]
    x: NDArray[np.uint8]
    y: list[NDArray[np.uint8]]
    low: float
    high: float

    @classmethod
    def of(cls, cells: Sequence[Cell], names: list[str], perturbation: str, output: str) -> _Curves:
        known = [_drawn(cell, names, perturbation) for cell in cells]
        lengths, x = _shares(known, len(names))
        placed = [_like(lengths, x, *one) for one in known]
        finite = [y[np.isfinite(y)] for y, _ in placed if np.isfinite(y).any()]
        low, high = (
            (0.0, 1.0)
            if output == "probability" or not finite
            else (
                min(float(y.min()) for y in finite),
                max(float(y.max()) for y in finite),
            )
        )
        scale = _TOP / (high - low) if high > low else 0.0
        drawn = []
        for y, there in placed:
            there = np.repeat(there, lengths)
            bytes_of = np.full(len(there), _NO_CURVE, np.uint8)
            with np.errstate(invalid="ignore"):
                bytes_of[there] = np.round(np.clip(np.nan_to_num((y[there] - low) * scale), 0, _TOP))
            drawn.append(bytes_of)
        return cls(lengths, np.round(np.clip(x, 0, 1) * _TOP).astype(np.uint8), drawn, low, high)

    @cached_property
    def starts(self) -> NDArray[np.intp]:
        """Where the points of each example begin, and where the last ones end."""
        return np.concatenate([[0], np.cumsum(self.lengths)])


_Drawn = tuple[NDArray[np.intp], Floats, Floats]
"""Points of the curve of each example, 0 where there is none, and the shares and values of all of them."""


def _drawn(cell: Cell, names: list[str], perturbation: str) -> _Drawn:
    found = curves_of(cell, (perturbation, _CURVE)).get((perturbation, _CURVE))
    if found is None:
        return np.zeros(len(names), np.intp), np.zeros(0), np.zeros(0)
    row = rows_of(names, found.examples)
    own = np.where(row >= 0, found.lengths[row], 0)
    starts = np.concatenate([[0], np.cumsum(found.lengths)])[row]
    points = np.repeat(starts - np.cumsum(own) + own, own) + np.arange(int(own.sum()))
    return own, found.x[points], found.y[points]


def _shares(known: Sequence[_Drawn], count: int) -> tuple[NDArray[np.intp], Floats]:
    """Over how many and which shares the curve of each example is drawn: those of the first explainer that has one."""
    lengths = np.zeros(count, np.intp)
    pieces: dict[int, Floats] = {}
    for own, x, _ in known:
        new = np.flatnonzero((lengths == 0) & (own > 0))
        starts = np.cumsum(own) - own
        pieces |= {place: x[starts[place] : starts[place] + own[place]] for place in new.tolist()}
        lengths[new] = own[new]
    return lengths, np.concatenate([np.zeros(0), *(pieces[place] for place in sorted(pieces))])


def _like(
    lengths: NDArray[np.intp], x: Floats, own: NDArray[np.intp], own_x: Floats, y: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """Curves in another's places, and of which examples they are over the same shares."""
    if np.array_equal(lengths, own) and np.array_equal(x, own_x):
        return y, lengths > 0
    there = (lengths == own) & (lengths > 0)
    found, starts, own_starts = np.full(len(x), np.nan), np.cumsum(lengths) - lengths, np.cumsum(own) - own
    for place in np.flatnonzero(there).tolist():
        here = slice(starts[place], starts[place] + lengths[place])
        theirs = slice(own_starts[place], own_starts[place] + lengths[place])
        there[place] = np.array_equal(x[here], own_x[theirs])
        found[here] = y[theirs]
    return found, there


def _list(
    board: Board,
    named: Sequence[tuple[str, Cell]],
    texts: _Texts,
    methods: Sequence[_Explainer],
    curves: _Curves,
    perturbation: str,
    measure: str | None,
) -> str:
    """`assayExamples({...})`: what there is, with the start of each example, and the methods' mean of a measure."""
    known = np.stack([one.values for one in methods]) if methods else np.full((1, len(texts.names)), np.nan)
    defined = np.isfinite(known)
    counts = defined.sum(axis=0)
    means = np.divide(np.where(defined, known, 0).sum(axis=0), counts, out=np.zeros(len(counts)), where=counts > 0)
    labels = board.protocol["model"].get("labels")
    content = {
        "chunk": CHUNK,
        "count": len(texts.names),
        "left_out": texts.left_out,
        "measure": measure,
        "output": clean(board.protocol["output"]),
        "perturbation": clean(perturbation),
        "range": [curves.low, curves.high],
        "explainers": [
            {
                "name": clean(name),
                "signed": bool(cell.meta["explainer"]["signed"]),
                "control": is_control(cell),
                "searches": _searches(cell),
            }
            for name, cell in named
        ],
        "examples": [
            {**_facts(row, labels), "value": round(float(mean), 5) if count else None}
            for row, mean, count in zip(texts.rows, means, counts, strict=True)
        ],
    }
    return f"assayExamples({json.dumps(content, allow_nan=False)});\n"


def _chunk(number: int, chosen: slice, texts: _Texts, explainers: Sequence[_Explainer], curves: _Curves) -> str:
    """`assayChunk(number, {...})`: words of some examples, and what each explainer says of them.

    `scores` are int8, for each shown word of the examples one after the other, the share of the largest magnitude in
    its example times 127; `largest` and `values` float32, for each example; `x` and `deletion` uint8, `points` of them
    for each example.
    """
    rows = texts.rows[chosen]
    here = range(chosen.start, chosen.start + len(rows))
    words = slice(texts.shown_before[here.start], texts.shown_before[here.stop])
    points = slice(curves.starts[here.start], curves.starts[here.stop])
    content = {
        "examples": [_words(row) for row in rows],
        "points": curves.lengths[chosen].tolist(),
        "x": _bytes(curves.x[points]),
        "explainers": [
            {
                "scores": _bytes(one.shares[words]),
                "largest": _bytes(one.largest[chosen].astype("<f4")),
                "values": _bytes(one.values[chosen].astype("<f4")),
                "problems": {str(place - here.start): text for place, text in one.problems.items() if place in here},
                "deletion": _bytes(y[points]),
            }
            for one, y in zip(explainers, curves.y, strict=True)
        ],
    }
    return f"assayChunk({number}, {json.dumps(content, allow_nan=False)});\n"


def _words(row: Mapping[str, Any]) -> dict[str, Any]:
    """The shown words of each text of an example, which of them are its rationale, and how many are left out."""
    shown, rationale = _shown(row["segments"]), row["rationale"]
    texts, true, more = [], [], []
    for text in dict.fromkeys(row["segments"]):
        places = [place for place, segment in enumerate(row["segments"]) if segment == text]
        kept = [place for place in places if shown[place]]
        texts.append([clean(row["features"][place], LETTERS) for place in kept])
        more.append(len(places) - len(kept))
        true.append([int(bool(rationale[place])) for place in kept] if rationale is not None else [])
    return {"texts": texts, "rationale": true if rationale is not None else None, "more": more}


def _facts(row: Mapping[str, Any], labels: Sequence[str] | None) -> dict[str, Any]:
    """What the model made of an example. Classes are named only where the protocol holds the model's own order."""

    def label(index: Any) -> str:
        if index is None:
            return "none"
        return clean(labels[int(index)], LETTERS) if labels and 0 <= int(index) < len(labels) else f"class {int(index)}"

    logits, target = np.asarray(row["logits"], np.float64), int(row["target"])
    shares = np.exp(logits - logits.max(initial=-np.inf))
    probability = float(shares[target] / shares.sum()) if 0 <= target < len(shares) else np.nan
    start = ""
    for word in row["features"]:
        start = f"{start} {clean(word, LETTERS)}".strip()
        if len(start) > START:
            break
    return {
        "id": clean(row["example"], 60),
        **{name: label(row[name]) for name in ("label", "predicted", "target")},
        "probability": round(probability, 4) if np.isfinite(probability) else None,
        "start": clean(start, START),
    }


def _measure(board: Board, perturbation: str) -> str | None:
    """What examples are sorted by: the first measure of the mean skill, else the first there is."""
    skills = board.skills.iloc[0]["measures"] if len(board.skills) else ()
    return next(iter(skills or board.measures(perturbation)), None)


def _values(board: Board, cell: Cell, names: list[str], perturbation: str, measure: str | None) -> NDArray[np.float32]:
    table = board.tables.get(cell.key)
    if table is None or (perturbation, measure) not in table.columns:
        return np.full(len(names), np.nan, np.float32)
    row = rows_of(names, table.examples)
    column = table.values[:, table.columns.index((perturbation, str(measure)))]
    return np.where(row >= 0, column[row], np.nan).astype(np.float32)


def _searches(cell: Cell) -> bool:
    return bool(cell.meta["explainer"]["searches"])


def _bytes(values: NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode()
