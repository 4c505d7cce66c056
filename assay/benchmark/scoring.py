"""From an attribution to rows of tables: its ranking, a metric's conversation about it, and the mean over its draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.benchmark.records import Record, Records
from assay.conversation import Attribution, Case, Conversation, generator
from assay.errors import Undefined
from assay.explainers.base import BlackBoxExplainer
from assay.metrics.base import Curve, MethodMetric, Metric, Scores, undefined


def ranking(attribution: Attribution, seed: int, example: str, draw: int) -> NDArray[np.intp]:
    """The attribution's features by falling score; ties are broken by the example and the draw."""
    return attribution.ranking(generator(seed, example, "ranking", draw))


def random_numbers(seed: int, example: str, name: str, draw: int) -> np.random.Generator:
    """The random numbers of an explainer or metric for one example and draw."""
    return generator(seed, example, name, draw)


def foil(contrast: str | int | None, logits: NDArray[np.float32], target: int, labels: Sequence[str]) -> int | None:
    """The class that the target is contrasted with, if there is one.

    Args:
        contrast: as in the settings: `runner_up`, a class name or its index.
        logits: [classes], of the full input.
        target: the class that is explained.
        labels: the names of the classes.
    """
    if contrast == "runner_up":
        others = logits.copy()
        others[target] = -np.inf
        return int(others.argmax())
    return labels.index(contrast) if isinstance(contrast, str) else contrast


def conversation(speaker: BlackBoxExplainer | Metric, case: Case) -> Conversation[Any]:
    """The conversation of an explainer or metric; one that is not even begun fails in the same way as one that is."""
    result = yield from speaker.converse(case)
    return result


def reason_of(error: Exception) -> str:
    """Why there is no value."""
    return str(error) if isinstance(error, Undefined) else f"{type(error).__name__}: {error}"


def scores_of(metric: Metric | MethodMetric, result: Any, error: Exception | None) -> Scores:
    """What a metric found, or why it found nothing."""
    if error is not None:
        return undefined(metric, reason_of(error))
    if not isinstance(result, Scores):
        return undefined(metric, f"the metric returned {type(result).__name__}, not Scores")
    return result


def add_scores(records: Records, here: Record, metric: Metric | MethodMetric, drawn: Mapping[int, Scores]) -> None:
    """Add a metric's mean over the draws of one example; a measure that is undefined for one of them has no mean.

    Args:
        records: what is added to.
        here: the example and the perturbation.
        metric: what judged.
        drawn: what it found, by the number of the draw.
    """
    in_order = [drawn[number] for number in sorted(drawn)]
    for measure in metric.measures:
        values = [scores.values.get(measure.name, np.nan) for scores in in_order]
        reason = next(
            (
                scores.undefined.get(measure.name, "the metric gave no finite value")
                for scores, value in zip(in_order, values, strict=True)
                if not np.isfinite(value)
            ),
            None,
        )
        value = float(np.mean(values)) if reason is None else float("nan")
        row = {**here, "metric": measure.name, "value": value, "reason": reason}
        if reason is None and len(values) > 1:
            row["draws"] = [float(value) for value in values]
        records.scores.append(row)
    for name in in_order[0].curves:
        curves = [scores.curves[name] for scores in in_order if name in scores.curves]
        x = curves[0].x
        if any(not np.array_equal(curve.x, x) for curve in curves):
            # Where points are chosen, each draw has its own.
            x = np.unique(np.concatenate([curve.x for curve in curves]))
            curves = [Curve(x, np.interp(x, curve.x, curve.y)) for curve in curves]
        mean = np.mean([curve.y for curve in curves], axis=0)
        records.curves.append({**here, "metric": name, "x": x.tolist(), "y": mean.tolist()})
