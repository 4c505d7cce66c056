"""Compiled networks: the same answers, and the plain network where compiling fails."""

from __future__ import annotations

import copy
import logging
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from assay.altered_models import with_random_weights
from assay.classifier import Classifier
from assay.example import Example
from assay.perturbation import Delete, Mask
from assay.rows import Row
from tests.tiny_models import tiny_classifier

TEXTS = ("a gripping and funny film", "dull", "the plot is thin but the actors are great , which is something")


def fresh() -> Classifier:
    """A classifier of this test alone."""
    shared = tiny_classifier("bert")
    return Classifier(copy.deepcopy(shared.model), shared.tokenizer)


@pytest.fixture
def rows() -> list[list[Row]]:
    """Batches of several sizes and lengths."""
    model = tiny_classifier("bert")
    found = []
    for number, text in enumerate(TEXTS):
        encoding = model.encode(Example(str(number), (text,)))
        keep = np.random.default_rng(number).random((2 + number, encoding.n)) < 0.5
        found.append(list(Mask().rows(encoding, keep, model.hidden_token[1])))
        found += [[row] for row in Delete().rows(encoding, keep, None)]
    return found


def test_a_compiled_network_answers_alike_for_every_size_and_length_of_a_batch(
    rows: list[list[Row]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain, compiled = fresh(), fresh()
    before = set(vars(compiled.model))
    passes = []

    def counting(graph: Any, inputs: Any) -> Any:
        passes.append(graph)
        return graph.forward

    # The tracing of the network is torch.compile's own; only the compiler of kernels, which takes long, is left out.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counting))
    with caplog.at_level(logging.WARNING):
        compiled.compile()
        for batch in rows:
            np.testing.assert_allclose(compiled.answer(batch), plain.answer(batch), atol=1e-5)
    assert passes
    assert not caplog.records
    assert compiled.fingerprint == plain.fingerprint
    # torch marks a module that it has traced.
    assert set(vars(compiled.model)) - before <= {"_is_torch_compile"}
    assert compiled.cost == plain.cost


def test_where_compiling_fails_the_network_answers_and_a_line_says_so_once(
    rows: list[list[Row]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain, compiled = fresh(), fresh()

    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler was found\nand much more")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    # What was to be compiled runs whole.
    monkeypatch.setattr("assay.classifier.first_token_only", nullcontext)
    with caplog.at_level(logging.WARNING):
        compiled.compile()
        for batch in rows:
            np.testing.assert_array_equal(compiled.answer(batch), plain.answer(batch))
    assert len(caplog.records) == 1
    assert "cannot be compiled" in caplog.text
    assert "much more" not in caplog.text


def test_running_out_of_memory_is_no_failure_to_compile(
    rows: list[list[Row]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = fresh()
    calls = []

    def full(**_: Any) -> Any:
        calls.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "compile", lambda network, **_: full)
    model.compile()
    for _ in range(2):  # it is tried again
        with pytest.raises(torch.OutOfMemoryError):
            model.answer(rows[0])
    assert len(calls) == 2
    assert not caplog.records


def test_a_model_with_other_weights_is_not_answered_for_by_the_compiled_network(
    rows: list[list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, compiled = fresh(), fresh()
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
    compiled.compile()
    twins = [with_random_weights(model, levels=[0], seed=0) for model in (plain, compiled)]
    found, expected = (twin.answer(rows[0]) for twin in twins)
    np.testing.assert_array_equal(found, expected)
    assert np.abs(found - compiled.answer(rows[0])).max() > 0.01
