"""Assay from Python: explain a text, score attributions, evaluate an explainer on a task."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from assay import registry
from assay.benchmark.evaluation import Evaluation, Settings
from assay.benchmark.labels import match_labels
from assay.benchmark.preparation import Background, prepare
from assay.benchmark.records import Records
from assay.benchmark.store import digest
from assay.benchmark.summary import CONTROLS
from assay.classifier import Classifier
from assay.conversation import Attribution
from assay.encoding import FeatureUnit, Output
from assay.errors import AssayError
from assay.example import Example
from assay.explainers.base import Explainer
from assay.metrics.base import Metric
from assay.perturbation import Perturbation
from assay.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

Text = str | tuple[str, str] | Sequence[str]
METRICS = ("comprehensiveness", "sufficiency", "deletion", "insertion")
SHARD = 64


def explain(
    model: Classifier,
    text: Text,
    explainer: str | Explainer = "integrated_gradients",
    target: int | str | None = None,
    feature: FeatureUnit = "word",
    perturbation: str = "mask",
    seed: int = 0,
    contrast: int | str | None = None,
    background: Sequence[Text] = (),
    **settings: Any,
) -> Attribution:
    """Score the words of one text.

    Args:
        model: the classifier.
        text: a text, or the two texts of a pair.
        explainer: a name (`assay list explainers`) or an explainer of your own.
        target: the class to explain, by name or index; None for the predicted class.
        feature: `word` or `token`.
        perturbation: how a black-box explainer hides features.
        seed: of the random numbers.
        contrast: the class to explain the target against, by name or index, or `runner_up`; None for no contrast.
        background: texts like those that the model was trained on, for explainers that want to see some
            (`Explainer.background` says how many).
        settings: the explainer's settings, such as `samples=500` or `subwords="mean"`.

    Returns:
        The scores; `report` holds what the method says about itself, such as a completeness error.

    Raises:
        AssayError: an unknown name or setting, an empty text, an explainer that gives no attribution for this text.
    """
    name = explainer if isinstance(explainer, str) else type(explainer).__name__
    built = _explainer(explainer, settings)
    if built.searches:
        raise AssayError(f"{name} searches for the best ranking under a metric; use it through assay.evaluate.")
    (example,) = _examples([text])
    chosen = Settings(feature, "predicted" if target is None else target, seed=seed, contrast=contrast)
    hiding = _perturbations(perturbation)
    prepare({name: built}, hiding, model, partial(_background, _examples(background)))
    evaluation = Evaluation(model, [example], {}, hiding, chosen)
    encoding = evaluation.encodings[0]
    if encoding.n == 0:
        raise AssayError("The text is empty: there is nothing to explain.")
    evaluation.add_explainer(name, built)
    record = evaluation.run()[name].attributions[0]
    if record["reason"] is not None:
        raise AssayError(f"{name} gives no attribution for this text: {record['reason']}.")
    report = json.loads(record["report"] or "{}")
    return Attribution(encoding.features, np.array(record["scores"]), evaluation.targets[0], built.signed, report)


def _train_split(task: str, seed: int, count: int) -> Sequence[Example]:
    from assay.tasks import load_task

    return load_task(task, split="train", size=count, seed=seed)


def _background(examples: Sequence[Example], count: int) -> Sequence[Example]:
    if not examples:
        raise AssayError(
            f"This explainer wants to see texts like those that the model was trained on, {count} at most: "
            "give them as background=[...]."
        )
    return examples[:count]


def score(
    model: Classifier,
    texts: Sequence[Text],
    attributions: Sequence[Attribution | ArrayLike],
    metrics: Sequence[str | Metric] = METRICS,
    perturbation: str = "mask",
    feature: FeatureUnit = "word",
    target: int | str | None = None,
    seed: int = 0,
    output: Output = "probability",
    contrast: int | str | None = None,
) -> pd.DataFrame:
    """Measure how faithful attributions are, whoever made them.

    Args:
        model: the classifier that the attributions explain.
        texts: the texts, or pairs of texts.
        attributions: one for each text: an Attribution, or an array with a score for each word (or token).
        metrics: names (`assay list metrics`) or metrics of your own.
        perturbation: how features are hidden.
        feature: what the scores are of.
        target: the class that is explained; None for the attribution's own, and for plain arrays the predicted class.
        seed: of the ranking of equal scores.
        output: what of the model is measured.
        contrast: the class that the target is measured against; None for no contrast.

    Returns:
        A row for each text and a column for each measure. What is undefined is NaN; `frame.attrs["undefined"]` maps
        (row, measure) to the reason.

    Raises:
        AssayError: an unknown name, an empty text, or an array of the wrong length.
    """
    import pandas as pd

    if len(texts) != len(attributions):
        raise AssayError(
            f"There are {len(texts)} texts and {len(attributions)} attributions; there must be one for each."
        )
    judges = _metrics(metrics)
    headlines = [measure for judge in judges.values() for measure in _headlines(judge)]
    settings = Settings(feature, output=output, seed=seed, contrast=contrast)
    hiding = _perturbations(perturbation)
    prepare({}, hiding, model, partial(_background, ()))
    all_examples = _examples(texts)
    rows: list[dict[str, float]] = [{} for _ in texts]
    undefined: dict[tuple[int, str], str] = {}
    for first in range(0, len(texts), SHARD):
        places = range(first, min(first + SHARD, len(texts)))
        examples = all_examples[first : first + SHARD]
        evaluation = Evaluation(
            model,
            examples,
            judges,
            hiding,
            settings,
            targets=[_target(attributions[place], target) for place in places],
        )
        evaluation.add_attributions(
            "given", [_attribution(attributions[place], evaluation, place - first, place) for place in places]
        )
        place_of = {example.id: place for example, place in zip(examples, places, strict=True)}
        for row in evaluation.run()["given"].scores:
            if row["metric"] in headlines:
                place = place_of[row["example"]]
                rows[place][row["metric"]] = row["value"]
                if row["reason"] is not None:
                    undefined[place, row["metric"]] = row["reason"]
    frame = pd.DataFrame(rows, columns=headlines)
    frame.attrs["undefined"] = undefined
    return frame


def evaluate(
    model: Classifier,
    explainer: str | Explainer | Sequence[str | Explainer],
    task: Task | str,
    metrics: Sequence[str | Metric] = METRICS,
    perturbation: str = "mask",
    feature: FeatureUnit = "word",
    target: int | str | None = None,
    seed: int = 0,
    output: Output = "probability",
    contrast: int | str | None = None,
    background: Sequence[Text] = (),
    **settings: Any,
) -> pd.DataFrame:
    """Measure an explainer, beside the controls `random` and `oracle`, on a whole task.

    Args:
        model: the classifier.
        explainer: one or several, each a name or an explainer of your own.
        task: from `assay.load_task`, or its name.
        metrics: names or metrics of your own.
        perturbation: how features are hidden.
        feature: `word` or `token`.
        target: the class to explain; None for the predicted class, `"gold"` for the label.
        seed: of all random numbers.
        output: what of the model is explained and measured.
        contrast: the class that the target is explained and measured against; None for no contrast.
        background: texts for explainers that want to see some; without them the train split of a task given by name.
        settings: settings of the explainer, if it is one and given by name.

    Returns:
        A row for each explainer and example, with the columns `explainer`, `id` and one for each measure. What is
        undefined is NaN; `frame.attrs["undefined"]` maps (row, measure) to the reason. The search of the oracle is for
        one metric at a time; other measures have no value for it.
    """
    import pandas as pd

    from assay.tasks import load_task

    seen = _examples(background)
    train: Background = partial(_background, seen)
    if isinstance(task, str):
        if not seen:
            train = partial(_train_split, task, seed)
        task = load_task(task)
    several = [explainer] if isinstance(explainer, str | Explainer) else list(explainer)
    if settings and len(several) > 1:
        raise AssayError("Settings belong to one explainer; build several with their settings first.")
    built = _by_name("explainers", several, lambda one: _explainer(one, settings))
    built |= {name: registry.build("explainer", name) for name in CONTROLS if name not in built}
    judges = {
        name: metric for name, metric in _metrics(metrics).items() if task.has_rationales or not metric.needs_rationale
    }
    match = match_labels(task.labels, model.labels)
    chosen = Settings(feature, "predicted" if target is None else target, output, seed, contrast)
    hiding = _perturbations(perturbation)
    prepare(built, hiding, model, train)
    records = {name: Records() for name in built}
    for first in range(0, len(task), SHARD):
        part = [
            replace(example, label=None if example.label is None else match.class_of_label[example.label])
            for example in task[first : first + SHARD]
        ]
        evaluation = Evaluation(model, part, judges, hiding, chosen)
        for name, one in built.items():
            evaluation.add_explainer(name, one)
        for name, found in evaluation.run().items():
            records[name].extend(found)
    rows: dict[tuple[str, str], dict[str, Any]] = {
        (name, example.id): {"explainer": name, "id": example.id} for name in built for example in task
    }
    undefined: dict[tuple[int, str], str] = {}
    place = {key: number for number, key in enumerate(rows)}
    headlines = [measure for judge in judges.values() for measure in _headlines(judge)]
    for name, found in records.items():
        for row in found.scores:
            if row["metric"] in headlines:
                rows[name, row["example"]][row["metric"]] = row["value"]
                if row["reason"] is not None:
                    undefined[place[name, row["example"]], row["metric"]] = row["reason"]
    frame = pd.DataFrame(list(rows.values()), columns=["explainer", "id", *headlines])
    frame.attrs["undefined"] = undefined
    return frame


def _attribution(given: Attribution | ArrayLike, evaluation: Evaluation, index: int, place: int) -> Attribution:
    name, features = f"text {place}", evaluation.encodings[index].features
    if not features:
        raise AssayError(f"{name} is empty: there is nothing to score.")
    signed = given.signed if isinstance(given, Attribution) else True
    try:
        scores = np.asarray(given.scores if isinstance(given, Attribution) else given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise AssayError(f"The attribution of {name} is not an array of numbers: {error}.") from error
    if scores.shape != (len(features),):
        raise AssayError(
            f"The attribution of {name} has shape {scores.shape}; the text has {len(features)} features: "
            f"{' '.join(feature.text for feature in features[:12])}{' …' if len(features) > 12 else ''}"
        )
    return Attribution(features, scores, evaluation.targets[index], signed)


def _target(given: Attribution | ArrayLike, target: int | str | None) -> int | str:
    if target is not None:
        return target
    return given.target if isinstance(given, Attribution) else "predicted"


def _examples(texts: Sequence[Text]) -> list[Example]:
    """The texts as examples, named by their content: what is random hangs on the text, not on its place in a list."""
    seen: Counter[tuple[str, ...]] = Counter()
    examples = []
    for place, text in enumerate(texts):
        parts = (text,) if isinstance(text, str) else tuple(text)
        if len(parts) not in (1, 2) or not all(isinstance(part, str) for part in parts):
            raise AssayError(f"Text {place} is neither a string nor a pair of strings: {text!r}.")
        seen[parts] += 1
        examples.append(Example(f"{digest(parts)}-{seen[parts]}", parts))
    return examples


def _explainer(explainer: str | Explainer, settings: Mapping[str, Any]) -> Explainer:
    if isinstance(explainer, str):
        built: Explainer = registry.build("explainer", explainer, **settings)
        return built
    if settings:
        raise AssayError(f"{type(explainer).__name__} is built already; its settings cannot be changed here.")
    return explainer


def _name(one: str | Explainer | Metric) -> str:
    return one if isinstance(one, str) else type(one).__name__


def _by_name(kind: str, several: Sequence[Any], build: Callable[[Any], Any]) -> dict[str, Any]:
    names = [_name(one) for one in several]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise AssayError(
            f"Two of the {kind} are called {repeated[0]}, and results are told apart by name. "
            "Ask for them one at a time, or subclass one under another name."
        )
    return {name: build(one) for name, one in zip(names, several, strict=True)}


def _metrics(metrics: Sequence[str | Metric]) -> dict[str, Metric]:
    several = [metrics] if isinstance(metrics, str | Metric) else list(metrics)
    if not several:
        raise AssayError("There are no metrics. Name some, for example metrics=('comprehensiveness',).")
    return _by_name("metrics", several, lambda one: registry.build("metric", one) if isinstance(one, str) else one)


def _perturbations(name: str) -> dict[str, Perturbation]:
    return {name: registry.build("perturbation", name)}


def _headlines(metric: Metric) -> list[str]:
    return [measure.name for measure in metric.measures if measure.headline]
