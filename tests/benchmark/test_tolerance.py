"""A tolerance on the command line: part of the protocol or of the method where it is given, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assay.benchmark.cell import Cell
from assay.benchmark.mean_curves import mean_curves
from assay.benchmark.store import Store
from tests.benchmark.cli import Ended, assay, save_model, save_task
from tests.tiny_models import CORPUS

LONG = (" ".join(CORPUS[:2]), " ".join(CORPUS[2:4]))
AREAS = ("deletion", "insertion", "srg")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tolerance")
    save_model(folder / "model")
    save_task(folder / "data", LONG)
    return folder


def run(place: Path, results: str, *overrides: str) -> Ended:
    return assay(
        "run",
        f"task.path={place / 'data'}",
        f"model.path={place / 'model'}",
        "metric=[deletion,insertion,srg]",
        "explainer=[leave_one_out,kernel_shap]",
        "explainers.kernel_shap.samples=300",
        "allow_low_accuracy=true",
        "tracker=none",
        f"results={place / results}",
        *overrides,
    )


def cells(results: Path) -> dict[str, Cell]:
    return {cell.explainer: cell for cell in Store(results).cells()}


@pytest.fixture(scope="module")
def whole(place: Path) -> dict[str, Cell]:
    ended = run(place, "whole")
    assert (ended.code, ended.err) == (0, "")
    return cells(place / "whole")


@pytest.fixture(scope="module")
def chosen(place: Path) -> dict[str, Cell]:
    given = [f"metrics.{name}.tolerance=0.5" for name in AREAS]
    ended = run(place, "chosen", *given, "explainers.kernel_shap.tolerance=1")
    assert (ended.code, ended.err) == (0, "")
    return cells(place / "chosen")


def test_it_is_named_only_where_it_is_given(whole: dict[str, Cell], chosen: dict[str, Cell]) -> None:
    for name in AREAS:
        assert "tolerance" not in whole["random"].protocol["metrics"][name]
        assert chosen["random"].protocol["metrics"][name]["tolerance"] == 0.5
    assert "tolerance" not in whole["kernel_shap"].meta["explainer"]["settings"]
    assert chosen["kernel_shap"].meta["explainer"]["settings"]["tolerance"] == 1
    assert {cell.meta["protocol_key"] for cell in whole.values()} != {
        cell.meta["protocol_key"] for cell in chosen.values()
    }


def test_fewer_points_are_asked_and_stored_with_what_they_may_be_off(
    whole: dict[str, Cell], chosen: dict[str, Cell]
) -> None:
    for name in ("leave_one_out", "random", "oracle"):
        all_points = {
            row["example"]: len(row["x"]) for row in whole[name].rows("curves") if row["metric"] == "deletion"
        }
        for row in chosen[name].rows("curves"):
            if row["metric"] == "deletion" and name != "random":
                assert len(row["x"]) < all_points[row["example"]]
            assert [row["x"][0], row["x"][-1]] == [0.0, 1.0]
            assert (np.diff(row["x"]) > 0).all()
        values = {row["metric"]: row["value"] for row in chosen[name].rows("scores")}
        # The oracle searches for one metric at a time, and none is looked for under `srg`.
        areas = AREAS[:2] if name == "oracle" else AREAS
        assert set(values) >= {f"{area}{kind}" for area in areas for kind in ("", "_error", "_points")}
    assert not any("_error" in row["metric"] for row in whole["leave_one_out"].rows("scores"))
    # Draws of the random ranking choose points of their own.
    frame = mean_curves(chosen["random"])
    assert np.isfinite(frame[["mean"]]).all(axis=None)
    before = mean_curves(whole["random"])
    assert np.abs(frame["mean"] - before["mean"]).max() < 0.5


def test_a_method_reports_where_it_stopped(whole: dict[str, Cell], chosen: dict[str, Cell]) -> None:
    for row in chosen["kernel_shap"].rows("attributions"):
        assert '"standard_error"' in row["report"]
    assert all('"standard_error"' not in row["report"] for row in whole["kernel_shap"].rows("attributions"))
    rows = [sum(row["forward_rows"] for row in one["kernel_shap"].rows("examples")) for one in (whole, chosen)]
    assert rows[1] < rows[0]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("metrics.deletion.tolerance=0", "tolerance must be a number above 0, not 0"),
        ("explainers.kernel_shap.tolerance=small", "tolerance must be a number above 0, not 'small'"),
        ("+explainers.leave_one_out.tolerance=0.01", "has no setting 'tolerance'"),
    ],
)
def test_a_tolerance_that_is_none_ends_the_run_before_it_starts(place: Path, override: str, said: str) -> None:
    ended = run(place, "refused", override)
    assert ended.code == 2
    assert said in ended.err
    assert not list((place / "refused").rglob("cell.json"))
