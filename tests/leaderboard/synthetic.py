"""Finished cells made up from a seed, as a run would have stored them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.benchmark.cell import Cell
from assay.benchmark.migrations import SCHEMA_VERSION
from assay.benchmark.records import Records
from assay.benchmark.store import Store
from assay.digests import digest

HOSTILE = "</script><img src=x onerror=alert(1)>"
METHODS: dict[str, float] = {
    "attention": 0.25,
    "first": 0.02,
    "gradient": 0.3,
    "gradient_x_input": 0.45,
    "integrated_gradients": 0.7,
    "kernel_shap": 0.82,
    "leave_one_out": 0.78,
    "lime": 0.8,
    "oracle": 1.0,
    "random": 0.0,
}
UNSIGNED = {"attention", "gradient"}
CURVES = {"deletion": "lower", "insertion": "higher"}
DIRECTIONS = {"comprehensiveness": "higher", "sufficiency": "lower", **CURVES, "tau_loo": "higher"}
COSTS = ("forward_rows", "backward_rows", "seconds")
TEXT = """a warm funny film that never once loses its nerve and the cast is quietly superb throughout though some of
the jokes arrive late and a few scenes drag on without any point at all"""
WORDS = TEXT.split()


def protocol(task: str = "sst2", model: str = "small-bert", examples: int = 40, **changes: Any) -> dict[str, Any]:
    """A protocol; `changes` replace its outermost fields."""
    return {
        "version": 1,
        "task": {
            "name": task,
            "split": "validation",
            "size": examples,
            "seed": 0,
            "examples": examples,
            "labels": ["negative", "positive"],
            "fingerprint": digest([task, examples]),
        },
        "model": {
            "name": model,
            "revision": None,
            "fingerprint": digest(model),
            "dtype": "float32",
            "hidden_token": "[MASK]",
        },
        "feature": "word",
        "target": "predicted",
        "output": "probability",
        "seed": 0,
        "perturbations": {"mask": {"_target_": "assay.perturbation.Mask"}},
        "metrics": {
            "comprehensiveness": {
                "_target_": "assay.metrics.erasure.Comprehensiveness",
                "fractions": [0.01, 0.05, 0.5],
            },
            "sufficiency": {"_target_": "assay.metrics.erasure.Sufficiency", "fractions": [0.01, 0.05, 0.5]},
            "deletion": {"_target_": "assay.metrics.curves.Deletion", "max_points": 50},
            "insertion": {"_target_": "assay.metrics.curves.Insertion", "max_points": 50},
            "tau_loo": {"_target_": "assay.metrics.correlation.TauLeaveOneOut"},
            "cost": {"_target_": "assay.metrics.cost.ModelCost"},
        },
        **changes,
    }


def write_cell(
    root: Path,
    name: str,
    about: Mapping[str, Any],
    quality: float,
    *,
    signed: bool = True,
    settings: Mapping[str, Any] | None = None,
    first_words: Sequence[str] = (),
) -> Cell:
    """Store one cell; a `quality` of 0 is chance, 1 the oracle's.

    `first_words` replace the first words of the first example.
    """
    identity = {"name": name, "settings": dict(settings or {"_target_": f"assay.explainers.{name}"})}
    records = make_records(name, about, quality, signed, first_words)
    measures = {
        measure: {"metric": measure, "direction": direction, "range": [0.0, 1.0], "headline": True}
        for measure, direction in DIRECTIONS.items()
    }
    measures["comprehensiveness@0.5"] = {**measures["comprehensiveness"], "headline": False}
    costs = {"metric": "cost", "direction": "lower", "range": [0.0, float("inf")], "headline": True}
    undefined: dict[str, int] = {}
    for row in records.scores:
        if row["reason"]:
            undefined[row["metric"]] = undefined.get(row["metric"], 0) + 1
    cost_names = ("forward_rows", "forward_tokens", "backward_rows", "backward_tokens", "seconds")
    meta = {
        "schema": SCHEMA_VERSION,
        "key": digest({"protocol": about, "explainer": identity}),
        "protocol_key": digest(about),
        "protocol": about,
        "explainer": {**identity, "signed": signed, "searches": name == "oracle"},
        "measures": {**measures, **dict.fromkeys(COSTS, costs)},
        "counts": {
            "examples": len(records.examples),
            "truncated_examples": 1,
            "truncated_tokens": 7,
            "undefined": undefined,
        },
        "accuracy": 0.925,
        "majority": 0.51,
        "cost": {cost: float(np.mean([row[cost] for row in records.examples])) for cost in cost_names},
        "command": f"assay run task={about['task']['name']} model.path=models/small-bert explainer={name}",
    }
    environment = {"python": "3.11.2", "packages": {"assay": "0.1.0", "torch": "2.9.0"}, "device": "cpu"}
    return Store(root).write(meta, {}, environment, records)


def make_records(
    name: str, about: Mapping[str, Any], quality: float, signed: bool, first_words: Sequence[str] = ()
) -> Records:
    """Records of one explainer: scores that rise with its quality, examples that differ in how much can be gained."""
    task = about["task"]["name"]
    shared = np.random.default_rng(len(task))
    own = np.random.default_rng(sum(map(ord, name + task)))
    pair = task in ("mnli", "qqp")
    records = Records()
    for number in range(about["task"]["examples"]):
        size = int(shared.integers(4, 80 if number == 3 else 26))
        words = [str(word) for word in shared.choice(WORDS, size=size)]
        words[: len(first_words)] = list(first_words) if number == 0 else words[: len(first_words)]
        gain, truth = float(shared.uniform(0.2, 0.8)), shared.normal(size=size)
        reached = gain * (0.15 + 0.85 * quality) + own.normal(scale=0.08)
        effect = quality * truth + (1 - quality) * own.normal(size=size)
        here = {"example": f"{task}-{number}"}
        lengths = (size // 2, size - size // 2) if pair else (size,)
        records.examples.append(
            {
                **here,
                "label": number % 2,
                "predicted": number % 2,
                "target": number % 2,
                "features": words,
                "segments": [segment for segment, length in enumerate(lengths) for _ in range(length)],
                "positions": [position for length in lengths for position in range(length)],
                "rationale": None,
                "logits": [1.0, -1.0] if number % 2 == 0 else [-1.5, 1.5],
                "truncated": 7 if number == 3 else 0,
                "forward_rows": 1.0 if not signed else 25.0,
                "forward_tokens": 25.0 * size,
                "backward_rows": 50.0 if name == "integrated_gradients" else 0.0,
                "backward_tokens": 0.0,
                "seconds": 0.0312 * (1 + quality),
            }
        )
        reason = "the search found no path" if name == "kernel_shap" and number in (4, 9) else None
        scores = None if reason else [float(one) for one in (effect if signed else np.abs(effect))]
        records.attributions.append(
            {
                **here,
                "draw": 0,
                "metric": "deletion" if name == "oracle" else None,
                "perturbation": "mask" if name == "oracle" else None,
                "scores": scores,
                "signed": signed,
                "reason": reason,
            }
        )
        for perturbation in about["perturbations"]:
            values = {
                "comprehensiveness": reached,
                "comprehensiveness@0.5": reached + 0.1,
                "sufficiency": 0.5 * (gain - reached) + own.normal(scale=0.1),
                "deletion": 0.9 - reached + own.normal(scale=0.1),
                "insertion": 0.3 + 0.6 * reached + own.normal(scale=0.05),
                "tau_loo": np.nan if name == "attention" and number < 3 else 2 * reached - 0.5,
                "forward_rows": 25.0,
                "backward_rows": 0.0,
                "seconds": 0.03,
            }
            for measure, value in values.items():
                if name == "oracle" and measure in ("tau_loo", *COSTS):
                    continue
                missing = reason is not None or np.isnan(value)
                why = (f"no attribution: {reason}" if reason else "all scores are equal") if missing else None
                row = {**here, "perturbation": perturbation, "metric": measure}
                records.scores.append({**row, "value": float("nan") if missing else float(value), "reason": why})
            if reason is None:
                x = np.arange(size + 1) / size
                steep = 0.3 + 4 * max(reached, 0)
                for measure, y in (("deletion", 0.95 * (1 - x) ** steep), ("insertion", 0.95 * x ** (1 / steep))):
                    row = {**here, "perturbation": perturbation, "metric": measure}
                    records.curves.append({**row, "x": x.tolist(), "y": (y + 0.04).tolist()})
    return records


def write_results(root: Path, *, hostile: bool = False, examples: int = 16) -> Path:
    """SST-2 under masking, and again with a second way of hiding, and a task of pairs with fewer methods.

    In hostile results names and words try to break out of whatever they are shown in.
    """
    both = {
        "mask": {"_target_": "assay.perturbation.Mask"},
        "delete": {"_target_": "assay.perturbation.Delete"},
    }
    model = f"org/{HOSTILE}" if hostile else "small-bert"
    words = (HOSTILE, "\u202eevil", "a\u2028b", "__html__", "{{ 7*7 }}") if hostile else ()
    few = ("gradient_x_input", "integrated_gradients", "oracle", "random")
    for about, names in (
        (protocol("sst2", model, examples), few if hostile else list(METHODS)),
        (protocol("sst2", model, examples - 4, perturbations=both, seed=1), few),
        (protocol("mnli", model, examples - 2), few if hostile else [name for name in METHODS if name != "lime"]),
    ):
        for name in names:
            write_cell(root, name, about, METHODS[name], signed=name not in UNSIGNED, first_words=words)
        if hostile:
            write_cell(root, HOSTILE, about, 0.5, first_words=words)
    return root
