"""The contract of an explainer: a stranger's method proves itself on made-up texts before anyone compares it."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from assay.errors import AssayError
from assay.explainers.base import Explainer
from assay.plain_text import clean

if TYPE_CHECKING:
    from assay.classifier import Classifier

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes:
        name: what should hold, such as `batch invariant`; `docs/contract.md` has a paragraph on each.
        status: `passed`; `failed`; or `skipped` where the question cannot be put or has no answer.
        detail: why it failed or was skipped, or what else there is to say; may be empty.
        seconds: how long it took; runs that several checks share are counted where they are first needed.
    """

    name: str
    status: Status
    detail: str
    seconds: float


def check_contract(build: Callable[[], Explainer], model: Classifier, seed: int = 0) -> list[Check]:
    """Find out whether a method keeps the contract of an explainer, by having the engine run it.

    It is asked to explain some forty short texts of the model's own words, and one of 200 words. A crash in its code is
    a failure of the check in which it happens, and the other checks go on. The method is handed a copy of the model;
    the model itself and the process are left as they were. Attributions from a file (`Precomputed`) cannot be asked
    anew: all checks are skipped.

    Args:
        build: gives a fresh instance of the method.
        model: what it explains.
        seed: of the texts and of all random numbers.

    Returns:
        A check each, in the order of `docs/contract.md`; the contract holds if none has failed.

    Raises:
        AssayError: the method says that it is not defined for this model, or texts cannot be made of its vocabulary.
    """
    from assay.explainers.precomputed import Precomputed
    from assay.validation.contract_checks import CHECKS, Failed, Skipped
    from assay.validation.trial import Trial
    from assay.validation.users_code import described

    explainer = build()
    explainer.check(model)
    if isinstance(explainer, Precomputed):
        reason = "the scores come from a file, which says nothing of other texts, other seeds or another model"
        return [Check(name, "skipped", reason, 0.0) for name in CHECKS]
    trial = Trial(build, model, seed)
    found = []
    status: Status
    for name, check in CHECKS.items():
        started, status = time.perf_counter(), "passed"
        try:
            detail = check(trial)
        except Failed as reason:
            status, detail = "failed", str(reason)
        except Skipped as reason:
            status, detail = "skipped", str(reason)
        except Exception as error:
            status, detail = "failed", described(error)
        if status == "failed":
            trial.failed.add(check)
        found.append(Check(name, status, clean(detail, limit=450), time.perf_counter() - started))
    return found


def check_explainer(
    explainer: type[Explainer] | Explainer | Callable[..., Any] | str, model: Classifier | None = None, **settings: Any
) -> list[Check]:
    """Check that a method of your own keeps the contract of an explainer; for a test of yours.

    Args:
        explainer: a class, an instance, a plain function `explain(predict, features)`, or what `assay validate` takes,
            such as `my_package.my_module:MyMethod`.
        model: what it explains; by default a small BERT with random weights, made on the spot.
        settings: arguments of the constructor, or further arguments of the function.

    Returns:
        All checks, none of which has failed.

    Raises:
        AssayError: some have failed; the message lists them. Or it is no explainer; the message lists what is missing.
    """
    from assay.validation.small_model import small_classifier

    build, name = _builder(explainer, settings)
    checks = check_contract(build, model or small_classifier())
    failed = [check for check in checks if check.status == "failed"]
    if failed:
        listed = "".join(f"\n- {check.name}: {check.detail}" for check in failed)
        raise AssayError(f"{name} breaks the contract of an explainer (docs/contract.md):{listed}")
    return checks


def _builder(explainer: Any, settings: dict[str, Any]) -> tuple[Callable[[], Explainer], str]:
    """What gives fresh instances of a method, and what it is called."""
    from assay.benchmark.bridge import Bridge
    from assay.validation.shape import refuse
    from assay.validation.subject import load_subject

    if isinstance(explainer, str):
        return load_subject(explainer, settings).build, explainer
    if isinstance(explainer, Explainer):
        name = type(explainer).__name__
        if settings:
            raise AssayError(f"{name} is built already; its settings cannot be changed here.")
        return partial(deepcopy, explainer), name
    name = getattr(explainer, "__name__", type(explainer).__name__)
    refuse(explainer, name, settings)
    if isinstance(explainer, type):
        return partial(explainer, **settings), name
    return partial(Bridge, explainer, **settings), name
