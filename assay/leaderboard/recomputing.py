"""Asking the model again: whether submitted cells are about the task and the model that they name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay import registry
from assay.benchmark import preparation
from assay.benchmark.configured_model import load_model
from assay.benchmark.evaluation import Evaluation
from assay.benchmark.labels import match_labels
from assay.benchmark.preparation import EXAMPLES_AT_ONCE
from assay.benchmark.protocol import make_protocol
from assay.benchmark.records import Record
from assay.benchmark.rescoring import train_split
from assay.benchmark.store import slug
from assay.benchmark.stored_answers import attribution_of, cost_of
from assay.benchmark.talk import Outcome
from assay.classifier import Classifier
from assay.conversation import Attribution, Conversation, Cost
from assay.errors import AssayError, Undefined
from assay.example import Example
from assay.leaderboard.components import settings_of
from assay.leaderboard.control_check import faults_of_control
from assay.leaderboard.following import Judged, Reported, drawn_of
from assay.leaderboard.protocols import differences
from assay.leaderboard.submitted_cell import SubmittedCell, close
from assay.metrics.base import Metric
from assay.plain_text import clean
from assay.tasks import Source

TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""How far a logit may lie from what the model says here, relative to 1 + its size, by the precision of the arithmetic.

Rounding depends on the machine and on the batch that a row was in. On SST-2 and a BERT of six layers, bfloat16 moves
1,420 logits by 0.0016 (median) and 0.019 (largest) of that from where single precision has them; the tolerance leaves
room for two machines that err in opposite directions.
"""


@dataclass(frozen=True)
class Here:
    """Where task and model are on this machine.

    Attributes:
        task_path: the folder of `<task>/<split>.parquet`; None for the hub, or `ASSAY_DATA`.
        model_path: a model's folder, or one that holds a folder with the name of each model; None for the hub.
        device: where the model runs.
    """

    task_path: str | None = None
    model_path: str | None = None
    device: str = "auto"


@dataclass
class Recomputed:
    """What was found for the cells of one protocol.

    Attributes:
        faults: of the protocol and of each cell, by the cell's name; those of the protocol under an empty name.
        examples: the ids of those that the model was asked about again.
        answers: how many stored answers were asked for again.
        largest: the largest difference between the logits that are stored and those that were found.
    """

    faults: dict[str, list[str]] = field(default_factory=dict)
    examples: Sequence[str] = ()
    answers: int = 0
    largest: float = 0.0

    def add(self, cell: str, fault: str) -> None:
        """Take in a fault."""
        self.faults.setdefault(cell, []).append(fault)


def recompute(
    cells: Sequence[SubmittedCell],
    open_questions: Mapping[str, Mapping[Judged, bool]],
    here: Here,
    share: float,
    rng: np.random.Generator,
) -> Recomputed:
    """Ask the model again about cells of one protocol, which are without fault in themselves.

    All examples are held against the task's: ids, words, labels, the prediction and the explained class. On a share of
    them, drawn at random, the model is asked for every stored answer. What the stored answers of a cell cannot tell is
    scored from its attributions.

    Args:
        cells: of one protocol.
        open_questions: by the cell's name, what its stored answers cannot tell.
        here: where task and model are.
        share: of the examples, in (0, 1].
        rng: draws them; nobody else may know its seed before.

    Raises:
        AssayError: task or model cannot be had here.
    """
    return _Recomputing(cells, open_questions, here).run(share, rng)


