"""Explainers that read the attention weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from assay.errors import AssayError
from assay.explainers.base import WhiteBoxExplainer

if TYPE_CHECKING:
    from torch import Tensor

    from assay.classifier import Classifier
    from assay.encoding import Batch, Subwords


class Attention(WhiteBoxExplainer):
    """How much the token that the class is read from attends to each token.

    score_t = A[r, t], with A the attention weights of a layer, averaged over heads, and r the token whose state the
    classification head reads: the first token in an encoder, the last one in a decoder (Bahdanau, Cho & Bengio 2015; on
    its worth as an explanation Jain & Wallace 2019). A word scores the sum over its tokens. It does not depend on the
    target. Unsigned, a share in [0, 1]. Cost: one row forward.

    Args:
        layer: which layer, from 0, negative from the last; or `all` for the mean over layers.
        head: which head, from 0, negative from the last; or `mean` for the mean over heads.

    Raises:
        ValueError: a layer or head that is neither a whole number nor the word.
    """

    signed = False

    def __init__(
        self, layer: int | Literal["all"] = -1, head: int | Literal["mean"] = "mean", subwords: Subwords = "sum"
    ) -> None:
        super().__init__(subwords)
        self.layer = layer if layer == "all" else _place("layer", layer, "all")
        self.head = head if head == "mean" else _place("head", head, "mean")

    def attribute(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """Attention of the token that the class is read from, [batch, tokens].

        Raises:
            AssayError: the model has no such layer or head, or does not report its attention.
        """
        import torch

        with torch.no_grad():
            layers = torch.stack(model.attentions(batch))  # [layers, batch, heads, tokens, tokens]
        if self.layer != "all":
            layers = layers[[_within("layer", self.layer, len(layers), model)]]
        if self.head != "mean":
            layers = layers[:, :, [_within("head", self.head, layers.shape[2], model)]]
        rows = torch.arange(len(batch.input_ids), device=layers.device)
        return layers.mean(dim=(0, 2))[rows, model.read_token(batch)]


def _place(name: str, value: int | str, word: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"{name} must be a whole number or {word!r}, not {value!r}")


def _within(name: str, place: int, count: int, model: Classifier) -> int:
    if not -count <= place < count:
        raise AssayError(
            f"attention.{name}={place}: {model.name} has {count} {name}s, counted 0 to {count - 1} or -{count} to -1."
        )
    return place
