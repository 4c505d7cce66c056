"""Any explainer asked about any text: what a run does, without the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay.benchmark.perturbation import Mask
from assay.classifier import Classifier, transform
from assay.conversation import Case, Keep, Objective, generator
from assay.encoding import Batch, Encoding, Output, make_batch
from assay.example import Example
from assay.explainers.base import WhiteBoxExplainer
from tests.conversations import TARGET, SetFunction, run

Texts = Sequence[tuple[str, ...]]


def encode(model: Classifier, texts: Texts) -> list[Encoding]:
    return [model.encode(Example(" / ".join(text), text)) for text in texts]


def token_scores(
    explainer: WhiteBoxExplainer, model: Classifier, encodings: Sequence[Encoding], output: Output = "logit"
) -> list[NDArray[np.floating]]:
    """Scores for each real token of each example, all in one batch."""
    batch = batch_of(model, encodings, output)
    target = torch.full((len(encodings),), TARGET)
    with model.at_work():
        scores = explainer.attribute(model, batch, target)
    assert scores.shape == batch.input_ids.shape
    assert not scores.requires_grad
    return [row[: len(encoding.row.ids)].numpy() for row, encoding in zip(scores, encodings, strict=True)]


def batch_of(model: Classifier, encodings: Sequence[Encoding], output: Output = "logit") -> Batch:
    return make_batch(encodings, model.tokenizer.pad_token_id, output=output)


def set_function(model: Classifier, encoding: Encoding, output: Output = "logit") -> SetFunction:
    """The target's output with all but some features masked."""

    def ask(keep: Keep) -> NDArray[np.floating]:
        rows = Mask().rows(encoding, keep, model.hidden_token[1])
        with model.at_work():
            logits = torch.from_numpy(model.answer(rows))
        return transform(logits, output)[:, TARGET].numpy()

    return ask


def explain(explainer: Any, model: Classifier, texts: Texts, seed: int = 0) -> list[NDArray[np.float64]]:
    """One score a feature for each text; white-box explainers see them all in one batch."""
    encodings = encode(model, texts)
    if isinstance(explainer, WhiteBoxExplainer):
        tokens = token_scores(explainer, model, encodings)
        return [
            np.bincount(encoding.feature_of_token + 1, weights=scores, minlength=encoding.n + 1)[1:]
            for encoding, scores in zip(encodings, tokens, strict=True)
        ]
    found = []
    for encoding in encodings:
        objective = None
        if explainer.searches:
            objective = Objective(np.full(encoding.n + 1, 1 / (encoding.n + 1)), hides=True, maximise=False)
        case = Case(encoding.id, encoding.features, TARGET, generator(seed, encoding.id), objective=objective)
        found.append(run(explainer.converse(case), set_function(model, encoding)).result)
    return found