class _Recomputing:
    def __init__(
        self, cells: Sequence[SubmittedCell], open_questions: Mapping[str, Mapping[Judged, bool]], here: Here
    ) -> None:
        self.cells, self.open_questions = cells, open_questions
        self.first = cells[0]
        self.here = here
        self.found = Recomputed()
        self.source = _source(self.first, here)
        self.task = self.source.load()
        # A model that one submitter had on disk, another may have had from the hub.
        self.model = _model(next((cell for cell in cells if cell.config.model.path), self.first), here)
        self.settings = self.first.settings
        self.contents = {name: settings_of(content) for name, content in self.first.protocol["perturbations"].items()}
        self.perturbations = self.first.perturbations

    def run(self, share: float, rng: np.random.Generator) -> Recomputed:
        for cell in self.cells:
            if _subject(cell) != _subject(self.first):
                self.found.add(cell.name, "its config.json has another task or model than other cells of its protocol")
        train = partial(train_split, {**self.first.config.task, "path": self.here.task_path}, self.settings.seed)
        preparation.prepare({}, self.perturbations, self.model, train, self.settings.seed)
        for fault in self._faults_of_protocol(train):
            self.found.add("", fault)
        if self.found.faults:
            return self.found
        match = match_labels(self.task.labels, self.model.labels)
        examples = [example.relabelled(match.class_of_label) for example in self.task]
        tables = {cell.name: cell.rows("examples") for cell in self.cells}
        ids = [example.id for example in examples]
        for name, rows in tables.items():
            told = [row["example"] for row in rows]
            if told != ids:
                odd = sorted(set(ids) ^ set(told))
                about = f"such as {clean(odd[0])!r}" if odd else "in another order"
                self.found.add(name, f"it does not hold the examples of this subset, {about}")
        if self.found.faults:
            return self.found
        size = max(1, math.ceil(share * len(ids)))
        drawn = {ids[place] for place in rng.permutation(len(ids))[:size]}
        self.found.examples = [one for one in ids if one in drawn]
        for first in range(0, len(examples), EXAMPLES_AT_ONCE):
            part = examples[first : first + EXAMPLES_AT_ONCE]
            self._compare_examples(part, {name: rows[first : first + len(part)] for name, rows in tables.items()})
            self._compare_answers([example for example in part if example.id in drawn])
        self._score_what_is_open(examples, drawn)
        parts = list(_parts([example for example in examples if example.id in drawn]))
        for cell in self.cells:
            for fault in faults_of_control(cell, parts, self._evaluation):
                self.found.add(cell.name, fault)
        return self.found

    def _faults_of_protocol(self, train: Any) -> Iterator[str]:
        """In what the protocol differs from the one that this task, model and settings have."""
        told = self.first.protocol

        def fingerprint(count: int) -> str:
            return replace(self.task, examples=tuple(train(count))).fingerprint

        preparation.identify(self.contents, self.perturbations, self.model, fingerprint)
        found = make_protocol(
            self.task,
            self.source.size,
            self.source.seed,
            self.model,
            self.settings,
            self.contents,
            told["metrics"],
            self.perturbations,
            told["preset"],
        )
        # A model is who its weights are; where they lay, and so what they are called, is another matter. The token that
        # hides follows from model and perturbation.
        found["model"] |= {name: told["model"][name] for name in ("name", "revision", "hidden_token")}
        for path, (reported, here) in differences([told, found]).items():
            yield f"{clean(path)} is reported as {clean(reported, 80)}; this task and model have {clean(here, 80)}"

    def _evaluation(self, examples: Sequence[Example], metrics: Mapping[str, Metric]) -> Evaluation:
        return Evaluation(self.model, examples, metrics, self.perturbations, self.settings)

    def _compare_examples(self, examples: Sequence[Example], tables: Mapping[str, Sequence[Record]]) -> None:
        evaluation = self._evaluation(examples, {})
        blank = [
            Attribution(encoding.features, np.zeros(encoding.n), target)
            for encoding, target in zip(evaluation.encodings, evaluation.targets, strict=True)
        ]
        evaluation.add_attributions("", blank)
        found = evaluation.run()[""].examples
        for name, rows in tables.items():
            for told, row in zip(rows, found, strict=True):
                about = f"example {clean(row['example'])!r}"
                if told["features"] != row["features"]:
                    odd = [pair for pair in zip(told["features"], row["features"], strict=False) if pair[0] != pair[1]]
                    one, two = odd[0] if odd else (len(told["features"]), len(row["features"]))
                    self.found.add(
                        name, f"{about}: the text has {clean(two, 60)!r} where {clean(one, 60)!r} is reported"
                    )
                for column in ("segments", "positions", "rationale", "label", "truncated"):
                    if told[column] != row[column]:
                        self.found.add(name, f"{about}: {column} are not those of the task")
                if not _same_marks(told["highlights"], row["highlights"]):
                    self.found.add(name, f"{about}: highlights are not those of the task")
                # The logits of the full input are always found in single precision.
                if not self._near(told["logits"], row["logits"], "float32"):
                    self.found.add(
                        name,
                        f"{about}: the model's logits are reported as {_spelt(told['logits'])}, found "
                        f"{_spelt(row['logits'])}",
                    )
                elif (told["predicted"], told["target"]) != (row["predicted"], row["target"]) and not _tie(row):
                    self.found.add(name, f"{about}: the prediction or the explained class is another one")

    def _near(self, told: Sequence[float], found: Sequence[float], dtype: str) -> bool:
        one, two = np.array(told, np.float64), np.array(found, np.float64)
        if np.isnan(one).any() or np.isnan(two).any():
            return bool((np.isnan(one) == np.isnan(two)).all())
        self.found.largest = max(self.found.largest, float(np.abs(one - two).max(initial=0.0)))
        return all(close(*pair, TOLERANCE[dtype]) for pair in zip(told, found, strict=True))

    def _compare_answers(self, examples: Sequence[Example]) -> None:
        """Ask the model for everything that the cells say it answered about these examples."""
        if not examples:
            return
        evaluation = self._evaluation(examples, {})
        encodings = {encoding.id: encoding for encoding in evaluation.encodings}
        for cell in self.cells:
            asked: dict[tuple[str, str], list[Record]] = {}
            for row in cell.rows("answers"):
                if row["example"] in encodings:
                    asked.setdefault((row["example"], row["perturbation"]), []).append(row)
            for (example, perturbation), rows in asked.items():
                encoding = encodings[example]
                packed = np.frombuffer(b"".join(row["keep"] for row in rows), np.uint8).reshape(len(rows), -1)
                keep = np.unpackbits(packed, axis=1, count=encoding.n).astype(np.bool_)
                finish = partial(self._compare_logits, cell, example, perturbation, rows)
                evaluation.engine.add(_ask(keep), encoding, self.perturbations[perturbation], finish)
        evaluation.engine.run()

    def _compare_logits(
        self, cell: SubmittedCell, example: str, perturbation: str, rows: Sequence[Record], outcome: Outcome
    ) -> None:
        about = f"example {clean(example)!r} under {clean(perturbation)}"
        if outcome.error is not None:
            self.found.add(cell.name, f"{about}: the model has no such answer ({clean(outcome.error)})")
            return
        self.found.answers += len(rows)
        dtype = self.first.protocol["model"]["dtype"]
        wrong = [
            (row["logits"], logits)
            for row, logits in zip(rows, outcome.logits.tolist(), strict=True)
            if not self._near(row["logits"], logits, dtype)
        ]
        if wrong:
            told, found = wrong[0]
            self.found.add(
                cell.name,
                f"{about}: {len(wrong)} of {len(rows)} stored answers are not the model's; the first is reported as "
                f"{_spelt(told)}, found {_spelt(found)}",
            )

    def _score_what_is_open(self, examples: Sequence[Example], drawn: set[str]) -> None:
        """Score what stored answers cannot tell: of all examples where a run stores them, else of those drawn."""
        for cell in self.cells:
            wanted = {
                judged
                for judged, storable in self.open_questions.get(cell.name, {}).items()
                if storable or judged[0] in drawn
            }
            if not wanted:
                continue
            concerned = {example for example, _, _ in wanted}
            metrics = {name: metric for name, metric in cell.metrics.items() if isinstance(metric, Metric)}
            asked = {name: metrics[name] for name in dict.fromkeys(metric for _, metric, _ in sorted(wanted))}
            metric_of = {measure.name: name for name, metric in asked.items() for measure in metric.measures}
            reported, rows = Reported.of(cell), {row["example"]: row for row in cell.rows("examples")}
            stored = drawn_of(cell)
            for part in _parts([example for example in examples if example.id in concerned]):
                evaluation = self._evaluation(part, asked)
                evaluation.add_draws(
                    cell.explainer,
                    [
                        [_given(rows[one.id], row, len(stored[one.id])) for row in stored.get(one.id, ())]
                        for one in part
                    ],
                    [
                        [(row["draw"], row["metric"], row["perturbation"]) for row in stored.get(one.id, ())]
                        for one in part
                    ],
                )
                records = evaluation.run()[cell.explainer]
                for table in ("scores", "curves"):
                    kept = [
                        row
                        for row in getattr(records, table)
                        if (row["example"], metric_of[row["metric"]], row["perturbation"]) in wanted
                    ]
                    setattr(records, table, kept)
                for fault in reported.against(records, TOLERANCE[self.model.dtype]):
                    self.found.add(cell.name, f"{fault} (by the model)")


