"""Scores that other tools' own code gave the same attributions, if they and their models are here."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.api import score
from assay.classifier import Classifier

SHARED = Path(__file__).parents[3] / "shared"
PEERS = SHARED / "golden" / "peers.json"
MODELS = SHARED / "models"

pytestmark = pytest.mark.skipif(
    not PEERS.exists() or not MODELS.is_dir(), reason="the peers' numbers and their models are not here"
)

TOKEN_VECTORS = ("loo_mask", "gradient_x_input", "noise")


@cache
def texts(task: str) -> list[dict[str, Any]]:
    return [text for text in json.loads(PEERS.read_text("utf-8"))["texts"] if text["task"] == task]


@cache
def model(task: str) -> Classifier:
    return Classifier.from_pretrained(MODELS / f"minilm-{task}", device="cpu")


def parts(text: dict[str, Any]) -> tuple[str, ...]:
    return (text["text"],) if text["text"] is not None else (text["premise"], text["hypothesis"])


def scored(task: str, vector: str, perturbation: str, metrics: tuple[Any, ...]) -> list[dict[str, float]]:
    unit: Any = "word" if vector == "word_noise" else "token"
    frame = score(
        model(task),
        [parts(text) for text in texts(task)],
        [text["attributions"][vector]["values"] for text in texts(task)],
        metrics,
        perturbation=perturbation,
        feature=unit,
    )
    return [{str(name): float(value) for name, value in row.items()} for row in frame.to_dict("records")]


class WithPoints:
    """Lets the points of an erasure metric be seen, which tables do not show."""

    def __new__(cls, name: str) -> Any:
        from dataclasses import replace

        from assay.metrics import erasure

        base = {"comprehensiveness": erasure.Comprehensiveness, "sufficiency": erasure.Sufficiency}[name]

        class Shown(base):  # type: ignore[misc,valid-type]
            @property
            def measures(self) -> Any:
                return tuple(replace(measure, headline=True) for measure in super().measures)

        Shown.__name__ = name
        return Shown()


@pytest.mark.parametrize("perturbation", ["delete", "mask"])
@pytest.mark.parametrize(
    ("task", "vector"), [*((task, v) for task in ("sst2", "mnli") for v in TOKEN_VECTORS), ("sst2", "word_noise")]
)
def test_comprehensiveness_and_sufficiency_are_the_eraser_scorers(task: str, vector: str, perturbation: str) -> None:
    ours = scored(task, vector, perturbation, (WithPoints("comprehensiveness"), WithPoints("sufficiency")))
    errors = defaultdict(list)
    for text, row in zip(texts(task), ours, strict=True):
        theirs = text["peers"]["eraser"]["scores"][vector][perturbation]
        for name in ("comprehensiveness", "sufficiency"):
            errors["aopc"].append(row[name] - theirs[f"{name}_aopc"])
            points = [row[f"{name}@{q:g}"] for q in (0.01, 0.05, 0.1, 0.2, 0.5)]
            errors["points"] += (np.array(points) - theirs[f"{name}_points"]).tolist()
    assert max(map(abs, errors["aopc"])) < 1e-5
    assert max(map(abs, errors["points"])) < 1e-5


@pytest.mark.parametrize("task", ["sst2", "mnli"])
def test_deletion_and_insertion_are_interpretos(task: str) -> None:
    for vector in ("loo_mask", "word_noise") if task == "sst2" else ("gradient_x_input", "noise"):
        for text, row in zip(texts(task), scored(task, vector, "mask", ("deletion", "insertion")), strict=True):
            theirs = text["peers"]["interpreto"]["scores"][vector]
            assert row["deletion"] == pytest.approx(theirs["deletion_auc"], abs=1e-5), (vector, text["id"])
            assert row["insertion"] == pytest.approx(theirs["insertion_auc"], abs=1e-5), (vector, text["id"])


@pytest.mark.parametrize("task", ["sst2", "mnli"])
def test_texts_are_read_as_the_peers_read_them(task: str) -> None:
    from assay.example import Example

    for text in texts(task):
        example = Example(text["id"], parts(text))
        encoding = model(task).encode(example, "token")
        assert encoding.row.ids.tolist() == text["input_ids"]
        assert encoding.row.segments is not None
        assert encoding.row.segments.tolist() == text["token_type_ids"]
        assert np.flatnonzero(encoding.feature_of_token >= 0).tolist() == text["positions"]
        words = model(task).encode(example, "word")
        if task == "sst2":
            assert [str(feature) for feature in words.features] == text["words"]
            assert words.feature_of_token[text["positions"]].tolist() == text["word_of_token"]
