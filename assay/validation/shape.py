"""Whether something has the shape of an explainer: all that is missing or wrong, found without running it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

from assay.errors import AssayError, near_matches
from assay.explainers.base import BlackBoxExplainer, Explainer, WhiteBoxExplainer
from assay.metrics.base import MethodMetric, Metric
from assay.perturbation import Perturbation

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
# Taken by every explainer of the kind, whatever its own arguments.
_OF_EVERY_CLASS = ("perturbation",)
_OF_EVERY_FUNCTION = ("perturbation", "signed")


def kind_of(found: object) -> Literal["class", "function"]:
    """Whether it is built or called."""
    return "class" if isinstance(found, type) else "function"


def refuse(found: object, name: str, settings: Mapping[str, Any]) -> None:
    """Refuse what is no explainer.

    Args:
        found: a class, or a function for the bridge.
        name: what the message calls it.
        settings: what it is to be built or called with.

    Raises:
        AssayError: with all that is missing or wrong.
    """
    if isinstance(found, type):
        problems = _of_class(found, settings)
    elif isinstance(found, Explainer):
        cls = type(found).__name__
        problems = [f"it is an object of the class {cls}; name the class, and give its settings beside it"]
    elif callable(found):
        problems = _of_function(found, settings)
    else:
        problems = [f"it is an object of the type {type(found).__name__}, neither a class nor a function"]
    if problems:
        listed = "".join(f"\n- {problem}" for problem in problems)
        raise AssayError(f"{name} cannot be validated:{listed}\nHow to write an explainer: docs/explaining.md.")


def _of_class(cls: type[Any], settings: Mapping[str, Any]) -> list[str]:
    others = {Metric: "a metric", MethodMetric: "a metric", Perturbation: "a perturbation"}
    for base, kind in others.items():
        if issubclass(cls, base):
            return [f"it is {kind}; what is validated is an explainer"]
    problems = []
    if not issubclass(cls, BlackBoxExplainer | WhiteBoxExplainer):
        problems.append(
            "it inherits neither from BlackBoxExplainer, which asks, nor from WhiteBoxExplainer, which looks inside "
            "the model (both in assay.explainers.base)"
        )
    looks_inside = issubclass(cls, WhiteBoxExplainer) or not (
        issubclass(cls, BlackBoxExplainer) or hasattr(cls, "converse") or not hasattr(cls, "attribute")
    )
    method, arguments = ("attribute", ["model", "batch", "target"]) if looks_inside else ("converse", ["case"])
    missing = set(getattr(cls, "__abstractmethods__", ()))
    if method in missing or not hasattr(cls, method):
        other = "" if issubclass(cls, Explainer) else ", nor attribute(self, model, batch, target)"
        problems.append(f"it has no {method}({', '.join(['self', *arguments])}){other}")
    else:
        problems += _of_method(cls, method, arguments)
    problems += [
        f"it has no {name}, which a class that it inherits from asks for" for name in sorted(missing - {method})
    ]
    for name, own in (("check", ["model"]), ("prepare", ["model", "background"])):
        if hasattr(cls, name):
            problems += _of_method(cls, name, own)
    return problems + _of_constructor(cls, settings)


def _of_method(cls: type[Any], name: str, arguments: list[str]) -> list[str]:
    method = getattr(cls, name)
    if not callable(method):
        return [f"its {name} is a {type(method).__name__}, no method"]
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        return [f"its {name} is async; a plain method is called here"]
    bound = isinstance(inspect.getattr_static(cls, name), staticmethod | classmethod)
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):  # some methods written in C do not tell
        return []
    try:
        signature.bind(*([] if bound else [None]), *arguments)
    except TypeError:
        called = ", ".join(arguments)
        return [f"its {name}{signature} cannot be called as {name}({called})"]
    return []


def _of_constructor(cls: type[Any], settings: Mapping[str, Any]) -> list[str]:
    try:
        parameters = inspect.signature(cls).parameters
    except (TypeError, ValueError) as error:
        return [f"its constructor does not say what it takes: {error}"]
    given = {name for name in settings if name not in _OF_EVERY_CLASS}
    problems = _unknown(given, parameters)
    needed = [name for name, one in parameters.items() if _is_needed(one) and name not in given]
    unnamed = [name for name in parameters if parameters[name].kind is inspect.Parameter.POSITIONAL_ONLY]
    if unnamed:
        problems.append(f"its constructor takes {', '.join(unnamed)} by place alone; settings are given by name")
    return problems + _lacking("its constructor", [name for name in needed if name not in unnamed])


def _of_function(function: Callable[..., Any], settings: Mapping[str, Any]) -> list[str]:
    name = getattr(function, "__name__", "explain")
    if inspect.isgeneratorfunction(function):
        return ["it is a generator; a function returns its scores (a method that asks with yield is a class)"]
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return ["it is async; a plain function is called here"]
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some functions written in C do not tell
        return []
    problems = []
    places = [one.name for one in parameters.values() if one.kind in _POSITIONAL]
    takes_any = any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters.values())
    if len(places) < 2 and not takes_any:
        problems.append(f"{name}{inspect.signature(function)} cannot be called as {name}(predict, features)")
    if places[:2] == ["features", "predict"]:
        problems.append(f"it takes features first; it is called as {name}(predict, features)")
    further = {own: one for own, one in parameters.items() if own not in places[:2]}
    given = {own for own in settings if own not in _OF_EVERY_FUNCTION}
    needed = [own for own, one in further.items() if _is_needed(one) and own not in given and own != "rng"]
    return problems + _unknown(given, further) + _lacking("it", needed)


def _is_needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind in (*_POSITIONAL, inspect.Parameter.KEYWORD_ONLY)


def _unknown(given: set[str], parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return []
    known = [name for name, one in parameters.items() if one.kind in _BY_NAME]
    return [f"it has no setting {name!r}. {near_matches(name, known)}" for name in sorted(given - set(known))]


def _lacking(who: str, names: list[str]) -> list[str]:
    if not names:
        return []
    return [
        f"{who} needs {', '.join(names)}: give {'it a default' if len(names) == 1 else 'them defaults'} or set "
        f"{' '.join(f'method.{name}=…' for name in names)}"
    ]
