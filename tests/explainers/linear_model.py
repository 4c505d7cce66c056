"""A linear bag of words with the face of a transformers model: every attribution can be worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from assay.classifier import Classifier
from tests.tiny_models import word_piece_tokenizer

WIDTH = 8


class LinearBagOfWords(nn.Module):
    """logits = bias + the sum over tokens of e_t · direction, the first token (special) left out by its zero embedding.

    Special tokens have the zero vector, so what hides a word takes exactly its share away.
    """

    def __init__(self, vocabulary: int, special: list[int], direction: Tensor) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, WIDTH)
        self.classes = nn.Linear(WIDTH, len(direction))
        self.config = SimpleNamespace(id2label={index: f"LABEL_{index}" for index in range(len(direction))})
        with torch.no_grad():
            self.embedding.weight[special] = 0.0
            self.classes.weight.copy_(direction)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embedding

    def forward(
        self,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Any:
        embedded = self.embedding(input_ids) if inputs_embeds is None else inputs_embeds
        if attention_mask is not None:
            embedded = embedded * attention_mask[..., None]
        return SimpleNamespace(logits=self.classes(embedded.sum(1)))


def linear_classifier(direction: Tensor | None = None) -> Classifier:
    """The model as a `Classifier` with three classes; by default with random weights, all zero for a constant model."""
    tokenizer = word_piece_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if direction is None:
            direction = torch.randn(3, WIDTH)
        model = LinearBagOfWords(len(tokenizer), tokenizer.all_special_ids, direction)
    return Classifier(model.eval(), tokenizer, "linear")
