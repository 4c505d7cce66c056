"""What comes before the work: each method is defined for the model, and has seen the background that it wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from assay.classifier import Classifier
from assay.errors import AssayError
from assay.example import Example
from assay.explainers.base import BlackBoxExplainer, Explainer
from assay.perturbation import Perturbation

Background = Callable[[int], Sequence[Example]]  # how many -> as many examples of the task's train split


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
) -> None:
    """Get explainers and perturbations ready to work with a model.

    Args:
        explainers: by name.
        perturbations: by name.
        model: the classifier.
        background: gives examples of the task's train split.

    Raises:
        AssayError: a method that is not defined for this model, or a background that cannot be had.
    """
    for perturbation in perturbations.values():
        perturbation.check(model)
    for name, reason in check(explainers, model).items():
        raise AssayError(f"{name}: {reason}")
    for explainer in explainers.values():
        explainer.prepare(model, background(explainer.background) if explainer.background else [])
