"""What the model says of whole inputs, with nothing hidden."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from assay.benchmark.engine import Engine
from assay.benchmark.talk import Outcome
from assay.classifier import Classifier
from assay.conversation import Conversation
from assay.encoding import Encoding
from assay.errors import Undefined
from assay.perturbation import Perturbation


def whole_logits(engine: Engine, encodings: Sequence[Encoding], perturbation: Perturbation) -> NDArray[np.float32]:
    """The model's answers to whole inputs, [examples, classes]; NaN where there is nothing to read.

    Args:
        engine: in the precision that is wanted.
        encodings: of the examples.
        perturbation: any one; it hides nothing.
    """
    logits = np.zeros((len(encodings), len(engine.model.labels)), dtype=np.float32)

    def ask(encoding: Encoding) -> Conversation[None]:
        yield np.ones((1, encoding.n), dtype=np.bool_)

    for index, encoding in enumerate(encodings):

        def keep(outcome: Outcome, index: int = index) -> None:
            if outcome.error is None:
                logits[index] = outcome.logits[0]
            elif isinstance(outcome.error, Undefined):
                # A text without any token, of a model without special tokens, has no answer.
                logits[index] = np.nan
            else:
                raise outcome.error

        engine.add(ask(encoding), encoding, perturbation, keep)
    engine.run()
    return logits


def low_logits(
    model: Classifier,
    encodings: Sequence[Encoding],
    perturbation: Perturbation,
    tokens_per_batch: int | None = None,
) -> NDArray[np.float32] | None:
    """The model's answers to whole inputs in its own precision, [examples, classes]; None where that is float32.

    Args:
        model: the classifier.
        encodings: of the examples.
        perturbation: any one; it hides nothing.
        tokens_per_batch: the engine's budget.
    """
    if model.dtype == "float32":
        return None
    return whole_logits(Engine(model, tokens_per_batch=tokens_per_batch), encodings, perturbation)
