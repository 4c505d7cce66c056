"""Explainers that crash, hang, leak or end the program: what they would have said is undefined; no one else's is."""

from __future__ import annotations

import inspect
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from assay.benchmark import isolation
from assay.benchmark.attempt import Fault
from tests.benchmark.cli import Ended, assay, save_model, save_task
from tests.benchmark.test_run import cells, content

TEXTS = ("two men", "a good film", "a dull film .", "unforgettable and touching", "", "how do i cook")
"""In shards of two, `dull` is in the second."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("isolation")
    save_model(folder / "model")
    save_task(folder / "data", TEXTS)
    return folder


def run(place: Path, results: Path, *overrides: str) -> Ended:
    return assay(
        "run",
        f"model={place / 'model'}",
        "task=sst2",
        f"task.path={place / 'data'}",
        f"results={results}",
        "explainer=[leave_one_out,lime,gradient]",
        "explainers.lime.samples=10",
        "metric=[deletion,comprehensiveness]",
        "tracker=none",
        "model.device=cpu",
        "allow_low_accuracy=true",
        "shard_size=2",
        *overrides,
    )


@pytest.fixture(scope="module")
def undisturbed(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("undisturbed")
    assert run(place, results).code == 0
    return results


def mine(kind: str, name: str = "mine") -> str:
    return f"+explainers.{name}._target_=tests.benchmark.at_fault.{kind}"


def reasons(results: Path, name: str = "mine") -> list[str | None]:
    found: list[str | None] = pq.read_table(cells(results)[name].path / "attributions.parquet")["reason"].to_pylist()
    return found


def same_numbers(undisturbed: Path, results: Path) -> None:
    """Beside others, or alone, rows stand in other batches, which shows in the last digits."""
    for name, cell in cells(undisturbed).items():
        for table, column in (("scores", "value"), ("attributions", "scores")):
            expected, found = (one.table(table)[column] for one in (cell, cells(results)[name]))
            assert len(expected) == len(found)
            for one, other in zip(expected, found, strict=True):
                np.testing.assert_allclose(np.array(one, np.float64), np.array(other, np.float64), atol=1e-6)


def test_an_isolated_run_finds_the_same_numbers_to_the_last_bit(place: Path, undisturbed: Path, tmp_path: Path) -> None:
    ended = run(place, tmp_path, "isolate=true")
    assert (ended.code, ended.err) == (0, "")
    assert content(tmp_path) == content(undisturbed)


def test_who_is_at_fault_is_recorded_and_everyone_else_has_their_numbers(
    place: Path, undisturbed: Path, tmp_path: Path
) -> None:
    ended = run(place, tmp_path, mine("Segfault", "crashes"), mine("Hangs", "hangs"), "time_limit=4")
    assert ended.code == 0, ended.err
    crashed = "the interpreter crashed (SIGSEGV)"
    assert f"crashes: {crashed}. Its attributions of these 2 examples are undefined." in ended.out
    no_text = "the text has nothing that can be hidden"
    for name, reason in (("crashes", crashed), ("hangs", "ran past the limit of 4 s")):
        assert reasons(tmp_path, name) == [None, None, reason, reason, no_text, None]
        assert cells(tmp_path)[name].meta["counts"]["undefined"]["deletion"] == 3
        scores = cells(tmp_path)[name].scores
        assert set(scores["reason"].dropna()) == {f"no attribution: {reason}", f"no attribution: {no_text}"}
    same_numbers(undisturbed, tmp_path)


def test_whoever_ends_the_program_is_recorded_without_isolation(place: Path, tmp_path: Path) -> None:
    assert run(place, tmp_path, mine("EndsTheProgram")).code == 0
    assert reasons(tmp_path)[2:4] == ["the program was ended (SystemExit: enough)"] * 2


def test_a_memory_error_costs_one_attribution(place: Path, undisturbed: Path, tmp_path: Path) -> None:
    assert run(place, tmp_path, mine("OutOfMemory")).code == 0
    assert reasons(tmp_path)[1:4] == [None, "MemoryError: no room for 8 TiB", None]
    same_numbers(undisturbed, tmp_path)


def test_a_child_that_leaks_is_replaced(
    place: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "GROWTH", 1.0)
    monkeypatch.setattr(isolation, "GROWTH_IN_BYTES", 100 * 2**20)
    # Two texts in each shard, so the second shard adds 128 MiB.
    ended = run(place, tmp_path, mine("Leaks"), "isolate=true")
    assert ended.code == 0, ended.err
    assert ended.out.count("it is replaced") == 1
    assert reasons(tmp_path)[:4] == [None] * 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("isolate=perhaps", "isolate must be true or false, not 'perhaps'"),
        ("time_limit=soon", "time_limit must be a number of seconds above 0, or null for none, not 'soon'"),
        ("time_limit=0", "not 0"),
        ("time_limit=inf", "not inf"),
    ],
)
def test_settings_that_make_no_sense_are_refused(place: Path, tmp_path: Path, settings: str, message: str) -> None:
    ended = run(place, tmp_path, settings)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert message in ended.err


BLANK: Any = SimpleNamespace(recipe={"explainers": {}, "metrics": {}}, explainers={}, metrics={})
"""A job with nothing in it."""


class Blank(SimpleNamespace):
    """The same, as what children are kept by."""

    __hash__ = object.__hash__

    def __init__(self) -> None:
        super().__init__(**vars(BLANK), content={"time_limit": None})


SCRIPT = """
import ctypes, os, time
from multiprocessing.connection import Connection
channel = Connection({{channel}})
channel.recv_bytes()
channel.send(("ready", None))
channel.recv_bytes()
{what}
"""


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("ctypes.string_at(0)", r"the interpreter crashed \(SIGSEGV\)"),
        ("os.abort()", r"the interpreter crashed \(SIGABRT\)"),
        ("os._exit(3)", "the interpreter ended with exit code 3"),
        ("os.kill(os.getpid(), 9)", r"was killed \(SIGKILL\), as a system does that runs out of memory"),
        ("time.sleep(1000)", r"ran past the limit of 0\.5 s"),
        ("ctypes.PyDLL(None).sleep(1000)", r"ran past the limit of 0\.5 s"),
        ("channel.close(); time.sleep(1000)", "the interpreter closed the connection"),
    ],
)
def test_every_way_to_die_has_a_name(monkeypatch: pytest.MonkeyPatch, what: str, reason: str) -> None:
    """With a child that loads nothing, not even to read what it is told, so that it starts at once."""
    monkeypatch.setattr(isolation, "_START", SCRIPT.format(what=what))
    monkeypatch.setattr(isolation, "PATIENCE", 0.5)
    child = isolation.Child(BLANK)
    with pytest.raises(Fault, match=reason):
        child.compute([], [], Deaf(), 0.5 if "limit" in reason else 60.0)
    child.end()
    assert child._process.returncode is not None


def test_a_child_that_died_between_two_shards_is_replaced_and_no_one_is_at_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    again = 'channel.send(("done", ({{}}, "work", 0)))\ntime.sleep(1000)'
    monkeypatch.setattr(isolation, "_START", SCRIPT.format(what=again))
    job: Any = Blank()
    assert isolation.compute_isolated(job, [], [], Deaf()) == ({}, "work")
    first = isolation._children[job]
    first._process.kill()
    first._process.wait()
    assert isolation.compute_isolated(job, [], [], Deaf()) == ({}, "work")
    assert isolation._children[job] is not first
    isolation.end_child()
    # It may also die when it has just been looked at.
    with pytest.raises(Fault, match="was killed"):
        first.compute([], [], Deaf(), None)


@pytest.mark.parametrize("before", ["it is told its work", "it hears its work"])
def test_a_child_that_cannot_begin_is_not_taken_for_a_fault(monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    monkeypatch.setattr(isolation, "_START", "raise SystemExit(4)")
    if before == "it is told its work":
        send = isolation.Child._send

        def late(self: isolation.Child, content: object) -> None:
            self._process.wait()
            send(self, content)

        monkeypatch.setattr(isolation.Child, "_send", late)
    with pytest.raises(RuntimeError, match="could not begin: the interpreter ended with exit code 4"):
        isolation.Child(BLANK)


@pytest.mark.parametrize("hang", ["time.sleep(1000)", "ctypes.PyDLL(None).sleep(1000)"])
def test_a_child_never_outlives_its_parent(hang: str) -> None:
    """Also one that is stuck in foreign code, and holds the interpreter's lock."""
    child = f"""
import ctypes, os, sys, threading, time
{inspect.getsource(isolation._end_with_parent)}
_end_with_parent()
print(os.getpid(), flush=True)
{hang}
"""
    parent = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {child!r}], stdin=subprocess.PIPE)
time.sleep(1000)
"""
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE)
    assert process.stdout is not None
    number = int(process.stdout.readline())
    assert alive(number)
    process.kill()
    process.wait()
    assert gone(number)


class Deaf:
    def watch(self, rows: Callable[[], int]) -> None: ...

    def advance(self) -> None: ...


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and was not yet taken note of does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(process: int, within: float = 30.0) -> bool:
    """Whether a process ends within so many seconds."""
    deadline = time.monotonic() + within
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(process)
