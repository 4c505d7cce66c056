"""Cells with the scores that a test wants, and findings made of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from assay.benchmark.cell import Cell
from assay.benchmark.migrations import SCHEMA_VERSION
from assay.benchmark.records import Records
from assay.benchmark.store import Store
from assay.digests import digest
from assay.explainers.controls import First
from assay.validation.contract import Check
from assay.validation.findings import Findings, sections, skills
from assay.validation.subject import Subject
from tests.leaderboard.synthetic import protocol

DIRECTIONS = {"comprehensiveness": "higher", "sufficiency": "lower", "deletion": "lower"}
COST = {"forward_rows": 20.0, "forward_tokens": 400.0, "backward_rows": 0.0, "backward_tokens": 0.0, "seconds": 0.5}


def write_cell(
    root: Path,
    name: str,
    scores: Mapping[str, ArrayLike],
    about: Mapping[str, Any] | None = None,
    cost: Mapping[str, float] = COST,
) -> Cell:
    """A cell with these values of each measure, an example each; NaN is undefined."""
    examples = len(np.asarray(next(iter(scores.values()))))
    about = about or protocol(examples=examples)
    identity = {"name": name, "settings": {"_target_": f"somewhere.{name}"}}
    records = Records()
    for number in range(examples):
        here = {"example": f"example-{number}"}
        records.examples.append(
            {
                **here,
                "label": 0,
                "predicted": 0,
                "target": 0,
                "features": ["a", "film"],
                "segments": [0, 0],
                "positions": [0, 1],
                "rationale": None,
                "highlights": None,
                "logits": [1.0, -1.0],
                "truncated": 0,
                **cost,
            }
        )
        values = {metric: float(np.asarray(column)[number]) for metric, column in scores.items()}
        reason = "it gave up" if np.isnan(list(values.values())).all() else None
        attribution = None if reason else [1.0, 0.0]
        records.attributions.append({**here, "draw": 0, "scores": attribution, "signed": True, "reason": reason})
        for metric, value in values.items():
            why = "it gave up" if np.isnan(value) else None
            records.scores.append({**here, "perturbation": "mask", "metric": metric, "value": value, "reason": why})
    meta = {
        "schema": SCHEMA_VERSION,
        "key": digest({"protocol": about, "explainer": identity}),
        "protocol_key": digest(about),
        "protocol": about,
        "explainer": {**identity, "signed": True, "searches": name == "oracle", "perturbation": None},
        "measures": {
            metric: {
                "metric": metric,
                "direction": DIRECTIONS.get(metric, "higher"),
                "range": [0.0, 1.0],
                "headline": True,
                "per": None,
            }
            for metric in scores
        },
        "accuracy": 0.9,
        "majority": 0.5,
        "command": f"assay run explainer={name}",
    }
    return Store(root).write(meta, {}, {}, records)


def good_and_bad(examples: int = 40, subject: float = 0.3, **about: Any) -> dict[str, dict[str, Any]]:
    """Scores of `mine`, `lime` and the controls on three measures: `mine` lies at `subject`, where `lime` is 0.3."""
    rng = np.random.default_rng(5)
    hard = rng.normal(scale=0.2, size=examples)
    levels = {"mine": subject, "lime": 0.3, "random": 0.1, "oracle": 0.5}
    return {
        name: {
            metric: (level if DIRECTIONS[metric] == "higher" else -level) + hard + rng.normal(scale=0.05, size=examples)
            for metric in DIRECTIONS
        }
        for name, level in levels.items()
    }


def made_findings(root: Path, scores: Mapping[str, Mapping[str, ArrayLike]] | None = None, **known: Any) -> Findings:
    """Findings on one task, of a method `mine` whose contract holds; `known` replaces fields."""
    cells = [write_cell(root, name, columns) for name, columns in (scores or good_and_bad()).items()]
    about: dict[str, Any] = {
        "target": "my_module:Mine",
        "subject": Subject("mine", "class", {"_target_": f"{First.__module__}.First"}),
        "contract_model": "a small model",
        "checks": [Check("finite", "passed", "", 0.1), Check("repeats", "skipped", "it draws once", 0.0)],
        "no_truth": "nobody asked for it",
    }
    if "sections" not in known:
        about |= {"sections": sections(cells, "mine"), "skill_comparisons": skills(cells, "mine")}
    return Findings(**{**about, **known})
