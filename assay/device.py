"""Arrays to a device and back without the host waiting, and what says that a device's memory has run out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """An array as a tensor on a device.

    Args:
        array: the array.
        device: where it is to be; CUDA is given it from pinned memory, so that the host does not wait for the copy.
    """
    tensor = torch.from_numpy(np.require(array, requirements=("C", "W")))
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def reader(logits: Tensor) -> Callable[[], NDArray[np.float32]]:
    """What waits for logits and reads them; on CUDA they are on their way to the host from now on."""
    if logits.device.type != "cuda":
        found: NDArray[np.float32] = logits.cpu().numpy()
        return lambda: found
    host = torch.empty(logits.shape, dtype=torch.float32, pin_memory=True)
    host.copy_(logits, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record(torch.cuda.current_stream(logits.device))

    def read() -> NDArray[np.float32]:
        copied.synchronize()
        answers: NDArray[np.float32] = host.numpy()
        return answers

    return read


def is_out_of_memory(error: BaseException) -> bool:
    """Whether what torch raised says that memory has run out, on an accelerator or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
