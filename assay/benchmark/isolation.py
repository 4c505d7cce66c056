"""A child process that computes shards apart from its parent: whatever happens in it happens to it alone.

The child builds its job again from the configuration, loads the model and prepares the explainers, as a run that is
resumed does, so that it finds the same numbers to the last bit. It keeps all that over shards.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import Any
from weakref import WeakKeyDictionary, finalize

from assay.benchmark.attempt import Fault, Listener, attempt
from assay.benchmark.guarded import CRASHED, HUNG
from assay.benchmark.job import Job, build_job
from assay.benchmark.progress import say
from assay.benchmark.records import Records
from assay.benchmark.work import Work
from assay.classifier import Classifier
from assay.errors import AssayError
from assay.example import Example

# A child is replaced between shards when it holds more than so many times what it held after its first, and this much
# more in bytes: less comes and goes with the lengths of texts.
GROWTH, GROWTH_IN_BYTES = 2.0, 2**30

# Seconds that a process whose connection is gone is given to be gone itself.
PATIENCE = 5.0

_children: WeakKeyDictionary[Job, Child] = WeakKeyDictionary()

# Set before anything else, since a signal that is meant for the parent often goes to all of its group.
_START = """
import signal, sys
for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
sys.path[:] = {path!r}
from assay.benchmark.isolation import serve
serve({channel})
"""


@dataclass(frozen=True)
class _Setting:
    """What the child needs to know to do as its parent would."""

    recipe: Mapping[str, Any]
    threads: int
    precision: str


def is_isolated(job: Job) -> bool:
    """Whether the shards of a job are computed in a process of their own; a time limit cannot be kept without."""
    return bool(job.content["isolate"]) or job.content["time_limit"] is not None


def compute_isolated(
    job: Job, examples: Sequence[Example], names: Sequence[str], listener: Listener
) -> tuple[dict[str, Records], Work]:
    """Have the job's child compute a shard; the first call starts it, and a fault or a leak replaces it.

    Args:
        job: see `attempt`.
        examples: of the shard.
        names: of the explainers.
        listener: hears of each explanation that is finished.

    Raises:
        Fault: the child has died, ran past the time limit, or found the model written to.
    """
    limit = job.content["time_limit"]
    if job not in _children or _children[job].is_dead:
        # One that died between two shards, as memory ran out, has taken nothing with it.
        end_child()
        _children[job] = Child(job)
    child = _children[job]
    try:
        result = child.compute(examples, names, listener, None if limit is None else limit * len(names))
    except BaseException:
        end_child()
        raise
    if child.has_grown:
        say("The isolated process holds far more memory than after its first shard; it is replaced.")
        end_child()
    return result


def end_child() -> None:
    """End the child of this process, if there is one; jobs come one after another."""
    for job in list(_children):
        _children.pop(job).end()


class Child:
    """A child process at work for one job; it ends with whoever started it."""

    def __init__(self, job: Job) -> None:
        """Start the process and wait until its model is loaded and its explainers are prepared.

        Raises:
            RuntimeError: it has not come so far.
        """
        import torch

        self._channel, theirs = Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START.format(path=sys.path, channel=theirs.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        finalize(self, _end, self._process, self._channel)
        self._held_first: int | None = None
        self.has_grown = False
        recipe = {
            **job.recipe,
            "explainers": {name: job.recipe["explainers"][name] for name in job.explainers},
            "metrics": {name: job.recipe["metrics"][name] for name in job.metrics},
        }
        try:
            self._send(_Setting(recipe, torch.get_num_threads(), torch.get_float32_matmul_precision()))
            self._wait("ready", None, {})
        except Fault as fault:
            raise RuntimeError(f"The isolated process could not begin: {fault}.") from fault
        except BaseException:
            # What interrupts the wait must not leave the process behind.
            self.end()
            raise

    def compute(
        self, examples: Sequence[Example], names: Sequence[str], listener: Listener, limit: float | None
    ) -> tuple[dict[str, Records], Work]:
        """Have a shard computed; see `attempt`.

        Args:
            examples: of the shard.
            names: of the explainers.
            listener: hears of each explanation that is finished.
            limit: in seconds; None for none.

        Raises:
            Fault: the process has died, ran past the limit, or found the model written to.
        """
        rows = 0

        def advance(now: int) -> None:
            nonlocal rows
            rows = now
            listener.advance()

        listener.watch(lambda: rows)
        self._send((list(examples), list(names)))
        records, work, held = self._wait("done", limit, {"advance": advance})
        if self._held_first is None:
            self._held_first = held
        self.has_grown = held > GROWTH * self._held_first and held > self._held_first + GROWTH_IN_BYTES
        return records, work

    @property
    def is_dead(self) -> bool:
        """Whether the process has ended, however that came."""
        return self._process.poll() is not None

    def end(self) -> None:
        """Kill the process; there is nothing that it has to finish."""
        _end(self._process, self._channel)

    def _send(self, content: object) -> None:
        """Tell the process something.

        Raises:
            Fault: it has died.
        """
        try:
            self._channel.send(content)
        except OSError as error:
            raise Fault(self._death()) from error

    def _wait(self, wanted: str, limit: float | None, hear: Mapping[str, Callable[[Any], None]]) -> Any:
        """What comes under the name that is waited for.

        Raises:
            Fault: the process has died or ran past the limit, or says that somebody is at fault.
        """
        due = None if limit is None else time.monotonic() + limit
        while True:
            try:
                if not self._channel.poll(None if due is None else max(0.0, due - time.monotonic())):
                    raise Fault(f"{HUNG} of {limit:g} s")
                kind, content = self._channel.recv()
            except (EOFError, OSError) as error:
                raise Fault(self._death()) from error
            if kind == wanted:
                return content
            if kind == "fault":
                raise Fault(content)
            if kind == "refused":
                raise AssayError(content)
            if kind == "failed":
                raise RuntimeError(f"The isolated process failed:\n{content}")
            hear[kind](content)

    def _death(self) -> str:
        """How the process ended, in words."""
        try:
            code = self._process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return f"{CRASHED} closed the connection to its parent"
        if code >= 0:
            return f"{CRASHED} ended with exit code {code}"
        name = signal.Signals(-code).name
        if -code == signal.SIGKILL:
            return f"{CRASHED} was killed ({name}), as a system does that runs out of memory"
        return f"{CRASHED} crashed ({name})"


def _end(process: subprocess.Popen[bytes], channel: Connection) -> None:
    process.kill()
    process.wait()
    channel.close()
    if process.stdin is not None:
        process.stdin.close()


def serve(channel: int) -> None:
    """Be the child: build the job, then compute shards until the parent is gone.

    Args:
        channel: the file descriptor of the connection to the parent.
    """
    _end_with_parent()
    connection = Connection(channel)
    with suppress(EOFError, OSError):
        try:
            job, model = _prepared(connection.recv())
            connection.send(("ready", None))
            while True:
                examples, names = connection.recv()
                records, work = attempt(
                    job, model, examples, {name: job.explainers[name] for name in names}, _Told(connection)
                )
                connection.send(("done", (records, work, _held(model))))
        except (EOFError, OSError):
            raise
        except Fault as fault:
            connection.send(("fault", str(fault)))
        except AssayError as error:
            connection.send(("refused", str(error)))
        except Exception:
            connection.send(("failed", traceback.format_exc()))


class _Told:
    """Passes on to the parent how far the child has come."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: Callable[[], int] = lambda: 0

    def watch(self, rows: Callable[[], int]) -> None:
        self._rows = rows

    def advance(self) -> None:
        self._connection.send(("advance", self._rows()))


def _prepared(setting: _Setting) -> tuple[Job, Classifier]:
    import torch

    from assay.benchmark import preparation
    from assay.benchmark.configured_model import load_model
    from assay.model_state import state_of

    # How a sum is split over threads shows in its last digits.
    torch.set_num_threads(setting.threads)
    torch.set_float32_matmul_precision(setting.precision)
    job = build_job(dict(setting.recipe))
    model = load_model(job.content["model"])
    state_of(model)
    preparation.prepare(job.explainers, job.perturbations, model, job.background, job.settings.seed)
    return job, model


def _held(model: Classifier) -> int:
    """Bytes that this process holds in memory, and on the model's accelerator; 0 where the system does not tell."""
    import torch

    held = 0
    with suppress(OSError), open("/proc/self/statm") as file:
        held = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if model.device.type == "cuda":
        held += torch.cuda.memory_allocated(model.device)
    return held


def _end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, however that came.

    Nothing is ever written to the standard input; it is closed when the parent is gone.
    """
    if sys.platform == "linux":
        import fcntl

        # What SIGIO does by default is to end a process, even one whose interpreter is stuck in foreign code.
        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)

    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
