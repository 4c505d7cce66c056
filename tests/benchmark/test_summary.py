"""Means, intervals, skills, ranks and curves of finished cells."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from rich.console import Console

from assay.benchmark import resampling
from assay.benchmark.cell import Cell
from assay.benchmark.intervals import mean_interval
from assay.benchmark.resampling import two_level_bootstrap
from assay.benchmark.significance import sign_flip_test
from assay.benchmark.skill import skill_interval
from assay.benchmark.summary import contests, overall, summarise
from assay.benchmark.table import terminal_table
from assay.errors import AssayError
from assay.leaderboard.board import COSTS
from tests.leaderboard.synthetic import METHODS, protocol, write_cell

RNG = np.random.default_rng(7)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Cell]:
    root, about = tmp_path_factory.mktemp("results"), protocol(examples=30)
    names = ("attention", "kernel_shap", "lime", "oracle", "random")
    return [write_cell(root, name, about, METHODS[name], signed=name != "attention") for name in names]


def test_undefined_values_are_left_out_of_the_mean_and_not_taken_for_zero() -> None:
    with_holes = np.array([1.0, np.nan, 3.0, np.nan])
    assert mean_interval(with_holes).mean == 2.0
    assert np.isnan(mean_interval(np.full(3, np.nan)).mean)
    assert np.isnan(mean_interval(np.array([])).mean)


def test_a_single_value_has_a_mean_and_no_interval() -> None:
    one = mean_interval(np.array([0.4, np.nan]))
    assert one.mean == 0.4
    assert np.isnan(one.low)
    assert np.isnan(one.high)


def test_many_examples_are_resampled_in_blocks_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values = RNG.normal(size=37)
    whole = mean_interval(values)
    draws = RNG.normal(size=(37, 3, 2))
    two_levels, flips = two_level_bootstrap(draws)[1], sign_flip_test(draws[:, 0])
    monkeypatch.setattr(resampling, "_BLOCK", 37 * 100)
    blocks = mean_interval(values)
    np.testing.assert_allclose(two_level_bootstrap(draws)[1].std(), two_levels.std(), rtol=0.1)
    np.testing.assert_allclose(sign_flip_test(draws[:, 0]), flips)
    assert (blocks.low, blocks.high) == pytest.approx((whole.low, whole.high))


def test_skill_is_the_place_between_random_and_oracle() -> None:
    random, oracle = RNG.normal(0.1, 0.05, size=50), RNG.normal(0.6, 0.05, size=50)
    for quality in (-0.2, 0.0, 0.35, 1.0):
        skill = skill_interval(random + quality * (oracle - random), random, oracle)
        assert (skill.mean, skill.low, skill.high) == pytest.approx((quality, quality, quality))


def test_skill_does_not_depend_on_the_direction() -> None:
    values, random, oracle = (RNG.normal(mean, 0.1, size=40) for mean in (0.4, 0.1, 0.7))
    up = skill_interval(values, random, oracle, "higher")
    down = skill_interval(-values, -random, -oracle, "lower")
    assert (up.mean, up.low, up.high) == pytest.approx((down.mean, down.low, down.high))


def test_skill_pairs_examples_and_drops_those_where_one_of_the_three_is_undefined() -> None:
    values, random, oracle = np.array([1.0, 9.0, 3.0]), np.array([0.0, np.nan, 2.0]), np.array([2.0, 5.0, 4.0])
    assert skill_interval(values, random, oracle).mean == pytest.approx((2.0 - 1.0) / (3.0 - 1.0))


@pytest.mark.parametrize("oracle_mean", [0.0, -0.5, 0.01])
def test_there_is_no_skill_where_the_oracle_does_not_beat_chance(oracle_mean: float) -> None:
    values, random = RNG.normal(size=30), RNG.normal(size=30)
    oracle = random + oracle_mean + RNG.normal(scale=1.0 if oracle_mean == 0.01 else 0.0, size=30) * (oracle_mean > 0)
    assert np.isnan(skill_interval(values, random, oracle, "higher").mean)


def test_a_row_says_how_many_values_are_undefined(cells: list[Cell]) -> None:
    frame = summarise(cells).set_index(["explainer", "metric"])
    assert frame.loc[("kernel_shap", "deletion"), ["n", "undefined"]].tolist() == [28, 2]
    assert frame.loc[("attention", "tau_loo"), ["n", "undefined"]].tolist() == [27, 3]
    stored = cells[1].scores
    expected = stored[(stored["metric"] == "deletion")]["value"].dropna().mean()
    assert frame.loc[("kernel_shap", "deletion"), "mean"] == pytest.approx(expected)


def test_a_method_that_is_undefined_for_many_examples_is_not_ranked(cells: list[Cell], tmp_path: Path) -> None:
    """Its mean is over other texts than the others': it would win by being defined for the easy ones alone."""
    short = write_cell(tmp_path, "lrp_0", protocol(examples=30), 0.99)
    table = pd.read_parquet(short.path / "scores.parquet")
    table.loc[table["example"].isin(sorted(set(table["example"]))[:20]), "value"] = np.nan
    short.__dict__["score_rows"] = pa.Table.from_pandas(table)
    scores, skills = summarise([*cells, short]), overall([*cells, short])
    for frame in (scores, skills):
        mine = frame[frame["explainer"] == "lrp_0"]
        assert mine["rank"].isna().all()
        assert (mine["n"] <= 10).all()
        assert mine["skill"].notna().any()
    assert set(skills.loc[skills["rank"] == 1, "explainer"]) == {"kernel_shap"}


