"""The number of examples that a plan asks for is enough, and no more than enough."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from statsmodels.stats.power import TTestPower
from typer.testing import CliRunner

from assay.benchmark.cell import Cell
from assay.benchmark.power import effect_seen, examples_for_t, examples_for_wilcoxon, examples_needed, power_table
from assay.benchmark.resampling import Floats
from assay.benchmark.significance import sign_flip_test
from assay.benchmark.summary import Contest
from assay.command_line import app
from assay.errors import AssayError
from tests.leaderboard.synthetic import METHODS, protocol, write_cell


def contest(values: Floats) -> Contest:
    names = [f"method_{place}" for place in range(values.shape[1])]
    return Contest("key", "mask", "comprehensiveness", 1.0, names, names, values)


@pytest.mark.parametrize(("effect", "examples"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_the_t_test_needs_what_the_tables_say(effect: float, examples: int) -> None:
    """Cohen's small, medium and large effects at a power of 80 % and a level of 5 %."""
    assert examples_for_t(effect) == examples


@pytest.mark.parametrize("effect", [0.03, 0.1, 0.37, 1.0])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 28])
def test_the_number_is_that_of_statsmodels_rounded_up(effect: float, alpha: float) -> None:
    solved = TTestPower().solve_power(effect_size=effect, power=0.9, alpha=alpha, alternative="two-sided")
    assert examples_for_t(effect, 0.9, alpha) == math.ceil(solved)


@pytest.mark.parametrize("examples", [8, 34, 199, 20_000])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 4])
def test_the_smallest_effect_that_is_seen_is_that_of_statsmodels(examples: int, alpha: float) -> None:
    solved = TTestPower().solve_power(nobs=examples, power=0.8, alpha=alpha / 2, alternative="larger")
    assert effect_seen(examples, 0.8, alpha) == pytest.approx(float(solved), rel=1e-4)
    assert examples_for_t(effect_seen(examples, 0.8, alpha) * 1.001, 0.8, alpha) <= examples


def test_fewer_examples_than_a_test_needs_see_no_effect_at_all() -> None:
    assert effect_seen(5) == math.inf
    assert effect_seen(8, alpha=0.05 / 36) == math.inf


@pytest.mark.parametrize("effect", [0.25, 0.5])
def test_a_study_of_the_planned_size_finds_the_difference_as_often_as_it_should(effect: float) -> None:
    rng = np.random.default_rng(1)
    by_t, by_wilcoxon = (
        rng.normal(effect, 1.0, size=(size, 1500)) for size in (examples_for_t(effect), examples_for_wilcoxon(effect))
    )
    assert np.mean(stats.ttest_1samp(by_t, 0.0).pvalue <= 0.05) == pytest.approx(0.8, abs=0.03)
    assert np.mean(stats.wilcoxon(by_wilcoxon).pvalue <= 0.05) == pytest.approx(0.8, abs=0.03)
    flipped = [sign_flip_test(np.stack([one, np.zeros(len(one))], 1))[0][0] for one in by_t.T[:150]]
    assert np.mean(np.array(flipped) <= 0.05) == pytest.approx(0.8, abs=0.1)


def test_a_pilot_of_known_spread_gives_the_number_for_that_spread() -> None:
    rng = np.random.default_rng(2)
    difficulty = rng.normal(scale=5.0, size=(4000, 1))
    needed = examples_needed(contest(difficulty + rng.normal(scale=0.1, size=(4000, 3))), 0.05)
    assert [one.pilot for one in needed] == [4000] * 3
    for one in needed:
        assert one.spread == pytest.approx(0.1 * math.sqrt(2), rel=0.05)
        assert one.alone == pytest.approx(examples_for_t(0.05 / (0.1 * math.sqrt(2))), rel=0.1)
        assert one.alone < one.alone_wilcoxon < one.corrected_wilcoxon < one.cautious
        assert one.alone < one.corrected < one.corrected_wilcoxon
    assert [one.spread for one in needed] == sorted(one.spread for one in needed)


def test_the_upper_limit_of_the_spread_holds_the_truth_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(3)
    held = [
        examples_needed(contest(np.stack([rng.normal(size=20), np.zeros(20)], 1)), 0.5)[0].spread_high >= 1.0
        for _ in range(200)
    ]
    assert 0.9 < np.mean(held) < 0.99


