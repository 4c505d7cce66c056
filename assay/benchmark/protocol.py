"""The protocol: all that must be equal for two numbers to be comparable; and the cell, an explainer under one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.benchmark import own_perturbation
from assay.benchmark.evaluation import Settings
from assay.benchmark.migrations import SCHEMA_VERSION
from assay.classifier import Classifier
from assay.digests import canonical, short_digest
from assay.explainers.base import Explainer
from assay.metrics.base import MethodMetric, Metric
from assay.perturbation import Perturbation
from assay.tasks import Task

# Raised whenever the same protocol would give other numbers.
PROTOCOL_VERSION = 3

# Settings that came later; named only where they are given, so that the keys of older results stay.
_LATER = ("tolerance",)

Contents = Mapping[str, Mapping[str, Any]]


def make_protocol(
    task: Task,
    size: int | None,
    seed_of_task: int,
    model: Classifier,
    settings: Settings,
    perturbations: Contents,
    metrics: Contents,
    built: Mapping[str, Perturbation],
    preset: str | None = None,
) -> dict[str, Any]:
    """The protocol as JSON content.

    Args:
        task: the examples.
        size: the size that was asked for, None for all.
        seed_of_task: the seed of the subset.
        model: the classifier.
        settings: feature unit, target, contrast, output and seed.
        perturbations: class and settings of each, by name.
        metrics: class and settings of each, by name.
        built: the perturbations themselves.
        preset: the name of the protocol that all this follows to the letter, if it does.
    """
    tokens = [perturbation.hidden_token(model) for perturbation in built.values()]
    kinds = dict.fromkeys(token[0] for token in tokens if token is not None)
    # Named only where it is not what it always was, so that the keys of older results stay.
    rounded = {} if model.weights == "float32" else {"weights": model.weights}
    return {
        "version": PROTOCOL_VERSION,
        "preset": preset,
        "task": {
            "name": task.name,
            "split": task.split,
            "size": size,
            "seed": seed_of_task,
            "examples": len(task),
            "labels": list(task.labels),
            "fingerprint": task.fingerprint,
        },
        "model": {
            "name": model.name,
            "revision": model.revision,
            "fingerprint": model.fingerprint,
            "dtype": model.dtype,
            **rounded,
            "labels": list(model.labels),
            "max_length": model.max_length,
            "prompt": model.prompt,
            "hidden_token": ", ".join(kinds) or None,
        },
        "feature": settings.feature,
        "target": settings.target,
        "contrast": settings.contrast,
        "output": settings.output,
        "seed": settings.seed,
        "perturbations": dict(perturbations),
        "metrics": {name: as_ever(content) for name, content in metrics.items()},
    }


def make_metas(
    protocol: Mapping[str, Any],
    contents: Contents,
    explainers: Mapping[str, Explainer],
    metrics: Mapping[str, Metric | MethodMetric],
) -> dict[str, dict[str, Any]]:
    """The part of each cell.json that is known before the cell is computed; `key` names the cell.

    Args:
        protocol: of all these cells.
        contents: class and settings of each explainer, by name.
        explainers: themselves.
        metrics: by name.

    Returns:
        By the explainer's name.
    """
    # It is by far the longest part of what a key hangs on, and the same for all of them.
    spelt = canonical(protocol)
    common = {
        "schema": SCHEMA_VERSION,
        "protocol_key": short_digest(spelt),
        "protocol": protocol,
        "measures": {
            measure.name: {
                "metric": metric,
                "direction": measure.direction,
                "range": list(measure.range),
                "headline": measure.headline,
                "per": measure.per,
            }
            for metric, judge in metrics.items()
            for measure in judge.measures
        },
    }
    metas = {}
    for name, explainer in explainers.items():
        identity = {"name": name, "settings": as_ever(contents[name])}
        metas[name] = {
            **common,
            "key": short_digest(f'{{"explainer": {canonical(identity)}, "protocol": {spelt}}}'),
            "explainer": {
                **identity,
                "signed": explainer.signed,
                "searches": explainer.searches,
                "perturbation": own_perturbation.used_by(explainer, contents[name], protocol["perturbations"]),
            },
        }
    return metas


def as_ever(content: Mapping[str, Any]) -> dict[str, Any]:
    """Class and settings without those that older results do not know, where they are not given."""
    return {key: value for key, value in content.items() if not (key in _LATER and value is None)}
