"""What really reaches a model, seen by a hook in it, and whether it is left as it was."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from assay.classifier import Classifier


@dataclass
class Watch:
    """What a model was given: for each call its ids, [rows, tokens]."""

    calls: list[torch.Tensor] = field(default_factory=list)
    padding: int = 0

    @property
    def rows(self) -> list[tuple[int, ...]]:
        return [tuple(row) for call in self.calls for row in call.tolist()]

    @property
    def tokens(self) -> int:
        return sum(call.numel() for call in self.calls)


@contextmanager
def watched(model: Classifier) -> Iterator[Watch]:
    """Count what the model is given while this lasts."""
    watch = Watch()

    def look(_: Any, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        assert inputs.get("input_ids") is not None
        watch.calls.append(inputs["input_ids"].clone())
        if inputs.get("attention_mask") is not None:
            watch.padding += int((inputs["attention_mask"] == 0).sum())

    handle = model.model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield watch
    finally:
        handle.remove()


def state(model: Any) -> dict[str, Any]:
    """All that a guest could have changed: of the model, and of the process."""
    return {
        "weights": {name: value.clone() for name, value in model.state_dict().items()},
        "training": [module.training for module in model.modules()],
        "trainable": [parameter.requires_grad for parameter in model.parameters()],
        "gradients": [parameter.grad is None for parameter in model.parameters()],
        "attention": model.config._attn_implementation,
        "config": copy.deepcopy(model.config.to_dict()),
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), len(m._backward_pre_hooks))
            for m in model.modules()
        ],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),
        "python": random.getstate(),
        "grad": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
    }


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The names of what is not as it was."""
    found = [name for name in before if name != "weights" and before[name] != after[name]]
    same = all(torch.equal(value, after["weights"][name]) for name, value in before["weights"].items())
    return found if same else [*found, "weights"]
