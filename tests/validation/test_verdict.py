"""The words say what the numbers do, and no more."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assay.validation import verdict
from assay.validation.comparison import Comparison, corrected
from assay.validation.contract import Check
from assay.validation.cost import Cost
from tests.validation.made_up import good_and_bad, made_findings

PLAIN = Comparison(
    protocol="key",
    perturbation="mask",
    metric="comprehensiveness",
    other="lime",
    value=0.5,
    other_value=0.3,
    examples=60,
    dropped=0,
    advantage=0.2,
    low=0.1,
    high=0.3,
    spread=0.25,
    d_z=0.8,
    rank_biserial=0.7,
    p=0.0002,
    wilcoxon=0.0003,
)


def said(*family: Comparison) -> str:
    return verdict.on_measure(corrected(family))


def test_each_verdict_names_the_rival_the_size_the_interval_and_the_corrected_p() -> None:
    worse = replace(PLAIN, other="attention", advantage=-0.1, low=-0.2, high=-0.05, d_z=-0.4, p=0.004)
    assert said(PLAIN, worse) == (
        "On 60 examples: better than lime (+0.200 [0.100, 0.300], d_z 0.80, p < 0.001); "
        "worse than attention (−0.100 [−0.200, −0.050], d_z −0.40, p = 0.004)."
    )


def test_what_is_not_distinguishable_says_what_could_have_been_seen() -> None:
    same = replace(PLAIN, advantage=0.01, low=-0.05, high=0.06, d_z=0.04, p=0.7)
    assert said(same) == (
        "On 60 examples: not distinguishable from lime (+0.010 [−0.050, 0.060], d_z 0.04, p = 0.700, "
        "a difference of 0.092 would have been found 80 % of the time)."
    )
    few = replace(same, examples=8, p=0.3)
    assert "so few examples can show no difference, however large" in said(*[few] * 9)
    assert "the same on every example" in said(replace(same, advantage=0.0, spread=0.0, d_z=math.nan, p=1.0))


def test_different_numbers_of_examples_stand_beside_each_rival_and_no_verdict_has_its_reason() -> None:
    sentence = said(
        PLAIN,
        replace(PLAIN, other="exact", examples=40),
        replace(PLAIN, other="empty", p=math.nan, reason="empty has no value on any example"),
    )
    assert "lime (+0.200 [0.100, 0.300], d_z 0.80, p < 0.001, 60 examples)" in sentence
    assert "exact (+0.200 [0.100, 0.300], d_z 0.80, p < 0.001, 40 examples)" in sentence
    assert sentence.endswith("without a verdict against empty (empty has no value on any example).")
    assert verdict.on_measure([]) == "No verdict: nothing to compare with has a value."


def test_a_good_method_is_called_good_and_a_random_one_not_better_than_random(tmp_path: Path) -> None:
    good = " ".join(verdict.overall(made_findings(tmp_path / "good", good_and_bad(subject=0.45))))
    assert "The contract holds: 1 of 1 checks passed (1 could not be made)." in good
    assert "where 0 is a random ranking and 1 the best that was found: better than lime and random." in good
    assert "Measure by measure it is better than random on 3 of 3." in good
    assert "do not show that it tells more" not in good
    random = " ".join(verdict.overall(made_findings(tmp_path / "random", good_and_bad(subject=0.1))))
    assert "not distinguishable from random; worse than lime." in random
    assert "it is better than random on 0 of 3" in random
    assert "do not show that it tells more about the model than a random ranking of the words does" in random


def test_a_broken_contract_is_the_first_thing_said(tmp_path: Path) -> None:
    checks = [Check("finite", "failed", "nan", 0.1), Check("repeats", "passed", "", 0.0)]
    first, *_ = verdict.overall(made_findings(tmp_path, checks=checks))
    assert first.startswith("The contract does not hold: 1 of 2 checks failed, finite.")
    skipped = made_findings(tmp_path, checks=[Check("finite", "skipped", "the scores come from a file", 0.0)])
    assert verdict.overall(skipped)[0] == "The contract could not be checked: the scores come from a file."


def test_without_an_oracle_there_is_no_mean_skill_and_the_measures_still_have_verdicts(tmp_path: Path) -> None:
    scores = {name: columns for name, columns in good_and_bad(subject=0.45).items() if name != "oracle"}
    said = " ".join(verdict.overall(made_findings(tmp_path, scores)))
    assert "it has no mean skill" in said
    assert "it is better than random on 3 of 3" in said


def test_a_method_without_any_value_gets_no_praise(tmp_path: Path) -> None:
    scores = good_and_bad()
    scores["mine"] = {metric: np.full(40, np.nan) for metric in scores["mine"]}
    said = " ".join(verdict.overall(made_findings(tmp_path, scores)))
    assert "it is better than random on 0 of 3" in said
    assert "do not show" in said


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (50.0, "It takes 50 rows of the model an example, 2 times those of lime."),
        (0.0, "It asks nothing of the model."),
        (math.nan, "What it costs is not known, because the scores come from a file."),
    ],
)
def test_cost_in_words(rows: float, words: str) -> None:
    others = [Cost("lime", 25.0, 1.0, 1.0, rows / 25), Cost("length", 0.0, 0.0, 0.1)]
    assert verdict.on_cost([Cost("mine", rows, 1.0, 1.0), *others]) == words


def test_lists_read_as_sentences() -> None:
    assert verdict.listed(["a"]) == "a"
    assert verdict.listed(["a", "b", "c"]) == "a, b and c"
    assert verdict.listed(["a (1, 2)", "b (3, 4)", "c"]) == "a (1, 2); b (3, 4) and c"
