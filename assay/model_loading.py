"""Finding a model and a device before anything is loaded, and loading quietly."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from assay.errors import AssayError, near_matches, unknown_name
from assay.hub import asking

Dtype = Literal["float32", "bfloat16", "float16"]
DeviceMap = str | Mapping[str, int | str]

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
NO_HUB = "A local folder needs no hub: model=FOLDER."
_DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


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
    number = device.partition(":")[2]
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if number and not (number.isdecimal() and int(number) < count):
        raise AssayError(f"This machine has no device {device!r}: its {kind.upper()} devices are 0 to {count - 1}.")
    return device


def check_placing(device: str, weights: str, device_map: DeviceMap | None) -> None:
    """See that the weights can be had in a precision and put where they are to be, before anything is loaded.

    Args:
        device: the one device, where there is no map.
        weights: the precision of the weights.
        device_map: how the weights are spread over devices: `auto` and its kin as in accelerate, or a device for each
            module by its name; None for one device.

    Raises:
        AssayError: an unknown precision, device or kind of map, or a device beside a map.
    """
    if weights not in DTYPES:
        raise unknown_name("model.weights", str(weights), DTYPES)
    if device_map is None:
        find_device(device)
        return
    if device != "auto":
        raise AssayError(f"model.device_map says where the weights go, and so does model.device={device}. Set one.")
    if isinstance(device_map, str):
        if device_map not in _DEVICE_MAPS:
            raise unknown_name("model.device_map", device_map, _DEVICE_MAPS)
        return
    if not isinstance(device_map, Mapping) or not device_map:
        raise AssayError(
            f"model.device_map is {' or '.join(_DEVICE_MAPS)}, or a device for each module, for example "
            f"'model.device_map={{bert: 0, classifier: cpu}}'; it is {device_map!r}."
        )
    for place in device_map.values():
        if place != "disk":
            find_device(f"cuda:{place}" if isinstance(place, int) else str(place))


def load_network(
    kind: Any, path: str | Path, revision: str | None, device: str, weights: str, device_map: DeviceMap | None
) -> tuple[Any, Mapping[str, Any]]:
    """A network in eval mode with its weights where they are to be, and what transformers says of the loading.

    Weights go from the file to their place one by one, so that loading needs hardly more memory than the weights.

    Args:
        kind: a class of transformers that loads models, such as `AutoModelForCausalLM`.
        path: a local folder or a hub id.
        revision: a branch, tag or commit on the hub.
        device: see `check_placing`, as the other two.
        weights: the precision of the weights.
        device_map: how they are spread over devices.
    """
    how: dict[str, Any] = {"revision": revision, "dtype": DTYPES[weights], "output_loading_info": True}
    if device_map is None:
        network, info = kind.from_pretrained(str(path), **how)
        return network.to(find_device(device)).eval(), info
    spread = device_map if isinstance(device_map, str) else dict(device_map)
    network, info = kind.from_pretrained(str(path), device_map=spread, **how)
    return network.eval(), info


def is_spread(network: Any) -> bool:
    """Whether a network's weights are on several devices, or some of them on none until they are needed."""
    return bool(getattr(network, "hf_device_map", None))


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
        with asking(path, NO_HUB):
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

    def is_heard(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or not record.name.startswith("transformers.")

    # Setting a logger's level empties a cache in every other one, which takes longer than a pass of a small model.
    handlers = [*logging.getLogger("transformers").handlers, *logging.getLogger().handlers]
    for handler in handlers:
        handler.addFilter(is_heard)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(is_heard)


@contextmanager
def loading(path: str | Path, kind: str) -> Iterator[None]:
    """Hold back the bar that transformers draws while it loads weights; what goes wrong becomes an AssayError."""
    from safetensors import SafetensorError
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with asking(path, NO_HUB):
            yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise AssayError(f"Cannot load {kind} from {str(path)!r}: {error}") from error
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