def test_methods_that_agree_everywhere_need_what_the_test_itself_needs() -> None:
    needed = examples_needed(contest(np.repeat(np.arange(20.0)[:, None], 2, axis=1)), 0.05)[0]
    assert (needed.spread, needed.alone_wilcoxon) == (0.0, 6)


def test_undefined_examples_are_dropped_in_pairs() -> None:
    values = np.random.default_rng(4).normal(size=(30, 3))
    values[:20, 2] = np.nan
    needed = examples_needed(contest(values), 0.5)
    assert [(one.first, one.second, one.pilot) for one in needed] == [("method_0", "method_1", 30)]


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        (np.zeros((30, 1)), {}, "one explainer beside the controls, 'method_0'"),
        (np.zeros((11, 2)), {}, "no two explainers share more than 11 examples"),
        (np.zeros((30, 2)), {"difference": 0.0}, "difference must be a number above 0, not 0.0"),
        (np.zeros((30, 2)), {"difference": math.nan}, "difference must be a number above 0, not nan"),
        (np.zeros((30, 2)), {"power": 1.0}, "power must lie between 0 and 1, not 1.0"),
        (np.zeros((30, 2)), {"alpha": 0.0}, "alpha must lie between 0 and 1, not 0.0"),
        (np.zeros((30, 2)), {"power": 0.04}, "must be above alpha"),
    ],
)
def test_what_cannot_be_planned_is_said(values: Floats, settings: dict[str, float], message: str) -> None:
    with pytest.raises(AssayError, match=message):
        examples_needed(contest(values), **{"difference": 0.1, **settings})


@pytest.fixture(scope="module")
def pilot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pilot")
    for name in ("lime", "gradient", "attention", "kernel_shap", "oracle", "random"):
        write_cell(root, name, protocol(examples=30), METHODS[name], signed=name != "attention")
    return root


def test_the_command_shows_the_easiest_a_middling_and_the_hardest_pair(pilot: Path) -> None:
    ended = CliRunner().invoke(app, ["power", "--pilot", str(pilot), "--difference", "0.05", "--metric", "deletion"])
    assert ended.exit_code == 0, ended.output
    rows = [
        line for line in ended.output.splitlines() if "random" not in line and ", " in line and "examples" not in line
    ]
    assert len([row for row in rows if row.split()[0].rstrip(",") in METHODS]) == 3
    assert "corrected for 6 pairs" in " ".join(ended.output.split())


def test_the_mean_skill_is_planned_for_by_default_and_fits_a_terminal(pilot: Path) -> None:
    console = Console(width=110, record=True, file=io.StringIO())
    cells = [Cell.read(path.parent) for path in sorted(pilot.glob("*/*/*/cell.json"))]
    console.print(power_table(cells, 0.05))
    text = console.export_text()
    assert "a difference of 0.05 in mean_skill" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 110
    lonely = [cell for cell in cells if cell.explainer != "random"]
    with pytest.raises(AssayError, match="no mean skill: it needs both controls"):
        power_table(lonely, 0.05)
    with pytest.raises(AssayError, match="no explainer beside the controls: oracle, random"):
        power_table([cell for cell in cells if cell.explainer in ("random", "oracle")], 0.05)
    with pytest.raises(AssayError, match=r"Unknown measure 'deletoin'\. Did you mean 'deletion'"):
        power_table(cells, 0.05, "deletoin")
    with pytest.raises(AssayError, match=r"Unknown perturbation 'delete'\. Known: mask"):
        power_table(cells, 0.05, None, "delete")


def test_protocols_of_one_task_and_model_are_told_apart(tmp_path: Path) -> None:
    for seed in (0, 1):
        for name in ("lime", "gradient"):
            write_cell(tmp_path, name, protocol(examples=20, seed=seed), METHODS[name])
    cells = [Cell.read(path.parent) for path in sorted(tmp_path.glob("*/*/*/cell.json"))]
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(power_table(cells, 0.05, "deletion"))
    text = console.export_text()
    assert {str(cell.meta["protocol_key"])[:8] for cell in cells} == {
        line.partition("(protocol ")[2][:8] for line in text.splitlines() if "(protocol " in line
    }
