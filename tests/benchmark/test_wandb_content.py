"""All that is logged of a cell, of a job of a sweep and of a leaderboard, read back from offline runs, key by key."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay.benchmark import tracker as tracker_module
from assay.benchmark.cell import Cell
from assay.benchmark.mean_curves import mean_curves
from assay.benchmark.summary import overall, summarise
from assay.benchmark.tracker import Agent, WandbTracker
from assay.benchmark.wandb_content import EXAMPLES, about_cell, artifact_name, fill_leaderboard
from assay.content_policy import fingerprint
from assay.leaderboard.build import build
from tests.benchmark.offline_runs import NAMES, items, make_cells, not_logged_in, read_run

Records = dict[str, list[Any]]
MEASURES = ("comprehensiveness", "sufficiency", "deletion", "insertion", "tau_loo")
COSTS = ("forward_rows", "forward_tokens", "backward_rows", "backward_tokens", "seconds")
# W&B's own: of a run, and of each table and page.
RUN = {"_runtime", "_step", "_timestamp", "_wandb/runtime"}
FILE = {"_type", "path", "sha256", "size"}
TABLE = {*FILE, "_latest_artifact_path", "artifact_path", "log_mode", "ncols", "nrows"}
KINDS = {"header", "run", "telemetry", "config", "summary", "metric", "history", "artifact", "files", "exit"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with not_logged_in(tmp_path_factory.mktemp("home")) as folder:
        tracker_module._session.cache_clear()
        yield folder
    tracker_module._session.cache_clear()


@pytest.fixture(scope="module")
def results(home: Path) -> Path:
    return home / "results"


@pytest.fixture(scope="module")
def cells(results: Path) -> list[Cell]:
    return make_cells(results)


@pytest.fixture(scope="module")
def logged(cells: list[Cell], results: Path) -> dict[str, Records]:
    """The records of each cell's offline run, by the cell's explainer and the kind of record."""
    WandbTracker().log(cells, cells, {"results": str(results), "sweep": "a-sweep"})
    return {cell.explainer: read_run(results / "wandb", cell.key) for cell in cells}


@pytest.fixture(scope="module")
def site(results: Path, cells: list[Cell], home: Path) -> Path:
    return build(results, home / "boards" / "mine").parent


@pytest.fixture(scope="module")
def board(site: Path, results: Path) -> Records:
    """The records of the leaderboard's run."""
    WandbTracker().log_leaderboard(site, results)
    (path,) = (site.parent / "wandb").glob("offline-run-*-leaderboard-*")
    return read_run(path.parent, path.name[path.name.index("leaderboard-") :])


def configured(records: Records) -> dict[str, Any]:
    return items([run.config for run in records["run"]], "update") | items(records.get("config", []), "update")


def config(records: Records) -> dict[str, Any]:
    """The configuration without W&B's own."""
    return {name: value for name, value in configured(records).items() if name.split("/")[0] != "_wandb"}


def plotted(records: Records) -> dict[str, Any]:
    """How each plot is to be drawn, by its name."""
    start = "_wandb/visualize/"
    return {name.removeprefix(start): how for name, how in configured(records).items() if name.startswith(start)}


def history(records: Records) -> list[dict[str, Any]]:
    return [items([record]) for record in records["history"]]


def named(rows: list[dict[str, Any]]) -> set[str]:
    """All keys of a history but W&B's own."""
    return set().union(*rows) - RUN


def under(name: str, keys: set[str]) -> set[str]:
    return {f"{name}/{key}" for key in keys}


def artifacts(records: Records) -> dict[tuple[str, str], Any]:
    return {(one.type, one.name): one for one in records["artifact"]}


def read_table(folder: Path, rows: list[dict[str, Any]], name: str) -> pd.DataFrame:
    (path,) = [row[f"{name}/path"] for row in rows if f"{name}/path" in row]
    content = json.loads((folder / path).read_text("utf-8"))
    return pd.DataFrame(content["data"], columns=content["columns"])


def files_of(folder: Path, run_id: str) -> Path:
    (found,) = folder.glob(f"*-{run_id}")
    return found / "files"


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_is_a_run_with_its_names_and_its_whole_configuration(
    logged: dict[str, Records], cells: list[Cell], name: str
) -> None:
    (cell,) = [cell for cell in cells if cell.explainer == name]
    records = logged[name]
    assert set(records) <= KINDS
    run = records["run"][0]
    assert (run.run_id, run.display_name) == (cell.key, f"{name} · sst2 · small-bert")
    assert (run.project, run.job_type, run.run_group, run.sweep_id) == ("assay", "cell", "a-sweep", "")
    assert list(run.tags) == ["sst2", "small-bert", name]
    assert config(records) == {
        "key": cell.key,
        "protocol_key": cell.meta["protocol_key"],
        "protocol": json.loads(json.dumps(cell.protocol)),
        "explainer": json.loads(json.dumps(cell.meta["explainer"])),
        "environment": json.loads((cell.path / "environment.json").read_text("utf-8")),
        "command": cell.meta["command"],
    }


