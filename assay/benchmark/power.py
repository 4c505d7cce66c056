"""How many examples a comparison needs: from a pilot's paired differences to the size of a study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.benchmark.cell import Cell
from assay.benchmark.resampling import Floats
from assay.benchmark.significance import LEVEL, fewest_examples
from assay.benchmark.summary import CONTROLS, MEAN_SKILL, Contest, contests
from assay.errors import AssayError

# With fewer pairs the spread of their differences is hardly known (Julious 2005 asks for twelve in a group).
PILOT = 12
# Pitman's efficiency of Wilcoxon's signed-rank test beside Student's t, for differences that are normal. For no
# distribution is it below 0.864 (Hodges & Lehmann 1956), and for heavy tails it is above 1.
EFFICIENCY = 3 / math.pi


@dataclass(frozen=True)
class Needed:
    """What two methods ask for.

    Attributes:
        first: a method.
        second: the other.
        pilot: the examples of the pilot on which both have a value.
        spread: the standard deviation of their paired differences in the pilot.
        spread_high: its one-sided 95 % upper limit, for differences that are normal.
        effect: the difference that is sought over the spread, Cohen's d_z.
        alone: examples for a paired t-test of these two alone.
        alone_wilcoxon: for Wilcoxon's signed-rank test.
        corrected: for the t-test where all pairs of methods are compared.
        corrected_wilcoxon: for Wilcoxon's, likewise.
        cautious: the last, should the spread be as large as `spread_high`.
    """

    first: str
    second: str
    pilot: int
    spread: float
    spread_high: float
    effect: float
    alone: int
    alone_wilcoxon: int
    corrected: int
    corrected_wilcoxon: int
    cautious: int


def examples_for_t(effect: float, power: float = 0.8, alpha: float = LEVEL) -> int:
    """The fewest examples with which a two-sided paired t-test finds an effect, in its right direction.

    Args:
        effect: the mean difference over the standard deviation of the differences, above 0.
        power: the chance to find it.
        alpha: the chance to find what is not there.
    """
    from statsmodels.stats.power import TTestPower

    # Far from 0 the distribution is NaN in scipy; so large an effect needs no more than the fewest examples anyway.
    effect = min(effect, 10.0)

    def enough(examples: int) -> bool:
        # Half the level on the side of the effect: the other side adds nothing, and there too scipy may give NaN.
        return bool(TTestPower().power(effect, examples, alpha / 2, alternative="larger") >= power)

    high = 2
    while not enough(high):
        high *= 2
    low = max(2, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def examples_for_wilcoxon(effect: float, power: float = 0.8, alpha: float = LEVEL) -> int:
    """As `examples_for_t`, for Wilcoxon's signed-rank test: more by its efficiency, and enough to reach `alpha`."""
    return max(fewest_examples(alpha), math.ceil(examples_for_t(effect, power, alpha) / EFFICIENCY))


def effect_seen(examples: int, power: float = 0.8, alpha: float = LEVEL) -> float:
    """The smallest effect that a two-sided paired t-test of so many examples finds, in its right direction.

    The mean difference over the standard deviation of the differences, above 0; what `examples_for_t` is the other way
    round. Infinite for fewer examples than a test needs.

    Args:
        examples: on which both methods have a value.
        power: the chance to find it.
        alpha: the chance to find what is not there.
    """
    from scipy.optimize import brentq
    from statsmodels.stats.power import TTestPower

    if examples < fewest_examples(alpha):
        return math.inf

    def lacking(effect: float) -> float:
        return float(TTestPower().power(effect, examples, alpha / 2, alternative="larger")) - power

    # Far from 0 the distribution is NaN in scipy, so the end of the search is come to from below.
    high = 0.01
    while lacking(high) < 0:
        high *= 2
    return float(brentq(lacking, 0.0, high))


def examples_needed(contest: Contest, difference: float, power: float = 0.8, alpha: float = LEVEL) -> list[Needed]:
    """What each two methods ask for, those whose differences spread least first.

    Holm's correction for all pairs is taken at its first and hardest step, which is Bonferroni's.

    Args:
        contest: the pilot.
        difference: the smallest difference that is to be told from none, in the measure's own units.
        power: the chance to tell it.
        alpha: the chance to see a difference where there is none.

    Raises:
        AssayError: a setting out of its range, a single method, or a pilot of too few examples.
    """
    for name, value in (("power", power), ("alpha", alpha)):
        if not 0 < value < 1:
            raise AssayError(f"{name} must lie between 0 and 1, not {value}.")
    if power <= alpha:
        raise AssayError(f"power ({power}) must be above alpha ({alpha}): a test that never looks reaches alpha.")
    if not (math.isfinite(difference) and difference > 0):
        raise AssayError(f"difference must be a number above 0, not {difference}.")
    if len(contest.names) < 2:
        raise AssayError(
            f"The pilot has one explainer beside the controls, {contest.names[0]!r}; differences need two or more."
        )
    first, second = np.triu_indices(len(contest.names), 1)
    paired = contest.values[:, first] - contest.values[:, second]
    found = [
        _needed(
            contest.names[one], contest.names[other], column[np.isfinite(column)], len(first), difference, power, alpha
        )
        for one, other, column in zip(first.tolist(), second.tolist(), paired.T, strict=True)
        if np.isfinite(column).sum() >= PILOT
    ]
    if not found:
        most = int(np.isfinite(paired).sum(axis=0).max())
        raise AssayError(
            f"The pilot is too small: no two explainers share more than {most} examples that have a value of "
            f"{contest.metric!r} under {contest.perturbation!r}; how differences spread is known from {PILOT} or more."
        )
    return sorted(found, key=lambda one: one.spread)


