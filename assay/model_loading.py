"""Finding a model and a device before anything is loaded, and loading quietly."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from assay.errors import AssayError, near_matches


def find_device(device: str) -> str:
    """The device to use.

    Raises:
        AssayError: an unknown device, or one that this machine lacks.
    """
    here = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return next(name for name, present in here.items() if present)
    kind = device.partition(":")[0]
    if kind not in here:
        raise AssayError(f"Unknown device {device!r}. {near_matches(device, [*here, 'auto'])}")
    if not here[kind]:
        raise AssayError(f"This machine has no {kind.upper()} device that torch can use. Set model.device=cpu or auto.")
    return device


def load_config(path: str | Path, revision: str | None = None) -> Any:
    """The configuration of a classifier, without its weights.

    Raises:
        AssayError: no such folder or hub id, or a model of another kind.
    """
    config = _load_any_config(path, revision)
    kinds = config.architectures or []
    if kinds and not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise AssayError(
            f"{str(path)!r} is a {kinds[0]}, not a sequence classification model. "
            "Fine-tune it first, for example with `assay train`; a causal language model can also be prompted as it is "
            "(model.kind=prompted)."
        )
    return config


def load_causal_config(path: str | Path, revision: str | None = None) -> Any:
    """The configuration of a causal language model, without its weights.

    Raises:
        AssayError: no such folder or hub id, or a model of another kind.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = _load_any_config(path, revision)
    kinds = config.architectures or []
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or any(
        kind.endswith(("ForSequenceClassification", "ForMaskedLM")) for kind in kinds
    ):
        raise AssayError(
            f"{str(path)!r} is a {(kinds or [config.model_type])[0]}, not a causal language model. "
            "A sequence classification model is used with model.kind=classifier."
        )
    return config


def _load_any_config(path: str | Path, revision: str | None) -> Any:
    from transformers import AutoConfig

    folder = Path(path)
    looks_local = folder.is_absolute() or str(path).startswith((".", "~")) or len(folder.parts) != 2
    if not folder.exists() and looks_local and len(folder.parts) != 1:
        siblings = [entry.name for entry in folder.parent.glob("*")] if folder.parent.is_dir() else []
        hint = near_matches(folder.name, siblings) if siblings else f"{str(folder.parent)!r} does not exist either."
        raise AssayError(f"There is no model folder {str(path)!r}. {hint}")
    if folder.is_dir() and not (folder / "config.json").exists():
        raise AssayError(
            f"{str(path)!r} is not a model folder: it has no config.json. It holds: "
            f"{', '.join(sorted(entry.name for entry in folder.iterdir())[:10]) or 'nothing'}."
        )
    try:
        config = AutoConfig.from_pretrained(str(path), revision=revision)
    except (OSError, ValueError) as error:
        raise AssayError(
            f"Cannot read a model at {str(path)!r}: it is neither a local folder nor reachable on the hub "
            f"({str(error).splitlines()[0]})."
        ) from error
    return config


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back what transformers warns of, such as that padding cannot be seen in embeddings: none is ever passed."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def loading(path: str | Path, kind: str) -> Iterator[None]:
    """Hold back the bar that transformers draws while it loads weights; what goes wrong becomes an AssayError."""
    from safetensors import SafetensorError
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise AssayError(f"Cannot load {kind} from {str(path)!r}: {error}") from error
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
