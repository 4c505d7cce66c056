"""The model that a configuration describes."""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping
from typing import Any

from assay.benchmark.memory import check_room
from assay.classifier import Classifier
from assay.errors import AssayError
from assay.model_loading import load_causal_config, load_config
from assay.prompted import PromptedClassifier, parse_template

KINDS = ("classifier", "prompted")

# The last model that was loaded, by what describes it.
_kept: dict[str, Classifier] = {}


def load_model(content: Mapping[str, Any]) -> Classifier:
    """The classifier that a configuration describes; jobs of a sweep often share one, so the last is kept.

    It is let go before another is loaded, so that there are never two of them in memory.

    Raises:
        AssayError: it cannot be loaded, or its weights are larger than everything that is free.
    """
    key = json.dumps(content)
    if key not in _kept:
        free_model()
        check_room(content)
        _kept[key] = _classifier(content)
        if content.get("compile"):
            _kept[key].compile()
    return _kept[key]


def free_model() -> None:
    """Let go of the model that is kept, and of its memory on the device."""
    if not _kept:
        return
    import torch

    _kept.clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _classifier(model: Mapping[str, Any]) -> Classifier:
    how = {name: model[name] for name in ("device", "dtype", "revision")}
    how |= {name: model[name] for name in ("weights", "device_map") if name in model}
    if model["kind"] == "prompted":
        return PromptedClassifier.load(model["path"], model["template"], model["label_words"], **how)
    return Classifier.from_pretrained(model["path"], **how)


def class_names(model: Mapping[str, Any]) -> list[str]:
    """The model's classes, found out without loading it unless it is kept.

    Raises:
        AssayError: a model that is not there or of another kind, or a prompt that lacks something.
    """
    kept = _kept.get(json.dumps(model))
    if kept is not None:
        return list(kept.labels)
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


def load_again(content: Mapping[str, Any]) -> Classifier:
    """The same model once more beside the one that is kept, on the CPU, to read what its weights were."""
    return _classifier({**content, "device": "cpu", "device_map": None})
