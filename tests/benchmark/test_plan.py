"""What a plan foretells is what a run then counts."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from assay.benchmark import planned
from assay.benchmark.cell import Cell
from assay.benchmark.memory import MemoryAccount
from assay.benchmark.planned import Planned
from assay.benchmark.store import Store
from assay.errors import AssayError
from assay.example import Example
from assay.planning.curve import foretell
from assay.planning.estimate import COUNTS, Estimate
from assay.planning.plan import JobPlan, Plan
from assay.planning.sampling import spread
from assay.planning.terminal import as_json, terminal_plan
from assay.planning.throughput import Throughput
from tests.benchmark.cli import Ended, assay, save_model, save_task
from tests.tiny_models import CORPUS, tiny_classifier

# Texts of 3 to 22 words, so that what the examples take differs as much as in real tasks.
TEXTS = tuple(
    " ".join((CORPUS[number % 10] + " " + CORPUS[(number + 3) % 10]).split()[: 3 + (7 * number) % 20])
    for number in range(16)
)
CHOSEN = (
    "explainer=[leave_one_out,lime,gradient]",
    "explainers.lime.samples=16",
    "metric=[comprehensiveness,deletion]",
    "+explainer@explainers.oracle=oracle",
    "explainers.oracle.exact_up_to=3",
    "explainers.oracle.width=1",
    "explainers.oracle.candidates=2",
    "tracker=none",
    "allow_low_accuracy=true",
    "shard_size=8",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plan")
    save_model(root / "model")
    save_task(root / "data", TEXTS)
    return root


def command(place: Path, results: Path, *more: str) -> tuple[str, ...]:
    return (f"model={place / 'model'}", f"task.path={place / 'data'}", f"results={results}", *CHOSEN, *more)


def files(folder: Path) -> dict[str, bytes]:
    """The cells, and what is on the way to become one."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if not name.startswith((".plans", ".hydra", ".answers"))}


@pytest.fixture(scope="module")
def planned_and_run(place: Path) -> tuple[dict[str, object], Ended, Path]:
    results = place / "results"
    told = assay("plan", *command(place, results), "--json", str(place / "plan.json"))
    assert told.code == 0, told.err
    assert not files(results)
    return json.loads((place / "plan.json").read_text("utf-8")), assay("run", *command(place, results)), results


def true_work(results: Path) -> dict[str, float]:
    cells = [Cell.read(path.parent) for path in results.glob("*/*/*/cell.json")]
    return {name: sum(cell.meta["work"][name] for cell in cells) for name in cells[0].meta["work"]}


def test_rows_and_tokens_are_foretold_within_a_tenth(planned_and_run: tuple[dict[str, object], Ended, Path]) -> None:
    plan, ended, results = planned_and_run
    assert ended.code == 0, ended.err
    truth, total = true_work(results), plan["total"]
    assert isinstance(total, dict)
    for count in ("forward_rows", "forward_tokens", "backward_rows", "backward_tokens"):
        assert truth[count] > 0
        assert total[count] == pytest.approx(truth[count], rel=0.1), count


def test_the_disk_is_foretold_within_a_quarter(planned_and_run: tuple[dict[str, object], Ended, Path]) -> None:
    plan, _, results = planned_and_run
    total = plan["total"]
    assert isinstance(total, dict)
    taken = sum(len(content) for content in files(results).values())
    assert total["bytes"] == pytest.approx(taken, rel=0.25)


def test_the_run_puts_the_truth_beside_the_plan(planned_and_run: tuple[dict[str, object], Ended, Path]) -> None:
    _, ended, results = planned_and_run
    told = next(line for line in ended.out.splitlines() if line.startswith("Planned → true: "))
    truth = true_work(results)
    assert f"→ {truth['forward_rows'] + truth['backward_rows']:,.0f} (" in told
    assert all(what in told for what in ("rows", "tokens", "of computing", "on disk"))


def test_without_a_plan_the_run_says_nothing_of_one(place: Path, tmp_path: Path) -> None:
    ended = assay("run", *command(place, tmp_path / "results", "task.size=4"))
    assert ended.code == 0, ended.err
    assert "Planned" not in ended.out