def expected_summary(cell: Cell, cells: list[Cell]) -> dict[str, float]:
    """What a cell's run must hold, from the tables that everything else prints."""
    scores, skills = summarise(cells), overall(cells)
    expected: dict[str, float] = {"accuracy": cell.meta["accuracy"]}
    (ranked,) = skills[skills["key"] == cell.key].to_dict("records")
    for short, column in (("mean", "skill"), ("ci_low", "skill_low"), ("ci_high", "skill_high"), ("n", "n")):
        expected[f"mean_skill/mask/{short}"] = ranked[column]
    for row in scores[(scores["key"] == cell.key) & scores["metric"].isin(MEASURES)].to_dict("records"):
        place = f"{row['metric']}/mask"
        columns = {"mean": "mean", "ci_low": "ci_low", "ci_high": "ci_high", "n": "n", "undefined": "undefined"}
        columns |= {"skill": "skill", "skill_ci_low": "skill_low", "skill_ci_high": "skill_high"}
        expected |= {f"{place}/{short}": row[column] for short, column in columns.items()}
    expected |= {f"cost/{name}": cell.meta["cost"][name] for name in COSTS}
    counts = cell.meta["counts"]
    expected |= {f"counts/{name}": counts[name] for name in ("examples", "truncated_examples", "truncated_tokens")}
    expected |= {f"counts/undefined/{name}": count for name, count in counts["undefined"].items()}
    return {name: float(value) for name, value in expected.items() if np.isfinite(value)}


@pytest.mark.parametrize("name", NAMES)
def test_the_summary_holds_every_number_and_nothing_else(
    logged: dict[str, Records], cells: list[Cell], name: str
) -> None:
    (cell,) = [cell for cell in cells if cell.explainer == name]
    files = (
        under("examples", TABLE) | under("band/deletion/mask_table", TABLE) | under("band/insertion/mask_table", TABLE)
    )
    found = items(logged[name]["summary"], "update")
    numbers = {key: value for key, value in found.items() if key not in files | RUN}
    assert numbers == pytest.approx(expected_summary(cell, cells))


def test_what_is_undefined_is_left_out_and_counted(logged: dict[str, Records]) -> None:
    found = items(logged["attention"]["summary"], "update")
    assert "tau_loo/mask/skill" not in found
    assert found["tau_loo/mask/undefined"] == 3
    assert "tau_loo/mask/mean" not in items(logged["oracle"]["summary"], "update")


@pytest.mark.parametrize("name", NAMES)
def test_the_history_holds_every_curve_band_and_table_and_nothing_else(
    logged: dict[str, Records], cells: list[Cell], results: Path, name: str
) -> None:
    (cell,) = [cell for cell in cells if cell.explainer == name]
    rows = history(logged[name])
    bands = ("band/deletion/mask_table", "band/insertion/mask_table")
    tables = set().union(*(under(one, TABLE) for one in ("examples", *bands)))
    assert named(rows) == {"share of features", "curve/deletion/mask", "curve/insertion/mask"} | tables
    folder = files_of(results / "wandb", cell.key)
    curves = mean_curves(cell)
    for measure in ("deletion", "insertion"):
        curve = curves[curves["metric"] == measure]
        drawn = [row for row in rows if f"curve/{measure}/mask" in row]
        assert [row["share of features"] for row in drawn] == pytest.approx(curve["x"].tolist())
        assert [row[f"curve/{measure}/mask"] for row in drawn] == pytest.approx(curve["mean"].tolist())
        band = read_table(folder, rows, f"band/{measure}/mask_table")
        for column in ("mean", "low", "high"):
            line = band[band["lineKey"] == column]
            assert line["lineVal"].tolist() == pytest.approx(curve[column].tolist())
            assert line["step"].tolist() == pytest.approx(curve["x"].tolist())
    titles = {plot: how["panel_config"]["stringSettings"]["title"] for plot, how in plotted(logged[name]).items()}
    assert titles == {
        f"band/{measure}/mask": f"{measure} (mask): mean and 95 % band" for measure in ("deletion", "insertion")
    }
    metrics = {metric.name: metric for metric in logged[name]["metric"]}
    assert set(metrics) == {"share of features", "curve/deletion/mask", "curve/insertion/mask"}
    assert metrics["curve/deletion/mask"].step_metric == "share of features"


