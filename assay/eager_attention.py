"""Attention computed in the open, the only way in which its weights can be read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.classifier import Classifier


@contextmanager
def eager_attention(model: Classifier) -> Iterator[None]:
    """Have a classifier compute its attention in the open for as long as this lasts.

    Args:
        model: the classifier; afterwards it computes as before.
    """
    before = model.model.config._attn_implementation
    if before != "eager":
        _tell(model, before)
        _set(model.model, "eager")
    try:
        with no_hooks_left(model.model):
            yield
    finally:
        if before != "eager":
            _set(model.model, before)


@contextmanager
def no_hooks_left(network: Any) -> Iterator[None]:
    """Take off what transformers hangs into the layers, for good, when attention or hidden states are first asked for.

    Args:
        network: a transformers model.
    """
    installed = "_output_capturing_hooks_installed"
    modules = list(network.modules())
    hooks = [set(module._forward_hooks) for module in modules]
    marked = [getattr(module, installed, False) for module in modules]
    try:
        yield
    finally:
        for module, known, mark in zip(modules, hooks, marked, strict=True):
            for hook in set(module._forward_hooks) - known:
                del module._forward_hooks[hook]
            if not mark and hasattr(module, installed):
                delattr(module, installed)


def _tell(model: Classifier, before: str) -> None:
    """Say once that a model is made to compute its attention in another way than it was loaded with."""
    if not model.has_told_of_eager_attention:
        model.has_told_of_eager_attention = True
        logging.getLogger(__name__).warning(
            "%s computes its attention by %r, which does not give the weights; where a method reads them, it is "
            "computed eagerly.",
            model.name,
            before,
        )


def _set(network: Any, implementation: str) -> None:
    if network._can_set_attn_implementation():
        network.set_attn_implementation(implementation)
    else:
        # Falcon reads the setting in every pass, but transformers declines to change it.
        network.config._attn_implementation_internal = implementation
