"""An example as one model reads it: token ids, segment ids, and which feature each token belongs to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from assay.conversation import Feature, generator
from assay.errors import AssayError
from assay.example import Example, word_spans
from assay.rows import Ids as Ids
from assay.rows import Row as Row

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

FeatureUnit = Literal["word", "token"]
Output = Literal["probability", "logit", "log_probability"]
Subwords = Literal["sum", "mean", "max", "first"]


@dataclass(frozen=True)
class Encoding:
    """An example as one model reads it.

    Attributes:
        id: the example's id.
        row: the full input.
        feature_of_token: [tokens], the index of the feature that a token belongs to, -1 for special tokens.
        features: the n features that can be hidden; words whose tokens were all cut off are not among them.
        words: [n], the place of each feature's word among the words of its text.
        truncated: how many tokens were cut off because the text is longer than the model reads.
    """

    id: str
    row: Row
    feature_of_token: NDArray[np.intp]
    features: tuple[Feature, ...]
    words: tuple[int, ...]
    truncated: int = 0

    @property
    def n(self) -> int:
        """The number of features."""
        return len(self.features)

    def feature_scores(self, token_scores: NDArray[np.floating], subwords: Subwords) -> NDArray[np.float64]:
        """The scores of the features, [n], from those of their tokens, [tokens].

        Args:
            token_scores: [tokens]; those of special tokens are ignored.
            subwords: `sum`, `mean`, `max` (the score of the largest magnitude, with its sign) or `first`.
        """
        (tokens,) = np.nonzero(self.feature_of_token >= 0)
        features, scores = self.feature_of_token[tokens], token_scores[tokens].astype(np.float64)
        found = np.zeros(self.n)
        if subwords in ("sum", "mean"):
            np.add.at(found, features, scores)
            return found / np.bincount(features, minlength=self.n) if subwords == "mean" else found
        # What is written last stays: the largest magnitude, or the first token.
        order = np.argsort(np.abs(scores), kind="stable") if subwords == "max" else np.arange(len(tokens))[::-1]
        found[features[order]] = scores[order]
        return found

    def rationale(self, example: Example, target: int | None = None) -> NDArray[np.bool_] | None:
        """[n], True for the features that truly decide; a token counts when its word does. None if unknown.

        Args:
            example: the example that was encoded.
            target: the class that is explained; None for the example's label.
        """
        words = example.rationale_of(target)
        return None if words is None else np.array(self._of_words(words), dtype=np.bool_)

    def highlights(self, example: Example) -> NDArray[np.float64] | None:
        """[annotators, n], 1 for the features that a person marked, 0 for the others; None if nobody was asked.

        NaN where the text was not put before that person. A token counts as its word.
        """
        if example.highlights is None:
            return None
        return np.array([self._of_words(annotator) for annotator in example.highlights], dtype=np.float64)

    def _of_words(self, given: Sequence[Sequence[int] | None]) -> list[float]:
        """What is known of each feature's word, [n]; NaN in a text of which nothing is."""
        parts = [given[feature.segment] for feature in self.features]
        return [np.nan if part is None else part[word] for part, word in zip(parts, self.words, strict=True)]