def test_what_is_finished_is_skipped_and_what_two_jobs_share_is_computed_once(
    place: Path, planned_and_run: tuple[dict[str, object], Ended, Path]
) -> None:
    _, _, results = planned_and_run
    before = files(results)
    out = place / "again.json"
    arguments = [one for one in command(place, results) if "lime" not in one]
    chosen = "explainer=[leave_one_out],[gradient_x_input],[integrated_gradients]"
    ended = assay("plan", *arguments, chosen, "-m", "--json", str(out), "--examples", "2")
    assert ended.code == 0, ended.err
    plan = json.loads(out.read_text("utf-8"))
    assert [job["finished"] for job in plan["jobs"]] == [["leave_one_out", "oracle", "random"]] + [
        ["oracle", "random"]
    ] * 2
    assert [job["to_compute"] for job in plan["jobs"]] == [[], ["gradient_x_input"], ["integrated_gradients"]]
    assert plan["jobs"][0]["forward_rows"] == 0
    assert "7 cells were finished before" in ended.out
    assert files(results) == before


def test_cells_of_several_jobs_are_counted_with_the_first(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    arguments = [one for one in command(place, tmp_path / "results", "task.size=4") if "lime" not in one]
    ended = assay(
        "plan", *arguments[:-1], "explainer=[leave_one_out],[gradient]", "-m", "--json", str(out), "--examples", "2"
    )
    assert ended.code == 0, ended.err
    first, second = json.loads(out.read_text("utf-8"))["jobs"]
    assert set(first["to_compute"]) == {"leave_one_out", "random", "oracle"}
    assert second["to_compute"] == ["gradient"]
    assert set(second["computed_by_an_earlier_job"]) == {"random", "oracle"}


def test_all_examples_tried_leave_nothing_to_guess(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    arguments = [one for one in command(place, tmp_path / "results", "task.size=2") if "lime" not in one]
    arguments.append("explainer=[gradient]")
    assert assay("plan", *arguments, "--json", str(out)).code == 0
    assert assay("run", *arguments).code == 0
    (job,), truth = json.loads(out.read_text("utf-8"))["jobs"], true_work(tmp_path / "results")
    assert job["rows_error"] == 0
    assert job["memory"]["weights"] > 0
    assert [job[name] for name in ("forward_rows", "backward_tokens")] == pytest.approx(
        [truth[name] for name in ("forward_rows", "backward_tokens")], rel=1e-9
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--examples", "1"), "--examples must be at least 2, not 1"),
        (("--seconds", "0"), "--seconds must be above 0, not 0"),
        (("--json", "/no/such/folder/plan.json"), "there is no folder '/no/such/folder'"),
        (("task=sst3",), "Unknown task 'sst3'"),
    ],
)
def test_a_mistake_is_one_line(place: Path, tmp_path: Path, more: tuple[str, ...], message: str) -> None:
    ended = assay("plan", *command(place, tmp_path / "results"), *more)
    assert ended.code == 2
    assert message in ended.err
    assert len(ended.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("rows", "within"),
    [
        (lambda n: n + 1.0, 1e-9),
        (lambda n: 3 + 2 * n + n**2 / 2, 1e-6),
        (lambda n: np.full_like(n, 256.0), 1e-9),
        (lambda n: np.minimum(2.0**n, 64.0), 0.06),
        (lambda n: np.minimum(n**2, 100.0), 0.08),
    ],
)
def test_counts_that_grow_as_methods_let_them_grow_are_foretold(rows: object, within: float) -> None:
    assert callable(rows)
    lengths = np.random.default_rng(0).poisson(14, size=500) + 1.0
    sample = np.sort(lengths)[np.linspace(0, 499, 8).round().astype(int)]
    foretold = foretell(sample, rows(sample), lengths).values
    assert foretold.sum() == pytest.approx(rows(lengths).sum(), rel=within)


def test_nothing_is_foretold_below_zero_and_nothing_runs_away_beyond_what_was_seen() -> None:
    lengths = np.array([4.0, 6, 8, 10, 12])
    falling = foretell(lengths, 50 - 4 * lengths, np.array([1.0, 30.0])).values
    assert falling.min() >= 0
    square = foretell(lengths, lengths**2, np.array([24.0])).values[0]
    assert 12**2 < square <= 24**2


def test_the_errors_of_the_sample_are_those_of_leaving_one_out() -> None:
    lengths, found = np.array([2.0, 4.0, 6.0, 8.0]), np.array([1.0, 2.0, 5.0, 3.0])
    errors = foretell(lengths, found, lengths).errors
    line = [
        np.polyval(np.polyfit(np.delete(lengths, place), np.delete(found, place), 1), lengths[place]) - found[place]
        for place in range(4)
    ]
    constant = [np.delete(found, place).mean() - found[place] for place in range(4)]
    piecewise = [
        np.interp(lengths[place], np.delete(lengths, place), np.delete(found, place)) - found[place]
        for place in range(4)
    ]
    assert any(np.allclose(errors, form) for form in (line, constant, piecewise))
    assert np.square(errors).mean() <= np.square(constant).mean() + 1e-12


def test_a_sample_goes_from_the_shortest_to_the_longest_and_begins_with_both_halves() -> None:
    model = tiny_classifier("bert")
    encodings = [
        model.encode(Example(id=str(number), text=(" ".join(["film"] * words),), label=None))
        for number, words in enumerate([5, 1, 9, 3, 7, 2, 8, 4, 6])
    ]
    chosen = spread(encodings, 5)
    words = [encodings[place].n for place in chosen]
    assert sorted(words) == [1, 3, 5, 7, 9]
    assert words[:2] == [3, 7]
    assert sorted(spread(encodings, 20)) == list(range(9))


def job_plan(shards: list[float], around: float = 0.0) -> JobPlan:
    estimate = Estimate({}, {}, np.array(shards), 0.0, 0.0, 0.0)
    return JobPlan("t", "m", "cpu", 1, (), (), ("e",), (len(shards), 0), estimate=estimate, around=around)


def test_shards_are_split_over_workers_but_are_not_divided() -> None:
    plan = job_plan([4.0, 1.0, 1.0, 2.0], around=10.0)
    assert [plan.seconds(workers) for workers in (1, 2, 4, 9)] == [18.0, 14.0, 14.0, 14.0]


def test_a_token_between_two_lengths_takes_something_between() -> None:
    speed = Throughput(np.array([10.0, 20.0]), np.array([1.0, 3.0]), 0.0, 0.0)
    assert speed.tokens(np.array([5.0, 15.0, 40.0])).tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("content", ["", "[]", '{"cells": 5}', '{"cells": ["a"], "rows": "many"}', "x" * 2_000_000])
def test_a_plan_that_is_damaged_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    store, metas = Store(tmp_path), {"lime": {"key": "k"}}
    path = planned.keep(store, metas, Planned(("k",), 1, 2, 3, 4))
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    path.write_text(content, "utf-8")
    cell = Cell(tmp_path, {"key": "k", "work": {"seconds": 1.0, "forward_rows": 1.0}})
    assert planned.compare(store, metas, [cell]) is None


def test_a_plan_that_cannot_be_kept_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".plans").write_text("a file, no folder", "utf-8")
    with pytest.raises(AssayError, match=r"The plan cannot be kept as .*: File exists"):
        planned.keep(Store(tmp_path), {"lime": {"key": "k"}}, Planned(("k",), 1, 2, 3, 4))


