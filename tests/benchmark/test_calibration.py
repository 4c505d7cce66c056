"""The token budget: where throughput stops growing, kept for the device and model, and never a reason to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.benchmark import calibration
from assay.benchmark.engine import Engine
from assay.classifier import Classifier
from tests.tiny_models import tiny_model


class Device(Classifier):
    """A model on a device that is said to be an accelerator, whose clock is made up."""

    def __init__(self, speed: Callable[[int], float], room: int = 10**9) -> None:
        super().__init__(*tiny_model("bert"))
        self.speed, self.room = speed, room
        self.seconds = 0.0
        self.tried: list[int] = []

    @property
    def device(self) -> Any:
        return torch.device("meta")

    def begin(self, rows: Any, dtype: Any = None) -> Callable[[], Any]:
        tokens = rows.ids.size
        self.tried.append(tokens)
        if tokens > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.seconds += tokens / self.speed(tokens)
        return lambda: np.zeros((len(rows), 2), dtype=np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calibration._found.clear()
    yield tmp_path / "assay" / "tokens_per_batch"
    calibration._found.clear()


def budget(model: Device, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: model.seconds)
    return calibration.tokens_per_batch(model)


def saturating(at: int) -> Callable[[int], float]:
    """As fast as the batch is large, up to a size."""
    return lambda tokens: 1e9 * min(tokens, at)


@pytest.mark.parametrize("at", [2**12, 2**14, 2**17])
def test_it_stops_where_twice_as_many_are_no_faster(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Device(saturating(at))
    assert budget(model, monkeypatch) == at
    assert max(model.tried) <= 2 * at
    assert model.cost.forward_rows == 0


def test_it_stops_where_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    assert budget(Device(saturating(2**17), room=2**15), monkeypatch) == 2**15


def test_it_stops_when_it_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Device(lambda tokens: 8 * min(tokens, 2**17))
    assert budget(model, monkeypatch) <= 2**14


def test_it_is_measured_once_and_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert budget(Device(saturating(2**14)), monkeypatch) == 2**14
    (kept,) = cache.iterdir()
    for again in (False, True):
        if again:  # another process
            calibration._found.clear()
        model = Device(saturating(2**16))
        assert budget(model, monkeypatch) == 2**14
        assert model.tried == []
    kept.unlink()
    calibration._found.clear()
    assert budget(Device(saturating(2**16)), monkeypatch) == 2**16


@pytest.mark.parametrize("content", ["", "{", "[]", '{"tokens_per_batch": "a"}', '{"tokens_per_batch": 1}', "\0" * 9])
def test_a_broken_file_is_measured_anew(content: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget(Device(saturating(2**14)), monkeypatch)
    (kept,) = cache.iterdir()
    kept.write_text(content)
    calibration._found.clear()
    assert budget(Device(saturating(2**13)), monkeypatch) == 2**13
    assert f'"tokens_per_batch": {2**13}' in kept.read_text()
    assert list(cache.iterdir()) == [kept]


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "assay").write_text("a file where the folder should be")
    assert budget(Device(saturating(2**14)), monkeypatch) == 2**14


def test_who_comes_second_takes_what_the_first_has_found(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Device):
        def begin(self, rows: Any, dtype: Any = None) -> Callable[[], Any]:
            if not self.tried:
                assert budget_of_other == calibration._keep(path, {"tokens_per_batch": budget_of_other})
            return super().begin(rows, dtype)

    budget(Device(saturating(2**12)), monkeypatch)
    (path,) = cache.iterdir()
    path.unlink()
    calibration._found.clear()
    budget_of_other = 2**15
    assert budget(Slow(saturating(2**12)), monkeypatch) == budget_of_other


def test_another_precision_is_measured_for_itself(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Device(saturating(2**14))
    budget(model, monkeypatch)
    calibration.tokens_per_batch(model, "bfloat16")
    assert len(list(cache.iterdir())) == 2


def test_on_a_cpu_nothing_is_measured_or_kept(tiny_bert: Classifier, cache: Path) -> None:
    assert Engine(tiny_bert).tokens_per_batch == 4096
    assert not cache.exists()
