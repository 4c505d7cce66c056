"""What a validation finds: numbers, and no words yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assay.benchmark.cell import Cell
from assay.benchmark.summary import CONTROLS, MEAN_SKILL, overall, summarise, told_apart
from assay.leaderboard.board import COSTS
from assay.validation.comparison import Comparison, compare
from assay.validation.contract import Check
from assay.validation.cost import Cost, costs
from assay.validation.subject import Subject

# The measures of planted truth that a verdict is given on.
TRUTH = ("ground_truth_precision", "ground_truth_auprc")


@dataclass(frozen=True)
class Score:
    """A method's score on one measure, with its 95 % interval.

    Attributes:
        explainer: the method.
        metric: the measure, or `mean_skill`.
        direction: `higher` or `lower` is better.
        mean: over the examples with a value.
        low: lower end of the interval.
        high: upper end.
        examples: with a value.
        undefined: without one.
    """

    explainer: str
    metric: str
    direction: str
    mean: float
    low: float
    high: float
    examples: int
    undefined: int


@dataclass(frozen=True)
class Section:
    """All methods under one protocol and way of hiding.

    Attributes:
        subject: the validated method's name.
        cells: of all methods and the controls.
        perturbation: how features were hidden.
        scores: the validated method first, then the baselines, then the controls; measure by measure.
        comparisons: of the validated method with each other one, on every measure.
        costs: the validated method's first.
    """

    subject: str
    cells: Sequence[Cell]
    perturbation: str
    scores: Sequence[Score]
    comparisons: Sequence[Comparison]
    costs: Sequence[Cost]

    @property
    def protocol(self) -> Mapping[str, Any]:
        """All that was fixed."""
        return self.cells[0].protocol

    @property
    def key(self) -> str:
        """The protocol's key."""
        return str(self.cells[0].meta["protocol_key"])

    @property
    def title(self) -> str:
        """The task and the model."""
        return f"{self.protocol['task']['name']} × {self.protocol['model']['name']}"

    @property
    def measures(self) -> list[str]:
        """Those that have scores, in the order of the protocol; the mean skill is none of them."""
        return [name for name in dict.fromkeys(score.metric for score in self.scores) if name != MEAN_SKILL]

    def score(self, explainer: str, metric: str) -> Score | None:
        """One of the scores, if it is there."""
        return next((one for one in self.scores if (one.explainer, one.metric) == (explainer, metric)), None)


@dataclass(frozen=True)
class Findings:
    """All that a validation finds.

    Attributes:
        target: what was validated, as it was named.
        subject: the same, loaded.
        contract_model: the model that the contract was checked on.
        checks: of the contract.
        truth: a section for each planted task; the comparisons of all of them are one family.
        no_truth: why there is no planted truth; empty where there is.
        sections: one for each protocol and way of hiding; the comparisons of one protocol are one family.
        skill_comparisons: of the mean skill, under all protocols: one family.
        no_sections: why there is no comparison; empty where there is.
        failures: jobs of either that failed, and how.
    """

    target: str
    subject: Subject
    contract_model: str
    checks: Sequence[Check]
    truth: Sequence[Section] = ()
    no_truth: str = ""
    sections: Sequence[Section] = ()
    skill_comparisons: Sequence[Comparison] = ()
    no_sections: str = ""
    failures: Sequence[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Check]:
        """The checks of the contract that failed; it holds if there are none."""
        return [check for check in self.checks if check.status == "failed"]


def truth(cells: Sequence[Cell], subject: str) -> list[Section]:
    """A section for each planted task; all comparisons are one family."""
    compared = compare(cells, subject, TRUTH)
    return [section for group in _by_protocol(cells) for section in _sections(group, subject, TRUTH, compared)]


def sections(cells: Sequence[Cell], subject: str) -> list[Section]:
    """A section for each protocol and way of hiding, on all headline measures that have a direction, cost left out.

    The comparisons under one protocol are one family.
    """
    return [
        section
        for group in _by_protocol(cells)
        for section in _sections(group, subject, _headline(group[0]), compare(group, subject, _headline(group[0])))
    ]


def skills(cells: Sequence[Cell], subject: str) -> list[Comparison]:
    """The mean skill beside every other's, under all protocols and ways of hiding: one family."""
    return compare(cells, subject, [MEAN_SKILL])


def _by_protocol(cells: Sequence[Cell]) -> list[list[Cell]]:
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(str(cell.meta["protocol_key"]), []).append(cell)
    return list(groups.values())


def _sections(
    cells: Sequence[Cell], subject: str, metrics: Sequence[str], compared: Sequence[Comparison]
) -> list[Section]:
    """For each way of hiding what was found under one protocol."""
    key = str(cells[0].meta["protocol_key"])
    return [
        Section(
            subject,
            cells,
            perturbation,
            _scores(cells, subject, perturbation, metrics),
            [one for one in compared if (one.protocol, one.perturbation) == (key, perturbation)],
            costs(cells, subject),
        )
        for perturbation in cells[0].protocol["perturbations"]
    ]


def _headline(cell: Cell) -> list[str]:
    return [
        name
        for name, about in cell.meta["measures"].items()
        if about["headline"] and about["direction"] in ("higher", "lower") and name not in COSTS
    ]


def _scores(cells: Sequence[Cell], subject: str, perturbation: str, wanted: Sequence[str]) -> list[Score]:
    names = dict(zip([cell.key for cell in cells], told_apart(cells), strict=True))
    of_skill = overall(cells)
    frames = [
        summarise(cells).query("metric in @wanted"),
        of_skill.assign(
            metric=MEAN_SKILL,
            mean=of_skill["skill"],
            ci_low=of_skill["skill_low"],
            ci_high=of_skill["skill_high"],
            undefined=0,
        ).dropna(subset="mean"),
    ]
    found = [
        Score(
            names[row["key"]],
            row["metric"],
            row["direction"],
            row["mean"],
            row["ci_low"],
            row["ci_high"],
            int(row["n"]),
            int(row["undefined"]),
        )
        for frame in frames
        for row in frame[frame["perturbation"] == perturbation].to_dict("records")
    ]
    order = {name: place for place, name in enumerate(CONTROLS, len(names))} | {subject: -1}
    places = {name: place for place, name in enumerate(names.values())}
    return sorted(found, key=lambda one: order.get(one.explainer, places[one.explainer]))
