"""What commands read of files that no test changes is read once in a process: of a refused command it is over half."""

from __future__ import annotations

import gc
import pickle
from functools import cache
from typing import Any

import hydra.version
import yaml


def read_once() -> None:
    """Keep what a text of YAML says, and how Hydra reads its own version."""
    load = yaml.load
    kept: dict[tuple[str, str | bytes], bytes] = {}

    def loaded(stream: Any, Loader: Any) -> Any:  # noqa: N803
        text = stream if isinstance(stream, str | bytes) else stream.read()
        key = (f"{Loader.__module__}.{Loader.__name__}", text)
        if key not in kept:
            kept[key] = pickle.dumps(load(text, Loader))
        return pickle.loads(kept[key])

    yaml.load = loaded
    hydra.version._get_version = cache(hydra.version._get_version)


def spare_the_collector() -> None:
    """Take what was imported out of the garbage collector's rounds: it stays for good, and there is a lot of it."""
    gc.collect()
    gc.freeze()
