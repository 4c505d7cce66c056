"""Any explainer asked about any text: what a run does, without the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay.classifier import Classifier, transform
from assay.conversation import Case, Explanation, Keep, Objective, generator
from assay.encoding import Batch, Encoding, Output, make_batch
from assay.example import Example
from assay.explainers.base import WhiteBoxExplainer
from assay.perturbation import Mask, Perturbation
from tests.conversations import TARGET, SetFunction, run
from tests.tiny_models import CORPUS

Texts = Sequence[tuple[str, ...]]
BACKGROUND = [Example(f"background/{index}", (line,)) for index, line in enumerate(CORPUS)]


def encode(model: Classifier, texts: Texts) -> list[Encoding]:
    return [model.encode(Example(" / ".join(text), text)) for text in texts]


def token_scores(
    explainer: WhiteBoxExplainer,
    model: Classifier,
    encodings: Sequence[Encoding],
    output: Output = "logit",
    seed: int = 0,
    target: int = TARGET,
) -> list[NDArray[np.floating]]:
    """Scores for each real token (or each feature, where the method scores those) of each example, all in one batch."""
    batch = batch_of(model, encodings, output, seed)
    with model.at_work():
        found = explainer.attribute(model, batch, torch.full((len(encodings),), target))
    scores = torch.as_tensor(found.scores if isinstance(found, Explanation) else found)
    assert not scores.requires_grad
    if explainer.scores_features:
        assert scores.shape == (len(encodings), max(encoding.n for encoding in encodings))
        return [row[: encoding.n].numpy() for row, encoding in zip(scores, encodings, strict=True)]
    assert scores.shape == batch.input_ids.shape
    return [row[: len(encoding.row.ids)].numpy() for row, encoding in zip(scores, encodings, strict=True)]


def batch_of(model: Classifier, encodings: Sequence[Encoding], output: Output = "logit", seed: int = 0) -> Batch:
    rngs = [generator(seed, encoding.id) for encoding in encodings]
    return make_batch(encodings, model.tokenizer.pad_token_id, output=output, rngs=rngs)


def set_function(
    model: Classifier, encoding: Encoding, perturbation: Perturbation | None = None, output: Output = "logit"
) -> SetFunction:
    """The outputs of all classes with all but some features hidden, [queries, classes]."""
    perturbation = perturbation or Mask()

    def ask(keep: Keep) -> NDArray[np.floating]:
        rows = perturbation.rows(encoding, keep, model.hidden_token[1])
        with model.at_work():
            logits = torch.from_numpy(model.answer(rows))
        outputs = transform(logits, output).reshape(len(keep), perturbation.draws, -1).mean(1)
        return outputs.numpy()

    return ask


def explain(
    explainer: Any, model: Classifier, texts: Texts, seed: int = 0, target: int = TARGET
) -> list[NDArray[np.float64]]:
    """One score a feature for each text; white-box explainers see them all in one batch."""
    explainer.check(model)
    background = [replace(example, text=example.text * len(texts[0])) for example in BACKGROUND]
    explainer.prepare(model, background[: explainer.background])
    encodings = encode(model, texts)
    if isinstance(explainer, WhiteBoxExplainer):
        found = token_scores(explainer, model, encodings, seed=seed, target=target)
        if explainer.scores_features:
            return found
        return [
            encoding.feature_scores(scores, explainer.subwords)
            for encoding, scores in zip(encodings, found, strict=True)
        ]
    perturbation = explainer.perturbation or Mask()
    perturbation.check(model)
    found = []
    for encoding in encodings:
        example = Example(encoding.id, tuple(encoding.id.split(" / ")))
        asked = encoding if explainer.feature is None else model.encode(example, explainer.feature)
        objective = None
        if explainer.searches:
            objective = Objective(np.full(encoding.n + 1, 1 / (encoding.n + 1)), hides=True, maximise=False)
        case = Case(encoding.id, asked.features, target, generator(seed, encoding.id), objective=objective)
        result = run(explainer.converse(case), set_function(model, asked, perturbation)).result
        scores = result.scores if isinstance(result, Explanation) else result
        if asked is not encoding:
            scores = encoding.feature_scores(np.append(scores, 0.0)[asked.feature_of_token], "sum")
        found.append(scores)
    return found
