"""Mean curves on a common grid, and their bands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from assay.benchmark import mean_curves as module
from assay.benchmark.cell import Cell
from assay.benchmark.mean_curves import GRID, Curves, curves_of, mean_curves
from assay.benchmark.resampling import bootstrap
from tests.leaderboard.synthetic import protocol, write_cell


def stored(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]]) -> Cell:
    table = pa.Table.from_pylist([{"perturbation": "mask", "metric": "deletion", **row} for row in rows])
    monkeypatch.setattr(Cell, "arrow", lambda self, name, coded=(): table)
    return Cell(Path(), {})


def test_curves_are_averaged_on_a_common_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"example": "a", "x": [0.0, 0.5, 1.0], "y": [1.0, 0.0, 0.0]},
        {"example": "b", "x": [0.0, 1.0], "y": [1.0, 0.0]},
    ]
    curve = mean_curves(stored(monkeypatch, rows)).set_index("x")["mean"]
    assert len(curve) == 51
    # At x = 0.5: (0 + 0.5) / 2; between its points a curve is a straight line: at 0.24, (0.52 + 0.76) / 2.
    assert [curve.iloc[0], curve.iloc[12], curve.iloc[25], curve.iloc[50]] == pytest.approx([1.0, 0.64, 0.25, 0.0])


def test_curves_are_interpolated_as_numpy_does(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number, size in enumerate([1, 2, 3, 7, 50, 51, 52, 7]):
        x = np.unique(np.concatenate([[0.0, 1.0], rng.random(size)]))[:size] if number % 2 else np.linspace(0, 1, size)
        rows.append({"example": str(number), "x": x.tolist(), "y": rng.normal(size=size).tolist()})
    expected = np.mean([np.interp(GRID, row["x"], row["y"]) for row in rows], axis=0)
    np.testing.assert_allclose(mean_curves(stored(monkeypatch, rows))["mean"], expected, atol=1e-12)


def test_every_curve_is_read_where_it_stands(tmp_path: Path) -> None:
    cell = write_cell(tmp_path, "lime", protocol(examples=9), 0.8)
    rows = cell.rows("curves")
    for (perturbation, metric), curves in curves_of(cell).items():
        mine = [row for row in rows if (row["perturbation"], row["metric"]) == (perturbation, metric)]
        assert curves.examples == [row["example"] for row in mine]
        assert curves.x.tolist() == [x for row in mine for x in row["x"]]
        assert curves.y.tolist() == [y for row in mine for y in row["y"]]
        assert curves.lengths.tolist() == [len(row["x"]) for row in mine]
        assert list(curves_of(cell, (perturbation, metric))) == [(perturbation, metric)]


def test_a_cell_without_curves_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = stored(monkeypatch, [])
    assert curves_of(cell) == {}
    assert list(mean_curves(cell)) == ["perturbation", "metric", "x", "mean", "low", "high"]


def test_the_band_holds_the_mean_curve(tmp_path: Path) -> None:
    curves = mean_curves(write_cell(tmp_path, "lime", protocol(examples=30), 0.8))
    assert set(curves["metric"]) == {"deletion", "insertion"}
    assert (curves["low"] <= curves["mean"] + 1e-12).all()
    assert (curves["mean"] <= curves["high"] + 1e-12).all()
    assert (curves["high"] - curves["low"]).max() > 0


@pytest.mark.parametrize("skew", [0.3, 3.0])
def test_the_band_of_many_examples_is_that_of_the_bootstrap(skew: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two differ by no more than one set of 2,000 resamples from another."""
    values = np.random.default_rng(1).gamma(skew, size=(module.EXPANDED_FROM, len(GRID)))
    count = len(values)
    curves = Curves([""] * count, np.full(count, len(GRID)), np.tile(GRID, count), values.ravel())
    monkeypatch.setattr(module, "curves_of", lambda cell, only=None: {("mask", "deletion"): curves})
    found = mean_curves(Cell(Path(), {}))
    samples = bootstrap(values)[1]
    low, high = np.percentile(samples, [2.5, 97.5], axis=0)
    halves = [np.percentile(half, [2.5, 97.5], axis=0) for half in (samples[:1000], samples[1000:])]
    apart = np.abs(halves[0] - halves[1]).mean()
    for limit, expected in (("low", low), ("high", high)):
        assert np.abs(found[limit] - expected).mean() < apart
        assert np.abs((found[limit] - expected).mean()) < 0.02 * (high - low).mean()
    np.testing.assert_allclose(found["mean"], values.mean(axis=0))


def test_a_single_example_has_no_band(monkeypatch: pytest.MonkeyPatch) -> None:
    curve = mean_curves(stored(monkeypatch, [{"example": "a", "x": [0.0, 1.0], "y": [1.0, 0.0]}]))
    assert curve[["low", "high"]].isna().all(axis=None)