def test_the_table_of_examples_is_whole_and_hostile_words_are_escaped(
    logged: dict[str, Records], results: Path, cells: list[Cell]
) -> None:
    (cell,) = [cell for cell in cells if cell.explainer == "attention"]
    table = read_table(files_of(results / "wandb", cell.key), history(logged["attention"]), "examples")
    about = ["id", "words", "label", "predicted", "explained", "searched for", "no attribution because"]
    assert table.columns.tolist() == about + [f"{measure} (mask)" for measure in MEASURES]
    assert len(table) == EXAMPLES
    values = cell.scores[cell.scores["metric"] == "deletion"].set_index("example")["value"]
    assert table["deletion (mask)"].tolist() == pytest.approx(values[table["id"]].tolist())
    assert table["tau_loo (mask)"].iloc[0] is None or np.isnan(table["tau_loo (mask)"].iloc[0])
    staged = [path.read_bytes() for path in (results / "wandb" / ".data").rglob("*") if path.is_file()]
    pages = [content.decode() for content in staged if content.startswith(b"<div")]
    assert len(pages) == EXAMPLES * len(cells)
    assert [page for page in pages if "onerror" in page]
    assert all("<img" not in page and "</script>" not in page and "\u202e" not in page for page in pages)


def test_names_from_data_are_harmless_in_names_and_tags(cells: list[Cell]) -> None:
    steering = {**cells[0].protocol, "task": {**cells[0].protocol["task"], "name": "\u202eevil\x1b[2J" + "x" * 200}}
    about = about_cell(Cell(cells[0].path, {**cells[0].meta, "protocol": steering}), None)
    for text in (about["name"], *about["tags"]):
        assert not set(text) & set("\u202e\x1b")
    assert (len(about["name"]), len(about["tags"][0])) == (128, 64)
    assert about["group"] == cells[0].meta["protocol_key"]


@pytest.mark.parametrize("name", NAMES)
def test_the_artifacts_are_the_cells_files_and_the_tables(
    logged: dict[str, Records], cells: list[Cell], name: str
) -> None:
    (cell,) = [cell for cell in cells if cell.explainer == name]
    found = artifacts(logged[name])
    assert sorted(kind for kind, _ in found) == ["cell", "run_table", "run_table", "run_table"]
    artifact = found["cell", artifact_name(cell)]
    assert {entry.path for entry in artifact.manifest.contents} == {path.name for path in cell.path.iterdir()}
    for entry in artifact.manifest.contents:
        assert entry.size == (cell.path / entry.path).stat().st_size
    digest = hashlib.sha256((cell.path / "checksums.json").read_bytes()).hexdigest()
    assert json.loads(artifact.metadata) == {**cell.meta["counts"], "key": cell.key, "checksums": digest}


def test_a_leaderboard_is_a_run_with_its_rows_plots_page_and_cells(
    board: Records, site: Path, cells: list[Cell]
) -> None:
    assert set(board) <= KINDS
    run = board["run"][0]
    assert (run.job_type, run.display_name, list(run.tags)) == ("leaderboard", "leaderboard · mine", ["leaderboard"])
    protocol = cells[0].meta["protocol_key"]
    assert config(board) == {"protocol_keys": [protocol], "ranked_by": "mean_skill"}
    fields = {plot: how["panel_config"]["fieldSettings"] for plot, how in plotted(board).items()}
    assert fields == {
        f"skill/{protocol[:8]}/mask": {"label": "explainer", "value": "mean"},
        f"cost/{protocol[:8]}/mask": {"x": "rows", "y": "mean"},
    }
    rows = history(board)
    plots = (f"skill/{protocol[:8]}/mask_table", f"cost/{protocol[:8]}/mask_table")
    keys = set().union(*(under(one, TABLE) for one in ("leaderboard", "cells", *plots))) | under("page", FILE)
    assert named(rows) == keys
    counts = {"protocols": 1, "tasks": 1, "models": 1, "explainers": 4}
    links = {"cells": 4, "cells_linked": 0, "cells_missing": 0}
    found = items(board["summary"], "update")
    assert {name: value for name, value in found.items() if name not in keys | RUN} == counts | links
    folder = files_of(site.parent / "wandb", run.run_id)
    table, csv = read_table(folder, rows, "leaderboard"), pd.read_csv(site / "leaderboard.csv")
    assert table.columns.tolist() == csv.columns.tolist()
    pd.testing.assert_frame_equal(table.astype(csv.dtypes.to_dict()), csv)
    skill = read_table(folder, rows, plots[0])
    ranked = csv[(csv["metric"] == "mean_skill") & csv["rank"].notna()].sort_values("rank")
    assert skill["explainer"].tolist() == ranked["explainer"].tolist()
    assert skill[["mean", "ci_low", "ci_high"]].to_numpy() == pytest.approx(
        ranked[["mean", "ci_low", "ci_high"]].to_numpy()
    )


