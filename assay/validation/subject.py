"""What is validated: an explainer class, a plain function over the bridge, or attributions in a file."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from assay import registry
from assay.errors import AssayError, near_matches

if TYPE_CHECKING:
    from assay.explainers.base import Explainer

Kind = Literal["class", "function", "attributions"]

_BRIDGE = "assay.benchmark.bridge.Bridge"
_PRECOMPUTED = "assay.explainers.precomputed.Precomputed"
_FILES = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Subject:
    """A method that is validated.

    Attributes:
        name: what its cells are called: the class, function or file in small letters, digits and underscores; never the
            name of an explainer that ships.
        kind: `class`, `function` or `attributions`.
        content: class and settings, as `assay run` takes them under `explainers.<name>`.
    """

    name: str
    kind: Kind
    content: Mapping[str, Any]

    def build(self) -> Explainer:
        """A fresh instance.

        Raises:
            AssayError: a setting that it refuses.
        """
        from assay.benchmark.own_perturbation import build_explainer

        return build_explainer(self.name, dict(self.content), {})


def load_subject(target: str, settings: Mapping[str, Any]) -> Subject:
    """Find a method, and build it once to see that it can be built.

    Args:
        target: `package.module:Class` or `package.module:function`, found from the current directory, or the path of a
            file or folder of attributions.
        settings: arguments of the class's constructor, or further arguments of the function.

    Raises:
        AssayError: there is no such module, attribute or path; the module cannot be imported (the message holds the
            traceback); it is no explainer (the message lists all that is missing); a setting that it refuses.
    """
    if os.path.exists(target) and not target.endswith(".py"):
        path = Path(target)
        content = {"_target_": _PRECOMPUTED, "path": str(path), **settings}
        subject = Subject(_name(path.stem if path.is_file() else path.resolve().name), "attributions", content)
    else:
        module_name, attribute = _parsed(target)
        found = _attribute(_module(module_name), attribute, target)
        # Heavy, and not needed to find out that there is no such module.
        from assay.validation.shape import kind_of, refuse

        kind = kind_of(found)
        refuse(found, target, settings)
        content = {"_target_": f"{module_name}.{attribute}", **settings}
        if kind == "function":
            content = {"_target_": _BRIDGE, "explain": f"{module_name}.{attribute}", **settings}
        subject = Subject(_name(attribute, module_name), kind, content)
    _try_to_build(subject, target)
    return subject


def _try_to_build(subject: Subject, target: str) -> None:
    from assay.validation.users_code import traceback_of

    try:
        subject.build()
    except AssayError as error:
        # The registry has made one line of what the constructor refused; a fault in it deserves its place.
        cause = error.__cause__
        if isinstance(cause, TypeError) and subject.kind == "class":
            raise AssayError(f"{target} cannot be built.\n\n{traceback_of(cause)}") from error
        raise
    except (Exception, SystemExit) as error:
        raise AssayError(f"{target} cannot be built.\n\n{traceback_of(error)}") from error


def _parsed(target: str) -> tuple[str, str]:
    """The module and the attribute.

    Raises:
        AssayError: it has another form; the message says which was probably meant.
    """
    module, colon, attribute = target.partition(":")
    if (
        not module.endswith(".py")
        and attribute.isidentifier()
        and all(part.isidentifier() for part in module.split("."))
    ):
        return module, attribute
    wanted = "What is validated is package.module:Class, package.module:function or a path of attributions"
    if target in registry.names("explainer"):
        ships, _, name = str(registry.settings("explainer", target)["_target_"]).rpartition(".")
        raise AssayError(f"{wanted}. {target} ships with Assay: write {ships}:{name}.")
    if target.endswith(_FILES) or (not colon and os.sep in target and not target.endswith(".py")):
        folder = Path(target).parent
        siblings = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        hint = near_matches(Path(target).name, siblings) if siblings else f"There is no folder {str(folder)!r} either."
        raise AssayError(f"There is no file or folder {target!r}. {hint}")
    if module.endswith(".py"):
        dotted = module.removeprefix("./").removesuffix(".py").replace("/", ".")
        raise AssayError(f"{wanted}, not {target!r}. Write {dotted}:{attribute or 'MyMethod'}.")
    if not colon and "." in module:
        dotted, _, attribute = module.rpartition(".")
        raise AssayError(f"{wanted}, not {target!r}. Write {dotted}:{attribute}.")
    if colon and "." in attribute:
        raise AssayError(f"{wanted}, not {target!r}: it must stand at the top of its module, in nothing else.")
    raise AssayError(f"{wanted}, not {target!r}, and there is no such path here.")


def _module(name: str) -> ModuleType:
    """Import the user's module.

    Raises:
        AssayError: there is none; or the traceback of what went wrong in it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise AssayError(_not_found(name, error.name)) from None
        raise _broken(name, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


def _broken(name: str, error: BaseException) -> AssayError:
    from assay.validation.users_code import traceback_of

    return AssayError(f"{name} cannot be imported.\n\n{traceback_of(error)}")


def _not_found(name: str, missing: str) -> str:
    """Which part of a module's dotted name does not exist, and what there is."""
    parent, _, own = missing.rpartition(".")
    if not parent:
        here = [module.name for module in pkgutil.iter_modules([os.getcwd()])]
        return (
            f"There is no module {own!r} here. {near_matches(own, here)} "
            "Run from the folder that holds it, or put that folder on PYTHONPATH."
        )
    folders = getattr(importlib.import_module(parent), "__path__", None)
    if folders is None:
        return f"{parent} is a module and no package, so that there is no {name}."
    modules = [module.name for module in pkgutil.iter_modules(folders)]
    return f"{parent} has no module {own!r}. {near_matches(own, modules)}"


def _attribute(module: ModuleType, name: str, target: str) -> Any:
    if not hasattr(module, name):
        public = [own for own in vars(module) if not own.startswith("_")]
        raise AssayError(f"{target}: {module.__name__} has no {name!r}. {near_matches(name, public)}")
    return getattr(module, name)


def _name(own: str, module: str = "") -> str:
    """A name for cells: small letters, digits and underscores; told apart from what ships by the module's name."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", own)
    name = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_") or "method"
    if name == "explain" and module:
        name = _name(module.rpartition(".")[2])
    if name[0].isdigit() or name in registry.names("explainer"):
        name = f"my_{name}"
    return name
