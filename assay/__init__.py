"""Assay tests explanations of text classifiers: do they name what the model really used.

model = assay.Classifier.from_pretrained("path/or/hub-id")
attribution = assay.explain(model, "a gripping and funny film .", explainer="lime")
assay.score(model, ["a gripping and funny film ."], [attribution])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.api import evaluate, explain, score
    from assay.classifier import Classifier
    from assay.conversation import Attribution, Feature
    from assay.errors import AssayError
    from assay.example import Example
    from assay.tasks import load_task
    from assay.validation.contract import check_explainer

__all__ = [
    "AssayError",
    "Attribution",
    "Classifier",
    "Example",
    "Feature",
    "check_explainer",
    "evaluate",
    "explain",
    "load_task",
    "score",
]

_HOMES = {
    "AssayError": "assay.errors",
    "Attribution": "assay.conversation",
    "Classifier": "assay.classifier",
    "Example": "assay.example",
    "Feature": "assay.conversation",
    "check_explainer": "assay.validation.contract",
    "evaluate": "assay.api",
    "explain": "assay.api",
    "load_task": "assay.tasks",
    "score": "assay.api",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for, so that the command line need not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'assay' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted([*globals(), *__all__])
