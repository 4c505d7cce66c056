"""Mean ranks over protocols: over the same protocols for all, with an interval, and what is missing named."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata

from assay.leaderboard.overall import Column, Overall, overall
from assay.leaderboard.protocol_summary import Entry, Hiding, Interval, ProtocolSummary, Standing, resamples_of


def column(
    task: str,
    samples: Mapping[str, NDArray[np.float64]],
    wins: float = 0.7,
    settings: Mapping[str, object] | None = None,
) -> Column:
    """A protocol of which some methods have a mean skill in each resample; a method without one has no rank."""
    entries = []
    for name, drawn in samples.items():
        skill = float(drawn.mean()) if len(drawn) else None
        rank = None if skill is None else 1 + sum(len(o) > 0 and float(o.mean()) > skill for o in samples.values())
        standing = Standing(Interval(), Interval(skill), 10, 0, rank, rank, rank, "", False)
        win = Interval(wins, wins - 0.1, wins + 0.1)
        own = dict((settings or {}) if name == "lime" else {})
        entries.append(
            Entry(
                f"{name}-{task}", name, name, "own", name == "random", standing, win, {}, {}, own, True, None, 4.0, 0.5
            )
        )
    ranked = [name for name, drawn in samples.items() if len(drawn) and name != "random"]
    kept = np.stack([samples[name] for name in ranked], axis=1).astype("<f4")
    hiding = Hiding(
        "mask", {}, [], entries, [f"{name}-{task}" for name in ranked], base64.b64encode(kept.tobytes()).decode()
    )
    protocol = {"task": {"fingerprint": task}}
    return ProtocolSummary("", task, task, task, "model", protocol, 10, None, {}, [hiding]), hiding


def drawn(seed: int, means: Mapping[str, float], spread: float = 0.1) -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return {name: mean + spread * rng.normal(size=500) for name, mean in means.items()}


def by_name(rows: Sequence[Overall]) -> dict[str, Overall]:
    return {row.name: row for row in rows}


def test_the_mean_rank_is_the_mean_of_the_ranks_and_its_interval_that_of_independent_protocols() -> None:
    columns = [
        column("a", drawn(0, {"lime": 0.5, "shap": 0.45, "first": 0.1})),
        column("b", drawn(1, {"lime": 0.3, "shap": 0.32, "first": 0.2})),
    ]
    found = overall(columns)
    points = sum(rankdata([-entry.mean_skill.skill.mean for entry in hiding.entries]) for _, hiding in columns) / 2  # type: ignore[operator]
    assert by_name(found)["lime"].rank.mean == points[0]
    assert [row.rank.mean for row in found] == sorted(points.tolist())
    rng = np.random.default_rng(9)
    ranks = [rankdata(-resamples_of(hiding), axis=1) for _, hiding in columns]
    free = sum(rank[rng.integers(0, 500, 20_000)] for rank in ranks) / 2
    for place, name in enumerate(("lime", "shap", "first")):
        low, high = np.percentile(free[:, place], [2.5, 97.5])
        rank = by_name(found)[name].rank
        assert (rank.low, rank.high) == pytest.approx((low, high), abs=0.5)
    assert by_name(found)["first"].rank.high == 3.0
    assert by_name(found)["lime"].rows == 4.0
    assert by_name(found)["lime"].win_rate.mean == pytest.approx(0.7)
    assert by_name(found)["lime"].win_rate.high == pytest.approx(0.7 + 0.1 / np.sqrt(2))


def test_a_method_that_lacks_a_protocol_has_no_mean_and_does_not_move_the_others() -> None:
    whole = [column("a", drawn(0, {"lime": 0.5, "shap": 0.4})), column("b", drawn(1, {"lime": 0.5, "shap": 0.4}))]
    with_one_more = [
        column("a", drawn(0, {"lime": 0.5, "shap": 0.4, "new": 0.9})),
        column("b", {**drawn(1, {"lime": 0.5, "shap": 0.4}), "new": np.zeros(0)}),
    ]
    found = overall(with_one_more)
    assert found[:2] == overall(whole)
    assert [row.name for row in found] == ["lime", "shap", "new"]
    assert found[2] == Overall("new", Interval(), Interval(), None, None, [1])


def test_protocols_on_which_nobody_is_ranked_count_for_nobody() -> None:
    ranked = column("a", drawn(0, {"lime": 0.5, "shap": 0.4}))
    summary, _ = column("b", drawn(1, {"lime": 0.5}))
    nobody = Hiding(
        "mask",
        {},
        [],
        [
            entry
            for entry in column("c", {"lime": np.zeros(0), "shap": np.ones(3)})[1].entries
            if entry.mean_skill.rank is None
        ],
        [],
        "",
    )
    assert overall([ranked, (summary, nobody)]) == overall([ranked])
    assert overall([(summary, nobody)]) == [Overall("lime", Interval(), Interval(), None, None, [])]
    assert overall([]) == []


def test_a_name_with_other_settings_is_another_method() -> None:
    columns = [
        column("a", drawn(0, {"lime": 0.5, "shap": 0.4}), settings={"samples": 50}),
        column("b", drawn(1, {"lime": 0.5, "shap": 0.4}), settings={"samples": 900}),
    ]
    found = by_name(overall(columns))
    assert found["lime"].rank.mean is None
    assert found["lime"].missing == [1]
    assert found["shap"].rank.mean == 1.0


def test_controls_have_no_mean_rank() -> None:
    assert [row.name for row in overall([column("a", drawn(0, {"lime": 0.5, "random": 0.0}))])] == ["lime"]


def test_the_same_examples_are_drawn_together_for_all_models() -> None:
    """Two models that always agree are as uncertain as one; two tasks are less so."""
    samples = drawn(3, {"lime": 0.50, "shap": 0.49, "first": 0.48}, spread=0.2)
    same = by_name(overall([column("a", samples), column("a", samples)]))["lime"].rank
    alone = by_name(overall([column("a", samples)]))["lime"].rank
    other = by_name(overall([column("a", samples), column("b", samples)]))["lime"].rank
    assert same == alone
    assert (alone.low, alone.high) == (1.0, 3.0)
    assert other.low is not None
    assert other.high is not None
    assert other.high - other.low <= 2.0
