"""An attribution as a file holds it: the example's id, each feature by its text and place, and its score."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from assay.conversation import Attribution, Feature
from assay.encoding import FeatureUnit
from assay.errors import AssayError, near_matches

# What a file may hold is capped, so that a hostile one costs neither memory nor a reader's patience. A link of a
# thousand letters is a word; a megabyte is none.
MOST_LETTERS = 10_000
MOST_FEATURES = 20_000
MOST_SETTINGS = 20_000
MOST_REASON = 2_000
MOST_LINE = 2**24
MOST_BYTES = 2**29

Text = Annotated[str, Field(min_length=1, max_length=MOST_LETTERS)]
Name = Annotated[str, Field(min_length=1, max_length=1_000)]
Segment = Annotated[int, Field(ge=0, le=1)]
Position = Annotated[int, Field(ge=0)]
Score = Annotated[float, Field(allow_inf_nan=False)]


class StoredAttribution(BaseModel):
    """The attribution of one example, as a file holds it.

    Attributes:
        id: the example's id in its task.
        features: the n words as written, or tokens as the tokenizer names them, without special tokens.
        segments: [n], the text that each stands in: 0, or 1 for the second text of a pair. Left out: all 0.
        positions: [n], its place among the words (or tokens) of that text, from 0. Left out: counted as they stand.
        scores: [n], finite; null where the method gave no attribution, and then there is a `reason`.
        target: the name of the class that is explained; null where that is not known.
        signed: whether the sign of a score has a meaning (positive = speaks for the target).
        unit: what the features are, `word` or `token`.
        method: the name of the method.
        settings: those of the method, for a reader.
        reason: why there is no attribution.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: Name
    features: Annotated[tuple[Text, ...], Field(max_length=MOST_FEATURES)] = ()
    segments: Annotated[tuple[Segment, ...], Field(max_length=MOST_FEATURES)] = ()
    positions: Annotated[tuple[Position, ...], Field(max_length=MOST_FEATURES)] = ()
    scores: Annotated[tuple[Score, ...], Field(max_length=MOST_FEATURES)] | None
    target: Name | None = None
    signed: bool = True
    unit: Literal["word", "token"] = "word"
    method: Name | None = None
    settings: dict[str, JsonValue] | None = None
    reason: Annotated[str, Field(min_length=1, max_length=MOST_REASON)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: object) -> object:
        """Put in the places that are left out."""
        if not isinstance(given, Mapping):
            return given
        filled = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        features = filled.get("features")
        if not isinstance(features, tuple):
            return filled
        segments = filled.setdefault("segments", (0,) * len(features))
        if "positions" not in filled and isinstance(segments, tuple):
            seen: Counter[str] = Counter()
            positions = []
            for segment in map(repr, segments):
                positions.append(seen[segment])
                seen[segment] += 1
            filled["positions"] = tuple(positions)
        return filled

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.scores is None) != (self.reason is not None):
            raise ValueError("there must be scores, or else a reason why there are none")
        lengths = {"segments": len(self.segments), "positions": len(self.positions)}
        if self.scores is not None:
            if not self.features:
                raise ValueError("there are no features; without any, scores are null and there is a reason")
            lengths["scores"] = len(self.scores)
        for name, length in lengths.items():
            if length != len(self.features):
                raise ValueError(f"{len(self.features)} features and {length} {name}; there must be as many of each")
        places = Counter(zip(self.segments, self.positions, strict=True))
        for (segment, position), count in places.items():
            if count > 1:
                raise ValueError(f"two features stand at segment {segment}, position {position}")
        if self.settings is not None and len(json.dumps(self.settings)) > MOST_SETTINGS:
            raise ValueError(f"the settings have more than {MOST_SETTINGS:,} letters")
        return self

    @classmethod
    def of(
        cls,
        id: str,
        attribution: Attribution,
        labels: Sequence[str],
        unit: FeatureUnit = "word",
        method: str | None = None,
        settings: Mapping[str, JsonValue] | None = None,
    ) -> StoredAttribution:
        """An attribution that was made here, to be written.

        Args:
            id: the example's id in its task.
            attribution: the scores.
            labels: the names of the model's classes.
            unit: what the features are.
            method: the name of the method.
            settings: those of the method.
        """
        return cls(
            id=id,
            features=tuple(feature.text for feature in attribution.features),
            segments=tuple(feature.segment for feature in attribution.features),
            positions=tuple(feature.position for feature in attribution.features),
            scores=tuple(float(score) for score in attribution.scores),
            target=labels[attribution.target],
            signed=attribution.signed,
            unit=unit,
            method=method,
            settings=None if settings is None else dict(settings),
        )

    @property
    def scored(self) -> dict[Feature, float]:
        """The score of each feature; empty where there is no attribution."""
        places = zip(self.features, self.segments, self.positions, strict=True)
        return {Feature(*place): score for place, score in zip(places, self.scores or (), strict=False)}


