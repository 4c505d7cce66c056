"""The weights of a network wherever they are kept, and their fingerprint."""

from __future__ import annotations

import hashlib
from typing import Any

import torch


def weights_in_memory(network: Any, name: str) -> Any:
    """A tensor of a network's `state_dict`, on the CPU, wherever the network keeps it.

    Args:
        network: the network.
        name: its name.
    """
    from accelerate.utils import align_module_device

    module, _, own = name.rpartition(".")
    with align_module_device(network.get_submodule(module), "cpu"):
        return getattr(network.get_submodule(module), own).detach().cpu()


def fingerprint(model: Any) -> str:
    """SHA-256 over the names, shapes and values of a model's weights, the same for every file format."""
    digest = hashlib.sha256()
    state = model.state_dict()
    for key in sorted(state):
        tensor = state[key] if state[key].device.type != "meta" else weights_in_memory(model, key)
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
