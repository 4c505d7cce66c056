"""`assay score`: other metrics on stored attributions, from stored answers where they suffice, else with the model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from assay import registry
from assay.benchmark import preparation, preset, scoring
from assay.benchmark.cell import Cell
from assay.benchmark.environment import environment
from assay.benchmark.evaluation import Evaluation, Settings
from assay.benchmark.labels import match_labels
from assay.benchmark.launch import suite_is_chosen
from assay.benchmark.progress import say
from assay.benchmark.protocol import PROTOCOL_VERSION, as_ever, make_metas
from assay.benchmark.records import Record, Records
from assay.benchmark.store import Store
from assay.benchmark.stored_answers import StoredAnswers, Unanswered, attribution_of, cost_of
from assay.classifier import Classifier
from assay.conversation import Attribution, Cost
from assay.errors import AssayError, Undefined
from assay.explainers.base import Explainer
from assay.metrics.base import Metric
from assay.perturbation import Perturbation

_SHARD = 64
Load = Callable[[Mapping[str, Any]], Classifier]


def rescore(config: DictConfig, load: Load) -> list[Cell]:
    """Judge stored attributions by other metrics, or under other perturbations; the explainers are not run again.

    For each protocol among the results there are new cells beside the old ones, with the same explainers and examples.

    Args:
        config: composed from `assay/conf/score.yaml`.
        load: gives the classifier that a run's configuration of a model describes; called only if the stored answers
            do not suffice.

    Returns:
        The new cells, and those that were there before.

    Raises:
        AssayError: there are no results, one is damaged, or something that was asked for cannot be done with them.
    """
    container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(container, dict)
    content: dict[str, Any] = {str(key): value for key, value in container.items()}
    preset.apply(content, preset.chosen_groups({"metric": "default", "perturbation": None}))
    _leave_out_judges(content)
    store = Store(content["results"])
    groups: dict[str, list[Cell]] = {}
    every = store.checked_cells()
    for cell in every:
        groups.setdefault(str(cell.meta["protocol_key"]), []).append(cell)
    store.prepare()
    wanted = [_Wanted.of(content, cells) for cells in groups.values()]
    fitting = [one for one in wanted if one.misfit is None]
    if not fitting:
        raise AssayError(str(wanted[0].misfit))
    for one in wanted:
        if one.misfit is not None:
            say(f"Left out: {one.misfit}")
    # Cells that were scored before hold the same attributions as the run's, and lead to the same new cells.
    found: dict[Path, Cell] = {}
    for one in fitting:
        found |= {cell.path: cell for cell in _Rescoring(one, store, content, load, every).cells(found)}
    return list(found.values())


def _leave_out_judges(content: dict[str, Any]) -> None:
    """Drop from `metric=full` what has a method explain again; a preset leaves it out as well.

    Raises:
        AssayError: such a metric was named, or nothing else is left.
    """
    judges = [name for name, part in content["metrics"].items() if not isinstance(registry.instantiate(part), Metric)]
    if judges and content["preset"] is None and not suite_is_chosen("metric"):
        raise AssayError(
            f"{judges[0]} has a method explain again, so it cannot judge stored attributions. "
            f"Use `assay run metric={judges[0]}`."
        )
    if judges:
        say(f"Left out, because they have a method explain again: {', '.join(judges)}.")
    content["metrics"] = {name: part for name, part in content["metrics"].items() if name not in judges}


@dataclass(frozen=True)
class _Wanted:
    """The cells of one protocol, and the protocol that they are to be judged by now."""

    old: Sequence[Cell]
    protocol: Mapping[str, Any]
    metrics: Mapping[str, Metric]
    perturbations: Mapping[str, Perturbation]
    misfit: str | None

    @classmethod
    def of(cls, content: Mapping[str, Any], cells: Sequence[Cell]) -> _Wanted:
        old = cells[0].protocol
        metrics = {name: registry.instantiate(part) for name, part in content["metrics"].items()}
        left_out = [name for name, metric in metrics.items() if not _is_defined(metric, cells[0])]
        hiding = content.get("perturbations") or old["perturbations"]
        protocol = {
            **old,
            "version": PROTOCOL_VERSION,
            "preset": content["preset"],
            "perturbations": hiding,
            "metrics": {name: as_ever(part) for name, part in content["metrics"].items() if name not in left_out},
        }
        misfit = None
        if content["preset"] is not None:
            fixed = preset.load(content["preset"])
            assert fixed is not None
            differing = [name for name, value in fixed.settings.items() if old[name] != value]
            if differing:
                name = differing[0]
                misfit = (
                    f"protocol={fixed.name} needs {name}={fixed.settings[name]}, and these attributions were made with "
                    f"{name}={old[name]}. Explain again: assay run protocol={fixed.name}."
                )
        return cls(
            cells,
            protocol,
            {name: metric for name, metric in metrics.items() if name not in left_out},
            {name: registry.instantiate(_plain(part)) for name, part in hiding.items()},
            misfit,
        )

    def kept(self, metric: str, perturbation: str) -> bool:
        """Whether a search for this metric under this perturbation is what the old cells hold."""
        before = self.old[0].protocol
        return all(
            before[group].get(name) == self.protocol[group][name]
            for group, name in (("metrics", metric), ("perturbations", perturbation))
        )

    def answered(self, perturbation: str) -> bool:
        """Whether the old cells hold answers under this perturbation."""
        before: Mapping[str, Any] = self.old[0].protocol["perturbations"]
        return bool(before.get(perturbation) == self.protocol["perturbations"][perturbation])


class _Rescoring:
    """The cells of one protocol, judged by another."""

    def __init__(
        self, wanted: _Wanted, store: Store, content: Mapping[str, Any], load: Load, every: Sequence[Cell]
    ) -> None:
        self.wanted = wanted
        self.every = every
        self.store = store
        self.content = content
        self.load = load
        old = wanted.old[0].protocol
        self.labels: Sequence[str] = old["model"]["labels"]
        self.settings = Settings(old["feature"], old["target"], old["output"], old["seed"], old["contrast"])

    def cells(self, done: Mapping[Path, Cell]) -> list[Cell]:
        """The new cells; what was there before, or has just been `done`, is not computed again."""
        metas = [self._meta(cell) for cell in self.wanted.old]
        found = [done.get(self.store.cell_path(meta)) for meta in metas]
        if self.content["overwrite"] != "always":
            found = [cell or self.store.find(meta) for cell, meta in zip(found, metas, strict=True)]
        missing = [place for place, cell in enumerate(found) if cell is None]
        if missing:
            old = [self.wanted.old[place] for place in missing]
            try:
                records = [self._from_answers(cell) for cell in old]
            except Unanswered as reason:
                say(f"The model is needed: {reason}.")
                records = self._from_model(old)
            for place, cell, found_there in zip(missing, old, records, strict=True):
                config = json.loads((cell.path / "config.json").read_text("utf-8"))
                config |= {name: self.wanted.protocol[name] for name in ("metrics", "perturbations", "preset")}
                found[place] = self.store.write(metas[place], config, environment(torch.device("cpu")), found_there)
        return [cell for cell in found if cell is not None]

    def _meta(self, cell: Cell) -> dict[str, Any]:
        about = cell.meta["explainer"]
        stand_in = Explainer()
        stand_in.signed = about["signed"]
        name = about["name"]
        meta = make_metas(self.wanted.protocol, {name: about["settings"]}, {name: stand_in}, self.wanted.metrics)[name]
        known = {name: cell.meta[name] for name in ("accuracy", "majority", "command")}
        return {**meta, "explainer": dict(about), **known}

    @cached_property
    def _stored(self) -> StoredAnswers:
        """What the model said, wherever it is stored."""
        answers = {}
        asked = _asked(self.wanted.old[0])
        hiding = self.wanted.protocol["perturbations"]
        for cell in self.every:
            same = [name for name in hiding if cell.protocol["perturbations"].get(name) == hiding[name]]
            if same and _asked(cell) == asked:
                for row in cell.rows("answers"):
                    if row["perturbation"] in same:
                        answers[row["perturbation"], row["example"], row["keep"]] = row["logits"]
        return StoredAnswers(answers, self.settings, self.labels)

    def _from_answers(self, cell: Cell) -> Records:
        """All scores of a cell, without the model.

        Raises:
            Unanswered: something is not stored.
        """
        drawn: dict[str, list[Record]] = {}
        for row in cell.rows("attributions"):
            drawn.setdefault(row["example"], []).append(row)
        records = Records(examples=cell.rows("examples"), attributions=cell.rows("attributions"))
        records.answers = [
            row
            for row in cell.rows("answers")
            if row["perturbation"] in self.wanted.perturbations and self.wanted.answered(row["perturbation"])
        ]
        searches = cell.meta["explainer"]["searches"]
        for example in records.examples:
            for metric, judge in self.wanted.metrics.items():
                for perturbation in self.wanted.perturbations:
                    here = {"example": example["example"], "perturbation": perturbation}
                    draws = drawn[example["example"]]
                    if searches:
                        if judge.objective(max(1, len(example["features"]))) is None:
                            continue
                        if not self.wanted.kept(metric, perturbation):
                            raise Unanswered(f"the oracle has not searched for {metric} under {perturbation} yet", True)
                        draws = [row for row in draws if (row["metric"], row["perturbation"]) == (metric, perturbation)]
                    scores = {
                        row["draw"]: self._stored.judged(judge, metric, perturbation, example, row, len(draws))
                        for row in draws
                    }
                    scoring.add_scores(records, here, judge, scores)
        return records

    def _from_model(self, cells: Sequence[Cell]) -> list[Records]:
        """All scores of some cells, asking the model for what is not stored."""
        config = json.loads((cells[0].path / "config.json").read_text("utf-8"))
        before = self.wanted.old[0].protocol
        model = self.load({**config["model"], "device": self.content["device"]})
        if model.fingerprint != before["model"]["fingerprint"]:
            raise AssayError(
                f"The model at {config['model']['path']!r} has other weights than the one that was explained."
            )
        source = registry.instantiate(config["task"])
        task = source.load()
        if task.fingerprint != before["task"]["fingerprint"]:
            raise AssayError(f"Task {task.name} holds other examples now than those that were explained.")
        train = partial(train_split, config["task"], self.settings.seed)
        preparation.prepare({}, self.wanted.perturbations, model, train, self.settings.seed)
        match = match_labels(task.labels, model.labels)
        examples = [example.relabelled(match.class_of_label) for example in task]
        found = [Records() for _ in cells]
        tables = [_Drawn.of(cell) for cell in cells]
        for first in range(0, len(examples), _SHARD):
            part = examples[first : first + _SHARD]
            evaluation = Evaluation(
                model,
                part,
                self.wanted.metrics,
                self.wanted.perturbations,
                self.settings,
                self.content["tokens_per_batch"],
            )
            self._remember(evaluation)
            for number, (cell, drawn) in enumerate(zip(cells, tables, strict=True)):
                if cell.meta["explainer"]["searches"]:
                    searcher = registry.instantiate(_plain(cell.meta["explainer"]["settings"]))
                    evaluation.add_explainer(str(number), searcher)
                else:
                    evaluation.add_draws(str(number), [drawn.draws(example.id) for example in part])
            for name, records in evaluation.run().items():
                found[int(name)].extend(records)
        return found

    def _remember(self, evaluation: Evaluation) -> None:
        """Hand the engine the answers that are stored, so that the model is not asked for them again."""
        by_place: dict[tuple[str, str], list[tuple[bytes, Sequence[float]]]] = {}
        for (name, example, bits), values in self._stored.logits.items():
            by_place.setdefault((name, example), []).append((bits, values))
        for encoding in evaluation.encodings:
            for name, perturbation in self.wanted.perturbations.items():
                stored = by_place.get((name, encoding.id), [])
                # The mean over several draws does not tell what the model said of each.
                if stored and perturbation.draws == 1:
                    packed = np.frombuffer(b"".join(bits for bits, _ in stored), dtype=np.uint8)
                    keep = np.unpackbits(packed.reshape(len(stored), -1), axis=1, count=encoding.n).astype(np.bool_)
                    logits = np.array([values for _, values in stored], dtype=np.float32)
                    evaluation.engine.remember(encoding, perturbation, keep, logits)


@dataclass(frozen=True)
class _Drawn:
    """The stored attributions of a cell."""

    examples: Mapping[str, Record]
    attributions: Mapping[str, Sequence[Record]]

    @classmethod
    def of(cls, cell: Cell) -> _Drawn:
        drawn: dict[str, list[Record]] = {}
        for row in cell.rows("attributions"):
            drawn.setdefault(row["example"], []).append(row)
        return cls({row["example"]: row for row in cell.rows("examples")}, drawn)

    def draws(self, example: str) -> list[tuple[Attribution | Undefined, Cost]]:
        """Each draw of an example with its share of the cost."""
        rows, about = self.attributions[example], self.examples[example]
        return [
            (
                Undefined(row["reason"]) if row["scores"] is None else attribution_of(about, row),
                cost_of(about, len(rows)),
            )
            for row in rows
        ]


def _asked(cell: Cell) -> list[Any]:
    """What an answer hangs on beside the perturbation: the examples, the model, and what a keep-mask is about."""
    model = {name: value for name, value in cell.protocol["model"].items() if name != "hidden_token"}
    return [cell.protocol["task"]["fingerprint"], model, cell.protocol["feature"]]


def _is_defined(metric: Metric, cell: Cell) -> bool:
    """Whether the task knows what the metric needs."""
    examples = cell.table("examples")
    return not (metric.needs_rationale and examples["rationale"].isna().all()) and not (
        metric.needs_highlights and examples["highlights"].isna().all()
    )


def _plain(content: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without what was added to them as part of an identity."""
    added = (
        "source",
        "background_fingerprint",
        "masked_lm_fingerprint",
        "attributions_fingerprint",
        "perturbation",
    )
    return {name: value for name, value in content.items() if name not in added}


def train_split(task: Mapping[str, Any], seed: int, count: int) -> Sequence[Any]:
    """As many examples of a task's train split as a run with this seed has seen; -1 for all.

    Args:
        task: class and settings of the task's source.
        seed: of the run.
        count: how many.
    """
    from assay.tasks.base import stratified

    train = registry.instantiate({**task, "split": "train", "size": None}).load().examples
    chosen = stratified([example.label for example in train], min(count, len(train)), seed)
    return [train[index] for index in chosen]