def test_ranks_follow_the_direction_and_leave_the_controls_out(cells: list[Cell]) -> None:
    frame = summarise(cells)
    assert frame[frame["explainer"].isin(["random", "oracle"])]["rank"].isna().all()
    for measure, ascending in (("deletion", True), ("insertion", False)):
        rows = frame[(frame["metric"] == measure) & frame["rank"].notna()]
        assert rows.sort_values("rank")["mean"].is_monotonic_increasing == ascending
        assert sorted(rows["rank"]) == [1, 2, 3]


def test_the_mean_skill_is_the_mean_of_the_skills(cells: list[Cell]) -> None:
    skills = overall(cells).set_index("explainer")
    measures = list(skills.loc["lime", "measures"])
    assert measures == ["comprehensiveness", "sufficiency", "deletion", "insertion"]
    frame = summarise(cells)
    rows = frame[(frame["explainer"] == "lime") & frame["metric"].isin(measures)]
    assert skills.loc["lime", "skill"] == pytest.approx(rows["skill"].mean())
    assert skills.loc["lime", "skill_low"] < skills.loc["lime", "skill"] < skills.loc["lime", "skill_high"]
    assert skills.loc[["random", "oracle"], "skill"].tolist() == pytest.approx([0.0, 1.0])
    assert skills.loc["kernel_shap", "n"] == 28


def test_without_a_control_there_is_no_skill(cells: list[Cell]) -> None:
    lonely = [cell for cell in cells if cell.explainer != "random"]
    assert summarise(lonely)["skill"].isna().all()
    assert overall(lonely)[["skill", "rank"]].isna().all(axis=None)


def test_skill_is_read_within_a_protocol(tmp_path: Path, cells: list[Cell]) -> None:
    other = write_cell(tmp_path, "lime", protocol(examples=30, seed=5), 0.8)
    frame = summarise([*cells, other])
    assert frame[frame["key"] == other.key]["skill"].isna().all()
    assert set(frame[frame["key"] == other.key]["rank"].dropna()) == {1.0}


def test_the_terminal_table_shows_every_explainer_with_intervals(cells: list[Cell]) -> None:
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(terminal_table(cells))
    text = console.export_text()
    lines = [line for line in text.splitlines() if line.startswith("kernel_shap")]
    assert len(lines) == 3
    assert "±" in lines[0]
    assert lines[2].split() == ["kernel_shap", "2", "2", "2", "2", "2"]
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 110
    # The controls stand below the methods.
    assert text.index("lime") < text.index("random ") < text.index("oracle ")


def test_a_value_that_was_never_stored_counts_as_undefined(cells: list[Cell]) -> None:
    cell = Cell(cells[0].path, cells[0].meta)
    rows = cells[0].scores[cells[0].scores["example"] != "sst2-0"]
    cell.__dict__["score_rows"] = pa.Table.from_pandas(rows)
    row = summarise([cell]).set_index("metric").loc["deletion"]
    assert [row["n"], row["undefined"]] == [29, 1]


