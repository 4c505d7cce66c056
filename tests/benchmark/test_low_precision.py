"""What low precision changes in a model's answers is measured, told and kept; targets are those of float32."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.benchmark.low_precision import Change
from assay.benchmark.store import Store
from assay.classifier import Classifier
from tests.benchmark.cli import assay, save_model, save_task


def test_a_change_is_that_of_probabilities_and_of_the_largest_class() -> None:
    full = np.log([[0.6, 0.4], [0.51, 0.49], [0.2, 0.8]])
    low = np.log([[0.7, 0.3], [0.49, 0.51], [0.2, 0.8]])
    change = Change.between("bfloat16", full, low)
    assert (change.examples, change.flips) == (3, pytest.approx(1 / 3))
    assert change.mean == pytest.approx((0.1 + 0.02 + 0) / 3)
    assert change.largest == pytest.approx(0.1)


def test_an_example_without_an_answer_is_not_counted() -> None:
    change = Change.between("float16", np.array([[0.0, 1.0], [np.nan, np.nan]]), np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert (change.examples, change.flips, change.largest) == (1, 0.0, 0.0)
    assert Change.between("float16", np.full((1, 2), np.nan), np.zeros((1, 2))).examples == 0


def test_a_run_in_low_precision_says_and_keeps_what_that_changes(tmp_path: Path) -> None:
    model, task, results = save_model(tmp_path / "model"), save_task(tmp_path), tmp_path / "results"
    common = [
        "run",
        f"model.path={model}",
        f"task.path={task}",
        "task.size=6",
        "explainer=first",
        "metric=comprehensiveness",
        "tracker=none",
        "allow_low_accuracy=true",
        f"results={results}",
    ]
    ended = assay(*common, "model.dtype=bfloat16")
    assert ended.code == 0, ended.err
    assert "bfloat16 in place of float32 changes the predicted class of" in ended.out + ended.err
    (cell,) = [one for one in Store(results).cells() if one.meta["explainer"]["name"] == "first"]
    told = cell.meta["precision"]
    classifier = Classifier.from_pretrained(model, device="cpu")
    texts = [row["features"] for row in cell.rows("examples")]
    moved = []
    for words in texts:
        inputs = classifier.tokenizer(" ".join(words), return_tensors="pt")
        with torch.inference_mode():
            full = classifier.model(**inputs).logits.softmax(-1)
            with torch.autocast("cpu", torch.bfloat16):
                low = classifier.model(**inputs).logits.float().softmax(-1)
        moved.append((full - low).abs().max().item())
    assert told["examples"] == len(texts) == 6
    assert told["largest"] == pytest.approx(max(moved), abs=2e-3)
    assert told["largest"] > 0
    predicted = [row["predicted"] for row in cell.rows("examples")]
    ended = assay(*common)
    assert ended.code == 0, ended.err
    assert "in place of float32" not in ended.out + ended.err
    (other,) = [
        one for one in Store(results).cells() if one.meta["explainer"]["name"] == "first" and one.path != cell.path
    ]
    assert "precision" not in json.loads((other.path / "cell.json").read_text("utf-8"))
    assert [row["predicted"] for row in other.rows("examples")] == predicted
