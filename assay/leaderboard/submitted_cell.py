"""A cell that a stranger hands in: read with care, and held against itself before any model is loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from assay import registry
from assay.benchmark import preset
from assay.benchmark.evaluation import Settings
from assay.benchmark.migrations import SCHEMA_VERSION
from assay.benchmark.protocol import PROTOCOL_VERSION
from assay.benchmark.records import Record
from assay.benchmark.whole_folder import checksum
from assay.conversation import Cost
from assay.digests import digest
from assay.errors import AssayError
from assay.leaderboard.components import foreign_parts, is_hub_id, is_own, names_a_path, settings_of, weights_elsewhere
from assay.leaderboard.submission import (
    PARTS,
    CellContent,
    Config,
    Environment,
    Sha256,
    place_of,
)
from assay.leaderboard.untrusted import Refused, parse_json, read_json, read_table, rows_of, validated
from assay.metrics.base import MethodMetric, Metric
from assay.perturbation import Perturbation
from assay.plain_text import clean

EXACT = 1e-6
"""How far a number may lie from what stored answers lead to, relative to 1 + its size: the arithmetic is the same."""


@dataclass(frozen=True)
class SubmittedCell:
    """A cell whose files have the right form; what they say is not believed yet.

    Attributes:
        path: its folder.
        meta: the content of cell.json.
        config: how its task and model are had.
    """

    path: Path
    meta: Mapping[str, Any]
    config: Config

    @classmethod
    def read(cls, folder: Path, place: str) -> SubmittedCell:
        """Read a cell's description, and see that its files are those that it names.

        Args:
            folder: of the submission.
            place: of the cell in it.

        Raises:
            Refused: a file is missing, changed, or not of its form.
        """
        path = folder / place
        sums = read_json(path / "checksums.json")
        validated(_Sums, {"sums": sums}, f"{place}/checksums.json")
        if sorted(sums) != sorted(PARTS[:-1]):
            raise Refused(f"{place}/checksums.json names other files than {', '.join(PARTS[:-1])}")
        meta = read_json(path / "cell.json")
        if isinstance(meta, dict) and meta.get("schema") != SCHEMA_VERSION:
            raise Refused(f"{place}/cell.json is of schema {clean(meta.get('schema'))}; it must be {SCHEMA_VERSION}")
        validated(CellContent, meta, f"{place}/cell.json")
        config = validated(Config, read_json(path / "config.json"), f"{place}/config.json")
        validated(Environment, read_json(path / "environment.json"), f"{place}/environment.json")
        if config.model.path is not None and not is_hub_id(config.model.path):
            raise Refused(f"{place}/config.json: model.path is no name of a repository on the hub")
        if place_of(meta) != place:
            raise Refused(f"{place} is not where this cell belongs; that is {clean(place_of(meta))}")
        for name, expected in sums.items():
            # Reading comes after the caps on a file's size.
            if name.endswith(".parquet"):
                read_table(path / name, name.removesuffix(".parquet"))
            if checksum(path / name) != expected:
                raise Refused(f"{place}/{name} does not have the checksum that checksums.json gives it")
        return cls(path, meta, config)

    @property
    def name(self) -> str:
        """What messages call it."""
        return clean(self.path.name)

    @property
    def explainer(self) -> str:
        """The explainer's name."""
        return str(self.meta["explainer"]["name"])

    @property
    def protocol(self) -> Mapping[str, Any]:
        """All that must be equal for two numbers to be comparable."""
        protocol: Mapping[str, Any] = self.meta["protocol"]
        return protocol

    @property
    def searches(self) -> bool:
        """Whether it is a search, which has an attribution for each metric."""
        return bool(self.meta["explainer"]["searches"])

    def rows(self, table: str) -> list[Record]:
        """The rows of one of its tables."""
        return rows_of(read_table(self.path / f"{table}.parquet", table))

    @cached_property
    def metrics(self) -> dict[str, Metric | MethodMetric]:
        """What its protocol measures by; to be built only if nothing in it is foreign."""
        return {name: registry.instantiate(settings_of(content)) for name, content in self.protocol["metrics"].items()}

    @cached_property
    def perturbations(self) -> dict[str, Perturbation]:
        """How its protocol hides features; to be built only if nothing in it is foreign."""
        return {
            name: registry.instantiate(settings_of(content)) for name, content in self.protocol["perturbations"].items()
        }

    @property
    def judges(self) -> dict[str, MethodMetric]:
        """The metrics that have a method explain again, which attributions alone cannot be judged by."""
        return {name: metric for name, metric in self.metrics.items() if isinstance(metric, MethodMetric)}

    @property
    def settings(self) -> Settings:
        """What its protocol fixes beside examples, model, metrics and perturbations."""
        about = self.protocol
        return Settings(about["feature"], about["target"], about["output"], about["seed"], about["contrast"])

    def faults(self) -> list[str]:
        """What in the cell contradicts itself, this version of Assay, or Assay's own definitions."""
        about = [*self._faults_of_protocol()]
        return about or [*self._faults_of_tables()]

    def _faults_of_protocol(self) -> Iterator[str]:
        meta, protocol = self.meta, self.protocol
        identity = {name: meta["explainer"][name] for name in ("name", "settings")}
        if digest(protocol) != meta["protocol_key"]:
            yield f"the protocol is not the one that its key {meta['protocol_key']} names; was it edited?"
        if digest({"protocol": protocol, "explainer": identity}) != meta["key"]:
            yield f"protocol and explainer are not those that the key {meta['key']} names; were they edited?"
        if protocol["version"] != PROTOCOL_VERSION:
            yield f"it follows protocol version {protocol['version']}; today's is {PROTOCOL_VERSION}"
            return
        task = self.config.task
        if not is_own("task", task):
            yield "config.json: the task is not one of Assay's own"
        if task.get("path") is not None or names_a_path(task):
            yield "config.json: the task names a path; where the data lie is said when it is checked"
        wrong = [*foreign_parts(protocol), *weights_elsewhere(protocol)]
        if wrong:
            yield f"{clean(wrong[0])} is not Assay's own, or names weights that are not on the hub, and is not run"
            return
        try:
            self.metrics, self.perturbations  # noqa: B018 (built now, kept for later)
        except AssayError as error:
            yield f"a metric or perturbation cannot be built: {clean(error)}"
            return
        labels = protocol["model"]["labels"]
        for name, words in (("target", ("predicted", "gold")), ("contrast", (None, "runner_up"))):
            if protocol[name] not in (*words, *labels, *range(len(labels))) or isinstance(protocol[name], bool):
                yield f"{name} is {clean(protocol[name])!r}, which is no class of the model"
                return
        yield from self._faults_of_preset()
        expected = {
            measure.name: [metric, measure.direction, list(measure.range), measure.headline, measure.per]
            for metric, judge in self.metrics.items()
            for measure in judge.measures
        }
        if {name: [*told.values()] for name, told in _ordered(meta["measures"]).items()} != expected:
            yield "names, directions or ranges of the measures are not those of Assay's metrics"

    def _faults_of_preset(self) -> Iterator[str]:
        name = self.protocol["preset"]
        if name is None:
            return
        fixed = preset.load(name) if name in registry.names("protocol") else None
        if fixed is None:
            yield f"there is no protocol {clean(name)!r} to follow to the letter"
            return
        own = {"metrics": fixed.metrics, "perturbations": fixed.perturbations, **fixed.settings}
        differing = [key for key, value in own.items() if digest(_plain(self.protocol[key])) != digest(_plain(value))]
        if differing:
            yield f"it says that it follows {name} to the letter, and its {differing[0]} are other ones"

    def _faults_of_tables(self) -> Iterator[str]:
        examples = {row["example"]: row for row in self.rows("examples")}
        drawn: dict[str, list[Record]] = {}
        for row in self.rows("attributions"):
            drawn.setdefault(row["example"], []).append(row)
        yield from self._faults_of_examples(examples)
        yield from self._faults_of_attributions(examples, drawn)
        scores = self.rows("scores")
        yield from self._faults_of_counts(examples, scores)

    def _faults_of_examples(self, examples: Mapping[str, Record]) -> Iterator[str]:
        count = len(self.rows("examples"))
        wanted = self.protocol["task"]["examples"]
        if len(examples) < count:
            yield "an example is there twice"
        if count != wanted:
            yield f"it holds {count} examples; its protocol has {wanted}"
        for name, row in examples.items():
            lists = [row["features"], row["segments"], row["positions"], row["rationale"] or row["features"]]
            if len({len(one) for one in lists}) > 1 or any(
                len(marks) != len(row["features"]) for marks in row["highlights"] or []
            ):
                yield f"example {clean(name)!r}: features, places and marks are not equally many"
            classes = range(len(self.protocol["model"]["labels"]))
            if len(row["logits"]) != len(classes):
                yield f"example {clean(name)!r} has {len(row['logits'])} logits for {len(classes)} classes"
            if any(row[one] not in classes for one in ("predicted", "target")) or row["label"] not in (None, *classes):
                yield f"example {clean(name)!r}: label, prediction or target is no class of the model"
            spent = [row[name] for name in vars(Cost())]
            if any(one < 0 or math.isinf(one) for one in spent):
                yield f"example {clean(name)!r}: a cost is below 0 or endless"

    def _faults_of_attributions(
        self, examples: Mapping[str, Record], drawn: Mapping[str, Sequence[Record]]
    ) -> Iterator[str]:
        # A search that found nothing to search for has no attribution.
        if drawn.keys() != examples.keys() and not (self.searches and drawn.keys() < examples.keys()):
            odd = next(iter(drawn.keys() ^ examples.keys()))
            yield f"example {clean(odd)!r} is not in both tables, of examples and of attributions"
            return
        for name, rows in drawn.items():
            about = f"example {clean(name)!r}"
            if len({row["draw"] for row in rows}) < len(rows):
                yield f"{about}: an attribution is there twice"
            for row in rows:
                scores = row["scores"]
                if (scores is None) != (row["reason"] is not None):
                    yield f"{about}: it needs scores, or a reason why there are none"
                elif scores is not None and (len(scores) != len(examples[name]["features"]) or not _finite(scores)):
                    yield f"{about}: the scores are not finite, or not one for each feature"
                if (row["metric"] is None) == self.searches or (row["perturbation"] is None) == self.searches:
                    yield f"{about}: only a search has an attribution for each metric"
                if row["signed"] != self.meta["explainer"]["signed"]:
                    yield f"{about}: signed is not what cell.json says"
                try:
                    report = parse_json(row["report"] or "{}")
                except (ValueError, RecursionError):
                    report = None
                if not isinstance(report, dict):
                    yield f"{about}: the report is no JSON object"

    def _faults_of_counts(self, examples: Mapping[str, Record], scores: Sequence[Record]) -> Iterator[str]:
        rows = examples.values()
        undefined: dict[str, int] = {}
        for row in scores:
            if row["reason"] is not None:
                undefined[row["metric"]] = undefined.get(row["metric"], 0) + 1
        counted = {
            "examples": len(examples),
            "truncated_examples": sum(row["truncated"] > 0 for row in rows),
            "truncated_tokens": sum(row["truncated"] for row in rows),
            "undefined": undefined,
        }
        for name, count in counted.items():
            told = self.meta["counts"][name]
            if told != count:
                yield f"counts.{name} is reported as {clean(told)}, and the tables have {clean(count)}"
        for name in vars(Cost()):
            mean = float(np.mean([row[name] for row in rows])) if rows else math.nan
            if not close(self.meta["cost"][name], mean):
                yield f"cost.{name} is reported as {self.meta['cost'][name]}, and the examples have {mean:.6g}"
        right = [row["predicted"] == row["label"] for row in rows if row["label"] is not None]
        accuracy = float(np.mean(right)) if right else math.nan
        if not close(self.meta["accuracy"], accuracy):
            yield f"accuracy is reported as {self.meta['accuracy']}, and the examples have {accuracy:.6g}"


class _Sums(BaseModel):
    sums: dict[str, Sha256]


def close(reported: float, found: float, tolerance: float = EXACT) -> bool:
    """Whether two numbers are the same, or both undefined; the tolerance is relative to 1 + their size."""
    if math.isnan(reported) or math.isnan(found):
        return math.isnan(reported) and math.isnan(found)
    if math.isinf(reported) or math.isinf(found):
        return reported == found
    return abs(reported - found) <= tolerance * (1 + abs(found))


def _finite(values: Sequence[float]) -> bool:
    return all(math.isfinite(value) for value in values)


def _ordered(measures: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    columns = ("metric", "direction", "range", "headline", "per")
    return {name: {column: told[column] for column in columns} for name, told in measures.items()}


def _plain(content: Any) -> Any:
    """What a preset fixes, without what a run adds to it as part of an identity."""
    if not isinstance(content, Mapping):
        return content
    return {name: settings_of(part) if isinstance(part, Mapping) else part for name, part in content.items()}