def made_up(name: str, scores: pd.DataFrame, measures: dict[str, dict[str, Any]], hides_by: str | None = None) -> Cell:
    """A cell of given scores; of an explainer that hid features by `hides_by`."""
    about = protocol(examples=scores["example"].nunique())
    cell = Cell(
        Path(),
        {
            "key": name,
            "protocol_key": "protocol",
            "protocol": about,
            "explainer": {"name": name, "settings": {}, "perturbation": hides_by},
            "measures": {one: {"direction": "higher", "headline": True, **more} for one, more in measures.items()},
            "counts": {"examples": scores["example"].nunique()},
            "cost": dict.fromkeys(COSTS, 1.0),
        },
    )
    cell.__dict__.update(scores=scores, score_rows=pa.Table.from_pandas(scores))
    return cell


def long(values: dict[str, np.ndarray[Any, Any]]) -> pd.DataFrame:
    """Scores of examples as a cell stores them, by measure."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "example": [f"e{place}" for place in range(len(own))],
                    "perturbation": "mask",
                    "metric": name,
                    "value": own,
                    "reason": None,
                }
            )
            for name, own in values.items()
        ],
        ignore_index=True,
    )


def test_a_ratio_of_means_is_one_everywhere() -> None:
    """In the mean and its interval, in the skill, and in the differences between methods."""
    hits = {name: RNG.gamma(level, size=40) for name, level in (("lime", 4.0), ("random", 1.0), ("oracle", 8.0))}
    asked = {name: RNG.gamma(5.0, size=40) for name in hits}
    asked["lime"][3] = np.nan
    measures = {"rate": {"per": "asked"}, "asked": {"headline": False}}
    cells = [made_up(name, long({"rate": hits[name], "asked": asked[name]}), measures) for name in hits]
    row = summarise(cells).set_index(["explainer", "metric"]).loc[("lime", "rate")]
    both = np.isfinite(asked["lime"])
    assert row["mean"] == pytest.approx(hits["lime"][both].sum() / asked["lime"][both].sum())
    assert row["ci_low"] < row["mean"] < row["ci_high"]
    assert [row["n"], row["undefined"]] == [39, 1]
    rates = {name: hits[name][both].sum() / asked[name][both].sum() for name in hits}
    expected = (rates["lime"] - rates["random"]) / (rates["oracle"] - rates["random"])
    assert row["skill"] == pytest.approx(expected)
    assert np.nanmean(contests(cells, "rate")[0].values) == pytest.approx(row["mean"])


def test_the_draws_of_a_random_method_are_a_second_level() -> None:
    draws = RNG.normal(size=(30, 1)) + RNG.normal(size=(30, 5))
    scores = long({"deletion": draws.mean(axis=1)})
    scores["draws"] = list(draws)
    row = summarise([made_up("random", scores, {"deletion": {}})]).iloc[0]
    assert row["mean"] == pytest.approx(draws.mean())
    assert row["ci_method"] == "BCa, two levels"
    plain = mean_interval(draws.mean(axis=1))
    assert row["ci_high"] - row["ci_low"] == pytest.approx(plain.high - plain.low, rel=0.15)


def leaders(frame: pd.DataFrame) -> set[str]:
    return set(frame.loc[frame["leading"], "explainer"])


def test_methods_that_cannot_be_told_apart_from_the_best_lead_with_it() -> None:
    hard = RNG.normal(size=60)
    values = {"a": hard, "b": hard + RNG.normal(0.0, 0.3, size=60), "c": hard - 0.5 + RNG.normal(0.0, 0.3, size=60)}
    cells = [made_up(name, long({"deletion": own}), {"deletion": {}}) for name, own in values.items()]
    frame = summarise(cells).set_index("explainer", drop=False)
    assert leaders(frame) == {"a", "b"}
    assert frame.loc["c", ["rank", "rank_low", "rank_high", "group"]].tolist() == [3.0, 3.0, 3.0, "b"]
    assert frame.loc[["a", "b"], "group"].tolist() == ["a", "a"]
    assert frame.loc[["a", "b"], ["rank_low", "rank_high"]].to_numpy().tolist() == [[1.0, 2.0]] * 2
    few = summarise([made_up(name, long({"deletion": own[:5]}), {"deletion": {}}) for name, own in values.items()])
    assert leaders(few) == set()
    assert few["mean"].notna().all()
    assert leaders(summarise(cells[:1])) == set()


def test_the_mean_skill_has_groups_of_its_own(cells: list[Cell]) -> None:
    skills = overall(cells).set_index("explainer", drop=False)
    assert leaders(skills) == {"kernel_shap", "lime"}
    assert skills.loc["attention", ["rank_low", "rank_high", "group"]].tolist() == [3.0, 3.0, "b"]
    assert skills.loc[["random", "oracle"], "group"].tolist() == ["", ""]


def test_a_contest_has_the_methods_on_the_same_examples(cells: list[Cell]) -> None:
    contest = contests(cells, "deletion")[0]
    assert sorted(contest.names) == ["attention", "kernel_shap", "lime"]
    assert contest.better == -1.0
    table = contest.differences().set_index(["first", "second"])
    assert table.loc[("attention", "kernel_shap"), ["n", "dropped"]].tolist() == [28, 2]
    assert table.loc[("attention", "kernel_shap"), "wilcoxon_holm"] < 0.05
    assert contest.friedman().p < 0.05
    assert np.nanmean(contests(cells)[0].values, axis=0) == pytest.approx(
        overall(cells).set_index("explainer").loc[contest.names, "skill"].tolist()
    )
    with pytest.raises(AssayError, match="'insertion'"):
        contests(cells, "insertoin")


def shown(cells: list[Cell]) -> str:
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(terminal_table(cells))
    return console.export_text()


def test_the_terminal_table_says_what_its_marks_stand_on(cells: list[Cell], tmp_path: Path) -> None:
    text = " ".join(shown(cells).split())
    assert "sign-flip test on 27 to 30 examples with a family-wise error of 5 % over all pairs of a column's 3" in text
    few = [write_cell(tmp_path, name, protocol(examples=5), METHODS[name]) for name in ("lime", "gradient")]
    text = " ".join(shown(few).split())
    assert "No method is marked where 5 examples are too few to tell methods apart; a test needs 6" in text
    assert "*" not in text.replace("*:", "")


def test_explainers_that_hide_features_otherwise_are_told_apart_by_name() -> None:
    scores = long({"deletion": RNG.normal(size=10)})
    cells = [made_up(f"lime_{hides_by}", scores, {"deletion": {}}, hides_by) for hides_by in ("mask", "delete", None)]
    text = shown(cells)
    assert "lime_delete (delete)" in text
    assert "lime_mask (" not in text
    assert "lime_None (" not in text
    frame = summarise(cells)
    assert frame["explained_under"].fillna("").tolist() == ["mask", "delete", ""]


def test_many_measures_go_into_several_tables_that_fit() -> None:
    measures = [f"a_measure_of_many_{place}" for place in range(17)]
    scores = long({name: RNG.normal(size=12) for name in measures})
    lines = shown([made_up(name, scores, {one: {} for one in measures}) for name in ("lime", "gradient")]).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 110
    assert [" ".join(lines).count(name.replace("_", " ") + " ↑") for name in measures] == [1] * 17
    assert sum(line.startswith("gradient") for line in lines) >= 4


def test_the_terminal_says_why_values_are_undefined(cells: list[Cell]) -> None:
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(terminal_table(cells))
    told = [line for line in console.export_text().splitlines() if line.startswith("- ")]
    # Only what the tables show is named, by the headings that it has there.
    assert "- compreh., suffic., deletion, insertion, tau loo: no attribution: the search found no path" in told


def test_a_control_that_competes_is_compared_like_any_method(cells: list[Cell]) -> None:
    (contest,) = contests(cells, "comprehensiveness", controls=["random"])
    assert set(contest.names) == {"attention", "kernel_shap", "lime", "random"}
    means = summarise(cells).query("metric == 'comprehensiveness'").set_index("explainer")["mean"]
    found = contest.differences().set_index(["first", "second"])["difference"]
    assert found["lime", "random"] == pytest.approx(means["lime"] - means["random"])
    (skill,) = contests(cells, controls=["random", "oracle"])
    by_name = dict(zip(skill.names, skill.values.T, strict=True))
    np.testing.assert_allclose(by_name["random"], 0.0, atol=1e-12)
    np.testing.assert_allclose(np.nanmean(by_name["oracle"]), 1.0)
