"""What a method must leave as it was: the process, the model and what it is handed."""

from __future__ import annotations

import hashlib
import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.classifier import Classifier
from assay.encoding import Batch

State = Mapping[str, Any]  # what it is, in words -> something that can be compared

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
)


def of_process() -> State:
    """The global random state, the warnings filters, and how torch and numpy calculate."""
    kind, keys, *rest = np.random.get_state()
    return {
        "Python's global random state": random.getstate(),
        "numpy's global random state": (kind, np.asarray(keys).tobytes(), *rest),
        "torch's global random state": torch.get_rng_state().numpy().tobytes(),
        "the warnings filters": tuple(warnings.filters),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "numpy's handling of floating-point errors": tuple(np.geterr().items()),
    }


def of_network(network: nn.Module) -> State:
    """Train mode, frozen parameters, gradients and hooks of every part."""
    state: dict[str, Any] = {"the parts of the model": tuple(name for name, _ in network.named_modules())}
    for name, module in network.named_modules():
        where = name or "the model"
        state[f"the train mode of {where}"] = module.training
        state[f"the hooks of {where}"] = tuple(tuple(getattr(module, kind)) for kind in _HOOKS)
    for name, parameter in network.named_parameters():
        state[f"whether {name} is trained (requires_grad)"] = parameter.requires_grad
        state[f"the gradient of {name}"] = parameter.grad is None
    return state


def of_model(model: Classifier) -> State:
    """The same with the weights, the configuration and the tokenizer."""
    state = dict(of_network(model.model))
    for name, tensor in [*model.model.named_parameters(), *model.model.named_buffers()]:
        state[f"the weights {name}"] = _digest(tensor)
    state["the model's configuration"] = model.model.config.to_json_string(use_diff=False)
    state["how the model computes attention"] = getattr(model.model.config, "_attn_implementation", None)
    tokenizer = model.tokenizer
    state["the tokenizer"] = (tokenizer.backend_tokenizer.to_str(), tokenizer.padding_side, tokenizer.truncation_side)
    return state


def of_batch(batch: Batch, target: Tensor) -> State:
    """The tensors that a look inside the model is handed, and what others have computed for the batch."""
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    state: dict[str, Any] = {
        f"the batch's {name}": _digest(tensor) for name, tensor in {**tensors, "target": target}.items()
    }
    for name, kept in batch.memo.items():
        parts = kept if isinstance(kept, tuple | list) else (kept,)
        state[f"what is kept for others as {name}"] = tuple(_digest(one) for one in parts if isinstance(one, Tensor))
    return state


def changed(before: State, after: State) -> list[str]:
    """What is not what it was before, or is gone, in words."""
    return [name for name, value in before.items() if name not in after or after[name] != value]


@contextmanager
def kept() -> Iterator[None]:
    """Put the process back as it was when this ends, whatever a method has done to it."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gradient, dtype, threads = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    strict, errors = torch.are_deterministic_algorithms_enabled(), np.geterr()
    with warnings.catch_warnings():
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_rng_state(states[2])
            torch.set_grad_enabled(gradient)
            torch.set_default_dtype(dtype)
            torch.use_deterministic_algorithms(strict)
            np.seterr(**errors)
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)


def _digest(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    digest = hashlib.blake2b(f"{tuple(tensor.shape)}{tensor.dtype}".encode(), digest_size=16)
    digest.update(flat.view(torch.uint8).numpy().data)
    return digest.digest()
