"""Whether anyone has written to a model since it was loaded, and putting back what was written."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import Module

from assay.classifier import Classifier
from assay.model_loading import is_spread

# Eight bytes each; small enough that what is made of a part stays in a processor's cache.
_WORDS_AT_ONCE = 2**18
_HELD = ("_modules", "_parameters", "_buffers")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# Their layers make buffers anew when a longer text comes, which is no one's fault.
_GROWING = ("dynamic", "longrope")

_states: WeakKeyDictionary[Classifier, ModelState] = WeakKeyDictionary()


class ModelWritten(Exception):
    """Somebody has written to a model while others asked it; the message says what was changed."""


def state_of(model: Classifier) -> ModelState:
    """What a model was like when this was first asked."""
    if model not in _states:
        _states[model] = ModelState(model.model)
    return _states[model]


class ModelState:
    """What a model was like at one moment: enough to see every change, without a second copy of its weights.

    Of weights and buffers it keeps a checksum; of modules their members and hooks, their mode and their class; and the
    model's configuration. Other attributes of modules, and weights that are fetched from a disk, are not looked at.
    """

    def __init__(self, network: Module) -> None:
        """Take in a model as it is now."""
        self._network = network
        # Of a model over several devices, what is fetched when it is needed is another object each time.
        kinds = _HELD[:1] if is_spread(network) else _HELD
        self._modules = [_ModuleState.of(name, module, kinds) for name, module in network.named_modules()]
        self._config = copy.deepcopy(vars(network.config))
        self._tensors = dict(_tensors(network))
        # Other names for the same memory, which is still there when somebody sets `.data`.
        self._memory = {name: tensor.detach() for name, tensor in self._tensors.items()}
        self._trainable = {name: tensor.requires_grad for name, tensor in self._tensors.items()}
        self._checksums = checksums(self._tensors)

    def changes(self) -> list[str]:
        """What is not as it was, in words; empty if nobody has written to the model."""
        found = [change for module in self._modules for change in module.changes()]
        now = dict(_tensors(self._network))
        known = {name: tensor for name, tensor in now.items() if name in self._tensors}
        found += [
            f"requires_grad of {name}"
            for name, tensor in known.items()
            if tensor.requires_grad != self._trainable[name]
        ]
        found += self._changed_tensors(known)
        config = vars(self._network.config)
        found += [
            f"the configuration's {key}"
            for key in sorted({*self._config, *config})
            if (key in self._config) != (key in config) or self._config.get(key) != config.get(key)
        ]
        return found

    def restore(self, load: Callable[[], Module]) -> None:
        """Put everything back; weights that were overwritten are read again.

        Args:
            load: loads the same model once more, on the CPU; called only if weights were overwritten.

        Raises:
            RuntimeError: the model that was loaded is not the one that this was.
        """
        for module in self._modules:
            module.restore()
        for name, tensor in self._tensors.items():
            memory = self._memory[name]
            if tensor.data_ptr() != memory.data_ptr() or tensor.dtype != memory.dtype or tensor.shape != memory.shape:
                tensor.data = memory
            if tensor.is_leaf:
                tensor.requires_grad_(self._trainable[name])
        vars(self._network.config).clear()
        vars(self._network.config).update(copy.deepcopy(self._config))
        if self._changed_tensors(self._tensors):
            fresh = dict(_tensors(load()))
            with torch.no_grad():
                for name in self._changed_tensors(self._tensors):
                    self._tensors[name].data.copy_(fresh[name].data)
        left = self.changes()
        if left:
            raise RuntimeError(f"The model could not be put back as it was: {summary(left)}.")

    def _changed_tensors(self, tensors: dict[str, Tensor]) -> list[str]:
        now = checksums(tensors)
        return [name for name, found in now.items() if found != self._checksums[name]]


@dataclass(frozen=True)
class _ModuleState:
    """A module's members and hooks by reference, its mode and its class."""

    name: str
    module: Module
    kind: type[Module]
    training: bool
    forward: Any
    held: dict[str, dict[str, Any]]
    hooks: dict[str, dict[int, Any]]

    @classmethod
    def of(cls, name: str, module: Module, kinds: Sequence[str]) -> _ModuleState:
        held = [kind for kind in kinds if not (kind == "_buffers" and _is_growing(module))]
        return cls(
            name or "the model",
            module,
            type(module),
            module.training,
            vars(module).get("forward"),
            {kind: dict(getattr(module, kind)) for kind in held},
            {kind: dict(getattr(module, kind)) for kind in _HOOKS},
        )

    def changes(self) -> list[str]:
        module = self.module
        found = []
        if type(module) is not self.kind or vars(module).get("forward") is not self.forward:
            found.append(f"the class or forward of {self.name}")
        if module.training != self.training:
            found.append(f"the mode of {self.name}")
        found += [
            f"what {self.name} consists of" for kind, before in self.held.items() if _differ(module, kind, before)
        ]
        found += [f"hooks in {self.name}" for kind, before in self.hooks.items() if _differ(module, kind, before)]
        return found

    def restore(self) -> None:
        module = self.module
        if type(module) is not self.kind:
            module.__class__ = self.kind
        if self.forward is None:
            vars(module).pop("forward", None)
        else:
            module.forward = self.forward
        module.training = self.training
        members: dict[str, dict[Any, Any]] = {**self.held, **self.hooks}
        for kind, before in members.items():
            if _differ(module, kind, before):
                getattr(module, kind).clear()
                getattr(module, kind).update(before)


