"""Fixtures that every room's tests share."""

from __future__ import annotations

import pytest
import torch

from assay.classifier import Classifier
from tests.tiny_models import tiny_classifier

# Models this small gain nothing from threads, and on a busy machine threads cost several times the work.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_bert() -> Classifier:
    """WordPiece, segments, a mask token."""
    return tiny_classifier("bert")


@pytest.fixture(scope="session")
def tiny_roberta() -> Classifier:
    """Byte-level BPE, no segments, positions that start past the padding id."""
    return tiny_classifier("roberta")


@pytest.fixture(scope="session")
def tiny_distilbert() -> Classifier:
    """WordPiece without segments."""
    return tiny_classifier("distilbert")


@pytest.fixture(scope="session")
def tiny_albert() -> Classifier:
    """SentencePiece-like tokens, word embeddings narrower than the layers."""
    return tiny_classifier("albert")


@pytest.fixture(scope="session")
def tiny_deberta() -> Classifier:
    """SentencePiece-like tokens, relative positions."""
    return tiny_classifier("deberta")


@pytest.fixture(scope="session")
def tiny_gpt2() -> Classifier:
    """A decoder: no special tokens, no mask token, the class read off the last token."""
    return tiny_classifier("gpt2")
