"""A hub that is unreachable, slow, cut off half way or refusing: what was downloaded is used, else one line says so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from huggingface_hub import constants, hf_api

from assay import hub, registry
from assay.classifier import Classifier
from assay.errors import AssayError
from tests.benchmark.cli import assay, save_model

NAME = "some/model"
COMMIT = "a" * 40


class Hub:
    """A server on this machine that plays the hub, well or badly.

    Attributes:
        mode: `well`, `hangs` (never says anything), `error` (500), `refuses` (401), `cut` (weights break off half way),
            or `stalls` (they stop half way and the connection stays).
        asked: how many requests there were.
    """

    def __init__(self, folder: Path) -> None:
        self.mode = "well"
        self.asked = 0
        self.done = Event()
        own = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def do_GET(self) -> None:
                self._answer(with_body=True)

            def _answer(self, with_body: bool) -> None:
                own.asked += 1
                file = folder / self.path.split("/")[-1].partition("?")[0]
                if own.mode == "hangs":
                    own.done.wait(30)
                elif own.mode in ("error", "refuses"):
                    self._head(500 if own.mode == "error" else 401, 0)
                elif "/resolve/" in self.path and file.is_file():
                    content = file.read_bytes()
                    self._head(200, len(content), ETag=f'"{file.name}"')
                    if with_body:
                        self._send(content, broken=own.mode in ("cut", "stalls") and file.suffix == ".safetensors")
                else:
                    self._head(404, 0, **{"X-Error-Code": "EntryNotFound"})

            def _head(self, status: int, length: int, **headers: str) -> None:
                self.send_response(status)
                for name, value in {"Content-Length": str(length), "X-Repo-Commit": COMMIT, **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def _send(self, content: bytes, broken: bool) -> None:
                self.wfile.write(content[: len(content) // 2] if broken else content)
                self.wfile.flush()
                if broken:
                    self.close_connection = True
                    if own.mode == "stalls":
                        own.done.wait(30)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Answer nobody any more, so that connections are refused."""
        self.done.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("hub") / "model")


@pytest.fixture
def server(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    import datasets.config

    server = Hub(folder)
    for place, name, value in (
        (constants, "ENDPOINT", server.address),
        (constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"),
        (hf_api.api, "endpoint", server.address),
        (constants, "HF_HUB_OFFLINE", False),
        (constants, "HF_HUB_CACHE", str(tmp_path / "cache")),
        (constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2),
        (datasets.config, "HF_HUB_OFFLINE", False),
        (datasets.config, "HF_ENDPOINT", server.address),
        (datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets"),
        (hub, "SECONDS_TO_ANSWER", 0.5),
    ):
        monkeypatch.setattr(place, name, value)
    # What waits between attempts waits no longer; how often is tried stays.
    real = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: real(min(seconds, 0.01)))
    hub._asked.clear()
    yield server
    hub._asked.clear()
    server.close()


def fail(server: Hub, mode: str) -> None:
    if mode == "gone":
        server.close()
    server.mode = mode
    hub._asked.clear()


@pytest.mark.parametrize("mode", ["gone", "hangs", "error"])
def test_what_was_downloaded_is_used_where_the_hub_does_not_answer(
    server: Hub, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = Classifier.from_pretrained(NAME, device="cpu")
    fail(server, mode)
    before = server.asked
    again = Classifier.from_pretrained(NAME, device="cpu")
    assert (again.fingerprint, again.revision) == (whole.fingerprint, whole.revision)
    told = [record.message for record in caplog.records if record.name == "assay.hub"]
    assert len(told) == 1
    assert "what was downloaded before is used" in told[0]
    assert server.asked - before <= 1
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.parametrize(
    ("mode", "reason"),
    [("gone", "refused"), ("hangs", "said nothing in"), ("error", "answers with error 500")],
)
def test_without_a_download_one_line_says_what_to_do(server: Hub, mode: str, reason: str) -> None:
    fail(server, mode)
    started = time.monotonic()
    with pytest.raises(AssayError, match=reason) as caught:
        Classifier.from_pretrained(NAME, device="cpu")
    assert time.monotonic() - started < 10
    assert "\n" not in str(caught.value)
    assert f"hf download {NAME}" in str(caught.value)
    assert "model=FOLDER" in str(caught.value)


@pytest.mark.parametrize("mode", ["cut", "stalls"])
def test_weights_that_break_off_are_no_weights(server: Hub, mode: str, tmp_path: Path) -> None:
    server.mode = mode
    with pytest.raises(AssayError, match=r"download of 'some/model' .* failed .* nothing that came in part is used"):
        Classifier.from_pretrained(NAME, device="cpu")
    assert not list((tmp_path / "cache").rglob("model.safetensors"))
    assert server.asked < 100
    server.mode = "well"
    server.done.set()
    assert Classifier.from_pretrained(NAME, device="cpu").labels == ("negative", "positive")


def test_a_hub_that_refuses_is_not_taken_for_one_that_is_silent(server: Hub) -> None:
    server.mode = "refuses"
    with pytest.raises(AssayError, match="Cannot read a model at 'some/model'"):
        Classifier.from_pretrained(NAME, device="cpu")


def test_a_local_folder_asks_no_hub(server: Hub, folder: Path) -> None:
    fail(server, "hangs")
    Classifier.from_pretrained(folder, device="cpu")
    assert server.asked == 0


def test_the_command_line_ends_with_one_line_and_exit_code_2(server: Hub, tmp_path: Path) -> None:
    fail(server, "gone")
    ended = assay(
        "run", "task=planted_word", "task.size=4", f"model={NAME}", "tracker=none", f"results={tmp_path / 'results'}"
    )
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    assert line.startswith("Error: The Hugging Face hub does not answer")
    assert not list((tmp_path / "results").rglob("*.parquet"))


def test_a_dataset_that_was_not_downloaded_is_one_line_too(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASSAY_DATA", raising=False)
    fail(server, "gone")
    with pytest.raises(AssayError, match=r"hub does not answer .*'nyu-mll/glue' was not downloaded.*ASSAY_DATA"):
        registry.build("task", "sst2").load()


def test_a_dataset_that_was_downloaded_is_used(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import DatasetInfo, Features, Value
    from datasets.arrow_writer import ArrowWriter
    from datasets.splits import SplitDict, SplitInfo

    place = tmp_path / "datasets" / "nyu-mll___glue" / "sst2" / "0.0.0" / COMMIT
    place.mkdir(parents=True)
    features = Features({"sentence": Value("string"), "label": Value("int64"), "idx": Value("int32")})
    with ArrowWriter(features=features, path=str(place / "glue-validation.arrow")) as writer:
        writer.write({"sentence": "a fine film", "label": 1, "idx": 0})
        writer.write({"sentence": "a dull film", "label": 0, "idx": 1})
        writer.finalize()
    splits = SplitDict(dataset_name="glue")
    splits.add(SplitInfo("validation", num_examples=2, num_bytes=1, dataset_name="glue"))
    DatasetInfo(features=features, splits=splits, dataset_name="glue", config_name="sst2").write_to_directory(
        str(place)
    )
    monkeypatch.delenv("ASSAY_DATA", raising=False)
    fail(server, "gone")
    task = registry.build("task", "sst2").load()
    assert [example.text for example in task] == [("a fine film",), ("a dull film",)]
