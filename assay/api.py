"""Assay from Python: explain a text, score attributions, evaluate an explainer on a task."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from assay import registry
from assay.benchmark import preset
from assay.benchmark.evaluation import Evaluation, Settings
from assay.benchmark.labels import match_labels
from assay.benchmark.method import MethodAtWork, attribution_of
from assay.benchmark.preparation import Background, check_given, lacking, prepare
from assay.benchmark.records import Records
from assay.benchmark.summary import CONTROLS
from assay.classifier import Classifier
from assay.conversation import Attribution
from assay.digests import digest
from assay.encoding import FeatureUnit, Output
from assay.errors import AssayError, Undefined
from assay.example import Example
from assay.explainers.base import Explainer
from assay.metrics.base import ALL, MethodMetric, Metric
from assay.perturbation import Perturbation
from assay.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

Text = str | tuple[str, str] | Sequence[str]
METRICS = ("comprehensiveness", "sufficiency", "deletion", "insertion")
SHARD = 64
_ONE_METRIC = (str, Metric, MethodMetric)


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
    hiding = {perturbation: registry.build("perturbation", perturbation)}
    prepare({name: built}, hiding, model, partial(_background, _examples(background)), seed)
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

    return load_task(task, split="train", size=None if count == ALL else count, seed=seed)


def _background(examples: Sequence[Example], count: int) -> Sequence[Example]:
    if not examples:
        raise AssayError(
            "An explainer, metric or perturbation here wants to see texts like those that the model was trained on"
            f"{'' if count == ALL else f', {count} at most'}: give them as background=[...]."
        )
    return examples if count == ALL else examples[:count]


def score(
    model: Classifier,
    texts: Sequence[Text],
    attributions: Sequence[Attribution | ArrayLike],
    metrics: Sequence[str | Metric] | None = None,
    perturbation: str | Perturbation | Sequence[str | Perturbation] | None = None,
    feature: FeatureUnit | None = None,
    target: int | str | None = None,
    seed: int = 0,
    output: Output | None = None,
    contrast: int | str | None = None,
    background: Sequence[Text] = (),
    protocol: str = preset.FREE,
    labels: Sequence[int | str] | None = None,
) -> pd.DataFrame:
    """Measure how faithful attributions are, whoever made them.

    Args:
        model: the classifier that the attributions explain.
        texts: the texts, or pairs of texts.
        attributions: one for each text: an Attribution, or an array with a score for each word (or token).
        metrics: names (`assay list metrics`) or metrics of your own; None for comprehensiveness, sufficiency, deletion
            and insertion.
        perturbation: how features are hidden, one way or several; None for `mask`.
        feature: what the scores are of, `word` or `token`; None for words.
        target: the class that is explained, `"gold"` for the label; None for the attribution's own, and for plain
            arrays the predicted class.
        seed: of the ranking of equal scores.
        output: what of the model is measured; None for the probability.
        contrast: the class that the target is measured against; None for no contrast.
        background: texts like those that the model was trained on, for perturbations that want to see some.
        protocol: a preset (`assay list protocols`), which follows a paper or tool to the letter: it stands in place of
            the metrics, the perturbation, the feature unit, the output and the contrast, and names the columns. What it
            has a method explain again for is left out.
        labels: the true class of each text, by name or index, for metrics and targets that hang on it.

    Returns:
        A row for each text and a column for each measure; under several perturbations a column for each of both, such
        as `deletion (mask)`. What is undefined is NaN; `frame.attrs["undefined"]` maps (row, column) to the reason, and
        `frame.attrs["directions"]` each column to the values that are better, `higher` or `lower`.

    Raises:
        AssayError: an unknown name or class, an empty text, an array of the wrong length, more or fewer labels than
            texts, a metric that would have to explain again, or a setting beside a preset that fixes it.
    """
    import pandas as pd

    if len(texts) != len(attributions):
        raise AssayError(
            f"There are {len(texts)} texts and {len(attributions)} attributions; there must be one for each."
        )
    if labels is not None and len(texts) != len(labels):
        raise AssayError(f"There are {len(texts)} texts and {len(labels)} labels; there must be one for each.")
    wanted = _wanted(protocol, metrics, perturbation, feature, None, output, contrast, seed)
    again = [name for name, metric in wanted.metrics.items() if isinstance(metric, MethodMetric)]
    if again and protocol == preset.FREE:
        raise AssayError(
            f"{again[0]} has a method explain again, so it cannot judge attributions alone. Use assay.evaluate."
        )
    judges = {name: metric for name, metric in wanted.metrics.items() if isinstance(metric, Metric)}
    wanted = replace(wanted, metrics=judges)
    hiding = wanted.perturbations
    prepare({}, hiding, model, partial(_background, _examples(background)), seed)
    all_examples = _examples(texts)
    if labels is not None:
        known = [model.class_index(label) for label in labels]
        all_examples = [replace(one, label=label) for one, label in zip(all_examples, known, strict=True)]
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
            wanted.settings,
            targets=[_target(attributions[place], target) for place in places],
        )
        evaluation.add_attributions(
            "given", [_attribution(attributions[place], evaluation, place - first, place) for place in places]
        )
        place_of = {example.id: place for example, place in zip(examples, places, strict=True)}
        for row in evaluation.run()["given"].scores:
            column = wanted.column(row)
            if column is not None:
                place = place_of[row["example"]]
                rows[place][column] = row["value"]
                if row["reason"] is not None:
                    undefined[place, column] = row["reason"]
    frame = pd.DataFrame(rows, columns=wanted.columns)
    frame.attrs |= {"undefined": undefined, "directions": wanted.directions}
    return frame


def evaluate(
    model: Classifier,
    explainer: str | Explainer | Sequence[str | Explainer],
    task: Task | str,
    metrics: Sequence[str | Metric | MethodMetric] | None = None,
    perturbation: str | Perturbation | Sequence[str | Perturbation] | None = None,
    feature: FeatureUnit | None = None,
    target: int | str | None = None,
    seed: int = 0,
    output: Output | None = None,
    contrast: int | str | None = None,
    background: Sequence[Text] = (),
    protocol: str = preset.FREE,
    **settings: Any,
) -> pd.DataFrame:
    """Measure an explainer, beside the controls `random` and `oracle`, on a whole task.

    Args:
        model: the classifier.
        explainer: one or several, each a name or an explainer of your own.
        task: from `assay.load_task`, or its name.
        metrics: names or metrics of your own; None for comprehensiveness, sufficiency, deletion and insertion.
        perturbation: how features are hidden, one way or several; black-box explainers use the first. None for `mask`.
        feature: `word` or `token`; None for words.
        target: the class to explain; None for the predicted class, `"gold"` for the label.
        seed: of all random numbers.
        output: what of the model is explained and measured; None for the probability.
        contrast: the class that the target is explained and measured against; None for no contrast.
        background: texts for explainers and metrics that want to see some; without them the train split of a task given
            by name.
        protocol: a preset in place of all those settings; see `score`.
        settings: settings of the explainer, if it is one and given by name.

    Returns:
        A row for each explainer and example, with the columns `explainer`, `id` and one for each measure; under several
        perturbations one for each of both. What is undefined is NaN; `frame.attrs["undefined"]` maps (row, column) to
        the reason, and `frame.attrs["directions"]` each column to the values that are better. The search of the oracle
        is for one metric at a time; other measures have no value for it.
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
    wanted = _wanted(protocol, metrics, perturbation, feature, target, output, contrast, seed)
    wanted = wanted.without(lacking(wanted.metrics, task))
    hiding = wanted.perturbations
    match = match_labels(task.labels, model.labels)
    prepare(built, hiding, model, train, seed)
    judges = {name: metric for name, metric in wanted.metrics.items() if isinstance(metric, MethodMetric)}
    for name, judge in judges.items():
        try:
            judge.check(model)
        except AssayError as error:
            raise AssayError(f"{name}: {error}") from error
    examples = [example.relabelled(match.class_of_label) for example in task]
    check_given(built, model, examples, hiding, wanted.settings)

    def labelled(count: int) -> Sequence[Example]:
        return [example.relabelled(match.class_of_label) for example in train(count)]

    records = {name: Records() for name in built}
    found: dict[str, list[Attribution | Undefined]] = {name: [] for name in built}
    targets: list[int] = []
    foils: list[int | None] = []
    for first in range(0, len(task), SHARD):
        part = examples[first : first + SHARD]
        conversing = {name: metric for name, metric in wanted.metrics.items() if isinstance(metric, Metric)}
        evaluation = Evaluation(model, part, conversing, hiding, wanted.settings)
        for name, one in built.items():
            evaluation.add_explainer(name, one)
        targets += evaluation.targets
        foils += evaluation.foils
        for name, shard in evaluation.run().items():
            records[name].extend(shard)
            if not built[name].searches:
                first_draws = {record["example"]: record for record in reversed(shard.attributions)}
                found[name] += [
                    attribution_of(first_draws[example.id], encoding, explained)
                    for example, encoding, explained in zip(part, evaluation.encodings, evaluation.targets, strict=True)
                ]
    for name, one in built.items():
        if one.searches or not judges:
            continue
        method = MethodAtWork(name, one, model, examples, targets, foils, hiding, wanted.settings, labelled)
        method.attributions = found[name]
        for metric, judge in judges.items():
            records[name].extend(method.judged_by(metric, judge))
    rows: dict[tuple[str, str], dict[str, Any]] = {
        (name, example.id): {"explainer": name, "id": example.id} for name in built for example in task
    }
    undefined: dict[tuple[int, str], str] = {}
    place = {key: number for number, key in enumerate(rows)}
    for name, of_method in records.items():
        for row in of_method.scores:
            column = wanted.column(row)
            if column is not None:
                rows[name, row["example"]][column] = row["value"]
                if row["reason"] is not None:
                    undefined[place[name, row["example"]], column] = row["reason"]
    frame = pd.DataFrame(list(rows.values()), columns=["explainer", "id", *wanted.columns])
    frame.attrs |= {"undefined": undefined, "directions": wanted.directions}
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


