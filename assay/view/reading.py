"""What several explainers say of one text, and how far the prediction follows each of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from assay import registry
from assay.benchmark import preparation
from assay.benchmark.configured_model import load_model
from assay.benchmark.evaluation import Evaluation, Settings
from assay.benchmark.launch import suite_is_chosen
from assay.benchmark.own_perturbation import build_explainer
from assay.benchmark.progress import say
from assay.benchmark.records import Records
from assay.classifier import Classifier
from assay.conversation import Feature, Vector
from assay.errors import AssayError
from assay.example import Example
from assay.explainers.base import Explainer
from assay.metrics.base import ALL, Curve, Measure, Metric
from assay.model_loading import find_device
from assay.tasks import Source
from assay.tasks.base import stratified

LETTERS = 100_000
"""A longer text is refused; no model here reads more of it."""


@dataclass(frozen=True)
class Reading:
    """What one explainer says.

    Attributes:
        name: of the explainer.
        signed: whether the signs of its scores have a meaning.
        scores: [n], or None where it gives no attribution.
        problem: why it gives none.
        report: what the method says about itself.
        values: by column, how it is judged; NaN where that is undefined.
        curves: by column, for the measures that have one.
        rows: what was asked of the model for it, forward and backward.
        seconds: how long it took.
    """

    name: str
    signed: bool
    scores: Vector | None
    problem: str
    report: Mapping[str, Any]
    values: Mapping[str, float]
    curves: Mapping[str, Curve]
    rows: float
    seconds: float


@dataclass(frozen=True)
class View:
    """A text, what the model makes of it, and what each explainer says.

    Attributes:
        model: its name.
        labels: its classes.
        probabilities: [classes].
        target: the class that is explained.
        foil: the class that it is contrasted with, or None.
        features: what is scored, [n].
        truncated: how many tokens the model did not read.
        settings: feature unit, output and so on.
        hiding: how features were hidden.
        directions: of the columns of `Reading.values`.
        readings: one for each explainer, in the order asked for.
    """

    model: str
    labels: Sequence[str]
    probabilities: Vector
    target: int
    foil: int | None
    features: Sequence[Feature]
    truncated: int
    settings: Settings
    hiding: Sequence[str]
    directions: Mapping[str, str]
    readings: Sequence[Reading]


def check_text(texts: Sequence[str]) -> None:
    """See that there is a text, or a pair of them, that a model could read.

    Raises:
        AssayError: an empty text, a huge one, or an override in its place.
    """
    for text in texts:
        if not text.strip():
            raise AssayError("The text is empty: there is nothing to explain.")
        if len(text) > LETTERS:
            raise AssayError(f"The text has {len(text):,} letters; at most {LETTERS:,} are read.")
    key, equals, _ = texts[0].partition("=")
    known = (
        "model",
        "explainer",
        "explainers",
        "metric",
        "perturbation",
        "target",
        "feature",
        "task",
        "output",
        "seed",
    )
    if equals and " " not in texts[0] and key.lstrip("+").partition(".")[0] in known:
        raise AssayError(f'{texts[0]!r} stands where the text should: assay view "a text" {texts[0]} …')


def read(config: DictConfig, texts: Sequence[str]) -> View:
    """Explain a text, or a pair, by every explainer that was asked for, and judge what they say.

    Args:
        config: composed from `assay/conf/view.yaml`.
        texts: one or two.

    Raises:
        AssayError: something in the configuration cannot be done.
    """
    content = _content(config)
    settings = Settings(content["feature"], content["target"], content["output"], content["seed"], content["contrast"])
    explainers: dict[str, Explainer] = {
        name: build_explainer(name, part, content["perturbations"]) for name, part in content["explainers"].items()
    }
    metrics = {name: registry.instantiate(part) for name, part in content["metrics"].items()}
    perturbations = {name: registry.instantiate(part) for name, part in content["perturbations"].items()}
    _check_kinds(explainers, metrics)
    find_device(content["model"]["device"])
    model = load_model(content["model"])
    if suite_is_chosen("explainer"):
        for name, reason in _unable(explainers, model, content.get("task") is not None).items():
            say(f"{name} is left out: {reason}")
            del explainers[name]
    preparation.prepare(explainers, perturbations, model, _Background(content), settings.seed)
    examples = [Example("text", tuple(texts))]
    preparation.check_given(explainers, model, examples, perturbations, settings, content["tokens_per_batch"])
    evaluation = Evaluation(model, examples, metrics, perturbations, settings, content["tokens_per_batch"])
    (encoding,) = evaluation.encodings
    if not encoding.n:
        raise AssayError("The text is empty: there is nothing to explain.")
    for name, explainer in explainers.items():
        evaluation.add_explainer(name, explainer)
    found = evaluation.run()
    logits = np.array(next(iter(found.values())).examples[0]["logits"], dtype=np.float64)
    exponentials = np.exp(logits - logits.max())
    columns = _columns(metrics, list(perturbations))
    return View(
        model=model.name,
        labels=model.labels,
        probabilities=exponentials / exponentials.sum(),
        target=evaluation.targets[0],
        foil=evaluation.foils[0],
        features=encoding.features,
        truncated=encoding.truncated,
        settings=settings,
        hiding=list(perturbations),
        directions={column: measure.direction for column, measure in columns.values()},
        readings=[
            _reading(name, explainer, found[name], {place: column for place, (column, _) in columns.items()})
            for name, explainer in explainers.items()
        ],
    )


def _unable(explainers: Mapping[str, Explainer], model: Classifier, has_task: bool) -> dict[str, str]:
    """Why some explainers of a suite cannot explain here, by name."""
    reasons = preparation.check(explainers, model)
    own = preparation.own_perturbations(explainers)
    for name, explainer in explainers.items():
        if not has_task and (explainer.background or (name in own and own[name].background)):
            reasons[name] = "it wants to see texts like those that the model was trained on; name their task."
    return reasons


class _Background:
    """Examples of the train split of the task that was named, if one was; loaded once."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content
        self._examples: Sequence[Example] | None = None

    def __call__(self, count: int) -> Sequence[Example]:
        if self._examples is None:
            chosen = self._content.get("task")
            if chosen is None:
                raise AssayError(
                    "An explainer or perturbation here wants to see texts like those that the model was trained on. "
                    "Name their task, for example with task=sst2."
                )
            source: Source = registry.instantiate({**chosen, "split": "train", "size": None})
            self._examples = source.load().examples
        if count == ALL or count >= len(self._examples):
            return self._examples
        places = stratified([example.label for example in self._examples], count, self._content["seed"])
        return [self._examples[place] for place in places]


