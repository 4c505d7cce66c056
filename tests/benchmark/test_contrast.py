"""Why this class rather than that one: what is explained and measured is the difference of two outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from assay import registry
from assay.benchmark.evaluation import Evaluation, Settings
from assay.benchmark.records import Records
from assay.classifier import Classifier
from assay.errors import AssayError
from assay.example import Example
from tests.tiny_models import CORPUS, tiny_classifier

EXAMPLES = [Example(str(place), (text,)) for place, text in enumerate(CORPUS[:5])]


@pytest.fixture(scope="module")
def model() -> Classifier:
    return tiny_classifier("bert", num_labels=3)


def evaluate(model: Classifier, name: str, **settings: Any) -> Records:
    evaluation = Evaluation(
        model,
        EXAMPLES,
        {"deletion": registry.build("metric", "deletion")},
        {"mask": registry.build("perturbation", "mask")},
        Settings(**settings),
    )
    evaluation.add_explainer(name, registry.build("explainer", name))
    return evaluation.run()[name]


def scores(records: Records) -> list[list[float]]:
    return [row["scores"] for row in records.attributions]


@pytest.mark.parametrize("output", ["probability", "logit"])
@pytest.mark.parametrize("name", ["leave_one_out", "gradient_x_input"])
def test_what_is_linear_in_the_output_scores_the_difference(model: Classifier, name: str, output: Any) -> None:
    one, other = (scores(evaluate(model, name, target=target, output=output)) for target in (2, 0))
    contrast = scores(evaluate(model, name, target=2, contrast="LABEL_0", output=output))
    for found, first, second in zip(contrast, one, other, strict=True):
        np.testing.assert_allclose(found, np.subtract(first, second), atol=1e-5)


def test_the_runner_up_is_the_most_likely_other_class_and_metrics_measure_the_difference(model: Classifier) -> None:
    records = evaluate(model, "first", contrast="runner_up")
    for row, curve in zip(records.examples, records.curves, strict=True):
        probabilities = torch.tensor(row["logits"]).double().softmax(0).sort(descending=True).values
        assert curve["y"][0] == pytest.approx(float(probabilities[0] - probabilities[1]), abs=1e-5)


def test_a_class_is_not_contrasted_with_itself(model: Classifier) -> None:
    usual = evaluate(model, "leave_one_out").examples[0]["predicted"]
    records = evaluate(model, "leave_one_out", contrast=usual)
    same = [row["predicted"] == usual for row in records.examples]
    assert [row["scores"] is None for row in records.attributions] == same
    assert any(same)
    for row in records.scores:
        assert np.isnan(row["value"]) == same[int(row["example"])]
        assert (
            row["reason"] is None or f"the target and the contrast are the same class, 'LABEL_{usual}'" in row["reason"]
        )


@pytest.mark.parametrize(
    ("contrast", "message"), [("LABEL_7", "no class 'LABEL_7'"), (3, "no class 3"), (True, "contrast must be")]
)
def test_a_contrast_that_is_no_class_is_refused(model: Classifier, contrast: Any, message: str) -> None:
    with pytest.raises(AssayError, match=message):
        evaluate(model, "first", contrast=contrast)
