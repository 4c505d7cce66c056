"""What is declared to share a probe is held against the questions that explainers and metrics really ask."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from assay import registry
from assay.conversation import Conversation, Keep, Soften
from assay.errors import Undefined
from assay.explainers.base import BlackBoxExplainer
from assay.leaderboard.probes import WORDS, asked_by_explainer, asked_by_metric, shared
from assay.metrics.base import Metric
from tests.conversations import SetFunction, answers, make_case, softened, table
from tests.leaderboard.synthetic import protocol, write_cell
from tests.metrics.judging import case_for, random_sets, two_classes

N = 11
# An output that falls with every feature hidden, for each by another amount.
FUNCTION = table(0.05 + 0.9 * np.sort(random_sets(N)))
# These ask with tokens drawn by a language model, or on a hierarchy of their own, as their docstrings say.
OWN_INPUTS = {"olm", "reagent", "trans_shap", "anchors", "idf"}


def black_boxes() -> list[str]:
    found = []
    for name in registry.names("explainer"):
        cls = registry.locate(registry.settings("explainer", name)["_target_"])
        if issubclass(cls, BlackBoxExplainer) and cls.asks and not cls.searches:
            found.append(name)
    return found


def metrics() -> Iterable[tuple[str, dict[str, Any]]]:
    for name in registry.names("metric"):
        yield name, registry.settings("metric", name)
    for path in sorted((registry.CONF / "protocol").glob("*.yaml")):
        preset = yaml.safe_load(path.read_text("utf-8")).get("preset") or {}
        for name, settings in (preset.get("metrics") or {}).items():
            yield f"{path.stem}: {name}", settings


def rounds(conversation: Conversation[Any], function: SetFunction) -> list[Keep | Soften]:
    """All that a conversation asks, until it returns or finds that nothing is defined."""
    asked = []
    with suppress(StopIteration, Undefined):
        asked.append(next(conversation))
        while True:
            asked.append(conversation.send(answers(softened(function, asked[-1]))))
    return asked


def hidden(asked: Iterable[Keep | Soften]) -> set[tuple[int, ...]]:
    """Which features were hidden in each question, by place; a softened input hides none."""
    keeps = np.concatenate([keep for keep in asked if not isinstance(keep, Soften)] or [np.ones((0, N), np.bool_)])
    return {tuple(np.flatnonzero(~keep).tolist()) for keep in keeps}


@pytest.mark.parametrize("name", black_boxes())
def test_every_explainer_that_hides_features_has_its_probes_declared(name: str) -> None:
    assert asked_by_explainer(registry.settings("explainer", name))


@pytest.mark.parametrize("name", sorted(set(black_boxes()) - OWN_INPUTS))
def test_an_explainer_asks_what_is_declared(name: str) -> None:
    probes = asked_by_explainer(registry.settings("explainer", name))
    asked = hidden(rounds(registry.build("explainer", name).converse(make_case(N)), FUNCTION))
    if "one" in probes:
        assert {(place,) for place in range(N)} <= asked
    if "path" in probes:
        assert any(set(one) < set(other) for one in asked for other in asked if len(one) == len(other) - 1 > 1)
    if "random" in probes:
        assert len(asked) > 3 * N
        assert len({len(one) for one in asked}) > 3


@pytest.mark.parametrize(("name", "settings"), list(metrics()))
def test_a_metric_asks_what_is_declared(name: str, settings: dict[str, Any]) -> None:
    metric = registry.instantiate(settings)
    if not isinstance(metric, Metric):
        pytest.skip("judges a method, and asks what that asks")
    scores = np.random.default_rng(1).permutation(np.linspace(-1, 2, N))
    asked = hidden(rounds(metric.converse(case_for(list(scores), label=1)), two_classes(FUNCTION)))
    probes = {probe for measure in metric.measures for probe in asked_by_metric(settings, measure.name)}
    ranking = np.argsort(-scores).tolist()
    first = {tuple(sorted(ranking[:size])) for size in range(1, N)}
    last = {tuple(sorted(ranking[size:])) for size in range(1, N)}
    assert ("one" in probes) <= any(len(one) == 1 for one in asked)
    assert ("path" in probes) <= bool(first & asked)
    assert ("random" in probes) <= bool(asked - first - last - {(), tuple(range(N))})
    if not probes and name != "naopc: sufficiency":  # which searches for its limits, of sets of all kinds
        assert not first & asked


def test_leave_one_out_shares_the_probe_of_comprehensiveness_under_its_own_perturbation_alone(tmp_path: Path) -> None:
    both = {"mask": {"_target_": "assay.perturbation.Mask"}, "delete": {"_target_": "assay.perturbation.Delete"}}
    settings = {"_target_": "assay.explainers.perturbation.LeaveOneOut", "unit": "feature", "window": 3}
    cell = write_cell(tmp_path, "leave_one_out", protocol(examples=3, perturbations=both), 0.7, settings=settings)
    cell.meta["explainer"]["perturbation"] = "mask"  # type: ignore[index]
    assert shared(cell, "comprehensiveness", "mask") == WORDS["one"]
    assert shared(cell, "tau_loo", "mask") == WORDS["one"]
    assert shared(cell, "sufficiency", "mask") == ""
    assert shared(cell, "comprehensiveness", "delete") == ""
    assert asked_by_explainer({**settings, "unit": "sentence"}) == ()


def test_what_searches_for_a_metric_shares_its_probe_and_a_reader_of_attention_none(tmp_path: Path) -> None:
    about = protocol(examples=3)
    assert shared(write_cell(tmp_path, "oracle", about, 1.0), "deletion", "mask") == WORDS["search"]
    settings = {"_target_": "assay.explainers.attention.Attention"}
    assert shared(write_cell(tmp_path, "attention", about, 0.2, settings=settings), "deletion", "mask") == ""
