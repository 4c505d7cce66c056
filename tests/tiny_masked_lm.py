"""Tiny masked language models: one with random weights, one to which every token is equally likely."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM

from assay.infilling import MaskedLanguageModel
from tests.tiny_models import tiny_model, word_piece_tokenizer


@cache
def tiny_masked_lm(architecture: str = "bert") -> MaskedLanguageModel:
    """Random weights, the vocabulary of the tiny classifier of that architecture. Leave it as it is."""
    classifier, tokenizer = tiny_model(architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = AutoModelForMaskedLM.from_config(classifier.config)
    return MaskedLanguageModel(model.eval(), tokenizer, f"tiny-{architecture}-masked-lm")


class Uniform(nn.Module):
    """Every token is equally likely everywhere."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.config = SimpleNamespace()
        self.logits = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Any:
        return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, -1))


def uniform_masked_lm() -> MaskedLanguageModel:
    tokenizer = word_piece_tokenizer()
    return MaskedLanguageModel(Uniform(len(tokenizer)), tokenizer, "uniform")
