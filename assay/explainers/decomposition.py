"""Explainers that hand the output back, layer by layer, to what it was computed from: relevance propagation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from assay.conversation import Explanation
from assay.eager_attention import eager_attention
from assay.encoding import Output, Subwords
from assay.errors import AssayError
from assay.explainers.base import WhiteBoxExplainer

if TYPE_CHECKING:
    from torch import Tensor

    from assay.classifier import Classifier
    from assay.encoding import Batch
    from assay.explainers.propagation import Propagation


class RelevancePropagation(WhiteBoxExplainer):
    """Base of the methods that hand the logit back to the word embeddings; each is a set of rules."""

    attention_copies = 4.0

    @abstractmethod
    def rules(self, network: Any) -> Propagation:
        """The rules for one pass of a network."""

    def attribute(self, model: Classifier, batch: Batch, target: Tensor) -> Explanation:
        """Relevance of each token's word embedding, [batch, tokens]; what they do not get is `absorbed`."""
        import torch

        scores = torch.zeros(batch.input_ids.shape, device=batch.input_ids.device)
        absorbed = torch.zeros(len(target), device=scores.device)
        for rows, part, aim in _without_padding(batch, target):
            output, embeddings, (gradient,) = _propagate(model, part, aim, self.rules(model.model))
            relevance = (embeddings * gradient).sum(-1)
            scores[rows, : relevance.shape[1]] = relevance
            absorbed[rows] = output - relevance.sum(-1)
        return Explanation(scores, {"absorbed": absorbed})


class LRPZero(RelevancePropagation):
    """The output handed back through each layer in proportion to what every input contributed (LRP-0).

    score_t = Σ_i R_ti over the word embedding of token t, with the relevance R handed back from the target's logit
    through linear layers by R_j = Σ_k a_j w_jk / z_k · R_k, where z_k = Σ_j a_j w_jk + b_k (Bach et al. 2015, eq. 56;
    Montavon et al. 2019). On a network of linear layers and ReLUs this is gradient × input. The parts of a transformer
    that are not linear need a rule of their own:

    - Activations (GELU, SiLU, ReLU, tanh) hand relevance on unchanged.
    - Attention weights, gates (`act(gate) * up`) and the factor by which a layer norm or RMS norm scales are taken for
      constants, so that relevance goes to what they weigh: to the values, not to queries and keys (Arras et al. 2017
      for products; Ali et al. 2022 for norms).

    Relevance is conserved: scores of all tokens, special ones included, and the shares of what is constant (biases,
    position and segment embeddings) sum to the logit, to 1e-5 in float32. The latter are no word's; the report's
    `absorbed` holds them, f(x) − Σ_t score_t. Where contributions cancel, z_k is small and shares of opposite sign grow
    without bound; ε or γ tame that.

    It suits any classifier that is built of these parts in PyTorch. It starts from the logit (under a contrast the
    difference of two), whatever the run's output is, for only there is there something to conserve. A prompted model
    has the log-probability of a label word in place of a logit: the log-softmax hands relevance on by its true
    gradient, to the word's logit and against those of the words that were expected. Signed, in units of
    the logit. Cost: one row forward and one backward.

    Args:
        subwords: how the scores of a word's tokens become the word's; the sum keeps conservation.

    Raises:
        ValueError: an unknown `subwords`.
    """

    def rules(self, network: Any) -> Propagation:
        """The rules for one pass of a network."""
        from assay.explainers.propagation import LayerwiseRelevance

        return LayerwiseRelevance(network)


