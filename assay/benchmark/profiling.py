"""Where the time of a run goes: a trace for Perfetto or chrome://tracing, and a few lines in words."""

from __future__ import annotations

import gzip
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from assay.benchmark.amounts import duration
from assay.errors import AssayError

INTERVAL = 0.005
"""Seconds between two looks at what the program is doing."""
PASSES = 100
SECONDS = 10.0
"""The operations of so many passes through the model are in the trace, or those of so many seconds if that is less."""
EVENTS = 200_000
"""Of more operations, or of more calls, only so many of the first are in the trace."""
_TOP = 8

_PACKAGE = str(Path(__file__).parents[1]) + os.sep
_MODEL = "model"
_PARTS = {
    "classifier.py": _MODEL,
    "prompted.py": _MODEL,
    "altered_models.py": _MODEL,
    "perturbation.py": "perturbation",
    "preset_perturbation.py": "perturbation",
    "infilling.py": "perturbation",
    "in_distribution.py": "perturbation",
    "retrieval.py": "perturbation",
    "rows.py": "rows of the model",
    "encoding.py": "tokenizer",
    "explainers": "explainers",
    "metrics": "metrics",
    "tasks": "task",
    "benchmark/store.py": "store",
    "benchmark/tables.py": "store",
    "benchmark/cell.py": "store",
    "benchmark/whole_folder.py": "store",
    "benchmark/remote_store.py": "store",
    "benchmark/packed_folder.py": "store",
    "benchmark/shared_answers.py": "store",
    "benchmark/tracker.py": "tracker",
    "benchmark/wandb_content.py": "tracker",
    "benchmark/configured_model.py": "loading",
    "model_loading.py": "loading",
    "registry.py": "loading",
    "benchmark/launch.py": "loading",
    "benchmark/job.py": "loading",
    "benchmark/profiling.py": "the profile itself",
    "benchmark/engine.py": "engine",
    "benchmark/answers.py": "engine",
    "benchmark/waiting_rows.py": "engine",
    "benchmark/questions.py": "engine",
    "benchmark/talk.py": "engine",
    "benchmark/evaluation.py": "engine",
    "benchmark/verdict.py": "engine",
    "benchmark/checked_scores.py": "engine",
    "benchmark/looking_inside.py": "engine",
    "benchmark/scoring.py": "engine",
}
# Where these stand deeper than all of Assay's own calls, the model is at work, whoever called it.
_OF_THE_MODEL = (os.path.join("torch", "nn", "modules") + os.sep, os.path.join("torch", "autograd") + os.sep)

_Call = tuple[str, str]  # file within the package, function


@dataclass
class Profile:
    """What was seen of a run.

    Attributes:
        parts: how often each part of Assay was found at work.
        calls: how often each function was, the innermost of Assay's own.
        passes: how many passes through the model were seen.
        seconds: how long it was looked at.
    """

    parts: Counter[str] = field(default_factory=Counter)
    calls: Counter[_Call] = field(default_factory=Counter)
    passes: int = 0
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """Where the time went, in words."""
        looks = sum(self.parts.values())
        if not looks:
            return ["The run was over before its profile began."]
        shares = {part: count / looks for part, count in self.parts.most_common()}
        told = ", ".join(f"{part} {share:.0%}" for part, share in shares.items() if share >= 0.005)
        found = [f"Where the time went, of {duration(self.seconds)} in this process: {told}."]
        for (file, function), count in self.calls.most_common(_TOP):
            found.append(f"  {count / looks:4.0%}  {function} ({file})")
        if not self.passes:
            found.append(
                "No pass through the model was seen: finished cells ask nothing of it, and the jobs of workers and "
                "launchers run in processes of their own, which are not profiled."
            )
        return found


@contextmanager
def profiled(path: Path) -> Iterator[Profile]:
    """Profile what goes on in this thread, and write the trace at the end, however that comes.

    The trace holds the model's operations, as torch's profiler records them, for the first passes, and what Assay was
    doing for the whole time, from looks at the program every few milliseconds, which slow it down by less than that.

    Args:
        path: the file; compressed where its name ends in `.gz`.

    Raises:
        AssayError: it cannot be written.
    """
    try:
        path.touch()
    except OSError as error:
        raise AssayError(f"--profile {str(path)!r} cannot be written: {error.strerror or error}.") from error
    profile = Profile()
    looking, operations = _Looking(profile), _Operations(profile)
    started = time.perf_counter()
    looking.start()
    operations.start()
    try:
        yield profile
    finally:
        looking.stop()
        profile.seconds = time.perf_counter() - started
        trace = operations.stop()
        base = int(trace.get("baseTimeNanoseconds", 0))
        trace["traceEvents"] = [*trace.get("traceEvents", []), *looking.events(base)]
        content = json.dumps(trace).encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


