"""Whether submitted controls are what they are called: a floor that was chosen, or a weak ceiling, makes any skill."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from assay import registry
from assay.benchmark.evaluation import Evaluation
from assay.benchmark.judging import CONTROLS
from assay.benchmark.records import Records
from assay.errors import AssayError
from assay.example import Example
from assay.leaderboard.components import settings_of
from assay.leaderboard.following import Reported
from assay.leaderboard.submitted_cell import SubmittedCell
from assay.metrics.base import Metric
from assay.plain_text import clean

WEAKER = 0.01
"""By how much, in the mean over the examples asked about, a search may find better rankings than the stored oracle."""

Evaluate = Callable[[Sequence[Example], Mapping[str, Metric]], Evaluation]


def faults_of_control(cell: SubmittedCell, parts: Sequence[Sequence[Example]], evaluation: Evaluate) -> Iterator[str]:
    """Draw a control's random rankings again, or search again with its settings; nothing for a cell of a method.

    Args:
        cell: a cell without fault in itself.
        parts: the examples that the model is asked about, as many together as share an engine.
        evaluation: makes one of examples and metrics, under the cell's protocol.
    """
    if cell.explainer not in CONTROLS:
        return
    settings = settings_of(cell.meta["explainer"]["settings"])
    if settings.get("_target_") != registry.settings("explainer", cell.explainer)["_target_"]:
        yield f"it is not Assay's own control {cell.explainer!r}"
        return
    try:
        control = registry.instantiate(settings)
    except AssayError as error:
        yield f"it cannot be built: {clean(error)}"
        return
    metrics = {name: metric for name, metric in cell.metrics.items() if isinstance(metric, Metric)}
    found = Records()
    for part in parts:
        again = evaluation(part, metrics if control.searches else {})
        again.add_explainer(cell.explainer, control)
        found.extend(again.run()[cell.explainer])
    yield from _weak(cell, metrics, found) if control.searches else _chosen(cell, found)


def _chosen(cell: SubmittedCell, found: Records) -> Iterator[str]:
    told = {(row["example"], row["draw"]): row["scores"] for row in cell.rows("attributions")}
    for row in found.attributions:
        if told.get((row["example"], row["draw"])) != row["scores"]:
            yield f"example {clean(row['example'])!r}: the random scores are not its seed's"


def _weak(cell: SubmittedCell, metrics: Mapping[str, Metric], found: Records) -> Iterator[str]:
    told = Reported.of(cell).scores
    for name, metric in metrics.items():
        measure = metric.measures[0]
        better = -1.0 if measure.direction == "lower" else 1.0
        for perturbation in cell.perturbations:
            gains = [
                better * (row["value"] - told[row["example"], perturbation, measure.name]["value"])
                for row in found.scores
                if (row["metric"], row["perturbation"]) == (measure.name, perturbation)
            ]
            gain = float(np.nanmean(gains)) if np.isfinite(gains).any() else 0.0
            if gain > WEAKER:
                yield (
                    f"it is no ceiling: a search with its settings finds rankings that are better by {gain:.3g} for "
                    f"{clean(name)} under {clean(perturbation)}"
                )
