"""One job of `assay run`: some explainers, and the controls, under one protocol."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from assay import registry
from assay.benchmark import preparation, preset, scoring
from assay.benchmark.environment import environment
from assay.benchmark.evaluation import Evaluation, Settings
from assay.benchmark.labels import LabelMatch, check_accuracy, match_labels
from assay.benchmark.launch import suite_is_chosen
from assay.benchmark.method import MethodAtWork, attribution_of
from assay.benchmark.own_perturbation import build_explainer
from assay.benchmark.progress import Progress, say
from assay.benchmark.protocol import make_meta, make_protocol
from assay.benchmark.store import Cell, Damaged, Store
from assay.benchmark.summary import CONTROLS
from assay.classifier import Classifier
from assay.encoding import FeatureUnit, Output
from assay.errors import AssayError, unknown_name
from assay.example import Example
from assay.explainers.base import Explainer
from assay.metrics.base import ALL, MethodMetric, Metric
from assay.model_loading import find_device, load_causal_config, load_config
from assay.perturbation import Perturbation
from assay.prompted import PromptedClassifier, parse_template
from assay.tasks import Source
from assay.tasks.base import stratified

CHOICES: dict[str, tuple[str, ...]] = {
    "overwrite": ("only-missing", "always", "never"),
    "feature": get_args(FeatureUnit),
    "output": get_args(Output),
}
KINDS = ("classifier", "prompted")


@dataclass
class Job:
    """What one job is about, built and checked."""

    content: dict[str, Any]
    store: Store
    source: Source
    explainers: dict[str, Explainer]
    metrics: dict[str, Any]
    perturbations: dict[str, Any]
    settings: Settings
    backgrounds: dict[int, Sequence[Example]] = field(default_factory=dict)  # by size


def run(config: DictConfig) -> list[Cell]:
    """Compute the cells of a job that are not finished yet, keep them, and track them.

    Args:
        config: composed from `assay/conf/run.yaml`.

    Returns:
        All finished cells of the job, the controls included.

    Raises:
        AssayError: something in the configuration cannot be done; nothing has been computed then.
    """
    job = check(config)
    tracker = registry.instantiate(job.content["tracker"])
    task = job.source.load()
    lacking = preparation.lacking(job.metrics, task)
    for name, reason in lacking.items():
        _leave_out_metric(job, name, reason)
    if not job.metrics:
        raise AssayError(f"No metric is left: {' '.join(dict.fromkeys(lacking.values()))}")
    chosen = job.content["model"]
    model = load_model(chosen)
    if suite_is_chosen("explainer"):
        _leave_out(job, preparation.check(job.explainers, model))
    _check_judges(job, model)
    match = match_labels(task.labels, model.labels)
    examples = [example.relabelled(match.class_of_label) for example in task]

    def fingerprint(count: int) -> str:
        return replace(task, examples=tuple(_background(job, count))).fingerprint

    for group, members in (
        ("explainers", job.explainers),
        ("metrics", _judges(job)),
        ("perturbations", job.perturbations),
    ):
        preparation.identify(job.content[group], members, model, fingerprint)
    protocol = make_protocol(
        task,
        job.source.size,
        job.source.seed,
        model,
        job.settings,
        job.content["perturbations"],
        job.content["metrics"],
        job.perturbations,
        job.content["preset"],
    )
    metas = {
        name: make_meta(protocol, name, job.content["explainers"][name], explainer, job.metrics)
        for name, explainer in job.explainers.items()
    }
    overwrite = job.content["overwrite"]
    cells = {} if overwrite == "always" else _finished(job.store, metas)
    missing = [name for name in metas if name not in cells]
    header = f"{task.name} ({len(task)} of {task.split}) × {model.name} ({model.device}, {model.dtype})"
    if not missing:
        say(f"{header}: all {len(cells)} cells were finished before.")
        return list(cells.values())
    if overwrite == "never":
        say(f"{header}: {len(cells)} cells finished, not computed because of overwrite=never: {', '.join(missing)}.")
        return list(cells.values())
    preparation.prepare(
        {name: job.explainers[name] for name in missing},
        job.perturbations,
        model,
        partial(_background, job),
        job.settings.seed,
    )
    preparation.check_given(
        {name: job.explainers[name] for name in missing},
        model,
        examples,
        job.perturbations,
        job.settings,
        job.content["tokens_per_batch"],
    )
    accuracy = _accuracy(model, examples, job)
    note = check_accuracy(accuracy, task.majority, match, job.content["allow_low_accuracy"])
    if note:
        say(f"Warning: {note}")
    found = job.source.examine(model, examples)
    if found:
        say(f"{header}: {found}.")
    before = f", {len(cells)} finished before" if cells else ""
    say(f"{header}: accuracy {accuracy:.3f}; {len(missing)} cells to compute{before}.")
    if overwrite == "always":
        for name in missing:
            job.store.drop_shards(metas[name])
    size = job.content["shard_size"]
    bounds = [(first, min(first + size, len(examples))) for first in range(0, len(examples), size)]
    _compute(job, model, examples, {name: metas[name] for name in missing}, bounds)
    _judge(job, model, match, examples, {name: metas[name] for name in missing}, bounds)
    surroundings = environment(model.device)
    for name in missing:
        meta = {
            **metas[name],
            "accuracy": accuracy,
            "majority": task.majority,
            "command": job.content["command"],
        }
        judges = [] if job.explainers[name].searches else list(_judges(job))
        cells[name] = job.store.finish(meta, job.content, surroundings, bounds, judges)
    finished = [cells[name] for name in metas]
    tracker.log([cells[name] for name in missing], finished, job.content)
    return finished


def check(config: DictConfig) -> Job:
    """Build everything that is cheap to build, so that a mistake shows before any model is loaded.

    Raises:
        AssayError: a mistake, with what would be right.
    """
    try:
        container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        if key == "model.path":
            raise AssayError("No model is named. Set model.path to a local folder or a hub id.") from error
        if str(key).startswith("explainers."):
            raise AssayError(f"{key} must be given, as {key}=VALUE.") from error
        raise AssayError(f"The configuration is incomplete: {str(error).splitlines()[0]}") from error
    assert isinstance(container, dict)
    content: dict[str, Any] = {str(key): value for key, value in container.items()}
    content["command"] = _command()
    preset.apply(content, preset.chosen_groups({"metric": "default", "perturbation": "mask"}))
    for key, choices in CHOICES.items():
        if content[key] not in choices:
            raise unknown_name(key, str(content[key]), choices)
    _whole_number("shard_size", content["shard_size"])
    for group, example in (("metrics", "metric=default"), ("perturbations", "perturbation=mask")):
        if not content.get(group):
            raise AssayError(f"There are no {group}. Choose some, for example with {example}.")
    chosen = dict(content.get("explainers") or {})
    controls = {name: registry.settings("explainer", name) for name in CONTROLS if name not in chosen}
    content["explainers"] = {**chosen, **controls}
    store = Store(content["results"])
    store.prepare()
    source: Source = registry.instantiate(content["task"])
    job = Job(
        content=content,
        store=store,
        source=source,
        explainers={
            name: build_explainer(name, part, content["perturbations"]) for name, part in content["explainers"].items()
        },
        metrics={name: registry.instantiate(part) for name, part in content["metrics"].items()},
        perturbations={name: registry.instantiate(part) for name, part in content["perturbations"].items()},
        settings=Settings(
            content["feature"], content["target"], content["output"], content["seed"], content["contrast"]
        ),
    )
    for group, built, base in (
        ("explainers", job.explainers, Explainer),
        ("metrics", job.metrics, (Metric, MethodMetric)),
        ("perturbations", job.perturbations, Perturbation),
    ):
        for name, one in built.items():
            if not isinstance(one, base):
                wanted = base.__name__ if isinstance(base, type) else " or ".join(one.__name__ for one in base)
                raise AssayError(f"{group}.{name}: {type(one).__name__} does not inherit from {wanted}.")
            source_digest = registry.foreign_source(one)
            if source_digest is not None:
                content[group][name]["source"] = source_digest
    if content["tokens_per_batch"] is not None:
        _whole_number("tokens_per_batch", content["tokens_per_batch"])
    find_device(content["model"]["device"])
    if content["model"]["kind"] not in KINDS:
        raise unknown_name("model.kind", str(content["model"]["kind"]), KINDS)
    labels = _class_names(content["model"])
    match_labels(source.labels, labels)
    target = content["target"]
    if target not in ("predicted", "gold", *labels, *range(len(labels))):
        raise unknown_name("target", str(target), ["predicted", "gold", *labels])
    contrast = content["contrast"]
    if contrast not in (None, "runner_up", *labels, *range(len(labels))):
        raise unknown_name("contrast", str(contrast), ["runner_up", *labels])
    _check_background(job)
    return job


def _check_background(job: Job) -> None:
    """See that the train split can be had, if someone wants to see it.

    Raises:
        AssayError: it cannot, and who wants it was named.
    """
    own = preparation.own_perturbations(job.explainers)
    explainers = [
        name
        for name, explainer in job.explainers.items()
        if explainer.background or (name in own and own[name].background)
    ]
    judges = [name for name, judge in _judges(job).items() if judge.background]
    perturbations = [name for name, perturbation in job.perturbations.items() if perturbation.background]
    if not explainers and not judges and not perturbations:
        return
    try:
        _train_split(job)
    except AssayError as error:
        by_name = (explainers and not suite_is_chosen("explainer")) or (judges and not suite_is_chosen("metric"))
        if perturbations or by_name:
            raise
        reason = f"it wants to see the train split. {error}"
        _leave_out(job, dict.fromkeys(explainers, reason))
        for name in judges:
            _leave_out_metric(job, name, reason)


def _judges(job: Job) -> dict[str, MethodMetric]:
    """The metrics that judge methods, by name."""
    return {name: metric for name, metric in job.metrics.items() if isinstance(metric, MethodMetric)}


def _check_judges(job: Job, model: Classifier) -> None:
    """Leave out the metrics that cannot be measured on this model.

    Raises:
        AssayError: one that was asked for by name.
    """
    for name, judge in _judges(job).items():
        try:
            judge.check(model)
        except AssayError as error:
            if not suite_is_chosen("metric"):
                raise AssayError(f"{name}: {error}") from error
            _leave_out_metric(job, name, str(error))


def _leave_out_metric(job: Job, name: str, reason: str) -> None:
    say(f"{name} is left out: {reason}")
    del job.metrics[name], job.content["metrics"][name]


def _leave_out(job: Job, reasons: Mapping[str, str]) -> None:
    for name, reason in reasons.items():
        say(f"{name} is left out: {reason}")
        del job.explainers[name], job.content["explainers"][name]


def _train_split(job: Job) -> Source:
    source: Source = registry.instantiate({**job.content["task"], "split": "train", "size": None})
    return source


def _background(job: Job, count: int) -> Sequence[Example]:
    """Examples of the task's train split, the same for everyone who wants as many."""
    if not job.backgrounds:
        job.backgrounds[ALL] = _train_split(job).load().examples
    if count not in job.backgrounds:
        train = job.backgrounds[ALL]
        chosen = stratified([example.label for example in train], min(count, len(train)), job.settings.seed)
        job.backgrounds[count] = [train[index] for index in chosen]
    return job.backgrounds[count]