def _parts(examples: Sequence[Example]) -> Iterator[Sequence[Example]]:
    for first in range(0, len(examples), EXAMPLES_AT_ONCE):
        yield examples[first : first + EXAMPLES_AT_ONCE]


def _ask(keep: NDArray[np.bool_]) -> Conversation[None]:
    yield keep


def _given(example: Record, row: Record, draws: int) -> tuple[Attribution | Undefined, Cost]:
    given = Undefined(row["reason"]) if row["scores"] is None else attribution_of(example, row)
    return given, cost_of(example, draws)


def _source(cell: SubmittedCell, here: Here) -> Source:
    """The task's source, which is one of Assay's own.

    Raises:
        AssayError: the data are not here.
    """
    source: Source = registry.instantiate({**cell.config.task, "path": here.task_path})
    return source


def _model(cell: SubmittedCell, here: Here) -> Classifier:
    """The model as the cell describes it.

    Raises:
        AssayError: it is not here.
    """
    choice, name = cell.config.model, str(cell.protocol["model"]["name"])
    path = here.model_path
    if path is not None and slug(name) == name and (Path(path) / name / "config.json").exists():
        path = str(Path(path) / name)
    if path is None:
        path = choice.path
    if path is None:
        raise AssayError(
            f"The model {clean(name)!r} was in a folder of the submitter's. Say where it is here: model.path=FOLDER, "
            "the model's own or one that holds several by their names."
        )
    told = cell.protocol["model"]
    precision = {"dtype": told["dtype"], "weights": told.get("weights", "float32")}
    return load_model({**choice.model_dump(), "path": path, "device": here.device, **precision})


def _subject(cell: SubmittedCell) -> tuple[Any, ...]:
    """What the cells of one protocol have to agree on about how task and model are had."""
    model = cell.config.model
    return cell.config.task, model.kind, model.template, model.label_words


def _same_marks(told: Any, found: Any) -> bool:
    if told is None or found is None:
        return told is found is None
    return len(told) == len(found) and all(
        np.array_equal(np.array(one, np.float64), np.array(two, np.float64), equal_nan=True)
        for one, two in zip(told, found, strict=True)
    )


def _tie(row: Record) -> bool:
    """Whether the two likeliest classes are so close that rounding decides."""
    two = sorted(row["logits"])[-2:]
    return len(two) == 2 and close(two[0], two[1], TOLERANCE["float32"])


def _spelt(logits: Sequence[float]) -> str:
    return "[" + ", ".join(f"{one:.4g}" for one in logits[:5]) + (", …]" if len(logits) > 5 else "]")
