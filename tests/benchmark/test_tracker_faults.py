"""W&B that is unreachable, slow or refusing, or that dies half way: the run goes on, and one line says what is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil
import pytest

from assay.benchmark import tracker as tracker_module
from assay.benchmark.cell import Cell
from assay.benchmark.tracker import WandbTracker
from tests.benchmark.offline_runs import make_cells, not_logged_in


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with not_logged_in(tmp_path_factory.mktemp("home")) as folder:
        yield folder


@pytest.fixture(scope="module")
def cells(home: Path) -> list[Cell]:
    return make_cells(home / "results")


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    tracker_module._session.cache_clear()
    yield
    tracker_module._session.cache_clear()
    tracker_module._let_go()


def serve(mode: str) -> tuple[str, Event]:
    """The address of a server that plays W&B's badly, and what lets its waiting answers end."""
    done = Event()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if mode == "hangs":
                done.wait(60)
                return
            self.send_response(int(mode))
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 (the name is http.server's)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if mode == "gone":
        server.server_close()
    else:
        Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}", done


@pytest.mark.parametrize("mode", ["gone", "401", "hangs"])
def test_a_server_that_is_not_there_refuses_or_hangs_costs_a_while_and_nothing_else(
    mode: str, cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address, done = serve(mode)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", address)
    monkeypatch.setattr(tracker_module, "ONLINE_SECONDS", 1.0)
    started = time.monotonic()
    WandbTracker().log(cells[:1], cells, {"results": str(tmp_path)})
    assert time.monotonic() - started < 60
    done.set()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Warning: W&B online: ")
    assert "no message" not in line
    assert "offline from here on. Upload them with: wandb sync" in line
    assert len(list((tmp_path / "wandb").glob(f"offline-run-*-{cells[0].key}"))) == 1


def test_a_process_of_wandb_that_is_killed_does_not_take_the_run_along(
    cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from assay.benchmark import wandb_content

    def killed(run: Any, **_: Any) -> None:
        for child in psutil.Process(os.getpid()).children(recursive=True):
            if "wandb" in child.name():
                child.send_signal(signal.SIGKILL)
                child.wait(10)
        run.log({"one": 1})

    monkeypatch.setattr(wandb_content, "fill_cell", killed)
    monkeypatch.setattr(tracker_module, "ONLINE_SECONDS", 1.0)
    started = time.monotonic()
    WandbTracker(mode="offline").log(cells[:2], cells, {"results": str(tmp_path)})
    assert time.monotonic() - started < 60
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Warning: W&B: ")
    assert "results are stored all the same" in line


def test_a_disk_that_is_full_does_not_take_the_run_along(
    cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from assay.benchmark import wandb_content

    def full(run: Any, **_: Any) -> None:
        raise OSError(28, "No space left on device", str(run.dir))

    monkeypatch.setattr(wandb_content, "fill_cell", full)
    WandbTracker(mode="offline").log(cells[:2], cells, {"results": str(tmp_path)})
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Warning: W&B: [Errno 28] No space left on device")
    assert "results are stored all the same" in line
