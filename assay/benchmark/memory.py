"""How much memory a job will take, beside what is free: known before the work begins."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.benchmark.amounts import size
from assay.errors import AssayError
from assay.explainers.base import Explainer, WhiteBoxExplainer

if TYPE_CHECKING:
    import torch

    from assay.classifier import Classifier

_ROWS_OF_AN_EXPLANATION = 120  # that the default metrics ask about a sentence, and what is kept of each, in bytes
_BYTES_OF_AN_ANSWER = 400
_LARGEST_HEADER = 2**27


@dataclass(frozen=True)
class MemoryAccount:
    """What a job takes, in bytes; all but the weights are estimates.

    Attributes:
        weights: of the model.
        batch: activations of one full batch, forward.
        inside: activations, gradients and attention of one full batch in the methods that look inside; 0 without any.
        shard: the answers and records of one shard.
        isolated: whether a process of its own computes, with a model of its own beside this one's.
        tokens: of a full batch.
        examples: of a shard.
        free: what the device has free, the weights already taken off.
        device: where the model is.
    """

    weights: float
    batch: float
    inside: float
    shard: float
    isolated: bool
    tokens: int
    examples: int
    free: float
    device: str

    @property
    def needed(self) -> float:
        """What the work takes at its peak, beside the weights that are loaded."""
        return max(self.batch, self.inside) + self.shard + (self.weights if self.isolated else 0.0)

    @property
    def warning(self) -> str | None:
        """That it may not do, and what to set; None where it will."""
        if self.needed <= self.free:
            return None
        alone = ", or go without isolate and time_limit, which take a second model" if self.isolated else ""
        return (
            f"the work may take {size(self.needed)}, and {size(self.free)} are free on {self.device}. "
            f"Lower tokens_per_batch or shard_size, or set model.dtype=bfloat16{alone}."
        )

    def __str__(self) -> str:
        inside = f" ({size(self.inside)} where methods look inside)" if self.inside else ""
        twice = " and as much again in the isolated process" if self.isolated else ""
        return (
            f"memory: weights {size(self.weights)}{twice}, a batch of {self.tokens:,} tokens about {size(self.batch)}"
            f"{inside}, a shard of {self.examples} examples about {size(self.shard)}; {size(self.free)} are free"
        )


def account(
    model: Classifier,
    explainers: Iterable[Explainer],
    tokens_per_batch: int,
    examples: int,
    longest: int,
    perturbations: int = 1,
    isolated: bool = False,
) -> MemoryAccount:
    """What a job will take, of a model that is loaded.

    Args:
        model: the classifier.
        explainers: that will run.
        tokens_per_batch: the most tokens of a batch.
        examples: of a shard.
        longest: how many tokens the longest text has; a row that is longer than a batch may be is asked all the same.
        perturbations: how many there are.
        isolated: whether shards are computed in a process of their own.
    """
    members = list(explainers)
    tokens = max(tokens_per_batch, longest)
    looking = [member for member in members if isinstance(member, WhiteBoxExplainer)]
    inside = max((_backward(model, tokens) + member.memory(model, longest) for member in looking), default=0.0)
    answers = _ROWS_OF_AN_EXPLANATION * (_BYTES_OF_AN_ANSWER + longest / 8)
    return MemoryAccount(
        weights=float(sum(weight.numel() * weight.element_size() for weight in model.model.parameters())),
        batch=_forward(model, tokens),
        inside=inside,
        shard=examples * len(members) * perturbations * answers,
        isolated=isolated,
        tokens=tokens,
        examples=examples,
        free=free_memory(model.device),
        device=str(model.device),
    )


def check_room(model: Mapping[str, Any]) -> None:
    """See that the weights of a model can be held at all, before they are loaded; a map to several devices may do it.

    Args:
        model: the configuration's `model`.

    Raises:
        AssayError: they are larger than everything that is free.
    """
    import torch

    from assay.model_loading import DTYPES, find_device

    elements = count_weights(model["path"])
    if elements is None or model.get("device_map") is not None:
        return
    precision = model.get("weights", "float32")
    needed, device = elements * float(DTYPES[precision].itemsize), torch.device(find_device(model["device"]))
    free = free_memory(device)
    if needed <= free:
        return
    half = "" if precision != "float32" else f"model.weights=bfloat16 (then {size(needed / 2)}), "
    raise AssayError(
        f"The weights of {str(model['path'])!r} take {size(needed)} in {precision}, and {size(free)} are free "
        f"on {device}. Set {half}model.device_map=auto to spread them over all devices and the disk, or take a smaller "
        "model."
    )


def count_weights(path: str | Path) -> float | None:
    """How many numbers a model folder's safetensors hold, read from their headers alone; None where there are none."""
    total = 0.0
    with suppress(OSError, ValueError, KeyError, TypeError, struct.error):
        for file in sorted(Path(path).expanduser().glob("*.safetensors")):
            with file.open("rb") as opened:
                (length,) = struct.unpack("<Q", opened.read(8))
                if length > _LARGEST_HEADER:
                    return None
                header = json.loads(opened.read(length))
            total += sum(prod(about["shape"]) for name, about in header.items() if name != "__metadata__")
    return total or None


def free_memory(device: torch.device) -> float:
    """The bytes that a device has free: on a CPU what can be had without swapping, within a container's bound."""
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch holds back for itself can be used again.
        return float(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if device.type == "mps":
        return float(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    import psutil

    free_here = float(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):
        bound, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        free_here = min(free_here, float(max(0, bound - used)))
    return free_here


def _forward(model: Classifier, tokens: int) -> float:
    """Activations of a pass forward: six states and, four times, the inner state of the feed-forward network."""
    width, inner, _ = _sizes(model)
    logits = getattr(model.model.config, "vocab_size", 0) if model.prompt else 0
    return tokens * _item(model) * (6 * width + 4 * inner) + 4.0 * logits


def _backward(model: Classifier, tokens: int) -> float:
    """Activations of a pass forward and back: six states and one inner state stay of each layer."""
    width, inner, layers = _sizes(model)
    return _forward(model, tokens) + tokens * _item(model) * layers * (6 * width + inner)


def _item(model: Classifier) -> float:
    # Under autocast what norms and sums hold stays in float32.
    return 4.0 if model.dtype == "float32" else 3.0


def _sizes(model: Classifier) -> tuple[int, int, int]:
    """Width, inner width of a feed-forward network, and layers."""
    config = model.model.config
    width = int(getattr(config, "hidden_size", None) or model.embedding_width)
    named = (getattr(config, name, None) for name in ("intermediate_size", "ffn_dim", "hidden_dim", "n_inner"))
    inner = next((int(found) for found in named if found), 4 * width)
    return width, inner, int(getattr(config, "num_hidden_layers", None) or 1)
