"""The account of memory: what it says, against what is there, and what it refuses before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from assay import registry
from assay.benchmark import memory
from assay.benchmark.memory import account, check_room, count_weights, free_memory
from assay.classifier import Classifier
from assay.errors import AssayError
from tests.benchmark.cli import assay, save_model, save_task


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "tiny")


def of(model: Classifier, *names: str, tokens: int = 4096, longest: int = 40, **more: bool) -> memory.MemoryAccount:
    return account(model, [registry.build("explainer", name) for name in names], tokens, 64, longest, **more)


def test_weights_are_counted_exactly_loaded_and_not(folder: Path) -> None:
    model = Classifier.from_pretrained(folder, device="cpu")
    numbers = sum(weight.numel() for weight in model.model.parameters())
    assert of(model, "lime").weights == 4 * numbers
    assert count_weights(folder) == numbers
    assert of(Classifier.from_pretrained(folder, device="cpu", weights="float16"), "lime").weights == 2 * numbers


def test_a_folder_without_weights_that_can_be_counted_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 64)
    assert count_weights(tmp_path) is None
    assert count_weights("some/model-of-the-hub") is None


def test_only_methods_that_look_inside_take_memory_there(tiny_bert: Classifier) -> None:
    assert of(tiny_bert, "lime", "leave_one_out").inside == 0
    plain, attention = of(tiny_bert, "gradient"), of(tiny_bert, "grad_sam", longest=400)
    assert 0 < plain.inside < attention.inside
    # Attention weights grow with the square of the text, and all else with the batch alone.
    longer = of(tiny_bert, "grad_sam", longest=800).inside - of(tiny_bert, "gradient", longest=800).inside
    shorter = attention.inside - of(tiny_bert, "gradient", longest=400).inside
    assert longer == pytest.approx(4 * shorter)


def test_a_row_that_is_longer_than_a_batch_counts_whole(tiny_bert: Classifier) -> None:
    assert of(tiny_bert, "lime", tokens=64, longest=512).tokens == 512


def test_what_does_not_fit_is_warned_of(tiny_bert: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    assert of(tiny_bert, "gradient").warning is None
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000.0)
    warning = of(tiny_bert, "gradient").warning
    assert warning is not None
    assert "tokens_per_batch" in warning


def test_a_process_of_its_own_has_a_model_of_its_own(tiny_bert: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    together, apart = of(tiny_bert, "gradient"), of(tiny_bert, "gradient", isolated=True)
    assert apart.needed == together.needed + together.weights
    assert "and as much again in the isolated process" in str(apart)
    assert "again" not in str(together)
    monkeypatch.setattr(memory, "free_memory", lambda device: together.needed + 0.5 * together.weights)
    assert of(tiny_bert, "gradient").warning is None
    assert "isolate" in str(of(tiny_bert, "gradient", isolated=True).warning)


def test_free_memory_is_within_what_the_machine_has() -> None:
    import psutil

    assert 0 < free_memory(torch.device("cpu")) <= psutil.virtual_memory().total


def test_weights_that_cannot_be_held_are_refused_before_they_are_loaded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000.0)
    described = {"path": str(folder), "device": "cpu", "weights": "float32", "device_map": None}
    with pytest.raises(AssayError, match=r"take .* in float32, and 1\.0 kB are free on cpu\. Set model\.weights"):
        check_room(described)
    check_room({**described, "device_map": "auto"})
    ended = assay(
        *("run", "task=sst2", f"task.path={save_task(tmp_path / 'data')}", f"model={folder}", "tracker=none"),
        *("model.device=cpu", f"results={tmp_path / 'results'}"),
    )
    assert ended.code == 2
    assert ended.err.startswith("Error: The weights of ")


def test_a_job_says_what_it_takes_before_it_begins(folder: Path, tmp_path: Path) -> None:
    ended = assay(
        *("run", "task=sst2", f"task.path={save_task(tmp_path / 'data')}", f"model={folder}", "tracker=none"),
        *("explainer=gradient", "metric=comprehensiveness", f"results={tmp_path / 'results'}"),
        *("model.device=cpu", "allow_low_accuracy=true", "isolate=true"),
    )
    assert ended.code == 0, ended.err
    (line,) = [line for line in ended.out.splitlines() if line.startswith("memory: ")]
    assert "a batch of 4,096 tokens about" in line
    assert "as much again in the isolated process" in line
    assert "are free" in line
