"""What is told to Weights & Biases, with a real offline run, and that telling it never harms."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay import registry
from assay.benchmark import tracker as tracker_module
from assay.benchmark.store import Cell
from assay.benchmark.summary import summarise
from assay.benchmark.tracker import NoTracker, WandbTracker, logged_in, wanted_mode
from assay.benchmark.wandb_content import EXAMPLES, about_cell
from assay.errors import AssayError
from assay.leaderboard.build import build
from tests.leaderboard.synthetic import HOSTILE, METHODS, UNSIGNED, protocol, write_cell

NAMES = ("attention", "kernel_shap", "oracle", "random")
OURS = ("WANDB_SILENT", "WANDB_ERROR_REPORTING", "WANDB_CACHE_DIR", "WANDB_DATA_DIR")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user who is not logged in, in an empty folder, where whatever is littered can be seen."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "here").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("WANDB_", "XDG_")) or name == "NETRC":
                patch.delenv(name)
        patch.setenv("HOME", str(folder))
        patch.chdir(folder / "here")
        yield folder


@pytest.fixture(autouse=True)
def _not_logged_in(home: Path) -> Iterator[None]:
    tracker_module._session.cache_clear()
    yield
    tracker_module._session.cache_clear()


def make_cells(root: Path) -> list[Cell]:
    about = protocol(examples=EXAMPLES + 8)
    return [
        write_cell(root, name, about, METHODS[name], signed=name not in UNSIGNED, first_words=(HOSTILE, "\u202eevil"))
        for name in NAMES
    ]


@pytest.fixture(scope="module")
def results(home: Path) -> Path:
    return home / "results"


@pytest.fixture(scope="module")
def cells(results: Path) -> list[Cell]:
    return make_cells(results)


@pytest.fixture(scope="module")
def logged(cells: list[Cell], results: Path) -> dict[str, dict[str, list[Any]]]:
    """The records of each cell's offline run, by the cell's explainer and the kind of record."""
    tracker_module._session.cache_clear()
    WandbTracker().log(cells, cells, {"results": str(results), "sweep": "a-sweep"})
    return {cell.explainer: read_run(results / "wandb", cell.key) for cell in cells}


def read_run(folder: Path, run_id: str) -> dict[str, list[Any]]:
    """The records of an offline run, once W&B's own process has written the last of them."""
    (path,) = folder.glob(f"offline-run-*-{run_id}/run-{run_id}.wandb")
    deadline = time.monotonic() + 20
    while "exit" not in (records := read_records(path.read_bytes())) and time.monotonic() < deadline:
        time.sleep(0.1)
    return records


