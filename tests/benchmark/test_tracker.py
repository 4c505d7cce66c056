"""What is told to Weights & Biases, with a real offline run, and that telling it never harms."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assay import registry
from assay.benchmark import tracker as tracker_module
from assay.benchmark.cell import Cell
from assay.benchmark.tracker import NoTracker, WandbTracker, logged_in, wanted_mode
from assay.errors import AssayError
from tests.benchmark.offline_runs import make_cells, not_logged_in

OURS = ("WANDB_SILENT", "WANDB_ERROR_REPORTING", "WANDB_CACHE_DIR", "WANDB_DATA_DIR")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user who is not logged in, in an empty folder, where whatever is littered can be seen."""
    with not_logged_in(tmp_path_factory.mktemp("home")) as folder:
        yield folder


@pytest.fixture(autouse=True)
def _not_logged_in(home: Path) -> Iterator[None]:
    tracker_module._session.cache_clear()
    yield
    tracker_module._session.cache_clear()


@pytest.fixture(scope="module")
def results(home: Path) -> Path:
    return home / "results"


@pytest.fixture(scope="module")
def cells(results: Path) -> list[Cell]:
    return make_cells(results)


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
