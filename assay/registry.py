"""Names to classes: a name is a YAML file in `assay/conf/<group>/`, which holds a class and its settings."""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from assay.errors import AssayError, near_matches, unknown_name

CONF = Path(__file__).parent / "conf"
# Of the classes that have been built: to look at one takes longer than to build it, and a job has fifty.
_PARAMETERS: dict[type[Any], Mapping[str, inspect.Parameter]] = {}
_REFERENCE = re.compile(r"\$\{\.(\w+)\}")


def names(group: str) -> list[str]:
    """The names in a group, such as `explainer`; suites, which only list other names, are left out."""
    return list(_names(CONF / group))


@cache
def _names(folder: Path) -> tuple[str, ...]:
    files = {path.stem: path.read_text("utf-8") for path in folder.glob("*.yaml")}
    found = [name for name, text in files.items() if not ("@package _global_" in text and "defaults:" in text)]
    return tuple(sorted(found))


def names_with_defaults(group: str) -> list[str]:
    """The names in a group that can be built as they stand: none of their settings must be given (`???` in YAML)."""
    return [name for name in names(group) if "???" not in settings(group, name).values()]


def settings(group: str, name: str) -> dict[str, Any]:
    """The content of the YAML file behind a name: `_target_` and the settings' defaults."""
    if name not in names(group):
        raise unknown_name(group, name, names(group))
    content: dict[str, Any] = yaml.safe_load((CONF / group / f"{name}.yaml").read_text("utf-8"))
    return content


def locate(target: str) -> type[Any]:
    """Import the class behind a dotted path such as `my_module.MyMethod`."""
    module_name, _, class_name = target.rpartition(".")
    if not module_name:
        raise AssayError(f"_target_ {target!r} is not a dotted path such as my_module.MyMethod.")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise AssayError(
            f"Cannot import {module_name!r}, named by _target_ {target!r}: {error}. "
            "Run from the folder that holds the module, or put that folder on PYTHONPATH."
        ) from error
    if not hasattr(module, class_name):
        raise AssayError(f"{module_name!r} has no {class_name!r}. {near_matches(class_name, dir(module))}")
    found: type[Any] = getattr(module, class_name)
    return found


def instantiate(content: Mapping[str, Any]) -> Any:
    """Build what a YAML file describes.

    Raises:
        AssayError: a setting that the class does not take, or a value that it refuses.
    """
    if not isinstance(content, Mapping):
        raise AssayError(
            f"A configuration needs _target_, the dotted path of a class; got {content!r}. "
            "A class of your own is chosen by +explainers.mine._target_=my_module.MyMethod."
        )
    target = content.get("_target_")
    if not isinstance(target, str):
        raise AssayError(f"A configuration needs _target_, the dotted path of a class; got {dict(content)!r}.")
    cls = locate(target)
    given = {key: value for key, value in content.items() if key != "_target_"}
    try:
        accepted = _PARAMETERS.get(cls) or _PARAMETERS.setdefault(cls, inspect.signature(cls).parameters)
    except (TypeError, ValueError) as error:
        raise AssayError(f"{target} cannot be built from settings: {error}.") from error
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    for key in given:
        if key not in accepted and not takes_any:
            raise AssayError(f"{target} has no setting {key!r}. {near_matches(key, accepted)}")
    missing = [
        key
        for key, parameter in accepted.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and key not in given
    ]
    if missing:
        raise AssayError(f"{target} needs the setting{'s' if len(missing) > 1 else ''} {', '.join(missing)}.")
    try:
        return cls(**given)
    except (TypeError, ValueError) as error:
        raise AssayError(f"{target}: {error}") from error


def foreign_source(built: Any) -> str | None:
    """A name for the source of a class, or of a function that it holds, from outside Assay; None for Assay's own.

    It belongs to a result's identity: whoever edits a method of their own does not want its old numbers back.
    """
    parts = [type(built), *(value for value in vars(built).values() if inspect.isroutine(value))]
    foreign = {part.__module__ for part in parts if not str(part.__module__).startswith("assay.")}
    digest = hashlib.sha256()
    for module in sorted(foreign):
        try:
            digest.update(inspect.getsource(sys.modules[module]).encode())
        except (OSError, TypeError, KeyError):
            # Compiled or made on the spot: its name is all there is.
            digest.update(module.encode())
    return digest.hexdigest()[:16] if foreign else None


def build(group: str, name: str, **overrides: Any) -> Any:
    """Build the object behind a name, with some settings changed.

    Raises:
        AssayError: an unknown name or setting, a setting that must be given and is not, or a value that is refused.
    """
    content = {**settings(group, name), **overrides}
    return instantiate(_resolved({key: value for key, value in content.items() if value != "???"}))


def _resolved(content: Mapping[str, Any]) -> dict[str, Any]:
    """Put the value of a setting where another refers to it as `${.setting}`, as Hydra does for the command line."""
    return {
        key: _REFERENCE.sub(lambda match: str(content[match.group(1)]), value) if isinstance(value, str) else value
        for key, value in content.items()
    }


def describe(group: str, name: str) -> str:
    """One line about a name: its YAML file's first comment, or else the first line of its class's docstring.

    The class is read, not imported, so that listing names costs no heavy import.
    """
    lines = (CONF / group / f"{name}.yaml").read_text("utf-8").splitlines()
    comments = [line[1:].strip() for line in lines if line.startswith("#") and "@package" not in line]
    if comments:
        return comments[0]
    target = str(yaml.safe_load("\n".join(lines)).get("_target_", ""))
    module, _, class_name = target.rpartition(".")
    source = Path(__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")
    if not module.startswith("assay.") or not source.exists():
        return target
    for node in ast.parse(source.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return target
