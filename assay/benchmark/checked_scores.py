"""What an explainer has returned, as scores that can be judged, or why there are none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from assay.benchmark.scoring import reason_of
from assay.conversation import Explanation, Feature, Vector
from assay.encoding import Encoding
from assay.errors import Undefined


def regrouped(found: Any, asked: Encoding, wanted: Encoding) -> Any:
    """Scores of tokens summed to those of what the run scores; what is no attribution stays what it is."""
    scores = found.scores if isinstance(found, Explanation) else found
    try:
        of_asked = checked(scores, asked.features)
    except Undefined as reason:
        return reason
    tokens = np.zeros(len(asked.row.ids))
    own = asked.feature_of_token >= 0
    tokens[own] = of_asked[asked.feature_of_token[own]]
    words = wanted.feature_scores(tokens, "sum")
    return replace(found, scores=words) if isinstance(found, Explanation) else words


def checked(scores: Any, features: tuple[Feature, ...]) -> Vector:
    """The scores as an array, [n].

    Raises:
        Undefined: there are none, with the reason; too many, too few, or some that are not finite.
    """
    if isinstance(scores, Exception):
        raise Undefined(reason_of(scores))
    try:
        array = np.asarray(scores, dtype=np.float64).copy()
    except Exception as error:
        raise Undefined(f"the scores are not numbers: {error}") from error
    if array.shape != (len(features),):
        raise Undefined(f"scores of shape {array.shape} for {len(features)} features")
    wrong = np.flatnonzero(~np.isfinite(array))
    if len(wrong):
        raise Undefined(f"the score of feature {wrong[0]} ({features[wrong[0]].text!r}) is {array[wrong[0]]}")
    return array


def as_json(report: Mapping[str, Any]) -> str | None:
    """What a method says about itself, as text.

    Raises:
        Undefined: it is not made of plain numbers, strings and lists.
    """
    try:
        return json.dumps(report) if report else None
    except (TypeError, ValueError) as error:
        raise Undefined(f"the method's report cannot be kept as JSON: {error}") from error
