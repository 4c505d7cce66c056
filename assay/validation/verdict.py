"""From numbers to words: what a validation says, plainly and no stronger than it is known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from assay.benchmark.summary import MEAN_SKILL
from assay.leaderboard.text import amount, interval, number, percent, title
from assay.validation.comparison import FLOOR, POWER, Comparison, Verdict
from assay.validation.cost import Cost
from assay.validation.findings import TRUTH, Findings, Section

_ORDER: tuple[Verdict, ...] = ("better", "not distinguishable", "worse", "no verdict")
_WORDS = {
    "better": "better than",
    "not distinguishable": "not distinguishable from",
    "worse": "worse than",
    "no verdict": "without a verdict against",
}


def overall(findings: Findings) -> list[str]:
    """What it comes to, in a few sentences: the contract, planted truth, the comparison, the cost."""
    sentences = [contract(findings)]
    if findings.truth:
        sentences.append(_of_truth(findings.truth))
    elif findings.no_truth:
        sentences.append(f"Planted truth was not tried: {_ended(findings.no_truth)}")
    for section in findings.sections:
        sentences += _of_section(section, findings.skill_comparisons)
    if findings.no_sections:
        sentences.append(f"There is no comparison on a task of yours: {_ended(findings.no_sections)}")
    return sentences


def contract(findings: Findings) -> str:
    """Whether the contract holds."""
    skipped = sum(check.status == "skipped" for check in findings.checks)
    made = len(findings.checks) - skipped
    if not made:
        return f"The contract could not be checked: {_ended(findings.checks[0].detail)}"
    left_out = f" ({skipped} could not be made)" if skipped else ""
    if not findings.failed:
        return f"The contract holds: {made} of {made} checks passed{left_out}."
    names = listed(check.name for check in findings.failed)
    return (
        f"The contract does not hold: {len(findings.failed)} of {made} checks failed{left_out}, {names}. "
        "Until that is mended, take no number of this report for a property of the method."
    )


def on_measure(comparisons: Sequence[Comparison]) -> str:
    """The verdict on one measure: better, not distinguishable or worse than whom, by how much, and how sure.

    Args:
        comparisons: with each other method, on one measure under one protocol and way of hiding.
    """
    if not comparisons:
        return "No verdict: nothing to compare with has a value."
    counts = {one.examples for one in comparisons if not one.reason}
    shared = f"On {_examples(counts.pop())}: " if len(counts) == 1 else ""
    groups = []
    for verdict in _ORDER:
        group = [one for one in comparisons if one.verdict == verdict]
        if group:
            groups.append(f"{_WORDS[verdict]} {listed(_told(one, not shared) for one in group)}")
    return capitalised(f"{shared}{'; '.join(groups)}.")


def on_cost(costs: Sequence[Cost]) -> str:
    """What the method asks of the model, beside the baselines."""
    own, others = costs[0], costs[1:]
    if math.isnan(own.rows):
        return "What it costs is not known, because the scores come from a file."
    rows = "asks nothing of the model" if own.rows == 0 else f"takes {amount(own.rows)} rows of the model an example"
    beside = [f"{times(one.rows_ratio)} those of {one.explainer}" for one in others if math.isfinite(one.rows_ratio)]
    return f"It {rows}{f', {listed(beside)}' if beside and own.rows else ''}."


def listed(parts: Iterable[str]) -> str:
    """Several things in a row: `a, b and c`; with semicolons where they hold commas."""
    found = list(parts)
    if len(found) < 2:
        return "".join(found)
    between = "; " if any(", " in one for one in found) else ", "
    return f"{between.join(found[:-1])} and {found[-1]}"


def p_value(p: float) -> str:
    """A p-value as papers write it."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def signed(advantage: float) -> str:
    """An advantage with its sign."""
    text = number(advantage)
    return f"+{text}" if advantage > 0 and text.strip("0.") else text


def times(ratio: float) -> str:
    """How many times as much."""
    return f"{amount(ratio)} times" if math.isfinite(ratio) else ""


