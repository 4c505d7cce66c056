"""What low precision changes in a model's answers is measured, told and kept; targets are those of float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay import registry
from assay.benchmark.evaluation import Evaluation, Settings
from assay.benchmark.low_precision import Change
from assay.benchmark.store import Store
from assay.benchmark.whole_inputs import low_logits
from assay.classifier import Classifier, Dtype
from assay.conversation import Attribution
from assay.example import Example
from assay.perturbation import Mask
from assay.rows import Stack
from tests.benchmark.cli import assay, save_model, save_task
from tests.tiny_models import CORPUS, tiny_classifier

EXAMPLES = [Example(str(number), (text,)) for number, text in enumerate(CORPUS[:4])]


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


def evaluated(model: Classifier, **settings: Any) -> Evaluation:
    metrics = {name: registry.build("metric", name) for name in ("comprehensiveness", "sufficiency")}
    return Evaluation(model, EXAMPLES, metrics, {"mask": Mask()}, Settings(), **settings)


def test_the_target_is_that_of_float32_whatever_low_precision_says(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny_classifier()
    straight = evaluated(network)
    model = Classifier(network.model, network.tokenizer, dtype="bfloat16")
    begin = model.begin

    def turned(stack: Stack, dtype: Dtype | None = None) -> Any:
        read = begin(stack, dtype)
        return read if dtype == "float32" else lambda: -read()

    monkeypatch.setattr(model, "begin", turned)
    evaluation = evaluated(model)
    assert evaluation.targets == straight.targets
    low = low_logits(model, evaluation.encodings, Mask())
    assert low is not None
    assert Change.between("bfloat16", evaluation.logits, low).flips == 1.0
    assert low_logits(network, evaluation.encodings, Mask()) is None


def test_the_rows_that_find_the_target_are_counted_as_work() -> None:
    network = tiny_classifier()
    model = Classifier(network.model, network.tokenizer, dtype="bfloat16")
    work = evaluated(model).engine.work
    assert work.rows_answered == model.cost.forward_rows == len(EXAMPLES)
    assert work.tokens == model.cost.forward_tokens
    assert work.model_seconds > 0


@pytest.mark.parametrize("exact_up_to", [0, 10])
def test_what_a_search_in_low_precision_finds_is_scored_in_float32(exact_up_to: int) -> None:
    model = tiny_classifier()
    searching = evaluated(model)
    oracle = registry.build("explainer", "oracle", exact_up_to=exact_up_to, precision="bfloat16")
    searching.add_explainer("oracle", oracle)
    (records,) = searching.run().values()
    for draw, metric in enumerate(("comprehensiveness", "sufficiency")):
        again = evaluated(model)
        rankings = [row["scores"] for row in records.attributions if row["draw"] == draw]
        assert len(rankings) == len(EXAMPLES)
        again.add_attributions(
            "found",
            [
                Attribution(encoding.features, np.array(scores), target)
                for encoding, scores, target in zip(again.encodings, rankings, again.targets, strict=True)
            ],
        )
        (anew,) = again.run().values()
        expected = [row["value"] for row in anew.scores if row["metric"] == metric]
        reported = [row["value"] for row in records.scores if row["metric"] == metric]
        np.testing.assert_allclose(reported, expected, atol=1e-5)


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
    # One of several workers tells it of all examples, and not of its own.
    ended = assay(
        *common[:-1], "model.dtype=bfloat16", "shard_size=2", "workers=2", "worker=1", f"results={tmp_path}/b"
    )
    assert ended.code == 0, ended.err
    (shared,) = [one for one in Store(tmp_path / "b").cells() if one.meta["explainer"]["name"] == "first"]
    assert shared.meta["precision"].pop("dtype") == "bfloat16"
    assert shared.meta["precision"] == pytest.approx({name: told[name] for name in told if name != "dtype"}, abs=1e-6)
    predicted = [row["predicted"] for row in cell.rows("examples")]
    ended = assay(*common)
    assert ended.code == 0, ended.err
    assert "in place of float32" not in ended.out + ended.err
    (other,) = [
        one for one in Store(results).cells() if one.meta["explainer"]["name"] == "first" and one.path != cell.path
    ]
    assert "precision" not in json.loads((other.path / "cell.json").read_text("utf-8"))
    assert [row["predicted"] for row in other.rows("examples")] == predicted


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "gpt2"])
def test_logits_are_not_rounded_to_low_precision(architecture: str) -> None:
    model = tiny_classifier(architecture)
    rows = [model.encode(example).row for example in EXAMPLES]
    before = {name: dict(vars(module)) for name, module in model.model.named_modules()}
    for row in rows:
        (logits,) = model.answer([row], "bfloat16")
        assert not np.array_equal(torch.tensor(logits).bfloat16().float().numpy(), logits)
        np.testing.assert_allclose(logits, model.answer([row])[0], atol=0.05)
        assert not np.array_equal(logits, model.answer([row])[0])
    assert {name: dict(vars(module)) for name, module in model.model.named_modules()} == before


def test_words_that_matter_little_are_not_tied_in_low_precision() -> None:
    model = tiny_classifier()
    encoding = model.encode(EXAMPLES[0])
    keep = ~np.eye(encoding.n, dtype=bool)
    low = model.answer(list(Mask().rows(encoding, keep, Mask().hidden_id(model))), "bfloat16")
    assert len(np.unique(low[:, 0])) == encoding.n


def test_what_interrupts_a_pass_in_low_precision_leaves_the_network_as_it_was() -> None:
    model = tiny_classifier()
    with pytest.raises(IndexError):
        model.model(input_ids=torch.tensor([[10**6]]))
    with pytest.raises(IndexError):
        model.begin(Stack(np.array([[10**6]], dtype=np.int32)), "bfloat16")
    assert "forward" not in vars(model.model.classifier)
