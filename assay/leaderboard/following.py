"""Whether the reported scores of a submitted cell follow from its own answers: for every example, without a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from assay.benchmark import scoring
from assay.benchmark.records import Record, Records
from assay.benchmark.stored_answers import StoredAnswers, Unanswered
from assay.leaderboard.submitted_cell import EXACT, SubmittedCell, close
from assay.metrics.base import MethodMetric
from assay.metrics.cost import ModelCost
from assay.plain_text import clean

Judged = tuple[str, str, str]  # example, metric, perturbation
_Place = tuple[str, str, str]  # example, perturbation, measure


@dataclass
class Followed:
    """What was found.

    Attributes:
        faults: scores, draws and curves that do not follow, and answers that are no answers.
        open: what the stored answers cannot tell, because they lack one that a metric asks for; True if it is one that
            a run stores.
    """

    faults: list[str] = field(default_factory=list)
    open: dict[Judged, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Reported:
    """The scores and curves of a cell, by example, perturbation and measure; `costs` are the measures of cost."""

    scores: Mapping[_Place, Record]
    curves: Mapping[_Place, Record]
    costs: frozenset[str]

    @classmethod
    def of(cls, cell: SubmittedCell) -> Reported:
        """Those that a cell holds; of two at one place the last."""
        return cls(
            {_place(row): row for row in cell.rows("scores")},
            {_place(row): row for row in cell.rows("curves")},
            frozenset(
                measure.name
                for metric in cell.metrics.values()
                if isinstance(metric, ModelCost)
                for measure in metric.measures
            ),
        )

    def against(self, found: Records, tolerance: float = EXACT) -> Iterator[str]:
        """How what is reported differs from what was found, in words; see `close` for the tolerance."""
        for row in found.scores:
            told = self.scores.get(_place(row))
            if told is None:
                continue  # Said of the cell as a whole.
            if not close(told["value"], row["value"], tolerance):
                yield f"{_words(row)}: reported {_number(told['value'])}, found {_number(row['value'])}"
            elif told["reason"] != row["reason"]:
                yield f"{_words(row)}: the reason why it is undefined is another one"
            elif row["metric"] in self.costs:
                continue  # What each draw cost is not stored, but what they cost together.
            elif not _alike(told["draws"], row.get("draws"), tolerance):
                yield f"{_words(row)}: the draws are not those whose mean is reported"
        for row in found.curves:
            told = self.curves.get(_place(row))
            if told is None or not (_alike(told["x"], row["x"], EXACT) and _alike(told["y"], row["y"], tolerance)):
                yield f"{_words(row)}: the curve is not the one that was found"


def drawn_of(cell: SubmittedCell) -> dict[str, list[Record]]:
    """The attributions of a cell by example, each in the order of the draws."""
    drawn: dict[str, list[Record]] = {}
    for row in sorted(cell.rows("attributions"), key=lambda row: int(row["draw"])):
        drawn.setdefault(row["example"], []).append(row)
    return drawn


def judged_in(cell: SubmittedCell, examples: Sequence[Record]) -> Iterator[tuple[Record, str, str]]:
    """Each example with each metric and perturbation that it has to be judged by."""
    perturbations = list(cell.protocol["perturbations"])
    for example in examples:
        for name, metric in cell.metrics.items():
            if isinstance(metric, MethodMetric):
                if not cell.searches:
                    for perturbation in perturbations if metric.each_perturbation else perturbations[:1]:
                        yield example, name, perturbation
            elif not cell.searches or metric.objective(max(1, len(example["features"]))) is not None:
                for perturbation in perturbations:
                    yield example, name, perturbation


def follow(cell: SubmittedCell) -> Followed:
    """Hold every score, draw and curve of a cell against its own answers.

    Scores of metrics that have a method explain again are seen to be there, and not more.
    """
    found = Followed()
    examples = cell.rows("examples")
    answers = cell.rows("answers")
    known = {row["example"]: row for row in examples}
    found.faults += _faults_of_answers(cell, known, answers)
    if found.faults:
        return found
    stored = StoredAnswers(
        {(row["perturbation"], row["example"], row["keep"]): row["logits"] for row in answers},
        cell.settings,
        cell.protocol["model"]["labels"],
    )
    drawn, records, expected = drawn_of(cell), Records(), set()
    for example, metric, perturbation in judged_in(cell, examples):
        judge = cell.metrics[metric]
        here = {"example": example["example"], "perturbation": perturbation}
        expected |= {(example["example"], perturbation, measure.name) for measure in judge.measures}
        if isinstance(judge, MethodMetric):
            continue
        rows = drawn.get(example["example"], [])
        if cell.searches:
            rows = [row for row in rows if (row["metric"], row["perturbation"]) == (metric, perturbation)]
        try:
            scores = {row["draw"]: stored.judged(judge, metric, perturbation, example, row, len(rows)) for row in rows}
        except Unanswered as lacking:
            found.open[example["example"], metric, perturbation] = lacking.storable
            continue
        if scores:
            scoring.add_scores(records, here, judge, scores)
    found.faults += _faults_of_places(cell, expected)
    found.faults += Reported.of(cell).against(records)
    return found


def _faults_of_answers(cell: SubmittedCell, examples: Mapping[str, Record], answers: Sequence[Record]) -> Iterator[str]:
    seen = set()
    for row in answers:
        place = row["perturbation"], row["example"], row["keep"]
        about = f"an answer of example {clean(row['example'])!r}"
        if place in seen:
            yield f"{about} is there twice"
        seen.add(place)
        example = examples.get(row["example"])
        if example is None or row["perturbation"] not in cell.protocol["perturbations"]:
            yield f"{about} under {clean(row['perturbation'])} belongs to nothing in this cell"
        elif row["n"] != len(example["features"]) or len(row["keep"]) != (row["n"] + 7) // 8:
            yield f"{about} is not about its {len(example['features'])} features"
        elif len(row["logits"]) != len(cell.protocol["model"]["labels"]):
            yield f"{about} has not one logit for each class"


def _faults_of_places(cell: SubmittedCell, expected: set[_Place]) -> Iterator[str]:
    """Scores that are missing, too many or twice there; a score without value needs a reason."""
    rows = cell.rows("scores")
    places = {_place(row) for row in rows}
    if len(places) < len(rows):
        yield "a score is there twice"
    for odd, what in ((expected - places, "is missing"), (places - expected, "belongs to nothing in this cell")):
        if odd:
            more = f", and {len(odd) - 1} more" if len(odd) > 1 else ""
            yield f"{_at(min(odd))} {what}{more}"
    for row in rows:
        if (row["reason"] is None) == (row["value"] != row["value"]):
            yield f"{_words(row)}: it needs a value, or a reason why there is none"
    curves = {_place(row) for row in cell.rows("curves")}
    if not curves <= places:
        yield f"the curve of {_at(min(curves - places))} has no score"


def _place(row: Record) -> _Place:
    return row["example"], row["perturbation"], row["metric"]


def _words(row: Record) -> str:
    return _at(_place(row))


def _at(place: _Place) -> str:
    example, perturbation, measure = place
    return f"example {clean(example, 80)!r}, {clean(measure, 60)} under {clean(perturbation, 60)}"


def _number(value: float) -> str:
    return "nothing" if value != value else f"{value:.6g}"


def _alike(reported: Sequence[float] | None, found: Sequence[float] | None, tolerance: float) -> bool:
    if reported is None or found is None:
        return reported is found is None
    return len(reported) == len(found) and all(
        close(one, two, tolerance) for one, two in zip(reported, found, strict=True)
    )
