"""The definitions written a second time, as plainly as can be: the model is called directly, one row a call."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

FRACTIONS = (0.01, 0.05, 0.10, 0.20, 0.50)

Visible = frozenset[int]
Output = Callable[[Visible], float]  # the target's output with only these features visible


class PlainBert:
    """A BERT and a text whose words are separated by white space, without any code of Assay.

    Each word is split into pieces on its own; a feature is a word or a piece.
    """

    def __init__(self, model: Any, tokenizer: Any, text: Sequence[str], unit: str, perturbation: str) -> None:
        self.model, self.tokenizer, self.perturbation = model, tokenizer, perturbation
        self.parts: list[list[tuple[int, int]]] = []  # for each text its (id, feature) pairs
        self.n = 0
        for part in text:
            tokens = []
            for word in part.split():
                pieces = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(word))
                for place, piece in enumerate(pieces):
                    tokens.append((piece, self.n + place if unit == "token" else self.n))
                self.n += len(pieces) if unit == "token" else 1
            self.parts.append(tokens)

    def logits(self, visible: Visible) -> torch.Tensor:
        ids, segments = [self.tokenizer.cls_token_id], [0]
        for segment, tokens in enumerate(self.parts):
            for token, feature in tokens:
                if feature in visible:
                    ids.append(token)
                elif self.perturbation == "mask":
                    ids.append(self.tokenizer.mask_token_id)
                else:
                    continue
                segments.append(segment)
            ids.append(self.tokenizer.sep_token_id)
            segments.append(segment)
        with torch.no_grad():
            answer = self.model(
                input_ids=torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                token_type_ids=torch.tensor([segments]),
            )
        return answer.logits[0].double()

    def predicted(self) -> int:
        return int(self.logits(frozenset(range(self.n))).argmax())

    def output(self, target: int) -> Output:
        return lambda visible: float(self.logits(visible).softmax(-1)[target])


def best(scores: Sequence[float], k: int) -> Visible:
    return frozenset(sorted(range(len(scores)), key=lambda feature: -scores[feature])[:k])


def count(fraction: float, n: int) -> int:
    return max(1, math.ceil(fraction * n - 1e-9))


def comprehensiveness(output: Output, scores: Sequence[float], fractions: Sequence[float] = FRACTIONS) -> list[float]:
    everything = frozenset(range(len(scores)))
    return [output(everything) - output(everything - best(scores, count(q, len(scores)))) for q in fractions]


def sufficiency(output: Output, scores: Sequence[float], fractions: Sequence[float] = FRACTIONS) -> list[float]:
    everything = frozenset(range(len(scores)))
    return [output(everything) - output(best(scores, count(q, len(scores)))) for q in fractions]


def deletion_curve(output: Output, scores: Sequence[float]) -> list[float]:
    everything = frozenset(range(len(scores)))
    return [output(everything - best(scores, k)) for k in range(len(scores) + 1)]


def insertion_curve(output: Output, scores: Sequence[float]) -> list[float]:
    return [output(best(scores, k)) for k in range(len(scores) + 1)]


def area(curve: Sequence[float]) -> float:
    steps = len(curve) - 1
    return sum((curve[k] + curve[k + 1]) / 2 / steps for k in range(steps))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
