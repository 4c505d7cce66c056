"""Several workers over one job: who does what, what they end with, and what is lost when one of them is killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from assay.benchmark import launch, launchers, shards
from assay.benchmark import run as run_job
from assay.benchmark.cell import Cell
from assay.benchmark.store import Store
from assay.benchmark.tables import TABLES
from assay.benchmark.workers import Worker, at_work, work_through
from assay.errors import AssayError
from tests.benchmark.cli import Ended, assay, save_model, save_task

TEXTS = ("a dull film .", "good", "two men", "nobody is outside", "a good film .", "men", "dull and good", "a film")

OWN_MODULE = """
import os, signal
from pathlib import Path

from assay.explainers.perturbation import LeaveOneOut

FLAG = Path(__file__).with_name("armed")


class Deadly(LeaveOneOut):
    '''Kills its process once, in the midst of a shard, if the flag is there.'''

    def converse(self, case):
        if case.id.endswith("/4") and FLAG.exists():
            FLAG.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return (yield from super().converse(case))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a model, a task and a module of the user's own, where commands are given."""
    folder = tmp_path_factory.mktemp("workers")
    save_model(folder / "model")
    save_task(folder / "data", TEXTS)
    (folder / "own_module.py").write_text(OWN_MODULE)
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def alone(place: Path) -> Path:
    """What one process computes."""
    assert run("alone").code == 0
    return place / "alone"


def command(results: str, *overrides: str) -> list[str]:
    return [
        *("run", "model=./model", "task=sst2", "task.path=./data", f"results={results}", "shard_size=1"),
        *("explainer=leave_one_out", "+explainers.mine._target_=own_module.Deadly"),
        *("metric=[comprehensiveness,stability]", "tracker=none", "model.device=cpu", "allow_low_accuracy=true"),
        *overrides,
    ]


def run(results: str, *overrides: str) -> Ended:
    return assay(*command(results, *overrides))


def content(results: Path) -> dict[tuple[str, str, str], str]:
    """All numbers of all cells but the seconds, to the last digit, by key."""
    found = {}
    for cell in Store(results).cells():
        for name in TABLES:
            table = pq.read_table(cell.path / f"{name}.parquet")
            rows = [{key: value for key, value in row.items() if key != "seconds"} for row in table.to_pylist()]
            found[cell.explainer, cell.key, name] = repr(rows)
    return found


def the_same_cells(results: Path, wanted: Path) -> bool:
    """Whether two folders hold the same, and nothing is left of how they came to be."""
    assert content(results) == content(wanted)
    assert not list((results / ".partial").iterdir())
    for own, other in zip(Store(results).cells(), Store(wanted).cells(), strict=True):
        differing = {key for key in own.meta if own.meta[key] != other.meta[key]} - {"command", "cost", "work"}
        assert not differing
        # A sweep of Hydra's writes True for true.
        assert own.meta["command"].replace(results.name, wanted.name).lower() == other.meta["command"].lower()
    return True


@given(st.integers(1, 9), st.integers(1, 60))
def test_each_unit_has_one_worker_of_each_rank_and_what_one_leaves_is_spread_over_the_rest(
    count: int, units: int
) -> None:
    workers = [Worker(number, count) for number in range(count)]
    for unit in range(units):
        assert sorted(worker.rank(unit) for worker in workers) == list(range(count))
    assert sorted(unit for worker in workers for unit in worker.own(units)) == list(range(units))
    for killed in workers:
        heirs = [sum(worker.rank(unit) == 1 for unit in killed.own(units)) for worker in workers if worker != killed]
        assert not heirs or max(heirs) - min(heirs) <= 1
    assert all(sorted([*worker.own(units), *worker.others(units)]) == list(range(units)) for worker in workers)


class Killed(Exception):
    pass


class Board:
    """Units done by several threads, as the store would show them."""

    def __init__(self, seconds: float = 0.01) -> None:
        self.done: list[tuple[int, int]] = []
        self.seconds = seconds

    def work(self, worker: Worker, units: int, dies_after: int | None = None, slow: float = 1.0) -> None:
        own: list[int] = []

        def do(unit: int) -> None:
            if dies_after is not None and len(own) == dies_after:
                raise Killed
            own.append(unit)
            time.sleep(self.seconds * slow)
            self.done.append((worker.number, unit))

        with suppress(Killed):
            work_through(worker, units, lambda unit: any(unit == other for _, other in list(self.done)), do)


