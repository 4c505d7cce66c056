"""Relevance by LXT, the AttnLRP authors' library: `python -m tests.explainers.with_lxt scores.npz`.

LXT 2.1 was written for transformers 4. What it needs of that is put in its place here: a helper for BERT that is gone,
torchvision for its vision models, and a method of the table of attention functions, which it replaces by a plain dict.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch

from assay.classifier import Classifier
from tests.explainers.attributing import batch_of, encode
from tests.tiny_models import CORPUS, tiny_model

TEXTS = [("a dull , unforgettable script",), (CORPUS[6],)]
TARGET = 1
CASES = {"llama": "attnLRP", "gpt2": "attnLRP", "qwen2": "cp_LRP"}


class Table(dict[str, Any]):
    def get_interface(self, name: str, default: Any) -> Any:
        return self.get(name, default)


def model(architecture: str) -> Classifier:
    """A tiny decoder whose biases and norms are none of them 0 or 1."""
    network, tokenizer = tiny_model(architecture)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return Classifier(network, tokenizer)


def scores(architecture: str, rules: str) -> dict[str, np.ndarray]:
    patches = getattr(importlib.import_module(f"lxt.efficient.models.{architecture}"), rules)
    modelling = importlib.import_module(f"transformers.models.{architecture}.modeling_{architecture}")
    classifier = model(architecture)
    importlib.import_module("lxt.efficient").monkey_patch(modelling, patches)
    if type(modelling.ALL_ATTENTION_FUNCTIONS) is dict:
        modelling.ALL_ATTENTION_FUNCTIONS = Table(modelling.ALL_ATTENTION_FUNCTIONS)
    found = {}
    for index, encoding in enumerate(encode(classifier, TEXTS)):
        batch = batch_of(classifier, [encoding])
        with classifier.at_work(), torch.enable_grad():
            embeddings = classifier.embeddings(batch).requires_grad_()
            output = classifier.output(batch, torch.tensor([TARGET]), embeddings)
            (gradient,) = torch.autograd.grad(output.sum(), embeddings)
        found[f"{architecture} {index}"] = (embeddings * gradient).sum(-1)[0].detach().numpy()
    return found


def main(path: str) -> None:
    for name in ("bert", "vit_torch"):
        sys.modules[f"lxt.efficient.models.{name}"] = MagicMock()
    found: dict[str, np.ndarray] = {}
    for architecture, rules in CASES.items():
        found |= scores(architecture, rules)
    np.savez(path, **found)


if __name__ == "__main__":
    main(sys.argv[1])
