"""How a hidden feature leaves the input. Perturbations edit token ids, never text."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from assay.conversation import Keep, Soften, generator
from assay.encoding import Encoding
from assay.errors import AssayError
from assay.rows import Row, Rows, Stack

if TYPE_CHECKING:
    from assay.classifier import Classifier
    from assay.example import Example


class Perturbation(ABC):
    """Base of all perturbations.

    Attributes:
        draws: how many inputs stand for one keep-mask; the model's outputs are averaged over them.
        background: how many examples of the task's train split it wants to see in `prepare`.
    """

    draws: int = 1
    background: int = 0

    def check(self, model: Classifier) -> None:  # noqa: B027 (most perturbations suit every model)
        """Get ready to hide features from a model.

        Raises:
            AssayError: it cannot be done for this model; the message says what would be right.
        """

    def prepare(  # noqa: B027 (most perturbations need none)
        self, model: Classifier, background: Sequence[Example], seed: int = 0
    ) -> None:
        """Look at examples of the task's train split, once, before the work.

        Args:
            model: the classifier that will be probed.
            background: at most `self.background` examples.
            seed: of the run, for what is drawn at random.
        """

    def hidden_token(self, model: Classifier) -> tuple[str, int] | None:
        """The kind and the id of the token that it writes in place of a hidden one; None where it writes none.

        Raises:
            AssayError: the model's tokenizer has no such token.
        """
        return None

    def hidden_id(self, model: Classifier) -> int:
        """The id of that token, or 0."""
        token = self.hidden_token(model)
        return 0 if token is None else token[1]

    @abstractmethod
    def rows(self, encoding: Encoding, keep: Keep, hidden_id: int) -> Sequence[Row]:
        """The model's inputs, `draws` for each keep-mask, those of one mask next to each other.

        A list of `Row` will do; `Rows` holds many without an object for each. With a single draw, a mask's input hangs
        on that mask alone: the masks of several conversations are handed over together.

        Args:
            encoding: the full input.
            keep: [queries, n], True = the feature stays visible. Special tokens always stay.
            hidden_id: the id of the token that stands for something hidden (`Perturbation.hidden_id`).
        """


def _visible(encoding: Encoding, keep: Keep) -> NDArray[np.bool_]:
    """Which tokens stay, [queries, tokens]."""
    # Special tokens have feature -1 and so read the appended column, which is always True.
    padded = np.concatenate([keep, np.ones((len(keep), 1), dtype=np.bool_)], axis=1)
    visible: NDArray[np.bool_] = padded[:, encoding.feature_of_token]
    return visible


def soften(encoding: Encoding, question: Soften, width: int) -> Rows:
    """Inputs in which each element of a word embedding stays with a chance, `question.draws` for each query.

    Args:
        encoding: the full input.
        question: the chances.
        width: of the model's word embeddings.
    """
    tokens = len(encoding.row.ids)
    embedded = np.empty((len(question.retention) * question.draws, tokens, width), dtype=np.bool_)
    for place, retention in enumerate(question.retention):
        # Alike for every query: did they hang on the chances, the last bit of a score would change all draws.
        rng = generator(question.seed, encoding.id, "soften")
        # Special tokens have feature -1 and so read the appended 1.
        chance = np.append(retention, 1.0)[encoding.feature_of_token]
        for draw in range(question.draws):
            embedded[place * question.draws + draw] = rng.random((tokens, width)) < chance[:, None]
    ids = np.broadcast_to(encoding.row.ids.astype(np.int32), (len(embedded), tokens))
    return Rows.hiding(ids, encoding.row.segments, embedded=embedded)


@dataclass(frozen=True)
class Mask(Perturbation):
    """Each token of a hidden feature becomes the mask token; the length stays.

    A model without a mask token uses its unknown token, then its padding token (`Classifier.hidden_token`).
    """

    def hidden_token(self, model: Classifier) -> tuple[str, int]:
        """The mask token, or what stands in for it."""
        return model.hidden_token

    def rows(self, encoding: Encoding, keep: Keep, hidden_id: int) -> Sequence[Row]:
        """One row of unchanged length for each keep-mask."""
        return Rows.hiding(_written(encoding, _visible(encoding, keep), hidden_id), encoding.row.segments)


@dataclass(frozen=True)
class Unknown(Perturbation):
    """Each token of a hidden feature becomes the unknown token, as of a word that cannot be spelt; the length stays."""

    def hidden_token(self, model: Classifier) -> tuple[str, int]:
        """The unknown token."""
        self.check(model)
        return "unknown", int(model.tokenizer.unk_token_id)

    def check(self, model: Classifier) -> None:
        """See that there is a token that means nothing but an unknown word.

        Raises:
            AssayError: there is none, or it is also what begins or ends a text, as in GPT-2's vocabulary.
        """
        tokenizer = model.tokenizer
        ends = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id)
        if tokenizer.unk_token_id is None or tokenizer.unk_token_id in ends:
            found = "has no unknown token"
            if tokenizer.unk_token_id is not None:
                found = f"has no unknown token of its own: {tokenizer.unk_token!r} also begins or ends a text"
            raise AssayError(
                f"unk writes the unknown token, and {model.name}'s tokenizer {found}; it can spell any word. "
                "Use perturbation=delete, pad or zero_embedding."
            )

    def rows(self, encoding: Encoding, keep: Keep, hidden_id: int) -> Sequence[Row]:
        """One row of unchanged length for each keep-mask."""
        return Rows.hiding(_written(encoding, _visible(encoding, keep), hidden_id), encoding.row.segments)


@dataclass(frozen=True)
class Delete(Perturbation):
    """The tokens of a hidden feature are dropped; the segment ids of the others stay with them, positions close up."""

    def rows(self, encoding: Encoding, keep: Keep, hidden_id: int) -> Sequence[Row]:
        """One row, as long as what stays visible, for each keep-mask."""
        visible = _visible(encoding, keep)
        lengths = visible.sum(axis=1)
        ids, segments = encoding.row.ids.astype(np.int32), encoding.row.segments
        parts = []
        for length in np.unique(lengths):
            places = np.flatnonzero(lengths == length)
            # Which tokens stay, [rows, length].
            stays = np.nonzero(visible[places])[1].reshape(len(places), length)
            parts.append((places, Stack(ids[stays], None if segments is None else segments.astype(np.int32)[stays])))
        return Rows(parts)


@dataclass(frozen=True)
class Pad(Perturbation):
    """The tokens of a hidden feature become padding: the attention mask hides them; the others keep their positions.

    No token attends to a hidden one, and no pooling reads it, so that what stands there does not matter; it is the
    padding token where the model has one. Unlike `delete` it leaves a gap: whoever stood five tokens apart still does.
    A decoder reads the class off the last token that is attended to, as it does with padding.
    """

    def hidden_token(self, model: Classifier) -> tuple[str, int] | None:
        """The padding token, if there is one."""
        token_id = model.tokenizer.pad_token_id
        return None if token_id is None else ("padding", int(token_id))

    def check(self, model: Classifier) -> None:
        """See that the model takes an attention mask and that positions do not hang on it.

        Raises:
            AssayError: it takes none, or counts its positions over what is attended to, as ALiBi is implemented.
        """
        _check_takes(model, "attention_mask", "pad hides words by the attention mask")
        config = model.model.config
        if getattr(config, "alibi", False) or getattr(config, "model_type", None) == "bloom":
            raise AssayError(
                f"pad leaves the other words where they are, but {model.name} ({type(model.model).__name__}) counts "
                "positions (ALiBi) over the attended words alone. Use perturbation=delete, which closes the gap."
            )

    def rows(self, encoding: Encoding, keep: Keep, hidden_id: int) -> Sequence[Row]:
        """One row of unchanged length, with its attention mask, for each keep-mask."""
        visible = _visible(encoding, keep)
        return Rows.hiding(_written(encoding, visible, hidden_id), encoding.row.segments, attended=visible)


@dataclass(frozen=True)
class ZeroEmbedding(Perturbation):
    """The word embeddings of a hidden feature's tokens become zero; their position and segment embeddings stay.

    The hidden tokens are still attended to, as tokens without a meaning. It is what gradient methods with a baseline of
    zero measure against, and an input that no text leads to.
    """

    def check(self, model: Classifier) -> None:
        """See that the model takes embeddings in place of token ids.

        Raises:
            AssayError: it does not.
        """
        _check_takes(model, "inputs_embeds", "zero_embedding hands over word embeddings")

    def rows(self, encoding: Encoding, keep: Keep, hidden_id: int) -> Sequence[Row]:
        """One row of unchanged length, with what becomes of its embeddings, for each keep-mask."""
        visible = _visible(encoding, keep)
        ids = _written(encoding, visible, hidden_id)
        return Rows.hiding(ids, encoding.row.segments, embedded=visible[:, :, None])


def _written(encoding: Encoding, visible: NDArray[np.bool_], hidden_id: int) -> NDArray[np.int32]:
    """Token ids with one and the same in place of every hidden one, [queries, tokens]."""
    return np.where(visible, encoding.row.ids.astype(np.int32), np.int32(hidden_id))


def _check_takes(model: Classifier, argument: str, purpose: str) -> None:
    if argument not in inspect.signature(model.model.forward).parameters:
        raise AssayError(
            f"{purpose}, and {model.name} ({type(model.model).__name__}) takes no {argument}. Use perturbation=delete "
            "or mask."
        )