def _whole_number(key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise AssayError(f"{key} must be a whole number of at least 1, not {value!r}.")


def _command() -> str:
    """The command that leads to this job, as far as it is known."""
    overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    return " ".join(["assay run", *(shlex.quote(override) for override in overrides)])


def load_model(content: Mapping[str, Any]) -> Classifier:
    """The classifier that a configuration describes; jobs of a sweep often share one, so the last is kept."""
    return _classifier(json.dumps(content))


@lru_cache(maxsize=1)
def _classifier(content: str) -> Classifier:
    model = json.loads(content)
    how = {name: model[name] for name in ("device", "dtype", "revision")}
    if model["kind"] == "prompted":
        return PromptedClassifier.load(model["path"], model["template"], model["label_words"], **how)
    return Classifier.from_pretrained(model["path"], **how)


def _class_names(model: Mapping[str, Any]) -> list[str]:
    """The model's classes, found out without loading it.

    Raises:
        AssayError: a model that is not there or of another kind, or a prompt that lacks something.
    """
    if model["kind"] == "prompted":
        load_causal_config(model["path"], model["revision"])
        parse_template(model["template"])
        if not isinstance(model["label_words"], Mapping):
            raise AssayError(
                "model.label_words must give each class its word, for example "
                '\'model.label_words={negative: " terrible", positive: " great"}\'.'
            )
        return [str(label) for label in model["label_words"]]
    given = [name for name in ("template", "label_words") if model[name] is not None]
    if given:
        raise AssayError(f"model.{given[0]} is only for model.kind=prompted; this model is a classifier.")
    id2label = load_config(model["path"], model["revision"]).id2label
    return [str(id2label[index]) for index in sorted(id2label)]


def _finished(store: Store, metas: Mapping[str, Mapping[str, Any]]) -> dict[str, Cell]:
    """The cells that are there; damaged ones are set aside."""
    cells = {}
    for name, meta in metas.items():
        try:
            cell = store.find(meta)
        except Damaged as damage:
            say(f"Warning: {damage}. Set aside as {store.set_aside(store.cell_path(meta))}; it is computed again.")
            continue
        if cell is not None:
            cells[name] = cell
    return cells


def _accuracy(model: Classifier, examples: list[Example], job: Job) -> float:
    """Share of examples whose predicted class is the label; NaN without labels."""
    size = job.content["shard_size"]
    right = []
    for first in range(0, len(examples), size):
        part = examples[first : first + size]
        settings = replace(job.settings, target="predicted")
        evaluation = Evaluation(model, part, {}, job.perturbations, settings, job.content["tokens_per_batch"])
        right += [
            predicted == example.label
            for predicted, example in zip(evaluation.predicted, part, strict=True)
            if example.label is not None
        ]
    return float(np.mean(right)) if right else float("nan")


def _compute(
    job: Job,
    model: Classifier,
    examples: list[Example],
    metas: Mapping[str, Mapping[str, Any]],
    bounds: list[tuple[int, int]],
) -> None:
    """Compute the unfinished cells shard by shard; finished shards are kept and not computed again.

    A shard is computed for all of these cells together or for none, so that a run that was killed asks the model for
    the same batches as one that was not, and gets the same numbers to the last bit.
    """
    total = len(examples) * len(metas)
    with Progress(total) as progress:
        for first, last in bounds:
            if all(_has_part(job.store, job.store.shard_path(meta, first, last)) for meta in metas.values()):
                progress.skip((last - first) * len(metas))
                continue
            evaluation = Evaluation(
                model,
                examples[first:last],
                {name: metric for name, metric in job.metrics.items() if isinstance(metric, Metric)},
                job.perturbations,
                job.settings,
                job.content["tokens_per_batch"],
                progress.advance,
            )
            progress.watch(partial(getattr, evaluation.engine, "rows_answered"))
            for name in metas:
                evaluation.add_explainer(name, job.explainers[name])
            for name, records in evaluation.run().items():
                job.store.write_shard(metas[name], first, last, records)
            # The next shard must not be built while this one is still in memory.
            progress.watch(lambda: 0)
            del evaluation


def _judge(
    job: Job,
    model: Classifier,
    match: LabelMatch,
    examples: Sequence[Example],
    metas: Mapping[str, Mapping[str, Any]],
    bounds: list[tuple[int, int]],
) -> None:
    """Have the metrics that judge methods judge those of the unfinished cells; each judgement is kept."""
    for name, meta in metas.items():
        explainer = job.explainers[name]
        missing = [
            metric for metric in _judges(job) if not _has_part(job.store, job.store.judgement_path(meta, metric))
        ]
        if explainer.searches or not missing:
            continue
        found = job.store.read_shards(meta, bounds, "examples")
        first_draws = {row["example"]: row for row in reversed(job.store.read_shards(meta, bounds, "attributions"))}
        method = MethodAtWork(
            name,
            explainer,
            model,
            examples,
            [row["target"] for row in found],
            [
                scoring.foil(job.settings.contrast, np.array(row["logits"], np.float32), row["target"], model.labels)
                for row in found
            ],
            job.perturbations,
            job.settings,
            lambda count: [example.relabelled(match.class_of_label) for example in _background(job, count)],
            job.content["tokens_per_batch"],
        )
        method.attributions = [
            attribution_of(first_draws[row["example"]], encoding, row["target"])
            for row, encoding in zip(found, method.encodings, strict=True)
        ]
        for number, metric in enumerate(missing):
            say(f"{name}: {metric} ({number + 1} of {len(missing)} metrics that have it explain again)")
            job.store.write_judgement(meta, metric, method.judged_by(metric, _judges(job)[metric]))


def _has_part(store: Store, path: Path) -> bool:
    try:
        return store.has_part(path)
    except Damaged as damage:
        aside = store.set_aside(path)
        say(f"Warning: {damage}. Set aside as {aside}; it is computed again.")
        return False
