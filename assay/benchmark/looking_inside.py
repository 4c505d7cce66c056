"""Looking inside: white-box explainers over batches of equal length, one batch after another."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.benchmark import amounts
from assay.benchmark.engine import Engine
from assay.benchmark.memory import free_memory
from assay.benchmark.waiting_rows import rows_in_batch
from assay.classifier import Classifier
from assay.conversation import Cost, Explanation, generator
from assay.device import is_out_of_memory
from assay.encoding import Batch, Encoding, Output, make_batch
from assay.errors import AssayError, Undefined
from assay.explainers.base import WhiteBoxExplainer

# Called with an example's place, its scores or why there are none, and what they cost.
Found = Callable[[int, Explanation | Exception, Cost], None]


class Inside:
    """Some examples as white-box explainers see them; what one of them computed for a batch is there for the next."""

    def __init__(
        self,
        model: Classifier,
        encodings: Sequence[Encoding],
        targets: Sequence[int],
        foils: Sequence[int | None],
        output: Output,
        seed: int,
        engine: Engine,
    ) -> None:
        """Take in what every explainer is asked about.

        Args:
            model: the classifier.
            encodings: of the examples.
            targets: the class that is explained for each example.
            foils: the class that each target is contrasted with; either all are None or none is.
            output: what of the model is explained.
            seed: of all random numbers.
            engine: its budget of tokens is kept, and halved where a batch does not fit into memory.
        """
        self._model = model
        self._encodings = encodings
        self._targets = targets
        self._foils = foils
        self._output = output
        self._seed = seed
        self._engine = engine
        self._batches: dict[tuple[int, ...], Batch] = {}

    def explain(self, name: str, explainer: WhiteBoxExplainer, indices: Sequence[int], found: Found) -> None:
        """Attribute examples, those of equal length together, so that nothing is padded.

        Args:
            name: the explainer's, on which its random numbers hang.
            explainer: what attributes.
            indices: the examples' places.
            found: called once for each example.
        """
        by_length: dict[int, list[int]] = defaultdict(list)
        for index in indices:
            by_length[len(self._encodings[index].row.ids)].append(index)
        for length, equal in sorted(by_length.items()):
            needed, free = explainer.memory(self._model, length), free_memory(self._model.device)
            if needed > free:
                reason = Undefined(
                    f"a text of {length:,} tokens takes about {amounts.size(needed)} here, "
                    f"and {amounts.size(free)} are free on {self._model.device}"
                )
                for index in equal:
                    found(index, reason, Cost())
                continue
            left = equal
            while left:
                # The budget is halved where a batch does not fit into memory.
                size = rows_in_batch(self._engine.tokens_per_batch, length)
                together, left = left[:size], left[size:]
                self._attribute(name, explainer, together, found)

    def _batch(self, indices: Sequence[int], name: str) -> Batch:
        """The examples as a batch; what one method has computed for it is there for the next."""
        key = tuple(indices)
        encodings = [self._encodings[index] for index in indices]
        if key not in self._batches:
            self._batches[key] = make_batch(encodings, device=str(self._model.device), output=self._output)
            foils = [foil for foil in (self._foils[index] for index in indices) if foil is not None]
            if foils:
                self._batches[key] = replace(self._batches[key], foil=torch.tensor(foils, device=self._model.device))
        return replace(
            self._batches[key],
            rngs=tuple(generator(self._seed, encoding.id, name, 0) for encoding in encodings),
            tokens_per_pass=self._engine.tokens_per_batch,
        )

    def _attribute(self, name: str, explainer: WhiteBoxExplainer, indices: list[int], found: Found) -> None:
        """Attribute one batch; where that fails, its halves or its examples one by one."""
        batch, model = self._batch(indices, name), self._model
        encodings = [self._encodings[index] for index in indices]
        target = torch.tensor([self._targets[index] for index in indices], device=model.device)
        before, borrowed = model.cost.copy(), model.borrowed.copy()
        started = time.perf_counter()
        failure: Exception | None = None
        try:
            with model.at_work():
                given = explainer.attribute(model, batch, target)
            scores, report = _checked(given, explainer, batch, max(encoding.n for encoding in encodings))
            # An accelerator is done only when the scores have been read.
            self._engine.work.model_seconds += time.perf_counter() - started
        except AssayError:
            raise
        except Exception as error:
            # Its traceback holds the tensors of the batch, which have to make room for the next.
            failure = error.with_traceback(None)
        if failure is not None:
            self._attribute_in_parts(name, explainer, indices, found, failure, batch)
            return
        spent = model.cost.since(before)
        spent.add(model.borrowed.since(borrowed))
        spent.seconds += time.perf_counter() - started
        for row, (index, encoding) in enumerate(zip(indices, encodings, strict=True)):
            cost = Cost()
            cost.add(spent, share=1 / len(indices))
            own = scores[row, : encoding.n].astype(np.float64)
            if not explainer.scores_features:
                own = encoding.feature_scores(scores[row], explainer.subwords)
            found(index, Explanation(own, {key: float(values[row]) for key, values in report.items()}), cost)

    def _attribute_in_parts(
        self,
        name: str,
        explainer: WhiteBoxExplainer,
        indices: list[int],
        found: Found,
        failure: Exception,
        batch: Batch,
    ) -> None:
        """Attribute the halves of a batch that did not fit into memory, or one by one what failed together."""
        size, tokens = batch.input_ids.shape
        if is_out_of_memory(failure) and (size > 1 or batch.tokens_per_pass > tokens):
            batch.memo.clear()
            self._engine.halve_budget(max(size * tokens, batch.tokens_per_pass), one_row=False)
            half = (size + 1) // 2
            parts = [part for part in (indices[:half], indices[half:]) if part]
        elif size > 1:
            # One example must not take the others of its batch down with it.
            parts = [[index] for index in indices]
        else:
            if is_out_of_memory(failure):
                failure = Undefined(f"{self._model.device} has no room for a text of {tokens:,} tokens")
            found(indices[0], failure, Cost())
            return
        for part in parts:
            self._attribute(name, explainer, part, found)


def _checked(
    given: Tensor | Explanation, explainer: WhiteBoxExplainer, batch: Batch, widest: int
) -> tuple[NDArray[np.float32], Mapping[str, Tensor]]:
    """The scores of a batch, [batch, tokens] or [batch, features], and what the explainer says of itself.

    Raises:
        ValueError: the scores have another shape.
    """
    explanation = given if isinstance(given, Explanation) else Explanation(given, {})
    scores: NDArray[np.float32] = torch.as_tensor(explanation.scores).detach().float().cpu().numpy()
    rows, tokens = batch.input_ids.shape
    shape = (rows, widest if explainer.scores_features else tokens)
    if scores.shape != shape:
        raise ValueError(f"returned scores of shape {scores.shape} where {shape} are due")
    return scores, explanation.report