def read_records(content: bytes) -> dict[str, list[Any]]:
    """What W&B wrote, by kind: a log of protobuf messages in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    place, parts = 7, b""
    records: dict[str, list[Any]] = defaultdict(list)
    while place + 7 <= len(content):
        left_in_block = 32768 - place % 32768
        if left_in_block < 7:
            place += left_in_block
            continue
        _, size, kind = struct.unpack("<IHB", content[place : place + 7])
        parts += content[place + 7 : place + 7 + size]
        place += 7 + size
        if place > len(content):
            break
        if kind in (1, 4):  # whole, or the last part
            record = Record.FromString(parts)
            name = record.WhichOneof("record_type")
            records[name].append(getattr(record, name))
            parts = b""
    return records


def items(records: list[Any], field: str = "item") -> dict[str, Any]:
    """The last value under each key."""
    return {
        "/".join(item.nested_key) or item.key: json.loads(item.value_json)
        for record in records
        for item in getattr(record, field)
    }


def test_each_cell_is_a_run_with_its_names(logged: dict[str, dict[str, list[Any]]], cells: list[Cell]) -> None:
    (run,) = logged["kernel_shap"]["run"][:1]
    assert run.run_id == next(cell.key for cell in cells if cell.explainer == "kernel_shap")
    assert run.display_name == "kernel_shap · sst2 · small-bert"
    assert (run.project, run.job_type, run.run_group) == ("assay", "cell", "a-sweep")
    assert list(run.tags) == ["sst2", "small-bert", "kernel_shap"]


def test_the_configuration_holds_protocol_explainer_and_environment(logged: dict[str, dict[str, list[Any]]]) -> None:
    config = {item.key: json.loads(item.value_json) for item in logged["attention"]["run"][0].config.update}
    assert config["protocol"]["task"]["name"] == "sst2"
    assert config["explainer"]["name"] == "attention"
    assert config["environment"]["python"] == "3.11.2"
    assert config["command"].startswith("assay run")


def test_the_group_is_the_protocol_without_a_sweep(cells: list[Cell]) -> None:
    assert about_cell(cells[0], None)["group"] == cells[0].meta["protocol_key"]


def test_the_summary_holds_scores_with_intervals_skill_counts_and_cost(
    logged: dict[str, dict[str, list[Any]]], cells: list[Cell]
) -> None:
    found = items(logged["kernel_shap"]["summary"], "update")
    frame = summarise(cells)
    row = frame[(frame["explainer"] == "kernel_shap") & (frame["metric"] == "deletion")].iloc[0]
    names = ["mean", "ci_low", "ci_high", "n", "undefined", "skill", "skill_ci_low", "skill_ci_high"]
    columns = ["mean", "ci_low", "ci_high", "n", "undefined", "skill", "skill_low", "skill_high"]
    assert [found[f"deletion/mask/{name}"] for name in names] == pytest.approx([row[column] for column in columns])
    assert found["deletion/mask/undefined"] == 2
    assert found["cost/forward_rows"] == 25.0
    assert found["counts/examples"] == EXAMPLES + 8
    assert found["accuracy"] == 0.925


def test_what_is_undefined_is_left_out_and_never_zero(logged: dict[str, dict[str, list[Any]]]) -> None:
    found = items(logged["oracle"]["summary"], "update")
    assert "tau_loo/mask/mean" not in found
    assert "tau_loo/mask/skill" not in items(logged["attention"]["summary"], "update")
    assert items(logged["attention"]["summary"], "update")["tau_loo/mask/undefined"] == 3


def test_curves_are_history_and_plots(logged: dict[str, dict[str, list[Any]]]) -> None:
    rows = [items([record]) for record in logged["attention"]["history"]]
    curve = [row for row in rows if "curve/deletion/mask" in row]
    assert [row["share of features"] for row in curve] == pytest.approx(np.linspace(0, 1, 51))
    assert curve[0]["curve/deletion/mask"] == pytest.approx(0.99)
    assert {"band/deletion/mask_table/path", "band/insertion/mask_table/path"} <= set().union(*rows)
    metrics = {metric.name: metric for metric in logged["attention"]["metric"]}
    assert metrics["curve/deletion/mask"].step_metric == "share of features"


def test_the_table_shows_examples_and_hostile_words_are_escaped(
    logged: dict[str, dict[str, list[Any]]], results: Path, cells: list[Cell]
) -> None:
    folder = next((results / "wandb").glob(f"*-{cells[0].key}")) / "files"
    rows = [items([record]) for record in logged["attention"]["history"]]
    shown = next(row["examples/path"] for row in rows if "examples/path" in row)
    table = json.loads((folder / shown).read_text("utf-8"))
    assert len(table["data"]) == EXAMPLES
    assert {"id", "words", "deletion (mask)", "tau_loo (mask)"} <= set(table["columns"])
    first = table["data"][0]
    assert first[table["columns"].index("tau_loo (mask)")] is None
    staged = [path.read_bytes() for path in (results / "wandb" / ".data").rglob("*") if path.is_file()]
    pages = [content.decode() for content in staged if content.startswith(b"<div")]
    assert len(pages) == EXAMPLES * len(cells)
    hostile = [page for page in pages if "onerror" in page]
    assert hostile
    assert all("<img" not in page and "</script>" not in page for page in pages)


def test_the_files_are_an_artifact(logged: dict[str, dict[str, list[Any]]], cells: list[Cell]) -> None:
    (artifact,) = [artifact for artifact in logged["random"]["artifact"] if artifact.type == "cell"]
    names = {entry.path for entry in artifact.manifest.contents}
    assert names == {path.name for path in cells[-1].path.iterdir()}


def test_nothing_is_littered_and_the_process_is_as_it_was(
    cells: list[Cell], home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = dict(os.environ), sys.exit, sys.excepthook, sys.stdout, sys.stderr
    known = {path for path in home.rglob("*") if "results" not in path.parts}
    own = make_cells(tmp_path / "results")
    of_cells = set((tmp_path / "results").rglob("*"))
    WandbTracker().log(own[:1], own, {"results": str(tmp_path / "results")})
    assert (dict(os.environ), sys.exit, sys.excepthook, sys.stdout, sys.stderr) == before
    assert {path for path in home.rglob("*") if "results" not in path.parts} == known
    fresh = {path.relative_to(tmp_path / "results").parts[0] for path in (tmp_path / "results").rglob("*")} - {"sst2"}
    assert fresh <= {"wandb", ".partial"}
    assert set((tmp_path / "results" / "sst2").rglob("*")) <= of_cells
    said = capsys.readouterr()
    assert said.out.count("\n") == 1
    assert "offline" in said.out
    assert "wandb sync" in said.out
    assert said.err == ""


def test_logging_again_replaces_and_says_nothing_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = make_cells(tmp_path)
    WandbTracker().log(cells[:1], cells, {"results": str(tmp_path)})
    capsys.readouterr()
    WandbTracker().log(cells[:1], cells, {"results": str(tmp_path)})
    assert capsys.readouterr().out == ""
    assert len(list((tmp_path / "wandb").glob(f"offline-run-*-{cells[0].key}*"))) == 1


def test_the_leaderboard_is_a_run_of_its_own(results: Path, cells: list[Cell], tmp_path: Path) -> None:
    out = tmp_path / "boards" / "mine"
    build(results, out)
    WandbTracker().log_leaderboard(out)
    (path,) = (tmp_path / "boards" / "wandb").glob("offline-run-*-leaderboard-*")
    records = read_run(path.parent, path.name[path.name.index("leaderboard-") :])
    assert records["run"][0].job_type == "leaderboard"
    assert records["run"][0].display_name == "leaderboard · mine"
    history = items(records["history"])
    assert {"leaderboard", "page"} <= {key.partition("/")[0] for key in history}
    assert sorted(path.name for path in out.iterdir()) == [
        "index.html",
        "leaderboard.csv",
        "leaderboard.json",
        "leaderboard.md",
    ]


def test_a_failing_tracker_is_one_line_and_then_silence(
    cells: list[Cell], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import wandb

    def fail(**about: Any) -> None:
        raise RuntimeError("the moon is in the way\nand more")

    monkeypatch.setattr(wandb, "init", fail)
    for _ in range(2):
        WandbTracker(mode="offline").log(cells[:2], cells, {"results": str(tmp_path)})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Warning: W&B: the moon is in the way; nothing more")


def test_online_that_fails_goes_on_offline(
    cells: list[Cell], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import wandb

    tried, real = [], wandb.init

    def init(**about: Any) -> Any:
        tried.append(about["mode"])
        if about["mode"] == "online":
            raise wandb.errors.CommError("no route to host")
        return real(**about)

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    WandbTracker().log(cells[:2], cells, {"results": str(tmp_path)})
    assert tried == ["online", "offline", "offline"]
    assert capsys.readouterr().out.startswith("Warning: W&B online: no route to host; offline from here on.")
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2


def test_a_folder_that_cannot_be_written_does_not_fail_the_run(
    cells: list[Cell], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "wandb").write_text("a file where a folder should be")
    WandbTracker().log(cells[:1], cells, {"results": str(tmp_path)})
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Warning: W&B:")
    assert "exists" in line


def test_a_damaged_cell_or_leaderboard_does_not_fail_the_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cells = make_cells(tmp_path / "results")
    (cells[0].path / "curves.parquet").write_bytes(b"")
    WandbTracker().log(cells[:1], cells, {"results": str(tmp_path / "results")})
    WandbTracker().log_leaderboard(tmp_path / "no such" / "leaderboard")
    assert capsys.readouterr().out.count("Warning: W&B:") == 2


def test_disabled_writes_nothing(cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WandbTracker(mode="disabled").log(cells, cells, {"results": str(tmp_path)})
    monkeypatch.setenv("WANDB_MODE", "disabled")
    WandbTracker().log(cells, cells, {"results": str(tmp_path)})
    NoTracker().log(cells, cells, {"results": str(tmp_path)})
    NoTracker().log_leaderboard(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "variable", "expected"),
    [
        ("auto", None, "auto"),
        ("auto", "offline", "offline"),
        ("auto", "dryrun", "offline"),
        ("auto", "Disabled", "disabled"),
        ("auto", "online", "online"),
        ("offline", "online", "offline"),
        ("online", "disabled", "online"),
        ("disabled", "online", "disabled"),
    ],
)
def test_the_mode_is_the_setting_then_the_variable(setting: str, variable: str | None, expected: str) -> None:
    assert wanted_mode(setting, {} if variable is None else {"WANDB_MODE": variable}) == expected


def test_who_is_logged_in_is_read_from_files_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://api.wandb.ai"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not logged_in(url, None, {})
    assert logged_in(url, "key", {})
    assert logged_in(url, None, {"WANDB_API_KEY": "key"})
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password key\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert logged_in(url, None, {})
    assert not logged_in("https://wandb.example.org", None, {})
    (tmp_path / "other").write_text("machine without sense")
    assert not logged_in(url, None, {"NETRC": str(tmp_path / "other")})
    assert not logged_in(url, None, {"NETRC": str(tmp_path / "missing")})


def test_the_trackers_are_built_by_name() -> None:
    assert isinstance(registry.build("tracker", "none"), NoTracker)
    built = registry.build("tracker", "wandb", entity="team", mode="offline")
    assert (built.project, built.entity, built.mode) == ("assay", "team", "offline")
    with pytest.raises(AssayError, match="Did you mean 'offline'"):
        WandbTracker(mode="ofline")


def test_nothing_of_wandb_is_imported_before_there_is_something_to_log() -> None:
    code = "import sys, assay.benchmark.tracker as t; t.WandbTracker(); sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
