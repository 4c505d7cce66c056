"""Which metrics, perturbations and tasks are Assay's own: only those are built from what a stranger's file names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from assay import registry

# Settings that name weights. What they may name is a repository on the hub, never a place on this machine.
WEIGHTS = ("masked_lm", "base")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?")


@cache
def own_targets(group: str) -> frozenset[str]:
    """The dotted paths of Assay's classes in a group: `metric`, `perturbation` or `task`."""
    contents = [registry.settings(group, name) for name in registry.names(group)]
    found = {str(content["_target_"]) for content in contents}
    for path in (registry.CONF / "protocol").glob("*.yaml"):
        preset = yaml.safe_load(path.read_text("utf-8"))["preset"] or {}
        found |= {str(part["_target_"]) for part in preset.get(f"{group}s", {}).values()}
    return frozenset(found)


def is_own(group: str, content: Mapping[str, Any]) -> bool:
    """Whether class and settings build a member of Assay's own, and nothing beside it."""
    return content.get("_target_") in own_targets(group) and not _builds_more(content)


def foreign_parts(protocol: Mapping[str, Any]) -> list[str]:
    """The metrics and perturbations of a protocol that are not Assay's own, or hold something that is not."""
    return [
        f"{group}s.{name}"
        for group in ("metric", "perturbation")
        for name, content in protocol[f"{group}s"].items()
        if not is_own(group, content)
    ]


def settings_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Class and settings, without what a run added to them as part of an identity."""
    return {name: value for name, value in content.items() if name != "source" and not name.endswith("_fingerprint")}


def weights_elsewhere(protocol: Mapping[str, Any]) -> list[str]:
    """The settings of metrics and perturbations that name weights anywhere but on the hub."""
    return [
        f"{group}.{name}.{setting}"
        for group in ("metrics", "perturbations")
        for name, content in protocol[group].items()
        for setting in WEIGHTS
        if content.get(setting) is not None and not is_hub_id(str(content[setting]))
    ]


def is_hub_id(path: str) -> bool:
    """Whether a path is the name of a repository on the hub, and of nothing on this machine's disk."""
    return bool(_HUB_ID.fullmatch(path)) and ".." not in path and not Path(path).exists()


def names_a_path(content: Mapping[str, Any]) -> bool:
    """Whether a setting, however deep, could lead to another folder."""
    settings = {name: value for name, value in content.items() if name != "_target_"}
    return any(isinstance(one, str) and ("/" in one or "\\" in one or ".." in one) for one in _inside(settings))


def _builds_more(content: Mapping[str, Any]) -> bool:
    """Whether a setting, however deep, names a class."""
    return any(isinstance(value, Mapping) and "_target_" in value for value in _inside(dict(content)))


def _inside(content: Any) -> Iterator[Any]:
    """All that lies in some JSON content, itself left out."""
    for value in content.values() if isinstance(content, Mapping) else content:
        yield value
        if isinstance(value, Mapping | list):
            yield from _inside(value)
