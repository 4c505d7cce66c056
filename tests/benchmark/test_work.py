"""What computing took: what is known of it, what is not, and where it is told."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from assay.benchmark.amounts import amount, duration, size
from assay.benchmark.cell import Cell
from assay.benchmark.store import Store
from assay.benchmark.summary import overall, summarise
from assay.benchmark.table import terminal_table
from assay.benchmark.wandb_content import summary
from assay.benchmark.work import Work, known_work, work_of
from assay.conversation import Cost
from tests.benchmark.cli import assay, save_model, save_task

WORK = {
    "rows_asked": 300.0,
    "rows_answered": 100.0,
    "rows_known": 20.0,
    "tokens": 1000.0,
    "padding": 50.0,
    "batches": 4.0,
    "model_seconds": 3.0,
    "seconds": 4.0,
    "forward_rows": 110.0,
    "forward_tokens": 1100.0,
    "backward_rows": 10.0,
    "backward_tokens": 100.0,
}


def cell(**meta: object) -> Cell:
    return Cell(Path("none"), meta)


def test_rates_and_shares_are_those_of_the_whole() -> None:
    work = Work(**WORK)
    assert (work.rows_per_second, work.tokens_per_second) == (30.0, 300.0)
    assert (work.model_share, work.padding_share) == (0.75, 0.05)
    assert (work.asked_per_answered, work.known_share) == (2.5, pytest.approx(1 / 6))
    assert str(work) == (
        "120 rows of 1,200 tokens through the model in 4.0 s of computing; 30 rows and 300 tokens a second; "
        "75% of the time inside the model; 2.5 rows asked for each distinct one; 5.0% padding; "
        "17% of the distinct rows known from before"
    )


def test_what_looks_inside_alone_asks_no_rows_of_the_engine() -> None:
    work = Work(seconds=2.0, model_seconds=1.0)
    work.passed(Cost(forward_rows=8, forward_tokens=80, backward_rows=4, backward_tokens=40, seconds=9))
    assert str(work).endswith("6 rows and 60 tokens a second; 50% of the time inside the model")
    assert work.seconds == 2.0


@pytest.mark.parametrize(
    "work", [None, {}, {"seconds": 0.0}, {"seconds": "4"}, {"rows_asked": 5.0, "seconds": 0.0}, {"seconds": 4.0}]
)
def test_what_nobody_counted_is_unknown_and_never_nothing(work: object) -> None:
    assert work_of(cell(work=work)) is None
    assert known_work([cell(work=WORK), cell(work=work)]) is None


def test_a_cell_whose_rows_were_all_known_from_before_is_counted() -> None:
    work = work_of(cell(work={"seconds": 2.0, "rows_asked": 30.0, "rows_known": 10.0}))
    assert work is not None
    assert "0 rows of 0 tokens through the model" in str(work)
    assert str(work).endswith(
        "3.0 rows asked for each distinct one; no padding; 100% of the distinct rows known from before"
    )
    assert known_work([cell(work=WORK), cell(work=vars(work))]) is not None


def test_the_work_of_several_cells_is_the_sum() -> None:
    total = known_work([cell(work=WORK), cell(work=WORK)])
    assert total is not None
    assert vars(total) == {name: 2 * value for name, value in WORK.items()}
    assert known_work([]) is None


@pytest.mark.parametrize(
    ("told", "right"),
    [
        (amount(950), "950"),
        (amount(12_345), "12,345"),
        (amount(4_240_000), "4.2 M"),
        (duration(4.24), "4.2 s"),
        (duration(80), "80 s"),
        (duration(720), "12 min"),
        (duration(3.4 * 3600), "3.4 h"),
        (duration(60 * 3600), "2.5 days"),
        (size(900), "900 bytes"),
        (size(12_345), "12.3 kB"),
        (size(999_600), "1.0 MB"),
        (size(4.5e12), "4.5 TB"),
    ],
)
def test_numbers_for_people(told: str, right: str) -> None:
    assert told == right


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Cell]:
    root = tmp_path_factory.mktemp("work")
    save_model(root / "model")
    save_task(root / "data")
    ended = assay(
        "run",
        f"model={root / 'model'}",
        f"task.path={root / 'data'}",
        f"results={root / 'results'}",
        "task.size=3",
        "explainer=[leave_one_out,gradient]",
        "metric=comprehensiveness",
        "tracker=none",
        "allow_low_accuracy=true",
    )
    assert ended.code == 0, ended.err
    assert "\nWork: " in ended.out
    return Store(root / "results").cells()


def test_a_run_counts_what_went_forward_and_backward(cells: list[Cell]) -> None:
    total = known_work(cells)
    assert total is not None
    assert total.backward_rows == pytest.approx(3)  # the gradient, once for each example
    # The engine's rows and those of the gradient's forward pass, which asks the model by itself.
    assert total.forward_rows == pytest.approx(total.rows_answered + 3)
    assert 0 < total.model_seconds <= total.seconds
    assert total.rows_asked >= total.rows_answered


def test_the_table_tells_of_how_many_cells_the_work_is_known(cells: list[Cell]) -> None:
    first = Cell(cells[0].path, {name: value for name, value in cells[0].meta.items() if name != "work"})
    for group, begin in ((cells, "Work: "), ([first, *cells[1:]], f"Work of {len(cells) - 1} of {len(cells)} cells: ")):
        console = Console(width=200, file=io.StringIO(), record=True)
        console.print(terminal_table(group))
        assert sum(line.startswith(begin) for line in console.export_text().splitlines()) == 1


def test_wandb_is_told_what_is_known(cells: list[Cell]) -> None:
    told = dict(summary(cells[0], summarise(cells), overall(cells)))
    assert told["work/model_share"] == pytest.approx(cells[0].meta["work"]["model_seconds"] / told["work/seconds"])
    assert told["work/padding_share"] == 0
    older = Cell(cells[0].path, {**cells[0].meta, "work": None})
    assert not [name for name in dict(summary(older, summarise(cells), overall(cells))) if name.startswith("work/")]
