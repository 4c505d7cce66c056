"""How many tokens a batch holds: measured once for each device and model, and kept in the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.benchmark.progress import say
from assay.classifier import Classifier
from assay.device import is_out_of_memory
from assay.example import Example
from assay.model_loading import Dtype
from assay.rows import Stack

# On a CPU larger batches are no faster: see docs/performance.md.
CPU_TOKENS_PER_BATCH = 4096
_FEWEST, _MOST = 2**12, 2**19
_TYPICAL = Example("", ("a word and another " * 7,))  # about as long as a sentence
_WORTH = 1.03  # by how much a batch of twice the size must be faster
_SECONDS = 1.5  # after which no larger batch is tried
_TIMES = 3

_found: dict[str, int] = {}


def tokens_per_batch(model: Classifier, dtype: Dtype | None = None) -> int:
    """The most tokens of a batch: the fewest beyond which twice as many are less than 3 % faster a token.

    On a CPU it is 4,096. On an accelerator it is measured on a made-up sentence the first time that such a model runs
    on such a device, which takes a second or two, and kept in the user's cache, so that all runs after it batch alike.

    Args:
        model: the classifier, on its device.
        dtype: the precision of the arithmetic; by default the classifier's.
    """
    if model.device.type == "cpu":
        return CPU_TOKENS_PER_BATCH
    about = _about(model, dtype or model.dtype)
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
    if key not in _found:
        path = _folder() / f"{key}.json"
        kept = _read(path)
        _found[key] = _keep(path, {**about, "tokens_per_batch": measure(model, dtype)}) if kept is None else kept
    return _found[key]


def measure(model: Classifier, dtype: Dtype | None = None) -> int:
    """Try batches of 4,096 tokens, twice as many, and so on, until that is no faster, memory ends or time is up."""
    started, best, speed = time.perf_counter(), _FEWEST, 0.0
    with model.at_work():
        tokens = _FEWEST
        while tokens <= _MOST and time.perf_counter() - started < _SECONDS:
            found = _speed(model, dtype, tokens)
            if found is None or found < _WORTH * speed:
                break
            best, speed, tokens = tokens, found, 2 * tokens
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    say(
        f"{model.name} on {_device(model)}: batches of {best:,} tokens, found in "
        f"{time.perf_counter() - started:.1f} s and kept for the next time."
    )
    return best


def _speed(model: Classifier, dtype: Dtype | None, tokens: int) -> float | None:
    """Tokens a second in batches of so many; None where they do not fit into memory."""
    stack = Stack.of([model.encode(_TYPICAL).row])
    many = stack[np.zeros(max(1, tokens // stack.ids.shape[1]), dtype=np.intp)]
    before, seconds = model.cost.copy(), []
    try:
        for _ in range(1 + _TIMES):
            started = time.perf_counter()
            model.begin(many, dtype)()
            seconds.append(time.perf_counter() - started)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None
    finally:
        # It is nobody's cost.
        model.cost.add(model.cost.since(before), share=-1.0)
    return many.ids.size / statistics.median(seconds[1:])


def _about(model: Classifier, dtype: Dtype) -> dict[str, Any]:
    """What speed hangs on."""
    parameters = list(model.model.parameters())
    config = model.model.config
    return {
        "device": _device(model),
        "model": type(model.model).__name__,
        "parameters": sum(parameter.numel() for parameter in parameters),
        "width": model.embedding_width,
        "layers": getattr(config, "num_hidden_layers", None),
        "weights": str(parameters[-1].dtype),
        "devices": len({parameter.device for parameter in parameters}),
        "dtype": dtype,
        "attention": getattr(config, "_attn_implementation", None),
        "torch": torch.__version__,
    }


def _device(model: Classifier) -> str:
    if model.device.type == "cuda":
        return str(torch.cuda.get_device_name(model.device))
    return f"{platform.machine()} {model.device.type}"


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assay" / "tokens_per_batch"


def _read(path: Path) -> int | None:
    """What was found before; None where there is nothing that can be used."""
    with suppress(OSError, ValueError, AttributeError):
        found = json.loads(path.read_text(encoding="utf-8")).get("tokens_per_batch")
        if isinstance(found, int) and _FEWEST <= found <= _MOST:
            return found
    return None


def _keep(path: Path, content: Mapping[str, Any]) -> int:
    """Write down what was found; where another process was first, what it found, so that all batch alike."""
    fresh = path.with_name(f"{uuid.uuid4().hex}.tmp")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        if _read(path) is None:
            path.unlink(missing_ok=True)
        with suppress(FileExistsError):
            os.link(fresh, path)
        fresh.unlink()
    return _read(path) or int(content["tokens_per_batch"])
