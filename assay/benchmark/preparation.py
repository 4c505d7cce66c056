"""What comes before the work: each method is defined for the model, and has seen the background that it wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from assay import registry
from assay.benchmark.evaluation import Evaluation, Settings
from assay.classifier import Classifier
from assay.conversation import Case
from assay.errors import AssayError
from assay.example import Example
from assay.explainers.base import BlackBoxExplainer, Explainer
from assay.explainers.precomputed import Precomputed
from assay.infilling import loaded
from assay.metrics.base import MethodMetric, Metric
from assay.metrics.retraining import Retraining
from assay.model_loading import load_causal_config
from assay.perturbation import Perturbation
from assay.prompted import PromptedClassifier
from assay.tasks import Task

# As many examples share an engine, whose answers are kept in memory, as in a shard of a run.
EXAMPLES_AT_ONCE = 64
Background = Callable[[int], Sequence[Example]]  # how many -> as many examples of the task's train split


def undefined_for(path: str, names: Sequence[str]) -> dict[str, str]:
    """Why each of the named explainers that is not defined for a model, at its defaults, is not.

    Args:
        path: a local folder or a hub id, of a classifier or of a causal language model, which is given a stand-in
            prompt: what is defined for it does not hang on the prompt.
        names: names of explainers; one that has no defaults is left out.

    Raises:
        AssayError: no such model.
    """
    model = _load(path)
    built = {name for name in names if name in registry.names_with_defaults("explainer")}
    return check({name: registry.build("explainer", name) for name in sorted(built)}, model)


def _load(path: str) -> Classifier:
    try:
        return Classifier.from_pretrained(path, device="cpu")
    except AssayError as error:
        try:
            load_causal_config(path)
        except AssayError:
            # It is no language model either, so what it lacks as a classifier is the answer.
            raise error from None
    return PromptedClassifier.load(path, "{text}", {"no": " no", "yes": " yes"}, device="cpu")


def check(explainers: Mapping[str, Explainer], model: Classifier) -> dict[str, str]:
    """Why each explainer that is not defined for a model is not, by its name; those that are do not appear."""
    reasons = {}
    for name, explainer in explainers.items():
        try:
            explainer.check(model)
            if isinstance(explainer, BlackBoxExplainer) and explainer.perturbation is not None:
                explainer.perturbation.check(model)
        except AssayError as reason:
            reasons[name] = str(reason)
    return reasons


def prepare(
    explainers: Mapping[str, Explainer],
    perturbations: Mapping[str, Perturbation],
    model: Classifier,
    background: Background,
    seed: int,
) -> None:
    """Get explainers and perturbations ready to work with a model.

    Args:
        explainers: by name.
        perturbations: by name.
        model: the classifier.
        background: gives examples of the task's train split.
        seed: of the run, for perturbations that draw at random.

    Raises:
        AssayError: a method that is not defined for this model, or a background that cannot be had.
    """
    for perturbation in perturbations.values():
        perturbation.check(model)
    for name, reason in check(explainers, model).items():
        raise AssayError(f"{name}: {reason}")

    def seen(member: Explainer | Perturbation) -> Sequence[Example]:
        return background(member.background) if member.background else []

    for perturbation in (*perturbations.values(), *own_perturbations(explainers).values()):
        perturbation.prepare(model, seen(perturbation), seed)
    for explainer in explainers.values():
        explainer.prepare(model, seen(explainer))


def check_given(
    explainers: Mapping[str, Explainer],
    model: Classifier,
    examples: Sequence[Example],
    perturbations: Mapping[str, Perturbation],
    settings: Settings,
    tokens_per_batch: int | None = None,
) -> None:
    """See that precomputed attributions are there for all examples, over their features and the class explained.

    It asks the model for its prediction of each example, and nothing if no explainer is precomputed.

    Args:
        explainers: by name.
        model: the classifier, for which the explainers have been prepared.
        examples: with labels in the order of the model's classes.
        perturbations: by name.
        settings: those of the run.
        tokens_per_batch: the engine's budget.

    Raises:
        AssayError: some are not.
    """
    given = {
        name: explainer
        for name, explainer in explainers.items()
        if explainer.precomputed and isinstance(explainer, BlackBoxExplainer)
    }
    if not given:
        return
    cases: dict[str, list[Case]] = {name: [] for name in given}
    for first in range(0, len(examples), EXAMPLES_AT_ONCE):
        part = examples[first : first + EXAMPLES_AT_ONCE]
        evaluation = Evaluation(model, part, {}, perturbations, settings, tokens_per_batch)
        for name, explainer in given.items():
            cases[name] += evaluation.cases(name, explainer)
    for name, explainer in given.items():
        try:
            explainer.check_cases(cases[name])
        except AssayError as error:
            raise AssayError(f"{name}: {error}") from error


def own_perturbations(explainers: Mapping[str, object]) -> dict[str, Perturbation]:
    """The perturbations that explainers have of their own, by the explainer's name."""
    return {
        name: explainer.perturbation
        for name, explainer in explainers.items()
        if isinstance(explainer, BlackBoxExplainer) and explainer.perturbation is not None
    }


def identify(
    contents: Mapping[str, dict[str, Any]],
    members: Mapping[str, Explainer | MethodMetric | Perturbation],
    model: Classifier,
    fingerprint: Callable[[int], str],
) -> None:
    """Add to settings what the numbers hang on besides: training examples, and the weights behind a path.

    Args:
        contents: class and settings of explainers, metrics or perturbations, by name.
        members: those that are built from them.
        model: the classifier, on whose device a masked language model runs.
        fingerprint: of so many training examples.

    Raises:
        AssayError: a background or a language model that cannot be had.
    """
    for name, content in contents.items():
        own = content.get("perturbation")
        if own:
            identify({name: own}, own_perturbations({name: members[name]}), model, fingerprint)
        if name in members and members[name].background:
            content["background_fingerprint"] = fingerprint(members[name].background)
        member = members.get(name)
        if isinstance(member, Precomputed):
            content["attributions_fingerprint"] = member.fingerprint
        if isinstance(member, Retraining) and member.base is not None:
            content["base_fingerprint"] = member.base_fingerprint
        if content.get("masked_lm") is not None:
            content["masked_lm_fingerprint"] = loaded(str(content["masked_lm"]), str(model.device)).fingerprint


def lacking(metrics: Mapping[str, Metric | MethodMetric], task: Task) -> dict[str, str]:
    """Why each metric that needs to know of a task what it does not know cannot be measured, by the metric's name."""
    reasons = {}
    for name, metric in metrics.items():
        if metric.needs_rationale and not task.has_rationales:
            reasons[name] = f"{task.name} does not know which words truly decide."
        elif isinstance(metric, Metric) and metric.needs_highlights and not task.has_highlights:
            reasons[name] = f"in {task.name} nobody marked the words that they found to decide."
    return reasons