def _differ(module: Module, kind: str, before: dict[Any, Any]) -> bool:
    now = getattr(module, kind)
    return len(now) != len(before) or any(now.get(key) is not value for key, value in before.items())


def _is_growing(module: Module) -> bool:
    return any(kind in str(getattr(module, "rope_type", "")) for kind in _GROWING)


def _tensors(network: Module) -> Iterator[tuple[str, Tensor]]:
    """Every weight and buffer that is in memory, by name."""
    for prefix, module in network.named_modules():
        held = dict(module._parameters) if _is_growing(module) else {**module._parameters, **module._buffers}
        for name, tensor in held.items():
            if tensor is not None and not tensor.is_meta:
                yield f"{prefix}.{name}".lstrip("."), tensor


def summary(changes: list[str]) -> str:
    """Changes in a few words."""
    more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
    return f"{changes[0]}{more}"


def checksums(tensors: dict[str, Tensor]) -> dict[str, tuple[int, torch.dtype, torch.Size]]:
    """A checksum of each tensor's bytes, with its type and shape.

    Computed where the tensor is. A single number that changes always changes it; of many that do, about one set in 2^32
    does not, unless somebody chooses them so.
    """
    # Tied weights have several names.
    distinct = {
        id(tensor): _checksum(tensor) for tensor in {id(tensor): tensor for tensor in tensors.values()}.values()
    }
    found = {name: distinct[id(tensor)] for name, tensor in tensors.items()}
    # Fetched together, so that an accelerator is waited for once.
    values: dict[str, int] = {}
    for device in {value.device for value in found.values()}:
        here = [name for name, value in found.items() if value.device == device]
        values.update(zip(here, torch.stack([found[name] for name in here]).tolist(), strict=True))
    return {name: (values[name], tensor.dtype, tensor.shape) for name, tensor in tensors.items()}


def _checksum(tensor: Tensor) -> Tensor:
    flat = tensor.detach().reshape(-1).view(torch.uint8)
    if flat.storage_offset() % 8:
        flat = flat.clone()
    words = len(flat) // 8
    total = torch.zeros((), dtype=torch.int64, device=flat.device)
    weights = _weights(flat.device)
    for part in torch.split(flat[: words * 8].view(torch.int64), _WORDS_AT_ONCE):
        # Whole numbers wrap around, and an odd factor can be undone: no change of one of them is lost. The upper bits
        # are brought down first, since a factor hardly moves them: two changed signs would cancel out.
        mixed = (part >> 32).bitwise_xor_(part).mul_(weights[: len(part)])
        total = total * 3 + mixed.sum()
    rest = flat[words * 8 :].long()
    return total * 3 + (rest * weights[: len(rest)]).sum()


@cache
def _weights(device: torch.device) -> Tensor:
    """Odd numbers, so that places can be told apart."""
    generator = torch.Generator().manual_seed(0)
    limit = 2**62
    drawn = torch.randint(-limit, limit, (_WORDS_AT_ONCE,), generator=generator, dtype=torch.int64)
    return (drawn * 2 + 1).to(device)