def _needed(
    first: str, second: str, paired: Floats, pairs: int, difference: float, power: float, alpha: float
) -> Needed:
    from scipy.stats import chi2

    freedom = len(paired) - 1
    spread = float(paired.std(ddof=1))
    high = spread * math.sqrt(freedom / chi2.ppf(0.05, freedom))
    # Methods that agree to the last digit differ by anything at all as soon as a test can say so.
    effect, least = (difference / max(one, 1e-9 * difference) for one in (spread, high))
    return Needed(
        first,
        second,
        len(paired),
        spread,
        high,
        effect,
        examples_for_t(effect, power, alpha),
        examples_for_wilcoxon(effect, power, alpha),
        examples_for_t(effect, power, alpha / pairs),
        examples_for_wilcoxon(effect, power, alpha / pairs),
        examples_for_wilcoxon(least, power, alpha / pairs),
    )


def power_table(
    cells: Sequence[Cell],
    difference: float,
    metric: str | None = None,
    perturbation: str | None = None,
    power: float = 0.8,
    alpha: float = LEVEL,
) -> Any:
    """For each protocol and perturbation of a pilot a table: the pairs that spread least, middling and most.

    Args:
        cells: of the pilot.
        difference: the smallest difference that is to be told from none.
        metric: the measure; None for the mean skill, which the leaderboard ranks by.
        perturbation: one of the pilot's; None for each of them.
        power: the chance to tell the difference.
        alpha: the chance to see one where there is none.

    Raises:
        AssayError: no such measure or perturbation, no mean skill in the pilot, or what `examples_needed` refuses.
    """
    from rich.console import Group
    from rich.text import Text

    measure = MEAN_SKILL if metric is None else metric
    found = contests(cells, measure, perturbation)
    if not found:
        raise AssayError(_nothing_to_compare(cells, measure))
    about = {str(cell.meta["protocol_key"]): cell.protocol for cell in cells}
    parts: list[Any] = []
    for contest in found:
        subject = _subject(about[contest.protocol])
        namesakes = sum(_subject(protocol) == subject for protocol in about.values())
        told = f" (protocol {contest.protocol[:8]})" if namesakes > 1 else ""
        needed = examples_needed(contest, difference, power, alpha)
        parts += [
            Text(
                f"\n{subject}{told}, hidden by {contest.perturbation}: "
                f"examples to tell a difference of {difference:g} in {measure}",
                style="bold",
            ),
            _table(needed),
        ]
        pairs = len(contest.names) * (len(contest.names) - 1) // 2
        parts.append(
            Text(
                f"Power {power:.0%}, level {alpha:.0%}, two-sided. Spread: standard deviation of the pilot's paired "
                f"differences. d: the difference over the spread. All pairs: corrected for {pairs} "
                f"{'pair' if pairs == 1 else 'pairs'} of methods. Cautious: Wilcoxon, all pairs, with the 95 % upper "
                "limit of the spread.",
                style="dim",
            )
        )
    return Group(*parts)


def _subject(protocol: Mapping[str, Any]) -> str:
    return f"{protocol['task']['name']} × {protocol['model']['name']}"


def _nothing_to_compare(cells: Sequence[Cell], measure: str) -> str:
    explainers = sorted({cell.explainer for cell in cells})
    if all(name in CONTROLS for name in explainers):
        return f"The pilot has no explainer beside the controls: {', '.join(explainers) or 'it is empty'}."
    if measure != MEAN_SKILL:
        return f"The pilot has no value of {measure!r} for any explainer beside the controls."
    return (
        "The pilot has no mean skill: it needs both controls, and an oracle that beats chance. "
        "Choose a measure by --metric, or run it again with random and oracle among the explainers."
    )


def _table(needed: Sequence[Needed]) -> Any:
    from rich import box
    from rich.table import Table

    shown = needed
    if len(needed) > 3:
        shown = [needed[0], needed[len(needed) // 2], needed[-1]]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", show_edge=False)
    table.add_column("pair", max_width=40)
    for heading in ("pilot", "spread", "d", "t", "Wilcoxon", "t, all pairs", "Wilcoxon, all", "cautious"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in shown:
        sizes = (one.alone, one.alone_wilcoxon, one.corrected, one.corrected_wilcoxon, one.cautious)
        names = "".join(letter for letter in f"{one.first}, {one.second}" if letter.isprintable())
        effect = f"{one.effect:.2f}" if one.effect < 100 else "> 100"
        table.add_row(names, f"{one.pilot:,}", f"{one.spread:.3g}", effect, *(f"{size:,}" for size in sizes))
    return table
