"""Fixtures that every room's tests share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from assay.classifier import Classifier
from tests.read_once import read_once, spare_the_collector
from tests.tiny_models import tiny_classifier

# Models this small gain nothing from threads, and on a busy machine threads cost several times the work.
torch.set_num_threads(1)
read_once()


def pytest_collection_finish() -> None:
    spare_the_collector()


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


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One for all tests, since Playwright runs once in a process; they skip where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with playwright.sync_playwright() as engine:
        try:
            chromium = engine.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium can be started: {str(error).splitlines()[0]}")
        yield chromium
        chromium.close()
