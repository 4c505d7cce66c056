"""The gradient with attention's self-repair, normalisation and the double counting of products taken out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.encoding import Subwords
from assay.explainers.base import WhiteBoxExplainer
from assay.explainers.path_gradients import HiddenBaseline, baseline_token, hidden_embeddings, known_baseline

if TYPE_CHECKING:
    from torch import Tensor

    from assay.classifier import Classifier
    from assay.encoding import Batch


class GradientInteractionModifications(WhiteBoxExplainer):
    """The change from an empty input times a gradient that sees through attention's self-repair.

    score_t = (e_t − b_t) · g_t, with e the word embeddings, b those of the baseline, and g the gradient of the target's
    output with three changes to its way back (GIM; Edin et al. 2025):

    - Through an attention softmax it goes as if the scores were divided by `temperature`. Where one token holds nearly
      all attention, taking its score away moves attention to another that says the same, and the true gradient, like
      an ablation of one part, finds neither of them important (self-repair).
    - The statistic that a LayerNorm or RMSNorm divides by is a constant (`freeze_norms`).
    - A product of two activations hands each of them half of the gradient (`divide_products`), so that together they
      get no more than the product is worth: queries and keys, attention weights and values, and the gate of a
      feed-forward layer. Queries and keys so get a quarter in all, values a half.

    The package `gim-explain` (0.1.4) changes softmaxes in the open and the products of the fused attention, each where
    it finds it, and so never both in one pass, and leaves gates alone; here all changes hold wherever the model
    computes them. Its baseline is the space token; that of a classifier is what stands for a hidden word. The scores do
    not sum to a difference of outputs. Signed, in units of the output. Cost: one row forward and one backward.

    Args:
        temperature: what attention scores are divided by on the way back.
        freeze_norms: whether normalising statistics are constants.
        divide_products: whether a product of activations shares its gradient among them.
        baseline: `mask`, `pad` or `zero`, as in `integrated_gradients`.
        subwords: how token scores become a word's.

    Raises:
        ValueError: a temperature that is not above 0, or an unknown baseline.
    """

    attention_copies = 4.0

    def __init__(
        self,
        temperature: float = 2.0,
        freeze_norms: bool = True,
        divide_products: bool = True,
        baseline: HiddenBaseline = "mask",
        subwords: Subwords = "sum",
    ) -> None:
        super().__init__(subwords)
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature must be above 0, not {temperature!r}")
        self.temperature = temperature
        self.freeze_norms = freeze_norms
        self.divide_products = divide_products
        self.baseline = known_baseline(baseline)

    def check(self, model: Classifier) -> None:
        """Whether the tokenizer has what the baseline puts in place of words.

        Raises:
            AssayError: it has not.
        """
        baseline_token(model, self.baseline)

    def attribute(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """The change of the embeddings times the changed gradient, [batch, tokens]."""
        import torch

        from assay.explainers.propagation import Propagation

        settings = self

        class Modified(Propagation):
            """The three changes, as rules for one pass."""

            def attention(self, scores: Tensor, weights: Tensor) -> Tensor:
                tempered = settings.temperature * (scores / settings.temperature).softmax(-1)
                return weights.detach() + (tempered - tempered.detach()).to(weights.dtype)

            def product(self, outputs: Tensor, activations: int) -> Tensor:
                return _halved(outputs) if settings.divide_products and activations == 2 else outputs

            def gate(self, left: Tensor, right: Tensor) -> Tensor:
                return self.product(left * right, 2)

            def factor(self, factor: Tensor) -> Tensor:
                return factor.detach() if settings.freeze_norms else factor

        full = model.embeddings(batch)
        with torch.enable_grad(), Modified(model.model):
            leaf = full.clone().requires_grad_()
            output = model.output(batch, target, leaf).sum()
        (gradient,) = torch.autograd.grad(output, leaf)
        return ((full - hidden_embeddings(model, batch, self.baseline)) * gradient).sum(-1)


def _halved(values: Tensor) -> Tensor:
    """The same values with half of their gradient."""
    return values.detach() + (values - values.detach()) / 2