def test_a_plan_of_other_cells_is_not_compared(tmp_path: Path) -> None:
    store, metas = Store(tmp_path), {"lime": {"key": "k"}, "shap": {"key": "other"}}
    planned.keep(store, metas, Planned(("k",), 10, 20, 3, 40))
    folder = tmp_path / "cell"
    folder.mkdir()
    (folder / "tables").write_bytes(b"x" * 50)
    work = {"seconds": 2.0, "forward_rows": 8.0, "backward_rows": 2.0, "forward_tokens": 25.0}
    known, unknown = Cell(folder, {"key": "k", "work": work}), Cell(folder, {"key": "k"})
    told = planned.compare(store, metas, [known])
    assert told == (
        "Planned → true: 10 → 10 (+0%) rows; 20 → 25 (-20%) tokens; 3.0 s → 2.0 s (+50%) of computing; "
        "40 bytes → 50 bytes (-20%) on disk."
    )
    helped = Cell(folder, {"key": "k", "work": {**work, "rows_known": 3.0}})
    assert str(planned.compare(store, metas, [helped])).endswith("; 3 rows of the plan were known from other cells.")
    assert planned.compare(store, metas, [unknown]) is None
    assert planned.compare(store, metas, [known, Cell(folder, {"key": "other", "work": work})]) is None
    assert planned.compare(store, {"lime": {"key": "k"}}, [known]) is None


MEMORY = MemoryAccount(1e6, 1e6, 0.0, 1e6, False, 4096, 3, 1e9, "cpu")


def test_an_error_that_one_example_cannot_tell_is_unknown() -> None:
    estimate = Estimate(dict.fromkeys(COUNTS, 5.0), {}, np.array([2.0]), 10.0, math.inf, math.inf)
    job = JobPlan("t", "m", "cpu", 3, (), (), ("e",), (1, 0), tried=1, estimate=estimate, memory=MEMORY)
    plan = Plan([job], 1, 0.5)
    assert json.loads(json.dumps(as_json(plan), allow_nan=False))["jobs"][0]["rows_error"] is None
    console = Console(file=io.StringIO(), width=200)
    console.print(terminal_plan(plan))
    said = console.file.getvalue()
    assert "0.0 s to unknown" in said
    assert "rows and tokens ± unknown, time ± unknown" in said