def _content(config: DictConfig) -> dict[str, Any]:
    try:
        container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        if getattr(error, "full_key", None) == "model.path":
            raise AssayError("No model is named. Set model.path to a local folder or a hub id.") from error
        raise AssayError(f"The configuration is incomplete: {str(error).splitlines()[0]}") from error
    assert isinstance(container, dict)
    content = {str(key): value for key, value in container.items()}
    for group in ("explainers", "metrics", "perturbations"):
        if not content.get(group):
            raise AssayError(f"There are no {group}. Choose some, for example with {group[:-1]}=NAME.")
    return content


def _check_kinds(explainers: dict[str, Explainer], metrics: dict[str, Any]) -> None:
    """Leave out what cannot speak of a single text.

    Raises:
        AssayError: it was asked for by name, or no metric is left.
    """
    for name, metric in list(metrics.items()):
        if isinstance(metric, Metric) and (metric.needs_rationale or metric.needs_highlights):
            say(f"{name} is left out: it needs to know which words truly decide, and of this text nobody does.")
            del metrics[name]
    reasons: dict[tuple[str, str], str] = {}
    for name, explainer in explainers.items():
        if isinstance(explainer, Explainer) and explainer.searches:
            reasons["explainer", name] = "it searches for the best ranking under one metric, so it has none to show"
    for name, metric in metrics.items():
        if not isinstance(metric, Metric):
            reasons["metric", name] = "it judges a method by having it explain many texts"
    for (group, name), reason in reasons.items():
        if not suite_is_chosen(group):
            raise AssayError(f"{name} has nothing to say of a single text: {reason}.")
        del (explainers if group == "explainer" else metrics)[name]
    if not metrics:
        raise AssayError("No metric is left that judges what is said of a single text. Choose one: metric=[deletion].")


def _columns(metrics: Mapping[str, Metric], perturbations: Sequence[str]) -> dict[tuple[str, str], tuple[str, Measure]]:
    """The heading of each headline measure under each perturbation, with the measure."""
    return {
        (measure.name, perturbation): (
            measure.name if len(perturbations) == 1 else f"{measure.name} ({perturbation})",
            measure,
        )
        for metric in metrics.values()
        for measure in metric.measures
        if measure.headline
        for perturbation in perturbations
    }


def _reading(name: str, explainer: Explainer, records: Records, columns: Mapping[tuple[str, str], str]) -> Reading:
    (about,) = records.examples
    attribution = records.attributions[0]
    known = attribution["scores"] is not None
    return Reading(
        name=name,
        signed=explainer.signed,
        scores=np.array(attribution["scores"], dtype=np.float64) if known else None,
        problem="" if known else str(attribution["reason"]),
        report=json.loads(attribution["report"] or "{}") if known else {},
        values={
            columns[row["metric"], row["perturbation"]]: row["value"]
            for row in records.scores
            if (row["metric"], row["perturbation"]) in columns
        },
        curves={
            columns[row["metric"], row["perturbation"]]: Curve(np.asarray(row["x"]), np.asarray(row["y"]))
            for row in records.curves
            if (row["metric"], row["perturbation"]) in columns
        },
        rows=about["forward_rows"] + about["backward_rows"],
        seconds=about["seconds"],
    )
