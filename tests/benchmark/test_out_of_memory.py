"""Out of memory: the batch is halved, and nothing is lost. A CPU is made to run out by a raised error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from assay import registry
from assay.benchmark.evaluation import Evaluation, Settings
from assay.benchmark.method import MethodAtWork
from assay.classifier import Classifier
from assay.errors import AssayError
from assay.example import Example
from tests.tiny_models import CORPUS, tiny_model

ERRORS = {
    "accelerator": torch.OutOfMemoryError("CUDA out of memory."),
    "cpu": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
}
EXAMPLES = [Example(str(place), (text,)) for place, text in enumerate(CORPUS)]


class Small(Classifier):
    """A model whose memory holds so many tokens at a time and no more."""

    room = 10**9
    error: Exception = RuntimeError()

    def _call(self, **inputs: Any) -> Any:
        given = next(inputs[name] for name in ("input_ids", "inputs_embeds") if inputs.get(name) is not None)
        if given.shape[0] * given.shape[1] > self.room:
            raise self.error
        return super()._call(**inputs)


def evaluate(room: int, error: Exception, name: str, **settings: Any) -> tuple[list[Any], int]:
    model = Small(*tiny_model("bert"))
    model.room, model.error = room, error
    evaluation = Evaluation(
        model,
        EXAMPLES,
        {"deletion": registry.build("metric", "deletion")},
        {"mask": registry.build("perturbation", "mask")},
        Settings(),
    )
    evaluation.add_explainer(name, registry.build("explainer", name, **settings))
    records = evaluation.run()[name]
    found = [row["scores"] for row in records.attributions] + [row["value"] for row in records.scores]
    return found, evaluation.engine.tokens_per_batch


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize(
    ("name", "settings"),
    [("leave_one_out", {}), ("gradient", {}), ("integrated_gradients", {"steps": 50})],
    ids=["conversation", "gradient", "copies"],
)
def test_a_smaller_memory_gives_the_same_numbers(
    kind: str, name: str, settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    expected, _ = evaluate(10**9, ERRORS[kind], name, **settings)
    found, budget = evaluate(60, ERRORS[kind], name, **settings)
    assert budget < 120
    assert "going on with at most" in capsys.readouterr().out
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-5)


def test_what_looks_inside_finds_out_once_how_much_there_is_room_for(capsys: pytest.CaptureFixture[str]) -> None:
    model = Small(*tiny_model("bert"))
    model.error = ERRORS["accelerator"]
    tokens = len(model.encode(EXAMPLES[0]).row.ids)
    alike = [Example(str(place), EXAMPLES[0].text) for place in range(24)]
    mask = {"mask": registry.build("perturbation", "mask")}
    evaluation = Evaluation(model, alike, {}, mask, Settings(), tokens_per_batch=8 * tokens)
    model.room = 4 * tokens
    evaluation.add_explainer("gradient", registry.build("explainer", "gradient"))
    assert capsys.readouterr().out.count("Out of memory") == 1
    assert all(row["reason"] is None for row in evaluation.run()["gradient"].attributions)


def test_a_row_that_alone_is_too_large_is_said_so() -> None:
    with pytest.raises(AssayError, match=r"no room for a single row of \d+ tokens"):
        evaluate(8, ERRORS["accelerator"], "first")


def test_another_error_is_not_taken_for_it() -> None:
    with pytest.raises(RuntimeError, match="broken"):
        evaluate(60, RuntimeError("broken"), "first")


def judge(room: int, name: str, metric: str) -> list[float]:
    model = Small(*tiny_model("bert"))
    model.room, model.error = room, ERRORS["accelerator"]
    explainer = registry.build("explainer", name)
    targets, mask = [0] * len(EXAMPLES), {"mask": registry.build("perturbation", "mask")}
    method = MethodAtWork(
        name, explainer, model, EXAMPLES, targets, [None] * len(EXAMPLES), mask, Settings(), lambda count: []
    )
    method.attributions = method.explain(targets=targets)
    return [row["value"] for row in method.judged_by(metric, registry.build("metric", metric)).scores]


@pytest.mark.parametrize("name", ["leave_one_out", "gradient"])
def test_metrics_that_have_a_method_explain_again_are_served_too(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    expected = judge(10**9, name, "sensitivity_max")
    assert "going on with at most" not in capsys.readouterr().out
    found = judge(30, name, "sensitivity_max")
    assert "going on with at most" in capsys.readouterr().out
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, atol=2e-4)
