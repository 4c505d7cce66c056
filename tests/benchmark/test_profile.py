"""A profile holds what the run did, in a file that a viewer of traces opens, and leaves the run as it is."""

from __future__ import annotations

import gzip
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.modules import module as modules

from assay.benchmark import profiling
from assay.benchmark.cell import Cell
from assay.benchmark.profiling import Profile, profiled
from tests.benchmark.cli import assay, save_model, save_task


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("profile")
    save_model(root / "model")
    save_task(root / "data")
    return root


def command(place: Path, results: Path) -> list[str]:
    chosen = ["explainer=leave_one_out", "metric=comprehensiveness", "task.size=3", "tracker=none"]
    where = [f"model={place / 'model'}", f"task.path={place / 'data'}", f"results={results}"]
    return ["run", *where, *chosen, "allow_low_accuracy=true"]


def test_a_run_leaves_a_trace_and_says_where_its_time_went(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    ended = assay(*command(place, tmp_path / "results"), "--profile", str(path))
    assert ended.code == 0, ended.err
    content = path.read_text("utf-8")
    events: list[dict[str, Any]] = json.loads(content)["traceEvents"]
    operations = [event for event in events if event.get("name") == "aten::linear"]
    calls = [event for event in events if event.get("tid") == "assay" and event["ph"] == "X"]
    assert operations
    assert any("evaluation.py" in event["name"] for event in calls)
    # Both are on one clock: the first operation lies within what Assay was doing then.
    first = min(event["ts"] for event in operations)
    assert min(event["ts"] for event in calls) < first < max(event["ts"] + event["dur"] for event in calls)
    assert all(event["dur"] >= 0 for event in calls)
    assert socket.gethostname() not in content
    assert "Where the time went, of " in ended.out
    assert "model" in ended.out.partition("Where the time went")[2].splitlines()[0]
    assert f"Trace: {path}" in ended.out


def test_a_profile_changes_no_number_and_leaves_no_hook(place: Path, tmp_path: Path) -> None:
    hooks = len(modules._global_forward_pre_hooks)
    assert assay(*command(place, tmp_path / "with"), "--profile", str(tmp_path / "trace.json.gz")).code == 0
    assert assay(*command(place, tmp_path / "without")).code == 0
    assert len(modules._global_forward_pre_hooks) == hooks
    assert json.loads(gzip.decompress((tmp_path / "trace.json.gz").read_bytes()))["traceEvents"]
    scores = [
        [Cell.read(path.parent).table("scores") for path in sorted((tmp_path / name).glob("*/*/*/cell.json"))]
        for name in ("with", "without")
    ]
    assert all(one.equals(other) for one, other in zip(*scores, strict=True))


def test_so_many_passes_are_recorded_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "PASSES", 5)
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh())
    with profiled(tmp_path / "trace.json") as profile:
        for _ in range(20):
            network(torch.ones(1, 2))
    events = json.loads((tmp_path / "trace.json").read_text("utf-8"))["traceEvents"]
    assert sum(event.get("name") == "aten::tanh" for event in events) == 5
    assert profile.passes == 20


def test_time_in_the_model_is_the_models_whoever_called_it(tmp_path: Path) -> None:
    class Slow(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(0.3)
            return x

    network = Slow()
    with profiled(tmp_path / "trace.json") as profile:
        network(torch.ones(1))
    assert profile.parts["model"] > 10
    assert profile.parts["model"] / sum(profile.parts.values()) > 0.4


def test_a_run_without_a_pass_says_why(tmp_path: Path) -> None:
    with profiled(tmp_path / "trace.json") as profile:
        time.sleep(0.05)
    assert "finished cells ask nothing of it" in profile.lines()[-1]
    assert Profile().lines() == ["The run was over before its profile began."]


def test_a_trace_is_written_although_the_run_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), profiled(tmp_path / "trace.json"):
        raise KeyboardInterrupt
    assert "traceEvents" in json.loads((tmp_path / "trace.json").read_text("utf-8"))


def test_a_place_that_cannot_be_written_is_told_before_any_work(place: Path, tmp_path: Path) -> None:
    ended = assay(*command(place, tmp_path / "results"), "--profile", str(tmp_path / "none" / "trace.json"))
    assert ended.code == 2
    assert "cannot be written: No such file or directory" in ended.err
    assert not (tmp_path / "results").exists()
