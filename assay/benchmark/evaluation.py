"""One shard: explain its examples with several methods and judge every attribution, all over one engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from assay.benchmark import checked_scores, scoring
from assay.benchmark.engine import Engine
from assay.benchmark.looking_inside import Inside
from assay.benchmark.records import Record, Records
from assay.benchmark.shared_answers import SharedAnswers
from assay.benchmark.talk import Outcome
from assay.benchmark.verdict import Draw, Verdict, draws_of
from assay.benchmark.whole_inputs import whole_logits
from assay.classifier import Classifier
from assay.conversation import Attribution, Case, Cost, Explanation
from assay.encoding import Encoding, FeatureUnit, Output
from assay.errors import AssayError, Undefined, unknown_name
from assay.example import Example
from assay.explainers.base import BlackBoxExplainer, Explainer, WhiteBoxExplainer
from assay.metrics.base import Metric, undefined
from assay.perturbation import Perturbation


@dataclass(frozen=True)
class Settings:
    """What every method of one evaluation shares.

    Attributes:
        feature: what is scored and hidden, `word` or `token`.
        target: the class that is explained: `predicted`, `gold`, a class name or its index.
        output: what of the model is explained and measured: `probability`, `logit` or `log_probability`.
        seed: of all random numbers.
        contrast: the class that the target is explained and measured against, so that the question becomes why this
            class rather than that one (Yin & Neubig 2022): a class name or its index, or `runner_up` for the most
            likely class beside the target. Its output is taken off the target's. None for no contrast.

    Raises:
        AssayError: an unknown feature unit or output, or a target, contrast or seed of another type.
    """

    feature: FeatureUnit = "word"
    target: str | int = "predicted"
    output: Output = "probability"
    seed: int = 0
    contrast: str | int | None = None

    def __post_init__(self) -> None:
        for kind, value, known in (("feature", self.feature, FeatureUnit), ("output", self.output, Output)):
            if value not in get_args(known):
                raise unknown_name(kind, str(value), get_args(known))
        if isinstance(self.target, bool) or not isinstance(self.target, str | int):
            raise AssayError(f"target must be predicted, gold, a class name or its index, not {self.target!r}.")
        if isinstance(self.contrast, bool) or not isinstance(self.contrast, str | int | None):
            raise AssayError(f"contrast must be runner_up, a class name, its index or null, not {self.contrast!r}.")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise AssayError(f"seed must be a whole number, not {self.seed!r}.")


class Evaluation:
    """Explains and judges some examples with one classifier.

    Add explainers or finished attributions, then `run` once.

    Attributes:
        logits: [examples, classes], of the full inputs in float32.
        predicted: the class of the largest of them.
    """

    def __init__(
        self,
        model: Classifier,
        examples: Sequence[Example],
        metrics: Mapping[str, Metric],
        perturbations: Mapping[str, Perturbation],
        settings: Settings,
        tokens_per_batch: int | None = None,
        finished: Callable[[], None] = lambda: None,
        targets: Sequence[str | int] | None = None,
        encodings: Sequence[Encoding] | None = None,
        foils: Sequence[int | None] | None = None,
        shared: SharedAnswers | None = None,
    ) -> None:
        """Encode the examples and find out what is to be explained.

        Args:
            model: the classifier.
            examples: with labels in the order of the model's classes.
            metrics: what judges, by name.
            perturbations: how features are hidden, by name; black-box explainers use the first, metrics all.
            settings: see `Settings`.
            tokens_per_batch: the engine's budget.
            finished: called whenever an explainer is done with an example.
            targets: for each example its own target, in place of that of the settings.
            encodings: of the examples, in place of the model's own.
            foils: for each example the class that its target is contrasted with, in place of what the settings say.
            shared: what the model has answered in other runs; what is found out is written there by `share`.

        Raises:
            AssayError: two examples with one id, or a target that some example lacks.
        """
        self.model = model
        self.examples = list(examples)
        self.metrics = metrics
        self.perturbations = perturbations
        self.settings = settings
        self._as_given = encodings is not None
        if encodings is None:
            encodings = [model.encode(example, settings.feature) for example in self.examples]
        self.encodings = list(encodings)
        if len({example.id for example in self.examples}) != len(self.examples):
            raise AssayError("Two examples have the same id.")
        self._shared = shared
        self._answers = None if shared is None else shared.recall(self.encodings, settings.output)
        self.engine = Engine(model, settings.output, tokens_per_batch, answers=self._answers)
        self._finished = finished
        self._verdicts: dict[str, list[Verdict]] = {}
        self.logits = self._predict()
        self.predicted = [int(row.argmax()) for row in self.logits]
        wanted = [settings.target] * len(self.examples) if targets is None else targets
        self.targets = [self._target(index, target) for index, target in enumerate(wanted)]
        if settings.contrast is not None and settings.contrast != "runner_up":
            model.class_index(settings.contrast)
        self.foils = (
            list(foils)
            if foils is not None
            else [
                scoring.foil(settings.contrast, logits, target, model.labels)
                for logits, target in zip(self.logits, self.targets, strict=True)
            ]
        )
        self._inside = Inside(
            model, self.encodings, self.targets, self.foils, settings.output, settings.seed, self.engine
        )

    def _predict(self) -> NDArray[np.float32]:
        """Logits of the full inputs in float32, so that the target does not hang on the precision that is asked for."""
        perturbation = next(iter(self.perturbations.values()))
        if self.model.dtype == "float32":
            return whole_logits(self.engine, self.encodings, perturbation)
        engine = Engine(self.model, self.settings.output, self.engine.tokens_per_batch, dtype="float32")
        logits = whole_logits(engine, self.encodings, perturbation)
        self.engine.work.add(engine.work)
        return logits

    def _target(self, index: int, target: str | int) -> int:
        if target == "predicted":
            return self.predicted[index]
        if target == "gold":
            label = self.examples[index].label
            if label is None:
                raise AssayError(f"target=gold, but example {self.examples[index].id!r} has no label.")
            return label
        return self.model.class_index(target)

    def _nothing_to_explain(self, index: int) -> Undefined | None:
        """Why an example cannot be explained by any method."""
        if self.encodings[index].n == 0:
            return Undefined("the text has nothing that can be hidden")
        if self.foils[index] == self.targets[index]:
            return Undefined(
                f"the target and the contrast are the same class, {self.model.labels[self.targets[index]]!r}"
            )
        return None

    def add_explainer(self, name: str, explainer: Explainer) -> None:
        """Have an explainer score every example.

        Args:
            name: under which its results are returned; its random numbers hang on it too.
            explainer: a black-box or a white-box explainer.
        """
        self._verdicts[name] = [Verdict() for _ in self.examples]
        if isinstance(explainer, WhiteBoxExplainer):
            self._look_inside(name, explainer)
            return
        if not isinstance(explainer, BlackBoxExplainer):
            raise AssayError(
                f"{type(explainer).__name__} is not an explainer: it must inherit from BlackBoxExplainer and have "
                "`converse`, or from WhiteBoxExplainer and have `attribute`."
            )
        for index, encoding in enumerate(self.encodings):
            draws = draws_of(explainer, self.metrics, self.perturbations, encoding.n)
            nothing = self._nothing_to_explain(index)
            for draw in draws:
                if nothing is not None:
                    cost = Cost.unknown() if explainer.precomputed else Cost()
                    self._take(name, index, draw, len(draws), nothing, explainer.signed, cost)
                else:
                    self._converse(name, explainer, index, draw, len(draws))

    def _look_inside(self, name: str, explainer: WhiteBoxExplainer) -> None:
        able = []
        for index in range(len(self.encodings)):
            nothing = self._nothing_to_explain(index)
            if nothing is None:
                able.append(index)
            else:
                self._take(name, index, Draw(0), 1, nothing, explainer.signed, Cost())

        def found(index: int, scores: Explanation | Exception, cost: Cost) -> None:
            self._take(name, index, Draw(0), 1, scores, explainer.signed, cost)

        self._inside.explain(name, explainer, able, found)

    def cases(self, name: str, explainer: BlackBoxExplainer) -> list[Case]:
        """What a black-box explainer is handed about each example that there is something to explain of."""
        return [
            replace(self._case(index, name, 0), features=self._asked(explainer, index).features)
            for index in range(len(self.examples))
            if self._nothing_to_explain(index) is None
        ]

    def _asked(self, explainer: BlackBoxExplainer, index: int) -> Encoding:
        """An example in the features that an explainer scores."""
        if explainer.feature in (None, self.settings.feature):
            return self.encodings[index]
        return self.model.encode(self.examples[index], explainer.feature)

    def _converse(self, name: str, explainer: BlackBoxExplainer, index: int, draw: Draw, draws: int) -> None:
        """Start the conversation of a black-box explainer about an example."""
        encoding, asked = self.encodings[index], self._asked(explainer, index)
        if asked is not encoding and self._as_given:
            reason = Undefined(f"it explains {explainer.feature}s, and this input is given in {self.settings.feature}s")
            self._take(name, index, draw, draws, reason, explainer.signed, Cost())
            return

        def finish(outcome: Outcome) -> None:
            found = outcome.result if outcome.error is None else outcome.error
            if asked is not encoding:
                found = checked_scores.regrouped(found, asked, encoding)
            cost = Cost.unknown() if explainer.precomputed else outcome.cost
            self._take(name, index, draw, draws, found, explainer.signed, cost)

        run_wide = self.perturbations[draw.perturbation or next(iter(self.perturbations))]
        case = replace(self._case(index, name, draw.number, objective=draw.objective), features=asked.features)
        self.engine.add(
            scoring.conversation(explainer, case), asked, explainer.perturbation or run_wide, finish, self.foils[index]
        )

    def add_attributions(self, name: str, attributions: Sequence[Attribution]) -> None:
        """Judge attributions that were made elsewhere, one for each example, over the same features."""
        self._verdicts[name] = [Verdict() for _ in self.examples]
        for index, attribution in enumerate(attributions):
            found = self._nothing_to_explain(index) or Explanation(attribution.scores, attribution.report)
            self._take(name, index, Draw(0), 1, found, attribution.signed, None)

    def add_draws(
        self,
        name: str,
        drawn: Sequence[Sequence[tuple[Attribution | Undefined, Cost]]],
        searched: Sequence[Sequence[tuple[int, str | None, str | None]]] | None = None,
    ) -> None:
        """Judge attributions of an earlier run.

        Args:
            name: under which the results are returned.
            drawn: for each example one or several, each with what it cost.
            searched: for each of them its number, and the metric and the perturbation that it was searched for and is
                judged by alone; None where nothing was searched for.
        """
        self._verdicts[name] = [Verdict() for _ in self.examples]
        for index, draws in enumerate(drawn):
            for number, (given, cost) in enumerate(draws):
                signed = given.signed if isinstance(given, Attribution) else True
                found: Any = self._nothing_to_explain(index) or given
                if isinstance(found, Attribution):
                    found = Explanation(found.scores, found.report)
                draw = Draw(number) if searched is None else Draw(*searched[index][number])
                self._take(name, index, draw, len(draws), found, signed, cost)

    def run(self) -> dict[str, Records]:
        """Let all conversations come to their end; the records of each explainer by its name."""
        self.engine.run()
        return {name: self._records(verdicts) for name, verdicts in self._verdicts.items()}

    def share(self) -> None:
        """Write down what the model has answered, where answers are shared."""
        if self._shared is not None and self._answers is not None:
            self._shared.keep(self.encodings, self._answers)

    def _case(self, index: int, name: str, draw: int, **known: Any) -> Case:
        example, encoding = self.examples[index], self.encodings[index]
        return Case(
            id=example.id,
            features=encoding.features,
            target=self.targets[index],
            output=self.settings.output,
            foil=self.foils[index],
            label=example.label,
            rng=scoring.random_numbers(self.settings.seed, example.id, name, draw),
            **known,
        )

    def _take(
        self, name: str, index: int, draw: Draw, draws: int, scores: Any, signed: bool, cost: Cost | None
    ) -> None:
        """Take in an attribution, or the reason why there is none, and start the metrics on it."""
        report = {}
        if isinstance(scores, Explanation):
            scores, report = scores.scores, dict(scores.report)
        verdict, encoding = self._verdicts[name][index], self.encodings[index]
        if cost is not None:
            verdict.cost.add(cost)
        record: Record = {
            "draw": draw.number,
            "metric": draw.metric,
            "perturbation": draw.perturbation,
            "scores": None,
            "signed": signed,
            "reason": None,
            "report": None,
        }
        verdict.attributions[draw.number] = record
        waiting = [
            (metric, perturbation)
            for metric in self.metrics
            for perturbation in self.perturbations
            if draw.metric is None or (metric, perturbation) == (draw.metric, draw.perturbation)
        ]
        try:
            checked = checked_scores.checked(scores, encoding.features)
            attribution = Attribution(encoding.features, checked, self.targets[index], signed, report)
            record["report"] = checked_scores.as_json(report)
        except Undefined as reason:
            record["reason"] = str(reason)
            for metric, perturbation in waiting:
                verdict.scores[metric, perturbation][draw.number] = undefined(
                    self.metrics[metric], f"no attribution: {reason}"
                )
            self._report(verdict, draws)
            return
        record["scores"] = attribution.scores.tolist()
        ranking = scoring.ranking(attribution, self.settings.seed, self.examples[index].id, draw.number)
        rationale = encoding.rationale(self.examples[index], self.targets[index])
        highlights = encoding.highlights(self.examples[index])
        for metric, perturbation in waiting:

            def finish(outcome: Outcome, metric: str = metric, perturbation: str = perturbation) -> None:
                scores = scoring.scores_of(self.metrics[metric], outcome.result, outcome.error)
                verdict.scores[metric, perturbation][draw.number] = scores
                verdict.remember(perturbation, outcome)
                self._report(verdict, draws)

            case = self._case(
                index,
                metric,
                draw.number,
                attribution=attribution,
                ranking=ranking,
                rationale=rationale,
                highlights=highlights,
                cost=cost,
            )
            self.engine.add(
                scoring.conversation(self.metrics[metric], case),
                encoding,
                self.perturbations[perturbation],
                finish,
                self.foils[index],
            )

    def _report(self, verdict: Verdict, draws: int) -> None:
        each = 1 if verdict.searched else len(self.metrics) * len(self.perturbations)
        if verdict.judged == draws * each:
            self._finished()

    def _records(self, verdicts: list[Verdict]) -> Records:
        records = Records()
        for index, verdict in enumerate(verdicts):
            example, encoding = self.examples[index], self.encodings[index]
            records.examples.append(
                {
                    "example": example.id,
                    "label": example.label,
                    "predicted": self.predicted[index],
                    "target": self.targets[index],
                    "features": [feature.text for feature in encoding.features],
                    "segments": [feature.segment for feature in encoding.features],
                    "positions": [feature.position for feature in encoding.features],
                    "rationale": _optional(encoding.rationale(example, self.targets[index])),
                    "highlights": _optional(encoding.highlights(example)),
                    "logits": self.logits[index].tolist(),
                    "truncated": encoding.truncated,
                    **vars(verdict.cost),
                }
            )
            verdict.add_to(records, example.id, encoding.n, self.metrics, self.perturbations)
        return records


def _optional(array: NDArray[Any] | None) -> list[Any] | None:
    return None if array is None else list(array.tolist())
