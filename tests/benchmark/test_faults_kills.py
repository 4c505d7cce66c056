"""SIGKILL at 50 moments: whatever a run was doing, it goes on where it stopped and ends with the same numbers.

Half of the moments are numbers of touches of the results folder, drawn evenly over all of an undisturbed run's from a
fixed seed; the run dies just before that touch is done. At the others it dies up to a hundredth of a second after it
has begun to load, to compute, and so on. A run that was killed is started again and may be killed again, until it comes
to its end.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.benchmark.cli import save_model, save_task
from tests.benchmark.forked import Run
from tests.benchmark.test_run import cells, content

TEXTS = ("a dull film .", "good", "unforgettable and touching", "two men", "how do i cook")
BOUNDS = ("000000-000002", "000002-000004", "000004-000005")
JUDGED = ("leave_one_out", "gradient", "random")
KILLS = 50
PHASES = ("loading", "computing", "writing a shard", "judging", "finishing")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    save_model(folder / "model")
    save_task(folder / "data", TEXTS)
    return folder


def command(place: Path, results: Path) -> list[str]:
    return [
        *("run", f"model={place / 'model'}", "task=sst2", f"task.path={place / 'data'}", f"results={results}"),
        *("explainer=[leave_one_out,gradient]", "metric=[deletion,input_invariance]", "shard_size=2"),
        *("tracker=none", "model.device=cpu", "allow_low_accuracy=true"),
    ]


def start(place: Path, results: Path, number: int, die_at: int | None = None) -> Run:
    return Run(command(place, results), place / f"run-{number}", results, die_at)


def unfinished(results: Path, keys: dict[str, str]) -> list[str]:
    """What a run that goes on has to compute: shards that some cell lacks, and judgements."""
    done = {path.parent.name for path in results.glob("*/*/*/checksums.json")}
    left = {name: key for name, key in keys.items() if not any(cell.endswith(key) for cell in done)}

    def has(key: str, part: str) -> bool:
        return (results / ".partial" / key / part / "checksums.json").exists()

    shards = [bounds for bounds in BOUNDS if not all(has(key, bounds) for key in left.values())]
    judgements = [name for name in JUDGED if name in left and not has(left[name], "metric-input_invariance")]
    first = [f"0 sst2/validation/{int(bounds[:6])}" for bounds in shards]
    return first + [f"0 {name} input_invariance" for name in judgements]


def test_killed_at_50_moments_nothing_is_lost_and_nothing_finished_is_computed_again(place: Path) -> None:
    whole = place / "whole"
    undisturbed = start(place, whole, 0)
    assert undisturbed.wait() == 0, undisturbed.said
    expected, keys = content(whole), {name: cell.key for name, cell in cells(whole).items()}
    dice = random.Random(0)
    at_once = KILLS // 2
    touches = [1 + int((kill + dice.random()) / at_once * undisturbed.touches) for kill in range(at_once)]
    moments: list[int | str] = [*touches, *PHASES * (at_once // len(PHASES))]
    dice.shuffle(moments)
    phases: Counter[str] = Counter()
    number, results, left = 0, place / "results-0", unfinished(place / "results-0", keys)
    while phases.total() < KILLS:
        number += 1
        moment = moments[phases.total()]
        run = start(place, results, number, moment if isinstance(moment, int) else None)
        if isinstance(moment, str):
            while run.process.is_alive() and run.phase != moment:
                time.sleep(0.001)
            time.sleep(dice.random() / 100)
            run.signal(signal.SIGKILL)
        code = run.wait()
        assert run.log() == left[: len(run.log())], "something was computed again that was finished"
        if code == 0:
            # It was too far already to come to that moment.
            check(results, expected)
            results = place / f"results-{number}"
        else:
            assert code == -signal.SIGKILL, run.said
            phases[run.phase] += 1
        left = unfinished(results, keys)
    run = start(place, results, number + 1)
    assert run.wait() == 0, run.said
    assert run.log() == left
    check(results, expected)
    print(f"{KILLS} kills in {number} runs: {dict(phases)}")
    assert phases.total() == KILLS
    assert set(PHASES) <= set(phases), phases


def check(results: Path, expected: dict[tuple[str, str], str]) -> None:
    assert content(results) == expected
    assert list((results / ".partial").iterdir()) == []