def _name(one: Any) -> str:
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


@dataclass(frozen=True)
class _Wanted:
    """What is to be measured, and how."""

    metrics: Mapping[str, Metric | MethodMetric]
    perturbations: Mapping[str, Perturbation]
    settings: Settings

    def without(self, names: Collection[str]) -> _Wanted:
        """The same without some metrics."""
        return replace(self, metrics={name: metric for name, metric in self.metrics.items() if name not in names})

    @cached_property
    def _columns(self) -> dict[tuple[str, str], str]:
        """The column of each measure under each perturbation."""
        alone = len(self.perturbations) == 1
        return {
            (measure.name, perturbation): measure.name if alone else f"{measure.name} ({perturbation})"
            for metric in self.metrics.values()
            for measure in metric.measures
            if measure.headline
            for perturbation in self._judged_under(metric)
        }

    def _judged_under(self, metric: Metric | MethodMetric) -> list[str]:
        names = list(self.perturbations)
        return names if isinstance(metric, Metric) or metric.each_perturbation else names[:1]

    @property
    def columns(self) -> list[str]:
        """What the tables show."""
        return list(self._columns.values())

    @property
    def directions(self) -> dict[str, str]:
        """Which values are better, by column: `higher`, `lower` or `none`."""
        found = {one.name: one.direction for metric in self.metrics.values() for one in metric.measures}
        return {column: found[measure] for (measure, _), column in self._columns.items()}

    def column(self, row: Mapping[str, Any]) -> str | None:
        """The column of a score; None where it is stored only."""
        return self._columns.get((row["metric"], row["perturbation"]))


