"""A method on trial: it is built anew, watched, and has made-up texts explained by the engine that runs use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from assay import registry
from assay.benchmark.evaluation import Evaluation, Settings
from assay.benchmark.preparation import prepare
from assay.classifier import Classifier
from assay.conversation import Vector
from assay.errors import AssayError
from assay.example import Example
from assay.explainers.base import Explainer
from assay.metrics.base import Metric
from assay.perturbation import Perturbation
from assay.validation import surroundings
from assay.validation.texts import Texts, make_texts
from assay.validation.users_code import described
from assay.validation.watching import Seen, watched

_NAME = "subject"  # on which random numbers hang


@dataclass(frozen=True)
class Found:
    """What became of one text.

    Attributes:
        words: its features.
        target: the class that was explained.
        draws: [n] scores for each attribution that was drawn; empty where there is none.
        reason: why there is none.
    """

    words: tuple[str, ...]
    target: int
    draws: tuple[Vector, ...]
    reason: str | None

    @property
    def scores(self) -> Vector:
        """[draws * n], the scores of all draws, one after another."""
        return np.concatenate(self.draws)


class Trial:
    """Runs of one method on one model.

    The model that is given is never handed to the method, but a copy of it, and the process is put back as it was after
    every run, so that what a method spoils in one check does not spoil the next.
    """

    def __init__(self, build: Callable[[], Explainer], model: Classifier, seed: int = 0) -> None:
        """Make up texts for the model.

        Args:
            build: gives a fresh instance of the method.
            model: the classifier.
            seed: of the texts and of all random numbers.

        Raises:
            AssayError: texts cannot be made of its vocabulary.
        """
        self._build = build
        self._given = model
        self._copy: Classifier | None = None
        self.seed = seed
        self.texts: Texts = make_texts(model, seed)
        self.spoils_the_model = False
        self.failed: set[Callable[[Trial], str]] = set()  # checks that others build on
        self.classes = len(model.labels)

    @property
    def model(self) -> Classifier:
        """A copy of the model, a new one each time where the method has been seen to spoil it."""
        if self._copy is None or self.spoils_the_model:
            self._copy = deepcopy(self._given)
        return self._copy

    def build(self) -> Explainer:
        """A fresh instance."""
        return self._build()

    @cached_property
    def perturbation(self) -> Perturbation:
        """How words are hidden: by the mask token, or left out where the model has nothing to put in their place."""
        mask: Perturbation = registry.build("perturbation", "mask")
        try:
            mask.hidden_id(self._given)
        except AssayError:
            mask = registry.build("perturbation", "delete")
        return mask

    def run(
        self,
        examples: Sequence[Example],
        seen: Seen,
        explainer: Explainer | None = None,
        model: Classifier | None = None,
        targets: Sequence[int] | None = None,
        seed: int | None = None,
        tokens_per_batch: int | None = None,
    ) -> list[Found]:
        """Have texts explained, as a run would.

        Args:
            examples: the texts.
            seen: takes what is seen of the method.
            explainer: an instance; by default a fresh one.
            model: by default the trial's.
            targets: the class to explain for each text; by default the predicted one.
            seed: by default the trial's.
            tokens_per_batch: of the engine.
        """
        model = model or self.model
        seed = self.seed if seed is None else seed
        metrics: dict[str, Metric] = {}
        with surroundings.kept():
            found: list[Found] = []
            evaluation: Evaluation | None = None
            try:
                built = watched(explainer or self.build(), seen)
                hiding = {"hidden": self.perturbation}
                if built.searches:
                    metrics = {"comprehensiveness": registry.build("metric", "comprehensiveness")}

                def background(count: int) -> Sequence[Example]:
                    return self.texts.background(count, self.classes)

                prepare({_NAME: built}, hiding, model, background, seed)
                evaluation = Evaluation(
                    model,
                    examples,
                    metrics,
                    hiding,
                    Settings(output="logit", seed=seed),
                    tokens_per_batch,
                    targets=targets,
                )
                evaluation.add_explainer(_NAME, built)
                records = evaluation.run()[_NAME].attributions
                for place, example in enumerate(examples):
                    own = [record for record in records if record["example"] == example.id]
                    reason = next((record["reason"] for record in own if record["reason"] is not None), None)
                    draws = () if reason is not None else tuple(np.array(record["scores"]) for record in own)
                    words = tuple(str(feature) for feature in evaluation.encodings[place].features)
                    found.append(Found(words, evaluation.targets[place], draws, reason))
            except (Exception, SystemExit) as error:
                if not seen.crashes:
                    seen.crashes.append(described(error))
                return [Found((), 0, (), described(error)) for _ in examples]
            return found

    @cached_property
    def alone_seen(self) -> Seen:
        """What was seen while each ordinary text was explained alone."""
        return Seen()

    @cached_property
    def alone(self) -> list[Found]:
        """Each ordinary text explained alone, by a fresh instance each."""
        return [self.run([example], self.alone_seen)[0] for example in self.texts.ordinary]

    @cached_property
    def of_another_class(self) -> list[Found]:
        """The ordinary texts explained for the class after that which is predicted."""
        targets = [(found.target + 1) % self.classes for found in self.alone]
        return self.run(self.texts.ordinary, Seen(), targets=targets)
