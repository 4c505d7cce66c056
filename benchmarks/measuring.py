"""What the benchmarks share: interleaved timing, ratios with their spread, and a model to measure with."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Seconds:
    """How long something took, by the clock and on the processor (all threads together)."""

    wall: float
    processor: float


def timed(work: Callable[[], object]) -> Seconds:
    """Run something once."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - wall, time.process_time() - processor)


def ratio(over: Sequence[float], under: Sequence[float]) -> str:
    """The median of the ratios of each round, and the lowest and highest of them."""
    ratios = [first / second for first, second in zip(over, under, strict=True)]
    return f"{statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def show_times(times: Mapping[str, Sequence[Seconds]], unit: str) -> None:
    """A line for each competitor, as multiples of the one named `unit`; rounds are compared with themselves."""
    width = max(map(len, times))
    print(f"{'':<{width}}  {'seconds':>8}  {'× by the clock':<22}  {'× on the processor':<22}")
    for name, found in times.items():
        wall, processor = ([getattr(one, kind) for one in found] for kind in ("wall", "processor"))
        base_wall, base_processor = ([getattr(one, kind) for one in times[unit]] for kind in ("wall", "processor"))
        print(
            f"{name:<{width}}  {statistics.median(wall):8.2f}  {ratio(wall, base_wall):<22}  "
            f"{ratio(processor, base_processor):<22}"
        )


def machine() -> str:
    """The machine in a line; how busy it is matters for what the clock says."""
    import torch

    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{load}; Python {platform.python_version()}, "
        f"torch {torch.__version__} with {torch.get_num_threads()} threads"
    )
