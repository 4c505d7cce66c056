"""DeepLIFT: multipliers between the input and a baseline in place of the gradient, operation by operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.conversation import Explanation
from assay.encoding import Subwords
from assay.explainers.base import WhiteBoxExplainer
from assay.explainers.passes import every_row, parts, take
from assay.explainers.path_gradients import HiddenBaseline, baseline_token, hidden_embeddings, known_baseline

if TYPE_CHECKING:
    from torch import Tensor

    from assay.classifier import Classifier
    from assay.encoding import Batch


class DeepLift(WhiteBoxExplainer):
    """The change of the output traced back to the words, by how much each operation hands on of a change.

    score_t = (e_t − b_t) · m_t, with e the word embeddings, b those of the baseline and m the multiplier of the
    target's output: the chain rule with a slope Δy / Δx between the baseline's value and the real one in place of each
    derivative (Shrikumar, Greenside & Kundaje 2017, the rescale rule). Where a slope is 0 / 0 it is the derivative. The
    paper has rules for functions of one number and for linear layers. A transformer also multiplies activations:

    - The change of a product is shared evenly: Δ(ab) = Δa · (b + b₀) / 2 + Δb · (a + a₀) / 2, the Shapley value of its
      two factors. This is the rule for queries and keys, attention weights and values, and gates.
    - A softmax is exp(x − log Σ exp(x)), and a LayerNorm is the centred state times the reciprocal of its standard
      deviation; the rules above hold for their parts.

    So each rule hands on the whole change, and the scores of an example sum to f(x) − f(baseline) up to rounding; what
    they miss it by is the report's `completeness_error`. It also shows an operation that no rule is known for, which
    then passes the gradient (max pooling, for one). captum's DeepLift knows activation modules and softmax modules
    only, and passes the gradient through all that a transformer computes by functions. Where a baseline's state is
    zero under a normalisation with nothing added (an untrained hidden token in LLaMA or Qwen2, the `zero` baseline in
    ModernBERT, DeBERTa v1 and Falcon too), the multipliers have no bound and the scores no meaning; the
    `completeness_error` gives such a case away. Signed, in units of the output. Cost: two rows forward and two
    backward.

    Args:
        baseline: `mask`, `pad` or `zero`, as in `integrated_gradients`.
        subwords: how token scores become a word's.

    Raises:
        ValueError: an unknown baseline.
    """

    def __init__(self, baseline: HiddenBaseline = "mask", subwords: Subwords = "sum") -> None:
        super().__init__(subwords)
        self.baseline = known_baseline(baseline)

    def check(self, model: Classifier) -> None:
        """Whether the tokenizer has what the baseline puts in place of words.

        Raises:
            AssayError: it has not.
        """
        baseline_token(model, self.baseline)

    def attribute(self, model: Classifier, batch: Batch, target: Tensor) -> Explanation:
        """Shares of f(x) − f(baseline), [batch, tokens]."""
        import torch

        from assay.explainers.multipliers import Multipliers

        scores, errors = [], []
        for group in parts(batch, len(batch.input_ids), copies=2):
            some = take(batch, every_row(batch)[group])
            ends = torch.cat([model.embeddings(some), hidden_embeddings(model, some, self.baseline)])
            with torch.enable_grad(), Multipliers():
                leaf = ends.requires_grad_()
                outputs = model.output(some, target[group], leaf)
            at_input, at_start = outputs.chunk(2)
            (multiplier,) = torch.autograd.grad(at_input.sum(), leaf)
            full, empty = ends.detach().chunk(2)
            scores.append(((full - empty) * multiplier.chunk(2)[0]).sum(-1))
            errors.append((scores[-1].sum(-1) - (at_input - at_start).detach()).abs())
        return Explanation(torch.cat(scores), {"completeness_error": torch.cat(errors)})
