"""A model's classes are matched to a task's labels by name, or by position where names say nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.benchmark.labels import LabelMatch, check_accuracy, match_labels
from assay.errors import AssayError

NLI = ("entailment", "neutral", "contradiction")


@pytest.mark.parametrize(
    ("task", "model", "classes"),
    [
        (NLI, ("CONTRADICTION", "Neutral", "entailment"), (2, 1, 0)),
        (("negative", "positive"), ("POSITIVE", "NEGATIVE"), (1, 0)),
        (("not_duplicate", "duplicate"), ("Duplicate", "not duplicate"), (1, 0)),
        (("负面", "正面"), ("正面", "负面"), (1, 0)),
        (("-", "+"), ("+", "-"), (1, 0)),
    ],
)
def test_names_decide_whatever_their_order_case_or_script(
    task: tuple[str, ...], model: tuple[str, ...], classes: tuple[int, ...]
) -> None:
    assert match_labels(task, model) == LabelMatch(classes, by_name=True)


@pytest.mark.parametrize("model", [("LABEL_0", "LABEL_1"), ("0", "1"), ("class 0", "class 1"), ("cat", "dog")])
def test_names_that_say_nothing_of_the_task_leave_the_position(model: tuple[str, ...]) -> None:
    match = match_labels(("negative", "positive"), model)
    assert match == LabelMatch((0, 1), by_name=False)
    said = check_accuracy(0.9, 0.5, match, allowed=False)
    assert said is not None
    assert "0.900" in said


def test_names_that_match_in_part_are_refused() -> None:
    with pytest.raises(AssayError, match="match only some"):
        match_labels(NLI, ("entailment", "neutral", "LABEL_2"))


def test_another_number_of_classes_is_refused() -> None:
    with pytest.raises(AssayError, match=r"3 labels .* the model 2 classes"):
        match_labels(NLI, ("entailment", "contradiction"))


def test_an_accuracy_below_the_largest_class_stops_unless_it_is_allowed() -> None:
    match = match_labels(NLI, NLI)
    with pytest.raises(AssayError, match=r"0\.300, below the 0\.400.*allow_low_accuracy=true"):
        check_accuracy(0.3, 0.4, match, allowed=False)
    assert check_accuracy(0.3, 0.4, match, allowed=True) is None
    assert check_accuracy(0.4, 0.4, match, allowed=False) is None
    assert check_accuracy(math.nan, math.nan, match, allowed=False) is None


@given(st.lists(st.text(min_size=1), min_size=2, max_size=5, unique=True), st.randoms())
def test_every_label_has_a_class_of_its_own(labels: list[str], random: object) -> None:
    shuffled = list(labels)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    match = match_labels(labels, shuffled)
    assert sorted(match.class_of_label) == list(range(len(labels)))
    if match.by_name:
        assert [shuffled[place] for place in match.class_of_label] == labels