def worked(board: Board, units: int, *workers: dict[str, Any]) -> None:
    threads = [
        threading.Thread(target=board.work, args=(Worker(number, len(workers)), units), kwargs=given)
        for number, given in enumerate(workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.parametrize("dies_after", [0, 1, 3])
def test_what_a_killed_worker_leaves_is_done_by_the_rest(dies_after: int) -> None:
    board = Board()
    worked(board, 21, {}, {"dies_after": dies_after}, {})
    assert {unit for _, unit in board.done} == set(range(21))
    assert sum(number == 1 for number, _ in board.done) == dies_after


def test_a_slow_workers_units_are_taken_from_their_far_end_and_hardly_any_is_done_twice() -> None:
    board = Board(seconds=0.03)
    worked(board, 20, {}, {"slow": 6})
    assert {unit for _, unit in board.done} == set(range(20))
    of_the_slow = [unit for number, unit in board.done if number == 1]
    assert of_the_slow == list(range(1, 1 + 2 * len(of_the_slow), 2))
    assert len(of_the_slow) < 6
    assert len(board.done) <= 22


def test_a_worker_waits_for_a_unit_that_another_may_be_at_instead_of_doing_it_too() -> None:
    board = Board(seconds=0.2)
    worked(board, 3, {}, {"slow": 1.5})
    assert sorted(unit for _, unit in board.done) == [0, 1, 2]


@pytest.mark.parametrize(
    ("given", "worker"),
    [
        ({}, Worker()),
        ({"workers": 4}, Worker()),
        ({"workers": 4, "worker": 3}, Worker(3, 4)),
        ({"worker": 0}, Worker()),
    ],
)
def test_a_configuration_names_one_of_the_workers(given: dict[str, int], worker: Worker) -> None:
    assert Worker.of(OmegaConf.create(given)) == worker


@pytest.mark.parametrize("given", [{"workers": 0}, {"workers": "two"}, {"workers": 2, "worker": 2}, {"worker": -1}])
def test_a_worker_that_cannot_be_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(AssayError, match="worker"):
        Worker.of(OmegaConf.create(given))


@pytest.mark.parametrize(
    ("device", "seen", "taken"),
    [
        ("auto", 4, ["cuda:0", "cuda:1", "cuda:2", "cuda:3", "cuda:0"]),
        ("cuda", 2, ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]),
        ("auto", 1, ["auto"] * 5),
        ("auto", 0, ["auto"] * 5),
        ("cuda:1", 4, ["cuda:1"] * 5),
        ("cpu", 4, ["cpu"] * 5),
    ],
)
def test_of_several_gpus_each_worker_has_one(
    monkeypatch: pytest.MonkeyPatch, device: str, seen: int, taken: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    assert [Worker(number, 5).device(device) for number in range(5)] == taken


def test_a_worker_has_its_threads_and_leaves_the_process_as_it_was() -> None:
    before = torch.get_num_threads()
    with at_work(Worker(1, 2), threads=before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_processes_share_a_job_and_end_with_the_numbers_of_one(place: Path, alone: Path) -> None:
    ended = run("joblib", "workers=3")
    assert ended.code == 0
    assert ended.out.count("Skill and cost") == 1
    assert "jobs ended well" not in ended.out
    assert the_same_cells(place / "joblib", alone)


def test_a_process_killed_under_joblib_costs_nothing(place: Path, alone: Path) -> None:
    (place / "armed").touch()
    ended = run("killed", "workers=2")
    assert ended.code == 0
    assert not (place / "armed").exists()
    assert "A worker died" in ended.out
    assert "starting again (1 of 3)" in ended.out
    assert the_same_cells(place / "killed", alone)


def test_a_process_that_is_always_killed_ends_in_a_command_to_go_on_with(
    place: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launchers, "RESTARTS", 0)
    (place / "armed").touch()
    ended = run("given_up", "workers=2")
    assert ended.code == 1
    assert "go on with the same command: assay run" in ended.err
    assert "workers=2" in ended.err
    assert "Traceback" not in ended.err
    assert run("given_up").code == 0
    assert the_same_cells(place / "given_up", alone)


class UncompletedJobError(Exception):
    """What submitit raises of a job that left no result."""


class Failing:
    """Hydra, with a launcher whose runs end as they are told."""

    def __init__(self, *ends: Exception) -> None:
        self.ends = list(ends)

    def multirun(self, *given: Any, **how: Any) -> list[Any]:
        if self.ends:
            raise self.ends.pop(0)
        return []


def test_jobs_are_launched_again_some_times_but_not_those_that_were_taken_out_of_the_queue() -> None:
    died = UncompletedJobError("Job 7 (state: NODE_FAIL) has not produced any output")
    assert launchers.multirun(Failing(died, died, died), "run", None, []) == []
    with pytest.raises(launchers.WorkerDied, match="NODE_FAIL"):
        launchers.multirun(Failing(*[died] * 4), "run", None, [])
    with pytest.raises(launchers.WorkerDied, match="CANCELLED"):
        launchers.multirun(Failing(UncompletedJobError("Job 7 (state: CANCELLED)")), "run", None, [])
    with pytest.raises(ValueError, match="a mistake"):
        launchers.multirun(Failing(ValueError("a mistake")), "run", None, [])


def test_a_cluster_that_cannot_be_reached_is_the_users_matter() -> None:
    gone = ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379")
    with pytest.raises(AssayError, match="RAY_AUTH_MODE"):
        launchers.multirun(Failing(gone), "run", None, [])


class Interrupted(Exception):
    pass


def number(name: str) -> int:
    """Which of the examples a name stands for."""
    return int(name.rpartition("/")[2])


@pytest.mark.parametrize(("first", "then"), [([], ["workers=2", "worker=1"]), (["workers=4", "worker=2"], [])])
def test_another_number_of_workers_goes_on_where_a_run_was_stopped(
    place: Path, alone: Path, monkeypatch: pytest.MonkeyPatch, first: list[str], then: list[str]
) -> None:
    computed: list[int] = []
    original = shards.compute_shard

    def compute(job: Any, model: Any, examples: Any, *rest: Any) -> Any:
        if len(computed) == 3:
            raise Interrupted
        computed.extend(number(example.id) for example in examples)
        return original(job, model, examples, *rest)

    results = f"resumed_{len(first)}"
    with monkeypatch.context() as patch:
        patch.setattr(shards, "compute_shard", compute)
        assert run(results, *first).code == 1
    assert computed == ([2, 6, 7] if first else [0, 1, 2])

    def compute_rest(job: Any, model: Any, examples: Any, *rest: Any) -> Any:
        computed.extend(number(example.id) for example in examples)
        return original(job, model, examples, *rest)

    monkeypatch.setattr(shards, "compute_shard", compute_rest)
    assert run(results, *then).code == 0
    assert sorted(computed) == list(range(len(TEXTS)))
    assert the_same_cells(place / results, alone)


def test_a_cell_that_another_worker_finishes_meanwhile_is_not_computed_again(
    place: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = shards.compute_shard
    computed: list[int] = []

    def compute(job: Any, model: Any, examples: Any, *rest: Any) -> Any:
        found = original(job, model, examples, *rest)
        computed.append(number(examples[0].id))
        if len(computed) == 1:
            # The other worker does all the rest while this one is at its first shard.
            hydra = GlobalHydra.instance()
            outer, hydra.hydra = hydra.hydra, None
            assert run("meanwhile", "workers=2", "worker=1").code == 0
            hydra.hydra = outer
        return found

    monkeypatch.setattr(shards, "compute_shard", compute)
    assert run("meanwhile", "workers=2", "worker=0").code == 0
    assert sorted(computed) == [0, *range(len(TEXTS))]
    assert the_same_cells(place / "meanwhile", alone)


def test_parts_of_a_cell_that_another_machine_has_finished_do_not_stay_in_this_ones_mirror(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = run_job.judge_methods

    def judge(*given: Any) -> None:
        original(*given)
        monkeypatch.undo()
        hydra = GlobalHydra.instance()
        outer, hydra.hydra = hydra.hydra, None
        with monkeypatch.context() as there:
            there.setenv("ASSAY_MIRROR", str(tmp_path / "there"))
            assert run("memory://left", "workers=2", "worker=1").code == 0
        hydra.hydra = outer
        # A bucket has no folders that could stay when they are empty.
        fsspec.filesystem("memory").pseudo_dirs.clear()

    monkeypatch.setattr(run_job, "judge_methods", judge)
    monkeypatch.setenv("ASSAY_MIRROR", str(tmp_path / "here"))
    assert run("memory://left", "workers=2", "worker=0").code == 0
    (mirror,) = (tmp_path / "here").iterdir()
    assert len(list(mirror.glob("*/*/*/cell.json"))) == 4
    assert not list((mirror / ".partial").iterdir())
    assert not list(mirror.glob(".stamps/.partial/*"))


def test_two_sweeps_at_once_on_one_store_end_with_the_same_cells(place: Path, alone: Path) -> None:
    arguments = command("at_once", "-m")
    other = subprocess.Popen(
        [sys.executable, "-c", "from assay.command_line import main; main()", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        assert assay(*arguments, "workers=2", "worker=1").code == 0
        assert other.wait(120) == 0, other.stderr and other.stderr.read().decode()
    finally:
        other.kill()
        assert other.stderr is not None
        other.stderr.close()
    assert the_same_cells(place / "at_once", alone)


def test_a_sweep_has_the_name_that_it_would_have_with_one_worker(place: Path) -> None:
    names = []
    for further in ((), ("workers=2", "worker=1")):
        shutil.rmtree(place / "named", ignore_errors=True)
        assert assay(*command("named", "-m", "metric=comprehensiveness", *further)).code == 0
        cell = next(iter(Store(place / "named").cells()))
        config = json.loads((cell.path / "config.json").read_text("utf-8"))
        assert {"workers", "worker"}.isdisjoint(config)
        names.append(config["sweep"])
    assert names[0] == names[1]
    assert len(names[0]) == 8


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("workers=0",), "workers must be a whole number of at least 1"),
        (("workers=2", "worker=2"), "counted from 0 to 1"),
        (("workers=1,2", "-m"), "a single number"),
        (("workers=2", "worker=0", "overwrite=always"), "another results folder"),
        (("workers=2", "feature=word,token"), "give -m"),
        (("hydra/launcher=jobib",), "Did you mean 'joblib'"),
        (("hydra/launcher=submitit_slurm",), "no sbatch"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(place: Path, overrides: tuple[str, ...], said: str) -> None:
    ended = run("refused", *overrides)
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.count("Error:") == 1
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("launcher", "extra"),
    [("joblib", "joblib"), ("ray", "ray"), ("submitit_local", "slurm"), ("submitit_slurm", "slurm")],
)
def test_a_package_that_is_not_there_is_named_by_its_extra(
    place: Path, monkeypatch: pytest.MonkeyPatch, launcher: str, extra: str
) -> None:
    monkeypatch.setattr(launchers, "_installed", lambda package: False)
    ended = run("refused", f"hydra/launcher={launcher}")
    assert (ended.code, "Traceback" in ended.err) == (2, False)
    assert f"pip install 'assay[{extra}]'" in ended.err


def test_a_mistake_that_shows_in_every_worker_is_told_once(place: Path) -> None:
    ended = run("refused", "workers=2", "task.split=nowhere")
    assert ended.code == 2
    assert ended.err.count("nowhere") == 1


def test_cells_that_another_machine_put_at_a_url_are_read_from_this_machines_mirror(place: Path, alone: Path) -> None:
    there = [str(Path("/of/another/machine", *cell.path.parts[-3:])) for cell in Store(alone).cells()]
    found = launch._here(launch.Report(cells=tuple(there), results=str(alone)))
    assert [Cell.read(Path(path)).explainer for path in found.cells] == [
        cell.explainer for cell in Store(alone).cells()
    ]


def test_submitit_starts_workers_too(place: Path, alone: Path) -> None:
    ended = run("submitit", "workers=2", "hydra/launcher=submitit_local")
    assert ended.code == 0
    assert ".submitit" in ended.out
    assert the_same_cells(place / "submitit", alone)


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """One Ray for all tests: to start it takes longer than they do."""
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=40)
    yield
    ray.shutdown()


def test_ray_workers_share_a_job_and_one_that_is_killed_costs_nothing(place: Path, alone: Path, ray_here: None) -> None:
    (place / "armed").touch()
    ended = run("ray", "workers=2", "hydra/launcher=ray")
    assert ended.code == 0
    assert not (place / "armed").exists()
    assert the_same_cells(place / "ray", alone)