def _wanted(
    protocol: str,
    metrics: Sequence[str | Metric | MethodMetric] | str | Metric | MethodMetric | None,
    perturbation: str | Perturbation | Sequence[str | Perturbation] | None,
    feature: FeatureUnit | None,
    target: int | str | None,
    output: Output | None,
    contrast: int | str | None,
    seed: int,
) -> _Wanted:
    """What was asked for; None stands for what was not said."""
    given = {"feature": feature, "target": target, "output": output, "contrast": contrast}
    said: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    fixed = preset.load(protocol)
    if fixed is None:
        several: Sequence[Any]
        several = METRICS if metrics is None else [metrics] if isinstance(metrics, _ONE_METRIC) else list(metrics)
        if not several:
            raise AssayError("There are no metrics. Name some, for example metrics=('comprehensiveness',).")
        ways = "mask" if perturbation is None else perturbation
        ways = [ways] if isinstance(ways, str | Perturbation) else list(ways)
        if not ways:
            raise AssayError("There is no perturbation. Name one, for example perturbation='mask'.")
        return _Wanted(
            _by_name("metrics", several, partial(_built, "metric")),
            _by_name("perturbations", ways, partial(_built, "perturbation")),
            Settings(seed=seed, **said),
        )
    chosen = {"metric": metrics, "perturbation": perturbation}
    fixed.refuse([group for group, value in chosen.items() if value is not None])
    fixed.check(said)
    return _Wanted(
        {name: registry.instantiate(content) for name, content in fixed.metrics.items()},
        {name: registry.instantiate(content) for name, content in fixed.perturbations.items()},
        Settings(seed=seed, **fixed.settings),
    )


def _built(group: str, one: Any) -> Any:
    return registry.build(group, one) if isinstance(one, str) else one
