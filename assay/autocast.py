"""Arithmetic in less than float32, for all of a network but the step that gives the logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from assay.model_loading import DTYPES, Dtype


@contextmanager
def autocast(network: Any, classes: int, device: torch.device, dtype: Dtype) -> Iterator[None]:
    """Have a network compute in `dtype` for as long as this lasts, and its logits in float32.

    A logit of 5 in bfloat16 goes up in steps of 0.03, so that words whose removal changes little would all be tied. The
    last step reads a single state of each row, and takes no time.

    Args:
        network: a transformers model whose weights are in float32; one with other weights takes its last step in them.
        classes: how many logits it has, unless they are a vocabulary's.
        device: where it runs.
        dtype: of the arithmetic; with `float32` nothing is changed.
    """
    if dtype == "float32":
        yield
        return
    step = _last_step(network, classes)
    with torch.autocast(device.type, DTYPES[dtype]):
        if step is None or step.weight.dtype != torch.float32:
            yield
            return
        own, plain = vars(step).get("forward"), step.forward

        def forward(state: Tensor) -> Tensor:
            with torch.autocast(device.type, enabled=False):
                logits: Tensor = plain(state.float())
            return logits

        step.forward = forward
        try:
            yield
        finally:
            if own is None:
                del step.forward
            else:
                step.forward = own


def _last_step(network: Any, classes: int) -> Any:
    """The linear map that gives the logits; None if there is none."""
    vocabulary = network.get_output_embeddings()
    if vocabulary is not None:
        return vocabulary
    maps = [module for module in network.modules() if isinstance(module, nn.Linear) and module.out_features == classes]
    return maps[-1] if maps else None