def fingerprint(attributions: Iterable[StoredAttribution]) -> str:
    """A name for attributions: the same for equal content, whatever the files and the order that they came in."""
    lines = sorted(
        json.dumps(
            [
                one.model_dump(exclude={"features", "segments", "positions", "scores"}),
                sorted((place.segment, place.position, place.text, score) for place, score in one.scored.items()),
            ],
            sort_keys=True,
        )
        for one in attributions
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def by_method(attributions: Sequence[StoredAttribution], method: str | None, where: str) -> list[StoredAttribution]:
    """The attributions of one method.

    Args:
        attributions: of one or several methods.
        method: its name; None for the only one.
        where: what holds them, for messages.

    Raises:
        AssayError: there is no such method, or there are several and none is named, or it is signed in part.
    """
    known = list(dict.fromkeys(one.method for one in attributions))
    if method is None and len(known) > 1:
        some = ", ".join("(unnamed)" if name is None else shown(name) for name in known[:10])
        raise AssayError(f"{where} holds attributions of {len(known)} methods; name one as method=...: {some}.")
    if method is not None and method not in known:
        names = [name for name in known if name is not None]
        hint = near_matches(method, names) if names else "Its attributions name no method; leave method out."
        raise AssayError(f"{where} holds no attributions of the method {shown(method)}. {hint}")
    chosen = [one for one in attributions if method is None or one.method == method]
    kinds = {(one.signed, one.unit) for one in chosen if one.scores is not None}
    if len(kinds) > 1:
        several = len({signed for signed, _ in kinds}) > 1
        raise AssayError(
            f"{where} mixes {'signed with unsigned scores' if several else 'words with tokens'}; all attributions of a "
            "method must be alike in `signed` and in `unit`."
        )
    return chosen


def shown(text: str) -> str:
    """Text of a file inside a message: quoted, clipped, and without anything that steers a terminal."""
    return repr(text if len(text) <= 60 else f"{text[:59]}…")


def explained(error: ValidationError, known: Iterable[str]) -> str:
    """What the first fault is, with near matches for an unknown key."""
    fault = error.errors(include_url=False, include_input=True)[0]
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"unknown key {shown(place)}. {near_matches(place[:60], known)}"
    if fault["type"] == "missing":
        return f"{place} is missing."
    message = str(fault["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    given = fault.get("input")
    simple = isinstance(given, str | int | float) and fault["type"] != "value_error"
    told = f", not {shown(str(given))}" if simple else ""
    if fault["type"] == "finite_number":
        told += '. Without an attribution, "scores" are null (or the score is empty) and there is a reason'
    return f"{place}: {message}{told}." if place else f"{message}."


def no_text(error: UnicodeDecodeError) -> str:
    """What to say of bytes that are no text."""
    return f"byte {error.start} is not UTF-8. Attributions are plain text in UTF-8; compressed files are not read."
