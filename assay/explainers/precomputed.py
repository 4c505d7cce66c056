"""Attributions that any tool made, from files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assay.attribution_files import read_attributions
from assay.conversation import Case, Conversation, Feature, Vector
from assay.errors import AssayError, Undefined
from assay.explainers.base import BlackBoxExplainer
from assay.stored_attributions import StoredAttribution, by_method, fingerprint, shown

if TYPE_CHECKING:
    from assay.classifier import Classifier
    from assay.example import Example

# How many examples a message names.
_NAMED = 3


class Precomputed(BlackBoxExplainer):
    """Attributions from a file, made beforehand by any tool (docs/precomputed.md has the format).

    The file must have one for every example of the run, over the very features that the model reads, by their text and
    place; and where it names the class that is explained, that class. An example that the method could not explain
    stands in the file with a reason, and is counted as undefined. Scores of words serve a run over words. Scores of
    tokens serve both: a word then scores the sum over its tokens. Signed or not as the file says. Cost: unknown, NaN.

    Args:
        path: a `.jsonl`, `.csv` or `.parquet` file, or a folder of them.
        method: whose attributions to take; null for those of the only method in the file.

    Raises:
        AssayError: nothing that can be read, or a method that is not there.
    """

    asks = False
    precomputed = True

    def __init__(self, path: str, method: str | None = None) -> None:
        self.path = str(path)
        attributions = by_method(read_attributions(Path(self.path)), method, repr(self.path))
        self.fingerprint = fingerprint(attributions)
        scored = next((one for one in attributions if one.scores is not None), None)
        if scored is None:
            raise AssayError(f"{self.path!r} has a reason in place of every attribution; there is nothing to judge.")
        self.signed = scored.signed
        self.unit = scored.unit
        # Scores of tokens add up to those of words; those of words cannot be parted again.
        self.feature = "token" if scored.unit == "token" else None
        self._of: defaultdict[str, list[StoredAttribution]] = defaultdict(list)
        for one in attributions:
            self._of[one.id].append(one)
        self._labels: Sequence[str] = ()

    def prepare(self, model: Classifier, background: Sequence[Example]) -> None:
        """Learn the names of the model's classes."""
        self._labels = model.labels

    def check_cases(self, cases: Sequence[Case]) -> None:
        """See that every example has an attribution over its features and for its class.

        Raises:
            AssayError: some have not; the first few are named.
        """
        there = ", ".join(shown(name) for name in list(self._of)[:_NAMED])
        self._refuse(
            "no attribution of",
            cases,
            self._lacking,
            f"It has {len(self._of)} examples, such as {there}. An example that the method cannot explain must stand "
            "in it with a reason.",
        )
        self._refuse(
            "classes that the model does not have in",
            cases,
            self._unknown_class,
            f"The model calls its classes {', '.join(self._labels)}.",
        )
        self._refuse(
            "no attribution for the class that is explained in",
            cases,
            self._other_class,
            "Have the tool explain that class, or set target to the class that it explained.",
        )
        self._refuse(
            "other features than the model reads in",
            cases,
            self._other_features,
            f"Its features are {self.unit}s; they must be those of the run, in reading order and as they are written.",
        )

    def converse(self, case: Case) -> Conversation[Vector]:
        """Ask nothing; return [n], the scores from the file.

        Raises:
            Undefined: there is none for this example, over these features and for this class.
        """
        yield from ()
        for fault in (self._lacking, self._other_class, self._other_features):
            reason = fault(case)
            if reason is not None:
                raise Undefined(reason)
        stored = self._stored(case)
        assert stored is not None
        if stored.reason is not None:
            raise Undefined(stored.reason)
        scores = stored.scored
        return np.array([scores[feature] for feature in case.features], dtype=np.float64)

    def _stored(self, case: Case) -> StoredAttribution | None:
        """The attribution of an example for the class that is explained."""
        wanted = (None, self._labels[case.target]) if self._labels else (None,)
        return next((one for one in self._of.get(case.id, ()) if one.target in wanted), None)

    def _refuse(self, what: str, cases: Sequence[Case], fault: Callable[[Case], str | None], right: str) -> None:
        found = [reason for reason in map(fault, cases) if reason is not None]
        if found:
            more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            raise AssayError(
                f"{self.path!r} has {what} {len(found)} of {len(cases)} examples: {'; '.join(found[:_NAMED])}{more}. "
                f"{right}"
            )

    def _lacking(self, case: Case) -> str | None:
        return None if case.id in self._of else f"{shown(case.id)} is not there"

    def _unknown_class(self, case: Case) -> str | None:
        for one in self._of[case.id]:
            if one.target is not None and one.target not in self._labels:
                return f"{shown(case.id)} is explained for {shown(one.target)}"
        return None

    def _other_class(self, case: Case) -> str | None:
        if self._stored(case) is not None:
            return None
        named = " and ".join(shown(str(one.target)) for one in self._of[case.id])
        return f"{shown(case.id)} is explained for {named}, the run explains {self._labels[case.target]!r}"

    def _other_features(self, case: Case) -> str | None:
        stored = self._stored(case)
        if stored is None or stored.reason is not None:
            return None
        there, wanted = set(stored.scored), set(case.features)
        if there == wanted:
            return None
        return f"{shown(case.id)}: {_difference(there, case.features)}"


def _difference(there: set[Feature], wanted: Sequence[Feature]) -> str:
    """How the features of the file and those of the model differ, by the first that does."""
    place_of = {(feature.segment, feature.position): feature for feature in there}
    for feature in wanted:
        other = place_of.pop((feature.segment, feature.position), None)
        where = f"at segment {feature.segment}, position {feature.position}"
        if other is None:
            return f"{where} stands {shown(feature.text)}, the file has nothing there"
        if other.text != feature.text:
            return f"{where} stands {shown(feature.text)}, the file has {shown(other.text)}"
    extra = min(place_of.values(), key=lambda feature: (feature.segment, feature.position))
    return (
        f"the file has {shown(extra.text)} at segment {extra.segment}, position {extra.position}, where the model "
        "reads nothing (a word that is cut off is none of its features)"
    )
