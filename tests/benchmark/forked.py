"""`assay run` in processes forked from one that has imported everything, so that each starts in an instant.

Each writes down how far it has come where its end cannot take it away, and can be told to kill itself at the n-th time
that it touches a file of its results.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PHASES = (
    "start",
    "loading",
    "preparing",
    "computing",
    "writing a shard",
    "judging",
    "writing a judgement",
    "finishing",
)
_LAYOUT = struct.Struct("ii")
_TOUCHES = ("open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.listdir", "os.scandir", "shutil.rmtree")

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.benchmark.forked_imports"])


class Run:
    """One run, from its start to its end or its death."""

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        results: Path | str,
        die_at: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it.

        Args:
            arguments: of `assay`.
            folder: where it writes what it prints, and how far it has come; made if need be.
            results: its results folder, or their URL.
            die_at: the number of the touch of its results at which it kills itself, just before that is done.
            environment: variables of its own, beside those that there were when the first run was started.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        (folder / "place").write_bytes(bytes(_LAYOUT.size))
        self.process: BaseProcess = _context.Process(
            target=_run,
            args=(list(arguments), str(folder), str(results), die_at, dict(environment or {})),
            daemon=False,
        )
        self.process.start()

    def wait(self) -> int:
        """Wait for its end; its exit code, negative for a signal."""
        self.process.join()
        code = self.process.exitcode
        assert code is not None
        return code

    def signal(self, number: int) -> None:
        assert self.process.pid is not None
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    @property
    def touches(self) -> int:
        """How often it has touched its results."""
        return int(self._place()[0])

    @property
    def phase(self) -> str:
        """What it was doing last."""
        return PHASES[self._place()[1]]

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    def log(self) -> list[str]:
        """The shards and judgements that it has begun to compute."""
        path = self.folder / "computed"
        return path.read_text().splitlines() if path.exists() else []

    def _place(self) -> tuple[int, ...]:
        return _LAYOUT.unpack((self.folder / "place").read_bytes())


def _run(arguments: list[str], folder: str, results: str, die_at: int | None, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    # Who starts tests in the background may have it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    said = os.open(f"{folder}/said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    with open(f"{folder}/place", "r+b") as file:
        place = mmap.mmap(file.fileno(), _LAYOUT.size)
    touches, phase = 0, 0

    def note() -> None:
        place[:] = _LAYOUT.pack(touches, phase)

    def touch(event: str, given: tuple[Any, ...]) -> None:
        nonlocal touches
        if event in _TOUCHES and given and str(given[0]).startswith(results):
            touches += 1
            note()
            if touches == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def during(name: str, function: Callable[..., Any], log: Callable[..., str] | None = None) -> Callable[..., Any]:
        def wrapped(*given: Any, **named: Any) -> Any:
            nonlocal phase
            if log is not None:
                with open(f"{folder}/computed", "a") as file:
                    file.write(log(*given) + "\n")
            before, phase = phase, PHASES.index(name)
            note()
            try:
                return function(*given, **named)
            finally:
                phase = before
                note()

        return wrapped

    from assay import command_line
    from assay.benchmark import preparation, run, shards
    from assay.benchmark.method import MethodAtWork
    from assay.benchmark.store import Store

    def change(owner: Any, attribute: str, name: str, log: Callable[..., str] | None = None) -> None:
        setattr(owner, attribute, during(name, getattr(owner, attribute), log))

    change(run, "load_job", "loading")
    change(preparation, "prepare", "preparing")
    change(
        shards, "compute_shard", "computing", lambda job, model, examples, *_: f"{job.settings.seed} {examples[0].id}"
    )
    change(Store, "write_shard", "writing a shard")
    change(MethodAtWork, "judged_by", "judging", lambda method, metric, _: f"{method.seed} {method.name} {metric}")
    change(Store, "write_judgement", "writing a judgement")
    change(Store, "finish", "finishing")
    sys.addaudithook(touch)
    sys.argv = ["assay", *arguments]
    command_line.main()
