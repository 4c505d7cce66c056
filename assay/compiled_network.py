"""A compiled network, and the network as it is where compiling fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from assay.device import is_out_of_memory


class CompiledNetwork:
    """A network by `torch.compile`; once that fails, a line says so, and the network itself is called from then on.

    The network stays as it is.
    """

    def __init__(self, network: Any, name: str) -> None:
        """Set up the compilation, which happens in the first calls.

        Args:
            network: a transformers model.
            name: what the line calls it.
        """
        self._network = network
        self._name = name
        # Batches are of many lengths and sizes; one compilation serves them all.
        self._called: Callable[..., Any] = torch.compile(network, dynamic=True)

    def __call__(self, **given: Any) -> Any:
        """What the network returns."""
        if self._called is self._network:
            return self._network(**given)
        try:
            return self._called(**given)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self._called = self._network
            told = str(error).strip().splitlines() or [type(error).__name__]
            logging.getLogger(__name__).warning("%s cannot be compiled, and runs as it is: %s", self._name, told[0])
            return self._network(**given)