@dataclass(frozen=True)
class Batch:
    """Encodings of several examples as tensors on the model's device.

    Attributes:
        input_ids: [batch, tokens].
        attention_mask: [batch, tokens], 1 for real tokens, or None where no row is padded.
        token_type_ids: [batch, tokens], or None where the model has no segments.
        feature_of_token: [batch, tokens], the index of the feature that a token belongs to, -1 for padding and special
            tokens.
        output: the model's output that is explained.
        foil: [batch], the class that the target is contrasted with: its output is taken off; None without a contrast.
        rngs: one random generator a row, seeded by the seed, the example and the method. All that is random in a row
            is drawn from its own, so that it depends neither on the other rows nor on padding.
        tokens_per_pass: how many tokens the rows of one pass may hold together where a method makes copies of a batch.
        memo: what has been computed for this batch and is shared among methods.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    token_type_ids: Tensor | None
    feature_of_token: Tensor
    output: Output = "probability"
    foil: Tensor | None = None
    rngs: tuple[np.random.Generator, ...] = ()
    tokens_per_pass: int = 4096
    memo: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def eligible(self) -> Tensor:
        """[batch, tokens], True for tokens that belong to a feature; False for padding and special tokens."""
        return self.feature_of_token >= 0

    @property
    def lengths(self) -> list[int]:
        """The number of tokens in each row, special tokens included, padding not."""
        if self.attention_mask is None:
            return [self.input_ids.shape[1]] * len(self.input_ids)
        lengths: list[int] = self.attention_mask.sum(1).tolist()
        return lengths

    @property
    def model_inputs(self) -> dict[str, Tensor]:
        """What the model takes beside the token ids or their embeddings."""
        inputs = {"attention_mask": self.attention_mask, "token_type_ids": self.token_type_ids}
        return {name: value for name, value in inputs.items() if value is not None}


def make_batch(
    encodings: Sequence[Encoding],
    padding_id: int = 0,
    device: str = "cpu",
    output: Output = "probability",
    rngs: Sequence[np.random.Generator] = (),
    tokens_per_pass: int = 4096,
) -> Batch:
    """Put encodings into one batch; shorter ones are padded on the right, and only then is there an attention mask.

    Without `rngs`, each row's random numbers hang on its example's id alone.
    """
    import torch

    lengths = [len(encoding.row.ids) for encoding in encodings]
    shape = (len(encodings), max(lengths))
    ids = np.full(shape, padding_id, dtype=np.int64)
    segments = np.zeros(shape, dtype=np.int64)
    features = np.full(shape, -1, dtype=np.int64)
    for index, (encoding, length) in enumerate(zip(encodings, lengths, strict=True)):
        ids[index, :length] = encoding.row.ids
        features[index, :length] = encoding.feature_of_token
        if encoding.row.segments is not None:
            segments[index, :length] = encoding.row.segments
    mask = np.arange(shape[1])[None, :] < np.array(lengths)[:, None]
    has_segments = encodings[0].row.segments is not None

    def tensor(array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(device)

    return Batch(
        input_ids=tensor(ids),
        attention_mask=None if mask.all() else tensor(mask.astype(np.int64)),
        token_type_ids=tensor(segments) if has_segments else None,
        feature_of_token=tensor(features),
        output=output,
        rngs=tuple(rngs) or tuple(generator(0, encoding.id) for encoding in encodings),
        tokens_per_pass=tokens_per_pass,
    )


def encode(
    example: Example,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    feature: FeatureUnit = "word",
    takes_segments: bool = True,
) -> Encoding:
    """Tokenise an example, cut it off as the tokenizer does where it is too long, and find its features.

    A token belongs to the word that its characters stand in, so this holds for WordPiece, byte-level BPE and
    SentencePiece alike, and the words of a pair's two texts stay apart.

    Raises:
        AssayError: a tokenizer that does not report character offsets, or an unknown feature unit.
    """
    check_encodable(tokenizer, feature)
    call = {"return_offsets_mapping": True, "return_attention_mask": False, "verbose": False}
    with settings_kept(tokenizer):
        encoded = tokenizer(*example.text, **call)
        full_length = len(encoded["input_ids"])
        if full_length > max_length:
            encoded = tokenizer(*example.text, truncation=True, max_length=max_length, **call)
    ids = np.array(encoded["input_ids"], dtype=np.int64)
    sequence_of_token = encoded.sequence_ids(0)
    segments = encoded.get("token_type_ids") if takes_segments else None

    places = [
        None if sequence is None else (sequence, start, end)
        for sequence, (start, end) in zip(sequence_of_token, encoded["offset_mapping"], strict=True)
    ]
    row = Row(ids, None if segments is None else np.array(segments, dtype=np.int64))
    return find_features(example, row, places, tokenizer, feature, truncated=max(0, full_length - len(ids)))


Place = tuple[int, int, int]  # which of an example's texts a token stands in, and its first and last + 1 character


def find_features(
    example: Example,
    row: Row,
    places: Sequence[Place | None],
    tokenizer: PreTrainedTokenizerBase | None = None,
    feature: FeatureUnit = "word",
    truncated: int = 0,
) -> Encoding:
    """Find the features of an example from where its tokens stand.

    Args:
        example: the texts.
        row: the model's input.
        places: for each token of it where it stands, None for a token that can never be hidden.
        tokenizer: what made the tokens; only features that are tokens are named by it.
        feature: what is scored and hidden.
        truncated: how many tokens were cut off.
    """
    spans = [word_spans(text) for text in example.text]
    feature_of_token = np.full(len(row.ids), -1, dtype=np.intp)
    features: list[Feature] = []
    words: list[int] = []
    index_of_key: dict[tuple[int, int], int] = {}
    tokens_seen = [0, 0]
    for token, place in enumerate(places):
        if place is None or not spans[place[0]]:
            continue
        sequence, start, end = place
        word = _word_at(spans[sequence], start, end)
        position = word
        if feature == "token":
            position = tokens_seen[sequence]
            tokens_seen[sequence] += 1
        key = (sequence, position)
        if key not in index_of_key:
            index_of_key[key] = len(features)
            first, last = spans[sequence][word]
            name = example.text[sequence][first:last]
            if feature == "token":
                assert tokenizer is not None
                name = str(tokenizer.convert_ids_to_tokens(int(row.ids[token])))
            features.append(Feature(name, sequence, position))
            words.append(word)
        feature_of_token[token] = index_of_key[key]
    return Encoding(example.id, row, feature_of_token, tuple(features), tuple(words), truncated)


def check_encodable(tokenizer: PreTrainedTokenizerBase, feature: FeatureUnit) -> None:
    """Check what finding features needs.

    Raises:
        AssayError: a tokenizer that does not report character offsets, or an unknown feature unit.
    """
    if feature not in ("word", "token"):
        raise AssayError(f"Unknown feature unit {feature!r}. Known: token, word.")
    if not tokenizer.is_fast:
        raise AssayError(
            f"{type(tokenizer).__name__} does not report which characters a token stands for. "
            "Assay needs a fast tokenizer (a tokenizer.json beside the model)."
        )


@contextmanager
def settings_kept(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Put back how the tokenizer truncates and pads, which each call sets for good and `save_pretrained` would keep."""
    backend = tokenizer.backend_tokenizer
    truncation, padding = backend.truncation, backend.padding
    try:
        yield
    finally:
        if backend.truncation != truncation:
            backend.no_truncation() if truncation is None else backend.enable_truncation(**truncation)
        if backend.padding != padding:
            backend.no_padding() if padding is None else backend.enable_padding(**padding)


def _word_at(spans: Sequence[tuple[int, int]], start: int, end: int) -> int:
    """The word that a token's characters stand in.

    A SentencePiece token may begin with the space before its word, and may be nothing but that space: it then belongs
    to the word that follows, or to the last one.
    """
    # The first word that ends after the token begins; a text may have thousands of words.
    return min(bisect_right(spans, start, key=itemgetter(1)), len(spans) - 1)
