"""Ctrl-C, SIGTERM and SIGUSR1: what is finished is kept, a line says how to go on, and nothing is left running."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.benchmark.forked import Run
from tests.benchmark.test_faults_isolation import gone
from tests.benchmark.test_faults_kills import command, place, start
from tests.benchmark.test_run import content

__all__ = ["place"]


def interrupted(run: Run, touches: int, number: int) -> int:
    """Send a signal once a run has come so far; its exit code."""
    while run.process.is_alive() and run.touches < touches:
        time.sleep(0.005)
    run.signal(number)
    return run.wait()


def test_a_run_that_was_interrupted_says_how_to_go_on_and_does(place: Path) -> None:
    whole, results = place / "undisturbed", place / "interrupted"
    run = start(place, whole, 200)
    assert run.wait() == 0, run.said
    for place_in_row, (number, code) in enumerate(
        ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)), start=1
    ):
        run = start(place, results, 200 + place_in_row)
        assert interrupted(run, place_in_row * 60, number) == code, run.said
        assert "Traceback" not in run.said
        last = run.said.strip().splitlines()[-1]
        assert last.startswith(f"Interrupted ({number.name}). Kept in {results}: 0 finished cells, and ")
        assert last.endswith(f"To go on: {shlex.join(['assay', *command(place, results)])}")
        assert list(results.glob(".partial/temporary-*")) == []
    assert start(place, results, 210).wait() == 0
    assert content(results) == content(whole)


def test_no_job_of_a_sweep_is_started_after_a_signal(place: Path) -> None:
    results = place / "swept"
    run = Run([*command(place, results), "-m", "seed=0,1"], place / "run-220", results)
    assert interrupted(run, 60, signal.SIGTERM) == 143
    assert not any(line.startswith("1 ") for line in run.log())
    assert "To go on: assay run" in run.said
    assert "-m seed=0,1" in run.said


def test_an_isolated_child_ends_with_the_run(place: Path) -> None:
    results = place / "isolated"
    run = Run([*command(place, results), "isolate=true"], place / "run-230", results)
    children = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children")
    while run.process.is_alive() and not children.read_text().split():
        time.sleep(0.01)
    (child,) = map(int, children.read_text().split())
    run.signal(signal.SIGTERM)
    assert run.wait() == 143, run.said
    # The signal may come before the run knows its child, which then ends as soon as it has started and sees for itself.
    assert gone(child)
    assert "Traceback" not in run.said


def test_the_second_signal_ends_at_once() -> None:
    script = (
        "import time\n"
        "from assay.interruption import Interrupted, interruptible\n"
        "with interruptible():\n"
        "    try:\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(1000)\n"
        "    except Interrupted:\n"
        "        print('first', flush=True)\n"
        "        time.sleep(1000)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in ("ready", "first"):
        assert process.stdout.readline().strip() == line
        process.send_signal(signal.SIGTERM)
    assert process.wait() == 143


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_signal_that_somebody_else_handles_is_left_to_them(name: str) -> None:
    from assay.interruption import interruptible

    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with interruptible():
            assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_one_that_was_swallowed_is_raised_again() -> None:
    from assay.interruption import Interrupted, check_interruption, interruptible

    with interruptible():
        check_interruption()
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:
            with pytest.raises(Interrupted):
                check_interruption()
