"""Stability: does the attribution come out the same under another seed, and for a neighbouring text."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from assay.checks import whole_number
from assay.conversation import Vector, generator
from assay.encoding import Encoding
from assay.errors import Undefined
from assay.metrics.base import Measure, Method, MethodMetric, Scores
from assay.metrics.similarity import for_each, measured, rank_correlation, scores_of

if TYPE_CHECKING:
    from assay.classifier import Classifier

# How many tokens are near enough to stand in for a word.
_NEAREST = 5
_SPELLINGS = 8

# What tokenizers write before a token to say that it begins a word or goes on with one.
_MARK = re.compile("^(##|Ġ|▁)")


class Stability(MethodMetric):
    """Likeness of an example's attributions under other seeds, and to those of neighbouring texts.

    `stability_seeds`: Spearman's ρ between the attributions of the run and of `seeds` other seeds, the mean over all
    pairs. Higher is better, in [−1, 1]. It is 1 for a method that draws nothing, and about 0 for `random`.

    `stability_neighbours`: Spearman's ρ between an example's scores and those of a text in which some words have become
    their neighbours, over the words that stayed; the mean over such texts. Higher is better, in [−1, 1].

    `stability_lipschitz`, stored only: the largest ‖Φ(x) − Φ(x′)‖₂ / ‖x − x′‖₂ over the same texts, x being word
    embeddings (Alvarez-Melis & Jaakkola 2018, over a sample in place of a ball). Lower is better, from 0,
    in units of the score by unit of embedding: for one method on one model alone.

    A neighbour of a word is one of the 5 tokens whose embeddings are nearest to its own by cosine, letters alone, that
    stand at the same place in a word; words of several tokens stay. Which words become which hangs on the seed and the
    example. Texts for which the model predicts another class are left out, as there the attribution should change. The
    method keeps its seed over neighbours. `first` and `random` do not look at words and score 1. Undefined for fewer
    than two features, where all scores are equal, and for the neighbours where no text is left. Cost: `seeds` +
    `neighbours` attributions, and 1 + `neighbours` rows forward.

    Args:
        seeds: how many other seeds.
        neighbours: how many neighbouring texts.
        share: how many of the words become neighbours, at least one.

    Raises:
        ValueError: `seeds` or `neighbours` below 1, or a share outside (0, 1].
    """

    def __init__(self, seeds: int = 2, neighbours: int = 3, share: float = 0.1) -> None:
        self.seeds = whole_number("seeds", seeds, at_least=1)
        self.neighbours = whole_number("neighbours", neighbours, at_least=1)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise ValueError(f"share must lie in (0, 1], not {share!r}")
        self.share = float(share)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Likeness over seeds, likeness over neighbours, and the steepest change among neighbours."""
        return (
            Measure("stability_seeds", "higher", (-1.0, 1.0)),
            Measure("stability_neighbours", "higher", (-1.0, 1.0)),
            Measure("stability_lipschitz", "lower", (0.0, math.inf), headline=False),
        )

    def judge(self, method: Method) -> Sequence[Scores]:
        """Explain with other seeds, and other texts."""
        others = [method.explain(seed=_other_seed(method.seed, number)) for number in range(self.seeds)]
        texts = self._texts(method)
        explained = [
            method.explain(
                encodings=[
                    own if neighbour is None else neighbour.encoding
                    for own, neighbour in zip(method.encodings, row, strict=True)
                ]
            )
            for row in texts
        ]

        def likeness(index: int) -> Scores:
            plain = scores_of(method.attributions[index])

            def over_seeds() -> float:
                drawn = [plain, *(scores_of(found[index]) for found in others)]
                return float(np.mean([rank_correlation(one, other) for one, other in combinations(drawn, 2)]))

            def near() -> list[tuple[_Neighbour, Vector]]:
                known = [(row[index], scores_of(found[index])) for row, found in zip(texts, explained, strict=True)]
                pairs = [(neighbour, scores) for neighbour, scores in known if neighbour is not None]
                if not pairs:
                    raise Undefined("no neighbouring text has the same prediction")
                return pairs

            def over_neighbours() -> float:
                return float(
                    np.mean([rank_correlation(plain[one.stayed], scores[one.stayed]) for one, scores in near()])
                )

            def steepest() -> float:
                return max(float(np.linalg.norm(scores - plain)) / one.distance for one, scores in near())

            return measured(
                {
                    "stability_seeds": over_seeds,
                    "stability_neighbours": over_neighbours,
                    "stability_lipschitz": steepest,
                }
            )

        return for_each(self, len(method.examples), likeness)

    def _texts(self, method: Method) -> list[list[_Neighbour | None]]:
        """[neighbours][examples] texts; None for one that has none, or for which the model predicts another class."""
        nearest = _nearest_tokens(method.model, method.encodings)
        texts = [
            [
                _neighbour(
                    method.model, encoding, nearest, self.share, generator(method.seed, encoding.id, "near", number)
                )
                for encoding in method.encodings
            ]
            for number in range(self.neighbours)
        ]
        plain = _predictions(method, method.encodings)
        for row in texts:
            asked = [
                own if neighbour is None else neighbour.encoding
                for own, neighbour in zip(method.encodings, row, strict=True)
            ]
            for index, (before, after) in enumerate(zip(plain, _predictions(method, asked), strict=True)):
                if before != after:
                    row[index] = None
        return texts