class LRPEpsilon(RelevancePropagation):
    """The output handed back in proportion to contributions, less where they nearly cancel (LRP-ε).

    score_t = Σ_i R_ti over the word embedding of token t, with R_j = Σ_k a_j w_jk / (z_k + ε sign z_k) · R_k through
    linear layers and through sums weighted by attention, z_k = Σ_j a_j w_jk + b_k (Bach et al. 2015, eq. 58; for text
    Arras et al. 2017, whose ε = 0.001 is the default). Everything else is as in `lrp_0`: activations hand relevance on
    unchanged; attention weights, gates and the factors of norms are constants.

    ε absorbs relevance where contributions are weak or contradict each other. On models of two layers and width 32 the
    default absorbs up to 1 % of the logit, ε = 1e-6 less than 0.01 %. The report's `absorbed`, f(x) − Σ_t score_t, also
    holds the shares of biases, position and segment embeddings.

    Signed, in units of the logit, from which it starts whatever the run's output is. Cost: one row forward and one
    backward.

    Args:
        epsilon: what is added to the size of each denominator; 0 gives `lrp_0`.
        subwords: how the scores of a word's tokens become the word's.

    Raises:
        ValueError: an `epsilon` that is negative or not a number, or an unknown `subwords`.
    """

    def __init__(self, epsilon: float = 1e-3, subwords: Subwords = "sum") -> None:
        super().__init__(subwords)
        self.epsilon = _at_least_zero("epsilon", epsilon)

    def rules(self, network: Any) -> Propagation:
        """The rules for one pass of a network."""
        from assay.explainers.propagation import LayerwiseRelevance

        return LayerwiseRelevance(network, epsilon=self.epsilon)


class LRPGamma(RelevancePropagation):
    """The output handed back with more weight for contributions that agree with their sum (LRP-γ).

    score_t = Σ_i R_ti over the word embedding of token t, with R_j = Σ_k a_j (w_jk + γ w_jk⁺) / Σ_i a_i (w_ik +
    γ w_ik⁺) · R_k through linear layers, where i also runs over the bias (Montavon et al. 2019; γ = 0.25 is theirs).
    That assumes a_j ≥ 0 and z_k > 0, as between ReLUs; in a transformer both have any sign, so contributions
    c_jk = a_j w_jk are favoured that have the sign of z_k: R_j = Σ_k (c_jk + γ c_jk^±) / (z_k + γ Σ_i c_ik^±) · R_k
    (the generalised rule of Andéol et al. 2021). Between ReLUs the two agree. Everything else is as in `lrp_0`:
    activations hand relevance on unchanged; attention weights, gates and the factors of norms are constants.

    Denominators grow where contributions cancel, so that scores stay bounded without an ε, and conserved. γ = 0 gives
    `lrp_0`, a large γ lets only agreeing contributions count. The report's `absorbed`, f(x) − Σ_t score_t, holds the
    shares of biases, position and segment embeddings.

    Signed, in units of the logit, from which it starts whatever the run's output is. Cost: one row forward and one
    backward, in which linear layers take twice the work and keep a copy of their weights until the end.

    Args:
        gamma: how much more the favoured contributions count.
        subwords: how the scores of a word's tokens become the word's.

    Raises:
        ValueError: a `gamma` that is negative or not a number, or an unknown `subwords`.
    """

    def __init__(self, gamma: float = 0.25, subwords: Subwords = "sum") -> None:
        super().__init__(subwords)
        self.gamma = _at_least_zero("gamma", gamma)

    def rules(self, network: Any) -> Propagation:
        """The rules for one pass of a network."""
        from assay.explainers.propagation import LayerwiseRelevance

        return LayerwiseRelevance(network, gamma=self.gamma)


