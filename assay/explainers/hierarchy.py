"""Neighbouring features joined step by step into groups, and those into larger groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from assay.conversation import Feature, Keep

_ENDS = (".", "?", "!")
_CONNECTORS = ("but", "and", "or")
_ACROSS_END, _ACROSS_COMMA, _BESIDE_CONNECTOR, _BEFORE_MARK = 20, 10, 2, 1


@dataclass(frozen=True)
class Group:
    """Neighbouring features.

    Attributes:
        members: their indices.
        halves: the two groups that it was joined from; none for a single feature.
    """

    members: NDArray[np.intp]
    halves: tuple[Group, ...] = ()

    def joined(self, around: Keep) -> Keep:
        """A keep-mask with the group visible too."""
        keep = around.copy()
        keep[self.members] = True
        return keep


def group_neighbours(features: Sequence[Feature]) -> Group:
    """The tree of groups, always joining the two neighbours with the least distance; of equals, the first."""
    groups = [Group(np.array([index], dtype=np.intp)) for index in range(len(features))]
    while len(groups) > 1:
        distances = [_distance(features, *pair) for pair in pairwise(groups)]
        first = int(np.argmin(distances))
        pair = (groups[first], groups[first + 1])
        groups[first : first + 2] = [Group(np.concatenate([half.members for half in pair]), pair)]
    return groups[0]


def _distance(features: Sequence[Feature], left: Group, right: Group) -> float:
    """How late two neighbouring groups are to be joined."""
    last, first = features[left.members[-1]], features[right.members[0]]
    if last.segment != first.segment:
        return float("inf")
    distance = len(left.members) + len(right.members)
    for marks, across in (((",",), _ACROSS_COMMA), (_ENDS, _ACROSS_END)):
        if last.text in marks:
            distance += across
        if first.text in marks:
            distance += across if len(right.members) > 1 else _BEFORE_MARK
    if last.text in _CONNECTORS or first.text in _CONNECTORS:
        distance += _BESIDE_CONNECTOR
    return float(distance)
