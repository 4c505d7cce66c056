"""The overrides of `assay validate`: what is for the method, what for the planted tasks, and what for `assay run`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay.benchmark import launch
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.validation.subject import Subject

# What the planted truth takes over from the comparison; its task, model and metric are its own.
_OF_ANY_RUN = ("explainer", "explainers", "seed", "tokens_per_batch", "model.device", "tracker")
# Text that needs no quotation marks, unless it is a word that stands for another value.
_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
_WORDS = ("true", "false", "null", "nan", "inf")


@dataclass(frozen=True)
class Overrides:
    """What was asked for.

    Attributes:
        method: settings of the validated method.
        planted: overrides of `validate.yaml`.
        run: overrides of `assay run`, the method's left out.
        everywhere: those of `run` that hold for the planted tasks too.
    """

    method: Mapping[str, Any]
    planted: Sequence[str]
    run: Sequence[str]
    everywhere: Sequence[str]

    @property
    def ask_for_comparison(self) -> bool:
        """Whether anything was said about a task or a model of the user's."""
        return len(self.run) > len(self.everywhere)


def split(arguments: Sequence[str]) -> Overrides:
    """Sort the arguments of the command by what they are for.

    Raises:
        AssayError: one that cannot be understood, several values for a setting of the method, or `results`.
    """
    method: dict[str, Any] = {}
    planted, run, everywhere = [], [], []
    for argument, override in zip(arguments, launch.parse(arguments), strict=True):
        key = str(override.key_or_group)
        group, _, setting = key.partition(".")
        if group == "method":
            if override.is_sweep_override() or not setting or override.is_delete():
                raise AssayError(
                    f"Cannot use {argument!r}: one setting of one method is given by method.NAME=VALUE. "
                    "Each variant of a method is validated by a command of its own."
                )
            _put(method, setting.split("."), override.value())
        elif group == "planted":
            if override.is_sweep_override():
                raise AssayError(f"Cannot use {argument!r}: a list is written in brackets, such as [one,other].")
            planted.append(argument)
        elif group == "results":
            raise AssayError(f"Cannot use {argument!r}: the results stand in the folder that --out names.")
        else:
            run.append(argument)
            if key in _OF_ANY_RUN or group in _OF_ANY_RUN:
                everywhere.append(argument)
    return Overrides(method, planted, run, everywhere)


def with_subject(subject: Subject, overrides: Sequence[str]) -> list[str]:
    """Overrides of `assay run` that have the method explain beside the baselines; tracked nowhere by default."""
    key = f"+explainers.{subject.name}"
    own = [f"{key}.{setting}={spelled(value)}" for setting, value in subject.content.items()]
    tracked = any(override.partition("=")[0].lstrip("+") == "tracker" for override in overrides)
    return [*own, *([] if tracked else ["tracker=none"]), *overrides]


def spelled(value: Any) -> str:
    """A value as an override writes it."""
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
            return value
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{spelled(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(spelled, value)) + "]"
    return json.dumps(value)


def _put(settings: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        settings = settings.setdefault(name, {})
        if not isinstance(settings, dict):
            raise AssayError(f"method.{'.'.join(path)} is a setting of method.{name}, which was given a value itself.")
    settings[path[-1]] = value