class AttnLRP(RelevancePropagation):
    """The output handed back through attention too: to queries and keys as well as to values (AttnLRP).

    score_t = Σ_i R_ti over the word embedding of token t, with the rules of Achtibat et al. (2024):

    - Linear layers: the ε-rule, R_j = Σ_k a_j w_jk / (z_k + ε sign z_k) · R_k (eq. 8).
    - Products of two activations, which are Q Kᵀ, A V and gated layers: the ε-rule, and half for each factor
      (Propositions 3.2 and 3.3).
    - Softmax: its Taylor expansion, R_i = x_i (R_i − s_i Σ_j R_j) (Proposition 3.1).
    - Layer norm and RMS norm: the factor by which they scale is a constant (Proposition 3.4).
    - Activations hand relevance on unchanged (eq. 9).

    Halves depend on how products are grouped, so that two networks which compute the same function need not have the
    same scores (You et al. 2025); `conservative_lrp` is free of that.

    Relevance is conserved but for what is constant and what the softmax keeps: its expansion has an offset,
    s(x) − J x, that is no token's. On models with random weights the offset may keep as much as the tokens get. The
    report's `absorbed`, f(x) − Σ_t score_t, holds it together with the shares of biases, position and segment
    embeddings.

    Signed, in units of the logit, from which it starts whatever the run's output is. Cost: one row forward and one
    backward.

    Args:
        epsilon: what is added to the size of each denominator.
        subwords: how the scores of a word's tokens become the word's.

    Raises:
        ValueError: an `epsilon` that is negative or not a number, or an unknown `subwords`.
    """

    def __init__(self, epsilon: float = 1e-6, subwords: Subwords = "sum") -> None:
        super().__init__(subwords)
        self.epsilon = _at_least_zero("epsilon", epsilon)

    def rules(self, network: Any) -> Propagation:
        """The rules for one pass of a network."""
        from assay.explainers.propagation import AttentionAware

        return AttentionAware(network, epsilon=self.epsilon)


class ConservativeLRP(RelevancePropagation):
    """Gradient × input where attention weights and the scale of norms are taken for constants.

    score_t = e_t · ∂f̃/∂e_t, with f̃ the target's logit as a function of the word embeddings e in which the attention
    weights and the standard deviations of layer norms (or root mean squares of RMS norms) stay what they are for this
    input (Ali et al. 2022). In a gated layer `act(gate) * up`, which came later, the gate is a constant as well.
    Activations have their true gradient. That is the one difference to `lrp_0`, under which they hand relevance on
    unchanged, and the reason why relevance is conserved with ReLU and with gated layers, but not with GELU or tanh.
    The report's `absorbed`, f(x) − Σ_t score_t, holds what the tokens do not get.

    Signed, in units of the logit, from which it starts whatever the run's output is. Cost: one row forward and one
    backward.

    Args:
        subwords: how the scores of a word's tokens become the word's.

    Raises:
        ValueError: an unknown `subwords`.
    """

    def rules(self, network: Any) -> Propagation:
        """The rules for one pass of a network."""
        from assay.explainers.propagation import Conservative

        return Conservative(network)


class DeepTaylor(RelevancePropagation):
    """The output handed back to positive contributions only, by deep Taylor decomposition's z⁺-rule.

    score_t = Σ_i R_ti over the word embedding of token t, with R_j = Σ_k (a_j w_jk)⁺ / Σ_i (a_i w_ik)⁺ · R_k through
    linear layers (Montavon et al. 2017, for inputs of any sign; biases get nothing). That theory is about
    linear layers and ReLUs. The rest of a transformer follows Chefer, Gur & Wolf (2021a):

    - Activations, softmax and norms hand relevance on unchanged, element by element.
    - Products of two activations (Q Kᵀ, A V and gated layers) give half to each factor, in proportion to the products.
    - Where a residual connection joins two tensors, each gets its share by size, |Σ R_u| / (|Σ R_u| + |Σ R_v|), which
      keeps the shares bounded; the sums run over one example.

    Relevance is conserved; the report's `absorbed`, f(x) − Σ_t score_t, holds the shares of position and segment
    embeddings (and of the biases of queries and values where a model adds them apart from its linear layers, as
    DeBERTa v1 does). Softmax, products and residual connections can turn the sign of relevance, so that scores are of
    both signs though the rule for linear layers keeps it. As every positive contribution takes part in every logit, the
    scores tell classes apart badly (Chefer et al. 2021a say so too): with a small BERT fine-tuned on SST-2 they do not
    correlate with leave-one-out (Spearman's ρ 0.00 over 40 sentences, against 0.55 for `lrp_0`), though they are those
    worked out by hand. What the method is good for is `transformer_attribution`, which rests on it.

    Signed, in units of the logit, from which it starts whatever the run's output is. Cost: one row forward and one
    backward, in which linear layers take three times the work and keep two copies of their weights until the end.

    Args:
        subwords: how the scores of a word's tokens become the word's.

    Raises:
        ValueError: an unknown `subwords`.
    """

    def rules(self, network: Any) -> Propagation:
        """The rules for one pass of a network."""
        from assay.explainers.propagation import PositiveContributions

        return PositiveContributions(network)