@dataclass(frozen=True)
class _Neighbour:
    """A text in which some words are others.

    Attributes:
        encoding: the text as the model reads it.
        stayed: [n], True for the features that are as they were.
        distance: between the word embeddings of the two texts.
    """

    encoding: Encoding
    stayed: NDArray[np.bool_]
    distance: float


def _neighbour(
    model: Classifier,
    encoding: Encoding,
    nearest: Mapping[int, Sequence[int]],
    share: float,
    rng: np.random.Generator,
) -> _Neighbour | None:
    """A neighbour of a text; None where no word of it has any."""
    lengths = np.bincount(encoding.feature_of_token[encoding.feature_of_token >= 0], minlength=encoding.n)
    places = [
        place
        for place, feature in enumerate(encoding.feature_of_token)
        if feature >= 0 and lengths[feature] == 1 and nearest.get(int(encoding.row.ids[place]))
    ]
    if not places:
        return None
    count = min(len(places), max(1, round(share * encoding.n)))
    ids, features = encoding.row.ids.copy(), list(encoding.features)
    stayed = np.ones(encoding.n, dtype=np.bool_)
    for place in sorted(rng.choice(places, size=count, replace=False)):
        ids[place] = rng.choice(nearest[int(ids[place])])
        feature = encoding.feature_of_token[place]
        token = str(model.tokenizer.convert_ids_to_tokens(int(ids[place])))
        features[feature] = replace(features[feature], text=_MARK.sub("", token))
        stayed[feature] = False
    table = model.embedding_table
    distance = float((table[encoding.row.ids.tolist()] - table[ids.tolist()]).norm())
    if distance == 0:
        return None
    return _Neighbour(replace(encoding, row=replace(encoding.row, ids=ids), features=tuple(features)), stayed, distance)


def _nearest_tokens(model: Classifier, encodings: Sequence[Encoding]) -> dict[int, list[int]]:
    """The tokens nearest to each token of some texts; only whole runs of letters have any, and are any."""
    table = model.embedding_table
    words: dict[int, tuple[str, str]] = {}
    special = set(model.tokenizer.all_special_ids)
    for token, text in enumerate(model.tokenizer.convert_ids_to_tokens(range(min(len(model.tokenizer), len(table))))):
        mark = _MARK.match(str(text))
        bare = str(text)[mark.end() if mark else 0 :]
        if token not in special and bare.isalpha():
            words[token] = (mark.group() if mark else "", bare.casefold())
    by_mark: dict[str, list[int]] = defaultdict(list)
    for token, (own_mark, _) in words.items():
        by_mark[own_mark].append(token)
    directions = table / table.norm(dim=1, keepdim=True).clamp(min=1e-12)
    nearest = {}
    for token in sorted({int(token) for encoding in encodings for token in encoding.row.ids} & words.keys()):
        own_mark, own = words[token]
        candidates = by_mark[own_mark]
        closeness = directions[candidates] @ directions[token]
        # A word has few spellings, which are no neighbours of each other.
        order = closeness.topk(min(len(candidates), _NEAREST + _SPELLINGS)).indices.tolist()
        others = [candidates[place] for place in order if words[candidates[place]][1] != own]
        nearest[token] = others[:_NEAREST]
    return nearest


def _predictions(method: Method, encodings: Sequence[Encoding]) -> list[int | None]:
    """The class that the model predicts for each text; None for a text without words."""
    whole = [np.ones((int(encoding.n > 0), encoding.n), dtype=np.bool_) for encoding in encodings]
    answers = method.answer(whole, encodings=encodings)
    return [int(answer[0].argmax()) if len(answer) else None for answer in answers]


def _rng(seed: int, encoding: Encoding, number: int) -> np.random.Generator:
    return generator(seed, encoding.id, "neighbour", number)


def _other_seed(seed: int, number: int) -> int:
    return int(generator(seed, "stability", number).integers(2**31))
