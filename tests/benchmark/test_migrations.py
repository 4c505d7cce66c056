"""Cells that older versions wrote (`tests/fixtures/schema_*`, made by those versions' own code) are read as today's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from assay.benchmark.migrations import SCHEMA_VERSION
from assay.benchmark.store import Store
from assay.benchmark.summary import summarise
from assay.benchmark.tables import TABLES, table_schema
from assay.benchmark.whole_folder import verify
from assay.errors import AssayError
from assay.leaderboard.build import build
from tests.benchmark.cli import assay, save_model, save_task

FIXTURES = Path(__file__).parents[1] / "fixtures"
# The texts and the model that the fixtures were made from.
TEXTS = ("a warm and funny film .", "a dull , lifeless script .", "good")


@pytest.mark.parametrize("schema", [1, 2])
def test_an_older_cell_has_todays_form_and_the_numbers_that_were_stored(schema: int) -> None:
    cells = Store(FIXTURES / f"schema_{schema}").checked_cells()
    assert {"random"} <= {cell.explainer for cell in cells}
    for cell in cells:
        stored = json.loads((cell.path / "cell.json").read_text("utf-8"))
        assert stored["schema"] == schema
        assert cell.meta["schema"] == SCHEMA_VERSION
        assert cell.meta["migrated"]["from"] == schema
        # What tells cells and protocols apart stays, the protocol's version included.
        assert [cell.key, cell.meta["protocol_key"]] == [stored["key"], stored["protocol_key"]]
        assert cell.protocol["version"] == stored["protocol"]["version"] == schema
        for name in TABLES:
            raw = pq.read_table(cell.path / f"{name}.parquet").to_pylist()
            rows = cell.rows(name)
            assert list(rows[0]) == list(cell.table(name).columns) == table_schema(name).names
            for row, was in zip(rows, raw, strict=True):
                assert {column: row[column] for column in was} == was


def test_what_nobody_recorded_is_unknown_and_named() -> None:
    first = Store(FIXTURES / "schema_1").cells()[0]
    assert first.meta["migrated"]["unknown"] == ["attributions.report", "explainer.perturbation", "scores.draws"]
    (second,) = Store(FIXTURES / "schema_2").cells()
    assert second.meta["migrated"]["unknown"] == ["scores.draws"]
    assert second.table("attributions")["draw"].max() == 4  # it was drawn five times,
    assert second.scores["draws"].isna().all()  # and what each draw scored is not made up.
    assert first.table("attributions")["report"].isna().all()


def test_older_protocol_versions_stay_apart_from_todays(tmp_path: Path) -> None:
    save_model(tmp_path / "tiny-bert")
    save_task(tmp_path / "data", TEXTS)
    for schema in (1, 2):
        shutil.copytree(FIXTURES / f"schema_{schema}", tmp_path / "results", dirs_exist_ok=True)
    ended = assay(
        "run",
        f"model={tmp_path / 'tiny-bert'}",
        "task=sst2",
        f"task.path={tmp_path / 'data'}",
        f"results={tmp_path / 'results'}",
        "explainer=gradient_x_input",
        "metric=[comprehensiveness,deletion]",
        "tracker=none",
        "model.device=cpu",
        "allow_low_accuracy=true",
    )
    assert ended.code == 0, ended.err
    cells = Store(tmp_path / "results").checked_cells()
    assert len(cells) == 6
    table = summarise(cells)
    assert table["protocol"].nunique() == 3
    # The same example, model and method, so that migrating has to give the same means as measuring today.
    means = table[table["explainer"] == "gradient_x_input"].pivot(index="metric", columns="protocol", values="mean")
    assert means.shape == (len(set(table["metric"])), 2)
    np.testing.assert_allclose(means.iloc[:, 0], means.iloc[:, 1], atol=1e-6)
    build(tmp_path / "results", tmp_path / "out")
    assert pd.read_csv(tmp_path / "out" / "leaderboard.csv")["protocol"].nunique() == 3


def test_a_newer_schema_says_which_version_reads_it(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "schema_2", tmp_path / "results")
    (place,) = (tmp_path / "results").glob("*/*/*/cell.json")
    place.write_text(json.dumps({**json.loads(place.read_text()), "schema": SCHEMA_VERSION + 1}))
    environment = place.with_name("environment.json")
    environment.write_text(json.dumps({"packages": {"assay": "7.1.0"}}))
    with pytest.raises(AssayError, match=r"schema 4; .* reads schemas 1 to 3. It was written by Assay 7\.1\.0"):
        Store(tmp_path / "results").cells()
    environment.unlink()
    with pytest.raises(AssayError, match="pip install --upgrade assay"):
        Store(tmp_path / "results").cells()


def test_reading_leaves_the_files_as_they_are() -> None:
    for cell in Store(FIXTURES / "schema_1").cells():
        cell.rows("scores")
        verify(cell.path)