def test_the_lineage_names_every_cell_by_artifact_run_and_checksums(
    board: Records, logged: dict[str, Records], site: Path, cells: list[Cell]
) -> None:
    """Offline W&B can link no run with an artifact, so that names and digests must do."""
    table = read_table(files_of(site.parent / "wandb", board["run"][0].run_id), history(board), "cells")
    assert table.columns.tolist() == ["artifact", "run", "explainer", "task", "model", "protocol", "checksums"]
    assert len(table) == len(cells)
    for row in table.to_dict("records"):
        artifact = artifacts(logged[row["explainer"]])["cell", row["artifact"]]
        assert json.loads(artifact.metadata)["checksums"] == row["checksums"]
        assert logged[row["explainer"]]["run"][0].run_id == row["run"]
    assert set(table["protocol"]) == {cells[0].meta["protocol_key"]}


def test_the_whole_site_is_an_artifact_and_its_first_page_stands_alone(board: Records, site: Path) -> None:
    artifact = artifacts(board)["leaderboard", "leaderboard"]
    files = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    assert {entry.path for entry in artifact.manifest.contents} == files
    assert json.loads(artifact.metadata) == {"cells": 4, "protocols": 1}
    (shown,) = (site.parent / "wandb").glob("*/files/media/html/page_*.html")
    page = shown.read_text("utf-8")
    assert not re.search(r"<script|<link", page)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert f"style-src '{fingerprint(style)}'" in unescape(page)


class Online:
    """A run that is online, at a server that has some artifacts."""

    offline = False

    def __init__(self, there: set[str]) -> None:
        self.summary: dict[str, Any] = {}
        self.there, self.used = there, list[str]()

    def use_artifact(self, name: str, type: str) -> None:
        assert type == "cell"
        if name not in self.there:
            raise ValueError("no such artifact")
        self.used.append(name)

    def log(self, content: Any) -> None:
        pass

    def log_artifact(self, artifact: Any) -> None:
        pass


def test_online_a_leaderboard_is_linked_with_the_cells_that_the_server_has(site: Path, cells: list[Cell]) -> None:
    there = {f"{artifact_name(cell)}:latest" for cell in cells[1:]}
    run = Online(there)
    fill_leaderboard(run, site, cells)
    assert set(run.used) == there
    assert (run.summary["cells_linked"], run.summary["cells_missing"]) == (3, 1)


def test_an_agent_of_a_sweep_hears_of_its_job_and_cells_keep_runs_of_their_own(
    results: Path, cells: list[Cell], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker_module._session.cache_clear()
    for name, value in (("SWEEP_ID", "abc"), ("RUN_ID", "given"), ("PROJECT", "faithful"), ("ENTITY", "team")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    before = dict(os.environ)
    chosen = [cell for cell in cells if cell.explainer != "attention"]
    place = home / "agent"
    WandbTracker().log(chosen[:1], chosen, {"results": str(place)})
    assert dict(os.environ) == before
    own, job = read_run(place / "wandb", chosen[0].key), read_run(place / "wandb", "given")
    assert set(job) <= KINDS
    assert (own["run"][0].sweep_id, own["run"][0].run_group) == ("", "abc")
    run = job["run"][0]
    assert (run.sweep_id, run.project, run.entity, run.job_type) == ("abc", "faithful", "team", "job")
    assert run.display_name == "kernel_shap · sst2 · small-bert"
    assert config(job) == {"cells": [cell.key for cell in chosen], "protocol_key": chosen[0].meta["protocol_key"]}
    found = {name: value for name, value in items(job["summary"], "update").items() if name not in RUN}
    assert found == pytest.approx(expected_summary(chosen[0], chosen))
    tracker_module._session.cache_clear()
    WandbTracker().log([], cells, {"results": str(home / "again")})
    both = items(read_run(home / "again" / "wandb", "given")["summary"], "update")
    assert {name.split("/")[0] for name in both if name not in RUN} == {"attention", "kernel_shap"}


def test_without_a_sweep_there_is_no_agent() -> None:
    assert Agent.of({"WANDB_RUN_ID": "x"}) is None
    assert Agent.of({"WANDB_SWEEP_ID": "x", "WANDB_RUN_ID": " "}) is None
    assert Agent.of({"WANDB_SWEEP_ID": "s", "WANDB_RUN_ID": "r"}) == Agent("s", "r", None, None)