class _Looking:
    """A thread that looks at what another is doing, again and again."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._of = threading.get_ident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        # What is under way, from the outermost call, with when it was first seen; and what has ended.
        self._open: list[tuple[_Call, int]] = []
        self._ended: list[tuple[_Call, int, int]] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self._take([], time.time_ns())

    def events(self, base: int) -> list[dict[str, Any]]:
        """What was seen as slices of the trace, in a row of their own."""
        process = os.getpid()
        name = {"ph": "M", "name": "thread_name", "pid": process, "tid": "assay", "args": {"name": "Assay"}}
        return [
            name,
            *(
                {
                    "ph": "X",
                    "cat": _part(call[0]),
                    "name": f"{call[1]} ({call[0]})",
                    "pid": process,
                    "tid": "assay",
                    "ts": (first - base) / 1000,
                    "dur": (last - first) / 1000,
                }
                for call, first, last in sorted(self._ended, key=lambda one: (one[1], -one[2]))[:EVENTS]
            ),
        ]

    def _look(self) -> None:
        while not self._over.wait(INTERVAL):
            frame = sys._current_frames().get(self._of)
            if frame is not None:
                calls, part = _seen(frame)
                del frame
                self._profile.parts[part] += 1
                if calls:
                    self._profile.calls[calls[-1]] += 1
                self._take(calls, time.time_ns())

    def _take(self, calls: list[_Call], now: int) -> None:
        """Let what is no longer under way end, and what is new begin."""
        alike = 0
        while alike < min(len(calls), len(self._open)) and calls[alike] == self._open[alike][0]:
            alike += 1
        self._ended += [(call, since, now) for call, since in self._open[alike:]]
        self._open[alike:] = [(call, now) for call in calls[alike:]]


class _Operations:
    """torch's profiler over the first passes through the model."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._root: Any = None
        self._since = 0.0
        self._recorder: Any = None
        self._hook: Any = None
        self._on = False

    def start(self) -> None:
        from torch.nn.modules.module import register_module_forward_pre_hook

        self._hook = register_module_forward_pre_hook(self._before)

    def _before(self, module: Any, inputs: Any) -> None:
        # Every module comes by here; the first is the whole, or what is called once for each pass.
        if self._root is None:
            self._begin(module)
        if module is not self._root:
            return
        self._profile.passes += 1
        if self._on and (self._profile.passes > PASSES or time.perf_counter() - self._since > SECONDS):
            self._on = False
            self._recorder.stop()

    def _begin(self, module: Any) -> None:
        import torch
        from torch.profiler import ProfilerActivity, profile

        self._root, self._since = module, time.perf_counter()
        on_cuda = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
        self._recorder = profile(activities=[ProfilerActivity.CPU, *on_cuda])
        self._recorder.start()
        self._on = True

    def stop(self) -> dict[str, Any]:
        """What was recorded, as the content of a trace."""
        self._hook.remove()
        if self._recorder is None:
            return {}
        if self._on:
            self._recorder.stop()
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "trace.json"
            self._recorder.export_chrome_trace(str(place))
            trace: dict[str, Any] = json.loads(place.read_text("utf-8"))
        # Where it was recorded is nobody's business.
        for name in ("traceName", "host_name"):
            trace.pop(name, None)
        trace["traceEvents"] = trace["traceEvents"][:EVENTS]
        return trace


def _seen(frame: FrameType | None) -> tuple[list[_Call], str]:
    """Assay's own calls that are under way, the outermost first, and the part of it that is at work."""
    calls: list[_Call] = []
    part = None
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_PACKAGE):
            inside = file[len(_PACKAGE) :].replace(os.sep, "/")
            calls.append((inside, frame.f_code.co_name))
            part = part or _part(inside)
        elif part is None and any(place in file for place in _OF_THE_MODEL):
            part = _MODEL
        elif file.startswith("<frozen importlib"):
            part = "imports"
        frame = frame.f_back
    return calls[::-1], part or "elsewhere"


def _part(file: str) -> str:
    return _PARTS.get(file) or _PARTS.get(file.partition("/")[0]) or "the rest of Assay"
