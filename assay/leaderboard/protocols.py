"""Protocols in words: what each one fixes, and in what two of them differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from assay.plain_text import clean

MISSING = "—"

# The order in which a reader asks; whatever else a protocol holds follows under its own path.
_TITLES = {
    "task.name": "Task",
    "task.split": "Split",
    "task.examples": "Examples",
    "task.size": "Size asked for",
    "task.seed": "Seed of the subset",
    "task.labels": "Labels",
    "task.fingerprint": "Fingerprint of the examples",
    "model.name": "Model",
    "model.revision": "Revision",
    "model.fingerprint": "Fingerprint of the weights",
    "model.labels": "Classes",
    "model.prompt": "Prompt",
    "model.dtype": "Number format",
    "model.hidden_token": "Token that hides",
    "feature": "Feature",
    "target": "Class that is explained",
    "contrast": "Class that it is contrasted with",
    "output": "Output that is measured",
    "seed": "Seed",
    "preset": "Followed to the letter",
    "version": "Protocol version",
}


def flatten(content: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings by dotted path; lists are values."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            flat.update({f"{name}.{path}": inner for path, inner in flatten(value).items()})
        else:
            flat[str(name)] = value
    return flat


def differences(contents: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """What is not the same in all of them: by dotted path, the value in each as text, `—` where there is none."""
    flats = [flatten(content) for content in contents]
    paths = dict.fromkeys(path for flat in flats for path in flat)
    values = {path: [spell(flat[path]) if path in flat else MISSING for flat in flats] for path in paths}
    return {path: texts for path, texts in values.items() if len(set(texts)) > 1}


def short_names(keys: Sequence[str], presets: Sequence[str | None]) -> dict[str, str]:
    """What tells protocols of one task and model apart, by key: nothing where there is one, else the preset.

    Where that is not enough, the beginning of the key stands beside it.

    Args:
        keys: of the protocols.
        presets: that each follows; None for none.
    """
    if len(keys) == 1:
        return {keys[0]: ""}
    names = {}
    for key, preset in zip(keys, presets, strict=True):
        told = [clean(preset or "own settings", 40)] if len(set(presets)) > 1 else []
        names[key] = ", ".join([*told, *([clean(key[:8])] if list(presets).count(preset) > 1 else [])])
    return names


def spell(value: Any) -> str:
    """A setting as a person would write it."""
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ", ".join(spell(one) for one in value)
    return json.dumps(value)


def definition_list(protocol: Mapping[str, Any]) -> list[tuple[str, str]]:
    """All that a protocol fixes, as (term, description)."""
    flat = flatten({name: part for name, part in protocol.items() if name not in ("metrics", "perturbations")})
    terms = [(title, spell(flat.pop(path))) for path, title in _TITLES.items() if path in flat]
    terms += [(path, spell(value)) for path, value in flat.items()]
    for group, title in (("perturbations", "Hiding"), ("metrics", "Metric")):
        terms += [(f"{title}: {name}", settings(content)) for name, content in protocol.get(group, {}).items()]
    return terms


def settings(content: Mapping[str, Any]) -> str:
    """A component's class and its arguments, on one line."""
    arguments = [f"{path} = {spell(value)}" for path, value in flatten(content).items() if path != "_target_"]
    return "; ".join([str(content.get("_target_", "")), *arguments]).strip("; ")


def distinct_names(explainers: Sequence[Mapping[str, Any]]) -> list[str]:
    """The name of each explainer; where two share one, with the settings in which they differ."""
    names = []
    for explainer in explainers:
        namesakes = [other["settings"] for other in explainers if other["name"] == explainer["name"]]
        differing = differences(namesakes)
        flat = flatten(explainer["settings"])
        told = [f"{path}={spell(flat[path])}" for path in differing if path in flat]
        names.append(f"{explainer['name']} ({', '.join(told)})" if told else str(explainer["name"]))
    return names
