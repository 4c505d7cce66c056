"""The validated method against each other one, on the same examples: how much better, how sure, and in one word."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from assay.benchmark.cell import Cell
from assay.benchmark.power import effect_seen
from assay.benchmark.resampling import Floats
from assay.benchmark.significance import FLIPS, LEVEL, differences, too_few
from assay.benchmark.summary import COVERAGE, Contest, contests

Verdict = Literal["better", "not distinguishable", "worse", "no verdict"]

# The control that every method is to beat; the oracle is what skills are read against, and nobody's rival.
FLOOR = "random"
# The chance with which a difference of `seen` would have been found.
POWER = 0.8


@dataclass(frozen=True)
class Comparison:
    """The validated method against another on one measure. What is oriented is positive where the former is better.

    Attributes:
        protocol: the protocol's key.
        perturbation: how features were hidden.
        metric: the measure, or `mean_skill`.
        other: the method that it is compared with.
        value: the validated method's score.
        other_value: the other's.
        examples: on which both have a value.
        dropped: on which only one of them has.
        advantage: the mean difference of the two, oriented; in the measure's own units.
        low: lower end of its 95 % bootstrap interval.
        high: upper end.
        spread: the standard deviation of the differences.
        d_z: `advantage` over `spread` (Cohen 1988).
        rank_biserial: of matched pairs (Kerby 2014), in [−1, 1], oriented.
        p: of the sign-flip test of the mean, two-sided; NaN without a verdict.
        p_corrected: the same, corrected for the whole family (Holm 1979). The verdict stands on it.
        wilcoxon: of Wilcoxon's signed-rank test, two-sided.
        wilcoxon_corrected: the same, corrected for the whole family.
        family: how many comparisons the correction is for.
        seen: the smallest advantage that would have been found with a chance of 80 %; infinite where none would.
        reason: why there is no verdict; empty where there is one.
    """

    protocol: str
    perturbation: str
    metric: str
    other: str
    value: float
    other_value: float
    examples: int
    dropped: int
    advantage: float
    low: float
    high: float
    spread: float
    d_z: float
    rank_biserial: float
    p: float
    wilcoxon: float
    p_corrected: float = math.nan
    wilcoxon_corrected: float = math.nan
    family: int = 0
    seen: float = math.nan
    reason: str = ""

    @property
    def verdict(self) -> Verdict:
        """Better or worse where the corrected p-value is at most 5 %."""
        if self.reason:
            return "no verdict"
        if self.p_corrected > LEVEL:
            return "not distinguishable"
        return "better" if self.advantage > 0 else "worse"


def compare(cells: Sequence[Cell], subject: str, metrics: Sequence[str]) -> list[Comparison]:
    """The method against every other and against `random`, under each protocol and way of hiding.

    All that is returned is one family: with a chance of 95 %, none of its verdicts says better or worse where there is
    no difference.

    Args:
        cells: the method's, the others' and the controls'.
        subject: the method's name.
        metrics: measures that have a direction, or `mean_skill`.
    """
    found = [contest for metric in metrics for contest in contests(cells, metric, controls=[FLOOR])]
    pairs = [(contest, other) for contest in found if subject in contest.names for other in _others(contest, subject)]
    # So many flips that the smallest p-value stays below the level when it is multiplied by the size of the family.
    flips = max(FLIPS, math.ceil(5 * len(pairs) / LEVEL))
    return corrected([_compared(contest, subject, other, flips) for contest, other in pairs])


def corrected(family: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with their p-values corrected for all of them together, those without a verdict left out."""
    from statsmodels.stats.multitest import multipletests

    tested = [place for place, one in enumerate(family) if not one.reason]
    found = list(family)
    if not tested:
        return found
    p_values = multipletests([family[place].p for place in tested], method="holm")[1]
    wilcoxon = multipletests([family[place].wilcoxon for place in tested], method="holm")[1]
    # What Holm's first and hardest step finds.
    effects = {
        examples: effect_seen(examples, POWER, LEVEL / len(tested))
        for examples in {family[place].examples for place in tested}
    }
    for place, p_value, of_ranks in zip(tested, p_values, wilcoxon, strict=True):
        one = family[place]
        found[place] = replace(
            one,
            p_corrected=float(p_value),
            wilcoxon_corrected=float(of_ranks),
            family=len(tested),
            seen=effects[one.examples] * one.spread if math.isfinite(effects[one.examples]) else math.inf,
        )
    return found


def _others(contest: Contest, subject: str) -> list[str]:
    """The baselines in the order of the run, and the control last."""
    others = [name for name in contest.names if name not in (subject, FLOOR)]
    return [*others, *(name for name in contest.names if name == FLOOR)]


def _compared(contest: Contest, subject: str, other: str, flips: int) -> Comparison:
    values = contest.values[:, [contest.names.index(subject), contest.names.index(other)]]
    (row,) = differences(contest.better * values, [subject, other], flips).to_dict("records")
    defined = np.isfinite(values)
    paired = (values[:, 0] - values[:, 1])[defined.all(axis=1)]
    reason = _no_verdict(defined, subject, other)
    return Comparison(
        protocol=contest.protocol,
        perturbation=contest.perturbation,
        metric=contest.metric,
        other=other,
        value=_mean(values[:, 0]),
        other_value=_mean(values[:, 1]),
        examples=int(row["n"]),
        dropped=int(row["dropped"]),
        advantage=float(row["difference"]),
        low=float(row["ci_low"]),
        high=float(row["ci_high"]),
        spread=float(paired.std(ddof=1)) if len(paired) > 1 else math.nan,
        d_z=float(row["d_z"]),
        rank_biserial=float(row["rank_biserial"]),
        p=math.nan if reason else float(row["sign_flip"]),
        wilcoxon=math.nan if reason else float(row["wilcoxon"]),
        reason=reason,
    )


def _no_verdict(defined: np.ndarray[tuple[int, int], np.dtype[np.bool_]], subject: str, other: str) -> str:
    """Why two methods cannot be compared, given on which examples each has a value; empty where they can."""
    counts, both = defined.sum(axis=0), int(defined.all(axis=1).sum())
    for place, name in enumerate((subject, other)):
        if not counts[place]:
            return f"{name} has no value on any example"
    if both < COVERAGE * counts.max():
        # The few that it is defined for may be the easy ones, whatever a test of them says.
        lacking = (subject, other)[int(counts.argmin())]
        return f"{lacking} has a value on {both} of {int(counts.max())} examples, too few to stand for the others"
    return too_few(both)


def _mean(column: Floats) -> float:
    return float(np.nanmean(column)) if np.isfinite(column).any() else math.nan
