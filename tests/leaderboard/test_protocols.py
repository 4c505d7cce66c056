"""What protocols fix, and how they differ."""

from __future__ import annotations

from assay.leaderboard.protocols import definition_list, differences, distinct_names, flatten
from tests.leaderboard.synthetic import protocol


def test_differences_are_named_by_dotted_path() -> None:
    first, second = protocol(seed=0), protocol(seed=1, perturbations={"delete": {"_target_": "Delete"}})
    assert differences([first, second]) == {
        "seed": ["0", "1"],
        "perturbations.mask._target_": ["assay.perturbation.Mask", "—"],
        "perturbations.delete._target_": ["—", "Delete"],
    }
    assert differences([first, first]) == {}


def test_a_missing_setting_is_not_an_empty_one() -> None:
    assert differences([{"a": None}, {}]) == {"a": ["none", "—"]}
    assert flatten({"a": {}, "b": {"c": [1, 2]}}) == {"a": {}, "b.c": [1, 2]}


def test_the_definition_list_leaves_nothing_out() -> None:
    text = dict(definition_list(protocol(surprise={"inner": 3})))
    assert text["Fingerprint of the weights"]
    assert text["surprise.inner"] == "3"
    assert "fractions = 0.01, 0.05, 0.5" in text["Metric: comprehensiveness"]


def test_explainers_of_one_name_are_told_apart_by_their_settings() -> None:
    lime = [{"name": "lime", "settings": {"_target_": "Lime", "samples": samples}} for samples in (100, 1000)]
    other = {"name": "first", "settings": {"_target_": "First"}}
    assert distinct_names([*lime, other]) == ["lime (samples=100)", "lime (samples=1000)", "first"]