class TransformerAttribution(WhiteBoxExplainer):
    """Relevance of the attention weights, times their gradient, rolled out over the layers.

    score_t = C[r, t] with C = (I + Ā_L) ⋯ (I + Ā_1) − I and Ā_l = mean over heads of (∇A_l ⊙ R_l)⁺, where A_l are the
    attention weights of layer l, ∇A_l their gradient of the target's logit, R_l their relevance when that logit starts
    with 1, and r the token whose state the class is read from (Chefer, Gur & Wolf 2021a, eqs. 13 and 14). Relevance is
    handed back as in `deep_taylor`.

    The identity is taken off at the end: it stands for the way past all attention, which says nothing about the token
    r, but would put it first wherever it is a word, as in a decoder. (The authors' code sets that entry to 0, and by
    default rolls out over the last layer only; their paper rolls out over all, as is done here.) Where the label word
    of a prompted model has several tokens, r stands for all places that it is read from.

    Unsigned, for eq. 13 keeps positive parts only. Cost: two rows forward and two backward, one of each at the price of
    `deep_taylor`.

    Args:
        subwords: how the scores of a word's tokens become the word's.

    Raises:
        ValueError: an unknown `subwords`.
    """

    signed = False
    attention_copies = 8.0

    def check(self, model: Classifier) -> None:
        """Find out whether the model has attention.

        Raises:
            AssayError: it has none.
        """
        _check_attention(model)

    def attribute(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """The read token's row of the rollout, [batch, tokens].

        Raises:
            AssayError: the model computes no attention that can be seen.
        """
        import torch

        from assay.explainers.propagation import PositiveContributions, Propagation

        self.check(model)
        scores = torch.zeros(batch.input_ids.shape, device=batch.input_ids.device)
        for rows, part, aim in _without_padding(batch, target):
            plain, handed_back = Propagation(model.model), PositiveContributions(model.model)
            _, _, (_, *gradients) = _propagate(model, part, aim, plain, attentions=True)
            output, _, (_, *multipliers) = _propagate(model, part, aim, handed_back, attentions=True)
            # Relevance began with the logit; it is linear in what it begins with.
            start = torch.where(output == 0, 0, 1 / output)[:, None, None, None]
            steps = [
                (gradient * weights.detach() * multiplier * start).float().clamp(min=0).mean(1)
                for gradient, weights, multiplier in zip(gradients, handed_back.attentions, multipliers, strict=True)
            ]
            tokens = part.input_ids.shape[1]
            for layers in _passes(model, steps):
                places = torch.arange(layers[0].shape[-1], device=scores.device)
                # Behind the prompt come tokens of the label word, from which the class is read as well.
                read = ((places == model.read_token(part)[:, None]) | (places >= tokens)).float()
                way = read
                for step in reversed(layers):
                    way = way + (way[:, None] @ step)[:, 0]
                scores[rows, :tokens] += (way - read)[:, :tokens]
        return scores.clamp(min=0)


class HeadRelevance(WhiteBoxExplainer):
    """What the token that the class is read from attends to, heads weighted by their relevance.

    score_t = (1/L) Σ_l Σ_h s_lh A_lh[r, t], with A_lh the attention weights of head h in layer l, r the token whose
    state the class is read from, and s_lh = |R_lh| / Σ_h' |R_lh'| the head's share of its layer's relevance. R_lh is
    the relevance of the head's output, summed over tokens and dimensions, handed back from the target's logit (Voita et
    al. 2019, who find by it the heads that can not be pruned). Relevance follows `lrp_epsilon`, which has
    their rule for linear layers. It may be negative, for a head that speaks against the target; the share takes its
    size, for pruning such a head changes the output as well.

    `head_relevance` gives R_lh itself and `output_without_heads` the output with heads pruned.

    Unsigned, a share in [0, 1]; the scores of all tokens, special ones included, sum to 1. Cost: one row forward and
    one backward.

    Args:
        epsilon: what is added to the size of each denominator.
        subwords: how the scores of a word's tokens become the word's.

    Raises:
        ValueError: an `epsilon` that is negative or not a number, or an unknown `subwords`.
    """

    signed = False
    attention_copies = 4.0

    def __init__(self, epsilon: float = 1e-3, subwords: Subwords = "sum") -> None:
        super().__init__(subwords)
        self.epsilon = _at_least_zero("epsilon", epsilon)

    def check(self, model: Classifier) -> None:
        """Find out whether the model has attention.

        Raises:
            AssayError: it has none.
        """
        _check_attention(model)

    def attribute(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """Attention of the read token, weighted over heads, [batch, tokens].

        Raises:
            AssayError: the model computes no attention that can be seen.
        """
        import torch

        self.check(model)
        scores = torch.zeros(batch.input_ids.shape, device=batch.input_ids.device)
        for rows, part, aim in _without_padding(batch, target):
            relevance, attentions = _heads(model, part, aim, self.epsilon)
            size = relevance.abs()
            total = size.sum(-1, keepdim=True)
            shares = torch.where(total == 0, 1 / size.shape[-1], size / total)
            index = torch.arange(len(rows), device=rows.device)
            read = attentions.float()[index, :, :, model.read_token(part)]  # [batch, layers, heads, tokens]
            scores[rows, : read.shape[-1]] = (shares[..., None] * read).sum(2).mean(1)
        return scores


def head_relevance(model: Classifier, batch: Batch, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """The relevance of each attention head's output, [batch, layers, heads], in units of the logit.

    Summed over the heads of a layer it is the relevance that comes through that layer's attention; what comes past it,
    through the residual connection, is not in it. Voita et al. (2019) report it as a share of that sum.

    Args:
        model: the classifier.
        batch: the encoded examples.
        target: [batch], the class that is explained.
        epsilon: see `HeadRelevance`.

    Raises:
        AssayError: the model computes no attention that can be seen.
    """
    import torch

    parts = [(rows, _heads(model, part, aim, epsilon)[0]) for rows, part, aim in _without_padding(batch, target)]
    order = torch.cat([rows for rows, _ in parts]).argsort()
    return torch.cat([relevance for _, relevance in parts])[order]


def output_without_heads(model: Classifier, batch: Batch, target: Tensor, keep: Tensor) -> Tensor:
    """The target's output for each row, [batch], when some attention heads put out zeros.

    Args:
        model: the classifier.
        batch: the encoded examples; `batch.output` is the output that is given.
        target: [batch], the class.
        keep: [layers, heads], 1 for a head that stays and 0 for one that is pruned.

    Raises:
        AssayError: `keep` is not of the model's size, or the model computes no attention that can be seen.
    """
    import torch

    from assay.explainers.propagation import Propagation

    _check_attention(model)
    layers, heads = model.model.config.num_hidden_layers, model.model.config.num_attention_heads
    if tuple(keep.shape) != (layers, heads):
        raise AssayError(
            f"keep must be [{layers}, {heads}], the layers and heads of {model.name}, not {list(keep.shape)}."
        )
    outputs = torch.zeros(len(target), device=batch.input_ids.device)
    for rows, part, aim in _without_padding(batch, target):
        output, _, _ = _propagate(model, part, aim, Propagation(model.model, keep.to(outputs)), output=batch.output)
        outputs[rows] = output
    return outputs


def _propagate(
    model: Classifier,
    batch: Batch,
    target: Tensor,
    rules: Propagation,
    attentions: bool = False,
    output: Output = "logit",
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """One pass forward and back under rules: output, embeddings, gradients of these and of the attention weights."""
    import torch

    with torch.enable_grad():
        embeddings = model.embeddings(batch).requires_grad_()
        with _open_attention(model), rules:
            outputs = model.output(replace(batch, output=output), target, embeddings)
        if attentions and not rules.attentions:
            raise AssayError(
                f"{model.name} ({type(model.model).__name__}) computes no attention that can be seen. Use lrp_epsilon "
                "or gradient_x_input, which need none."
            )
        read = rules.attentions if attentions else []
        gradients = torch.autograd.grad(outputs.sum(), [embeddings, *read])
    return outputs.detach(), embeddings.detach(), gradients


def _open_attention(model: Classifier) -> AbstractContextManager[None]:
    """Attention as products and a softmax that rules can see, where it is hidden in a kernel of another library."""
    implementation = getattr(model.model.config, "_attn_implementation", "eager")
    return nullcontext() if implementation in ("eager", "sdpa") else eager_attention(model)


def _heads(model: Classifier, batch: Batch, target: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Relevance [batch, layers, heads] and attention weights [batch, layers, heads, tokens, tokens] of heads."""
    import torch

    from assay.explainers.propagation import ReadableHeads

    rules = ReadableHeads(model.model, epsilon)
    _, _, (_, *gradients) = _propagate(model, batch, target, rules, attentions=True)
    weights = [layer.detach() for layer in rules.attentions]
    # A head's output is linear in its attention weights, so they hold the same relevance as the output does.
    relevance = [(layer * gradient).float().sum((-1, -2)) for layer, gradient in zip(weights, gradients, strict=True)]
    tokens = batch.input_ids.shape[1]
    first = [layer[..., :tokens, :tokens] for layer in _passes(model, weights)[0]]
    return torch.stack([torch.stack(layers, 1) for layers in _passes(model, relevance)]).sum(0), torch.stack(first, 1)


def _passes(model: Classifier, values: list[Tensor]) -> list[list[Tensor]]:
    """Values of each layer in each pass; a prompted model makes one for every label word of several tokens."""
    layers = model.model.config.num_hidden_layers
    return [values[first : first + layers] for first in range(0, len(values), layers)]


def _without_padding(batch: Batch, target: Tensor) -> Iterator[tuple[Tensor, Batch, Tensor]]:
    """The rows of each length, without padding: their places, a batch of them, their targets.

    A row is then computed in the same way whatever it was padded to; where contributions cancel, rules blow up the
    difference that rounding would make.
    """
    import torch

    lengths = torch.tensor(batch.lengths, device=target.device)
    for length in sorted(set(batch.lengths)):
        (rows,) = (lengths == length).nonzero(as_tuple=True)
        yield (
            rows,
            replace(
                batch,
                input_ids=batch.input_ids[rows, :length],
                attention_mask=None,
                token_type_ids=None if batch.token_type_ids is None else batch.token_type_ids[rows, :length],
                feature_of_token=batch.feature_of_token[rows, :length],
                foil=None if batch.foil is None else batch.foil[rows],
                rngs=(),
                memo={},
            ),
            target[rows],
        )


def _check_attention(model: Classifier) -> None:
    if getattr(model.model.config, "num_attention_heads", None) is None:
        raise AssayError(
            f"{model.name} ({type(model.model).__name__}) has no attention heads. Use lrp_epsilon or gradient_x_input, "
            "which need none."
        )


def _at_least_zero(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a number at least 0, not {value!r}")
    return float(value)
