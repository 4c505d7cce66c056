"""Which explainers ask the model the same questions as a metric: their scores are read off the metric's own answers.

A probe is a kind of question, told by which features are hidden:

    one     the whole input but for one feature
    path    features hidden one after another from the whole input on, in an order that the answers decide
    random  sets drawn at random, large and small

A metric along a ranking (comprehensiveness, deletion) asks `path`, and `one` as well where it begins with so small a
part that this is one feature of a short text; those that show features alone (sufficiency, insertion) ask neither. A
method that averages over random sets may meet a question of theirs, but its scores hang on hundreds of others: it
shares the probe of metrics that draw sets too, and of no other. Nothing is shared under two perturbations, because the
model then sees different inputs. What is declared here is held against the questions that are really asked by
tests/leaderboard/test_probes.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from assay.benchmark.cell import Cell

WORDS = {
    "one": "one feature hidden at a time",
    "path": "features hidden one after another",
    "random": "random sets hidden",
    "search": "a search for the best score on it",
}

# Explainers that hide features as metrics do, and why; the others ask nothing, or change the inside of the network.
_EXPLAINERS: dict[str, tuple[str, ...]] = {
    "perturbation.LeaveOneOut": ("one",),  # the fall of the output without each feature is its score
    "perturbation.InputReduction": ("one", "path"),  # each step hides what is missed least
    "perturbation.Olm": ("one",),  # as leave-one-out, under fillings of its own
    "perturbation.Rise": ("random",),
    "perturbation.Sobol": ("random",),
    "replacement.ReAGent": ("random",),
    "surrogate.Lime": ("random",),
    "surrogate.TreeSurrogate": ("random",),
    "shapley.KernelShap": ("random",),
    "shapley.PermutationShap": ("random",),
    "shapley.PartitionShap": ("random",),  # groups of neighbours, hidden and alone
    "shapley.ExactShapley": ("random",),  # all sets
    "shapley.Banzhaf": ("random",),
    "shapley.TransShap": ("random",),
    "anchors.Anchors": ("random",),  # what a rule leaves open is drawn
}
_ALONG_A_RANKING = ("one", "path")
_METRICS: dict[str, tuple[str, ...]] = {
    "erasure.Comprehensiveness": _ALONG_A_RANKING,
    "erasure.LogOdds": _ALONG_A_RANKING,
    "curves.Deletion": _ALONG_A_RANKING,
    "curves.MorfLerf": _ALONG_A_RANKING,
    "curves.SymmetricRelevanceGain": _ALONG_A_RANKING,
    "normalised.NormalisedAopc": _ALONG_A_RANKING,
    "flips.DecisionFlipToken": ("one",),
    "flips.DecisionFlipFraction": _ALONG_A_RANKING,
    "correlation.TauLeaveOneOut": ("one",),
    "correlation.Monotonicity": _ALONG_A_RANKING,  # the lowest ranking alone, which is the highest hidden
    "correlation.MonotonicityCorrelation": ("one",),
    "correlation.FaithfulnessEstimate": ("one",),
    "correlation.FaithfulnessCorrelation": ("random",),
    "infidelity.Infidelity": ("random",),
    "fidelity.FFidelity": ("random",),
    "axioms.Symmetry": ("one", "random"),
    "axioms.Missingness": ("random",),
    "diagnosticity.Diagnosticity": _ALONG_A_RANKING,
    "diagnosticity.WinRate": _ALONG_A_RANKING,
    "presets.ferret.AopcComprehensiveness": _ALONG_A_RANKING,
    "presets.ferret.TauLeaveOneOut": ("one",),
    "presets.fmm.AreaBetweenCurves": _ALONG_A_RANKING,
    "presets.fmm.RecursiveAreaBetweenCurves": _ALONG_A_RANKING,
    "presets.ice.NormalisedScoreDrop": _ALONG_A_RANKING,
    "presets.interpreto.Deletion": _ALONG_A_RANKING,
    "presets.naopc.Comprehensiveness": _ALONG_A_RANKING,
}
# The part of the features that a metric may begin with and still ask for one alone: that of a text of ten.
_ONE = 0.1
# Of these metrics, the measures that show the highest ranking features alone.
_ALONE: dict[str, tuple[str, ...]] = {
    "normalised.NormalisedAopc": ("normalised_aopc_sufficiency",),
    "presets.ice.NormalisedScoreDrop": ("nsd_sufficiency", "win_rate", "p_value", "effect_size"),
}


def shared(cell: Cell, measure: str, perturbation: str) -> str:
    """What an explainer asks that a measure asks too, in words; empty where nothing, or nobody knows.

    Args:
        cell: the explainer's.
        measure: one of the cell's.
        perturbation: that the measure hides features by.
    """
    explainer = cell.meta["explainer"]
    if explainer.get("searches"):
        return WORDS["search"]
    if explainer.get("perturbation") != perturbation:
        return ""
    metric = cell.protocol["metrics"].get(cell.meta["measures"][measure]["metric"], {})
    own, others = asked_by_explainer(explainer["settings"]), asked_by_metric(metric, measure)
    return "; ".join(WORDS[probe] for probe in own if probe in others)


def shared_by_any(cell: Cell, measures: Iterable[str], perturbation: str) -> str:
    """What an explainer asks that one of several measures asks too, in words; measures that the cell lacks aside."""
    found = [shared(cell, measure, perturbation) for measure in measures if measure in cell.meta["measures"]]
    return "; ".join(dict.fromkeys(words for one in found if one for words in one.split("; ")))


def asked_by_explainer(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The probes of an explainer, by its class and settings; none where it asks for none, or is not Assay's."""
    if settings.get("unit", "feature") != "feature":
        return ()  # spans and sentences are hidden whole, which no metric does
    return _EXPLAINERS.get(_class(settings, "assay.explainers."), ())


def asked_by_metric(settings: Mapping[str, Any], measure: str) -> tuple[str, ...]:
    """The probes of a metric's measure, by the metric's class and settings."""
    metric = _class(settings, "assay.metrics.")
    shows_alone = settings.get("of") in ("sufficiency", "insertion") or measure in _ALONE.get(metric, ())
    if shows_alone or settings.get("group_size", 1) != 1:
        return ()
    begins = min(settings.get("fractions") or [settings.get("fraction", 0.0)])
    return tuple(probe for probe in _METRICS.get(metric, ()) if probe != "one" or begins <= _ONE)


def _class(settings: Mapping[str, Any], package: str) -> str:
    return str(settings.get("_target_", "")).removeprefix(package)