def capitalised(sentence: str) -> str:
    """With a capital letter first, whatever names follow."""
    return sentence[:1].upper() + sentence[1:]


def _told(one: Comparison, with_examples: bool) -> str:
    """One comparison in brackets: how much, how sure; and where nothing was found, what would have been."""
    if one.reason:
        return f"{one.other} ({one.reason})"
    advantage = f"{signed(one.advantage)} {interval(one.low, one.high)}".strip()
    effect = [f"d_z {number(one.d_z, 2)}"] if math.isfinite(one.d_z) else []
    facts = [advantage, *effect, p_value(one.p_corrected)]
    if with_examples:
        facts.append(_examples(one.examples))
    if one.verdict == "not distinguishable":
        facts.append(_could_have_been_seen(one))
    return f"{one.other} ({', '.join(facts)})"


def _could_have_been_seen(one: Comparison) -> str:
    if one.spread == 0:
        return "the same on every example" if one.advantage == 0 else "the same difference on every example"
    if math.isinf(one.seen):
        return "so few examples can show no difference, however large"
    return f"a difference of {number(one.seen)} would have been found {100 * POWER:.0f} % of the time"


def _of_truth(sections: Sequence[Section]) -> str:
    """How much of the planted truth the method finds, beside a random ranking."""
    own = [(section, section.score(section.subject, TRUTH[0])) for section in sections]
    found = [f"{percent(score.mean)} on {section.protocol['task']['name']}" for section, score in own if score]
    floors = [section.score(FLOOR, TRUTH[0]) for section in sections]
    chance = listed(percent(score.mean) for score in floors if score)
    against = [one for section in sections for one in section.comparisons if one.other == FLOOR]
    better = {one.protocol for one in against if one.verdict == "better" and one.metric == TRUTH[0]}
    sentence = f"Of the words that truly decide it finds {listed(found)} (a random ranking {chance}); that is "
    if not better:
        return f"{sentence}not shown to be better than random."
    tasks = "" if len(better) == len(sections) else f" on {len(better)} of these {len(sections)} tasks"
    return f"{sentence}better than random{tasks}."


def _of_section(section: Section, skills: Sequence[Comparison]) -> list[str]:
    """Where the method stands on one task: by mean skill, then measure by measure, then its cost."""
    place = f"{section.title}, hidden by {section.perturbation}"
    own = section.score(section.subject, MEAN_SKILL)
    here = [one for one in skills if (one.protocol, one.perturbation) == (section.key, section.perturbation)]
    sentences = []
    if own is not None and here:
        groups = [
            f"{_WORDS[verdict]} {listed(one.other for one in here if one.verdict == verdict)}"
            for verdict in _ORDER
            if any(one.verdict == verdict for one in here)
        ]
        skill = f"{number(own.mean, 2)} {interval(own.low, own.high, 2)}".strip()
        sentences.append(
            f"On {place} ({_examples(own.examples)}), its mean skill is {skill}, where 0 is a random ranking and 1 the "
            f"best that was found: {'; '.join(groups)}."
        )
    else:
        sentences.append(f"On {place}, it has no mean skill.")
    floor = [one for one in section.comparisons if one.other == FLOOR]
    better = [one for one in floor if one.verdict == "better"]
    sentences.append(f"Measure by measure it is better than random on {len(better)} of {len(floor)}.")
    if not any(one.verdict == "better" for one in here if one.other == FLOOR):
        sentences.append(
            "So these examples do not show that it tells more about the model than a random ranking of the words does."
        )
    return [*sentences, on_cost(section.costs)]


def _examples(count: int) -> str:
    return f"{count:,} example{'s' if count != 1 else ''}"


def _ended(reason: str) -> str:
    """A reason as the end of a sentence."""
    first = reason.strip()
    return first if first.endswith((".", "!", "?")) else f"{first}."


def heading(metric: str) -> str:
    """A measure's name for a table."""
    return title(metric)
