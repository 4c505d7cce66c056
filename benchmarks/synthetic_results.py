"""Made-up results as large as a public leaderboard's: many explainers, protocols and examples, in a few minutes.

Every cell is what `assay run` stores of the default metrics: scores and sub-scores, curves, attributions, examples,
environment and checksums. Only the table `answers`, the model's raw answers, is empty: a leaderboard never reads it.
Explainers differ in quality, examples in how much can be gained, and neighbours in rank often cannot be told apart, as
with real results.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from assay import registry
from assay.benchmark.environment import environment
from assay.benchmark.protocol import make_metas
from assay.benchmark.store import Store
from assay.benchmark.tables import TABLES, table_schema

METRICS = ("comprehensiveness", "sufficiency", "deletion", "insertion", "srg", "tau_loo", "cost")
CURVES = ("deletion", "insertion", "srg")
COSTS = ("forward_rows", "forward_tokens", "backward_rows", "backward_tokens", "seconds")
WORDS = 15
DRAWS = 5
VOCABULARY = [f"{first}{second}{third}" for first in "bdklmnr" for second in "aeiou" for third in ("n", "sta", "r")]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Texts:
    """The examples of a task: words of each, and how much an explanation can gain there."""

    names: list[str]
    lengths: NDArray[np.int64]
    words: list[str]
    gains: Floats

    @classmethod
    def of(cls, task: int, count: int) -> Texts:
        """The examples of a task; the same for every call."""
        rng = np.random.default_rng(task)
        lengths = rng.integers(4, 2 * WORDS - 3, size=count)
        words = [str(word) for word in rng.choice(VOCABULARY, size=int(lengths.sum()))]
        return cls([f"task_{task}/{place}" for place in range(count)], lengths, words, rng.uniform(0.1, 0.8, count))


def make_results(root: Path, explainers: int, protocols: int, examples: int, workers: int = 2) -> None:
    """Fill a results folder.

    Args:
        root: the folder.
        explainers: cells of each protocol, the controls `random` and `oracle` among them.
        protocols: how many; each is a task of its own under one of five models.
        examples: of each protocol.
        workers: processes.
    """
    make = partial(_make_protocol, root, explainers, examples)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(make, range(protocols)))


def add_cell(root: Path, number: int) -> Path:
    """One cell more under the first protocol; where it stands."""
    stored = next(iter(sorted(root.glob("task_0/*/*/cell.json"))))
    about = json.loads(stored.read_text("utf-8"))["protocol"]
    texts = Texts.of(0, about["task"]["examples"])
    return _make_cell(root, about, texts, f"method_{number:03}", number)


def _make_protocol(root: Path, explainers: int, examples: int, protocol: int) -> None:
    about, texts = _protocol(protocol, examples), Texts.of(protocol, examples)
    names = ["random", "oracle", *(f"method_{number:03}" for number in range(explainers - 2))]
    for number, name in enumerate(names[:explainers]):
        _make_cell(root, about, texts, name, number - 2)


def _protocol(number: int, examples: int) -> dict[str, Any]:
    return {
        "version": 3,
        "preset": None,
        "task": {
            "name": f"task_{number}",
            "split": "validation",
            "size": examples,
            "seed": 0,
            "examples": examples,
            "labels": ["negative", "positive"],
            "fingerprint": hashlib.sha256(f"task {number}".encode()).hexdigest(),
        },
        "model": {
            "name": f"model_{number % 5}",
            "revision": None,
            "fingerprint": hashlib.sha256(f"model {number % 5}".encode()).hexdigest(),
            "dtype": "float32",
            "hidden_token": "[MASK]",
        },
        "feature": "word",
        "target": "predicted",
        "contrast": None,
        "output": "probability",
        "seed": 0,
        "perturbations": {"mask": {"_target_": "assay.perturbation.Mask"}},
        "metrics": {name: dict(registry.settings("metric", name)) for name in METRICS},
    }


def _make_cell(root: Path, about: Mapping[str, Any], texts: Texts, name: str, number: int) -> Path:
    control = name in ("random", "oracle")
    explainer = registry.build("explainer", name if control else "lime")
    settings = {"_target_": "my_methods.Method", "number": number}
    if control:
        settings = dict(registry.settings("explainer", name))
    metrics = {metric: registry.build("metric", metric) for metric in METRICS}
    meta = make_metas(about, {name: settings}, {name: explainer}, metrics)[name]
    store = Store(root)
    path = store.cell_path(meta)
    rng = np.random.default_rng([number + 2, int(about["task"]["name"].removeprefix("task_"))])
    quality = {"random": 0.0, "oracle": 1.0}.get(name, 0.05 + 0.8 * ((number * 37) % 199) / 199)
    tables = _tables(texts, list(meta["measures"]), quality, rng, name)
    path.mkdir(parents=True)
    for table in TABLES:
        pq.write_table(tables[table], path / f"{table}.parquet", compression="zstd")
    spent = {cost: float(np.mean(tables["examples"][cost].to_numpy())) for cost in COSTS}
    meta |= {
        "accuracy": 0.91,
        "majority": 0.52,
        "command": f"assay run task={about['task']['name']} model.path={about['model']['name']} explainer={name}",
        "counts": {
            "examples": len(texts.names),
            "truncated_examples": 0,
            "truncated_tokens": 0,
            "undefined": {"tau_loo": int(np.isnan(tables["scores"]["value"].to_numpy()).sum())},
        },
        "cost": spent,
    }
    contents = {"cell": meta, "config": {"explainer": [name]}, "environment": environment(torch.device("cpu"))}
    for part, content in contents.items():
        (path / f"{part}.json").write_text(json.dumps(content, indent=2, default=list) + "\n", "utf-8")
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(path.iterdir())}
    (path / "checksums.json").write_text(json.dumps(sums, indent=2) + "\n", "utf-8")
    return path


def _tables(
    texts: Texts, measures: Sequence[str], quality: float, rng: np.random.Generator, name: str
) -> dict[str, pa.Table]:
    count, total = len(texts.names), int(texts.lengths.sum())
    reached = texts.gains * np.clip(0.1 + 0.85 * quality + rng.normal(scale=0.25, size=count), -0.2, 1.0)
    costs = {cost: np.full(count, 1.0 + 99 * quality) for cost in COSTS} | {"seconds": rng.gamma(2.0, 0.05, count)}
    columns = {measure: costs.get(measure, _values(measure, reached, rng)) for measure in measures}
    searches = name == "oracle"
    if searches:
        columns = {measure: values for measure, values in columns.items() if measure not in (*COSTS, "tau_loo")}
    else:
        columns["tau_loo"][texts.lengths < 6] = np.nan
    values = np.stack(list(columns.values()), axis=1)
    # The control `random` is drawn several times for each example, and keeps the value of each draw.
    repeats = DRAWS if name == "random" else 1
    draws = [None] * values.size
    if repeats > 1:
        spread = rng.normal(scale=0.1, size=(values.size, repeats))
        draws = list(values.ravel()[:, None] + spread - spread.mean(axis=1, keepdims=True))
    rankings = count * repeats
    return {
        "examples": _examples(texts, costs),
        "attributions": _table(
            "attributions",
            example=np.repeat(texts.names, repeats),
            draw=np.tile(np.arange(repeats), count),
            metric=[None] * rankings,
            perturbation=[None] * rankings,
            scores=_lists(rng.normal(size=total * repeats), np.repeat(texts.lengths, repeats)),
            signed=[True] * rankings,
            reason=[None] * rankings,
            report=[None] * rankings,
        ).slice(0, 0 if searches else rankings),
        "scores": _table(
            "scores",
            example=np.repeat(texts.names, len(columns)),
            perturbation=["mask"] * values.size,
            metric=list(columns) * count,
            value=values.ravel(),
            reason=["all scores are equal" if missing else None for missing in np.isnan(values.ravel())],
            draws=draws,
        ),
        "curves": _curves(texts, reached),
        "answers": table_schema("answers").empty_table(),
    }


def _values(measure: str, reached: Floats, rng: np.random.Generator) -> Floats:
    noise = rng.normal(scale=0.08, size=len(reached))
    if measure.startswith(("sufficiency", "deletion", "srg_mif")):
        return 0.9 - reached + noise
    return reached + noise


def _examples(texts: Texts, costs: Mapping[str, Floats]) -> pa.Table:
    count = len(texts.names)
    labels = np.arange(count) % 2
    offsets = np.concatenate([[0], np.cumsum(texts.lengths)])
    places = np.arange(offsets[-1]) - np.repeat(offsets[:-1], texts.lengths)
    logits = np.stack([1.0 - labels, labels - 0.5], axis=1).astype(np.float32)
    return _table(
        "examples",
        example=texts.names,
        label=labels,
        predicted=labels,
        target=labels,
        features=_lists(np.array(texts.words, object), texts.lengths),
        segments=_lists(np.zeros_like(places), texts.lengths),
        positions=_lists(places, texts.lengths),
        rationale=[None] * count,
        highlights=[None] * count,
        logits=_lists(logits.ravel(), np.full(count, 2)),
        truncated=np.zeros(count, np.int64),
        **costs,
    )


def _curves(texts: Texts, reached: Floats) -> pa.Table:
    lengths = texts.lengths + 1
    shares = np.concatenate([np.arange(length) / (length - 1) for length in lengths])
    steep = np.repeat(0.3 + 4 * np.maximum(reached, 0), lengths)
    drawn = {"deletion": 0.95 * (1 - shares) ** steep, "insertion": 0.95 * shares ** (1 / steep)}
    drawn["srg"] = drawn["insertion"] - drawn["deletion"]
    count = len(texts.names)
    # A cell has the curves of one example after those of another.
    order = np.argsort(np.tile(np.arange(count), len(CURVES)), kind="stable")
    return _table(
        "curves",
        example=texts.names * len(CURVES),
        perturbation=["mask"] * count * len(CURVES),
        metric=np.repeat(CURVES, count),
        x=_lists(np.tile(shares, len(CURVES)), np.tile(lengths, len(CURVES))),
        y=_lists(np.concatenate([drawn[name] for name in CURVES]), np.tile(lengths, len(CURVES))),
    ).take(pa.array(order))


def _lists(values: NDArray[Any], lengths: NDArray[np.int64]) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


def _table(name: str, **columns: Any) -> pa.Table:
    schema = table_schema(name)
    arrays = [pa.array(columns[field.name], from_pandas=False) for field in schema]
    return pa.table([array.cast(field.type) for array, field in zip(arrays, schema, strict=True)], schema=schema)
