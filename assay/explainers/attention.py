"""Explainers that read the attention weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from assay.checks import whole_number
from assay.eager_attention import eager_attention
from assay.errors import AssayError, near_matches
from assay.explainers.base import WhiteBoxExplainer

if TYPE_CHECKING:
    from torch import Tensor

    from assay.classifier import Classifier
    from assay.encoding import Batch, Subwords

Matrix = NDArray[np.float64]
AttentionRow = Literal["read", "cls", "last", "mean"]

# Attention holds tokens² numbers a row, so rows are put together by that. With 12 layers of 12 heads the weights of all
# layers then take 150 MB, or what a single row takes where that is more.
_PAIRS_PER_TOKEN = 64

# Capacities are whole numbers to scipy; a source gives 1 in all, which this many parts make.
_PARTS = 2**30


class AttentionExplainer(WhiteBoxExplainer):
    """Base of what reads attention: it is handed rows of one length at a time, without padding; padding scores 0."""

    signed = False
    attention_copies = 1.5

    def check(self, model: Classifier) -> None:
        """Find out whether the model's attention can be read.

        Raises:
            AssayError: it cannot.
        """
        from assay.architectures import count_layers

        count_layers(model)

    def attribute(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """Scores for each token, [batch, tokens]."""
        import torch

        lengths = torch.tensor(batch.lengths, device=batch.input_ids.device)
        scores = torch.zeros(batch.input_ids.shape, device=lengths.device)
        for length in sorted(set(batch.lengths)):
            (of_length,) = (lengths == length).nonzero(as_tuple=True)
            together = max(1, _PAIRS_PER_TOKEN * batch.tokens_per_pass // length**2)
            for rows in torch.split(of_length, together):
                with torch.no_grad():
                    scores[rows, :length] = self.score(model, _part(batch, rows, length), target[rows]).float()
        return scores

    @abstractmethod
    def score(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """Scores for each token of rows without padding, [batch, tokens]; gradients are off."""


class Attention(AttentionExplainer):
    """How much the token that the class is read from attends to each token.

    score_t = A[r, t], with A the attention weights of a layer, averaged over heads, and r the token whose state the
    classification head reads: the first token in an encoder, the last one in a decoder (Bahdanau, Cho & Bengio 2015; on
    its worth as an explanation Jain & Wallace 2019). It does not depend on the target. A model that runs with another
    implementation of attention is switched to transformers' `eager` one for the pass, as the others do not give their
    weights. Unsigned, a share in [0, 1]. Cost: one row forward.

    Args:
        layer: which layer, from 0, negative from the last; or `all` for the mean over layers.
        head: which head, from 0, negative from the last; or `mean` or `max` over the heads.
        row: whose attention: that of the token that the class is read from (`read`; all tokens in equal parts where the
            head reads their mean), of the first token (`cls`), of the `last` one, or the `mean` over all tokens.
        subwords: how the scores of a word's tokens become the word's.

    Raises:
        ValueError: a layer or head that is neither a whole number nor the word, or an unknown row.
    """

    def __init__(
        self,
        layer: int | Literal["all"] = -1,
        head: int | Literal["mean", "max"] = "mean",
        row: AttentionRow = "read",
        subwords: Subwords = "sum",
    ) -> None:
        super().__init__(subwords)
        self.layer = _place("layer", layer, ("all",))
        self.head = _place("head", head, ("mean", "max"))
        if row not in get_args(AttentionRow):
            raise ValueError(f"unknown row {row!r}. {near_matches(str(row), get_args(AttentionRow))}")
        self.row: AttentionRow = row

    def check(self, model: Classifier) -> None:
        """Find out whether the model has the layer and the head.

        Raises:
            AssayError: it has not, or its attention cannot be read.
        """
        from assay.architectures import count_layers

        _within("attention", "layer", self.layer, count_layers(model), model)
        _within("attention", "head", self.head, model.model.config.num_attention_heads, model)

    def score(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """Attention of the chosen row, [batch, tokens]."""
        import torch

        layers = [weights.float() for weights in _chosen(model.attentions(batch), self.layer)]
        if self.head == "max":
            layers = [weights.amax(1) for weights in layers]
        else:
            layers = [weights[:, self.head] if isinstance(self.head, int) else weights.mean(1) for weights in layers]
        return _times(self._rows(model, batch), torch.stack(layers).mean(0))

    def _rows(self, model: Classifier, batch: Batch) -> Tensor:
        """How much each token's attention counts, [batch, tokens]."""
        import torch

        from assay.architectures import reading

        if self.row == "read":
            return reading(model, batch)
        rows = torch.zeros(batch.input_ids.shape, device=batch.input_ids.device)
        if self.row == "mean":
            return rows + 1 / rows.shape[1]
        rows[:, 0 if self.row == "cls" else -1] = 1
        return rows


class AttentionRollout(AttentionExplainer):
    """Attention followed through all layers, with half of each token's state taken to be its own from below.

    score = A̅_L A̅_(L−1) … A̅_1 [r], with A̅ = (A + I) / 2, A the mean attention over a layer's heads and r the token that
    the class is read from (Abnar & Zuidema 2020, equation 1): where the read token's state comes from, were a layer to
    do nothing but mix states by its attention and add the residual in equal parts. It does not depend on the target.
    Unsigned, a share in [0, 1]. Cost: one row forward.

    Args:
        subwords: how the scores of a word's tokens become the word's.
    """

    def score(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """The read token's row of the product, [batch, tokens]."""
        from assay.architectures import reading

        layers = [_with_residual(weights.float().mean(1)) for weights in model.attentions(batch)]
        return rolled_out(reading(model, batch), layers)


class AttentionFlow(AttentionExplainer):
    """How much could flow from each token up to the one the class is read from, were attention weights pipes.

    score_t is the maximum flow from the read token's place above the last layer to token t below the first, in the
    network whose nodes are the tokens after each layer and whose capacities are (A + I) / 2, with A the mean attention
    over a layer's heads (Abnar & Zuidema 2020, section 2). It does not depend on the target. Unsigned, in [0, 1].

    With several layers the narrow places lie near the read token, and all flows pass them, so that they differ little
    between tokens: with a MiniLM fine-tuned on SST-2 by 0.04 around 0.6 within a sentence, and their rank correlation
    with leave-one-out is 0. That is the method's doing: the flows agree with networkx's.

    The flows of an example share all edges but those into the token, but are solved one by one, exactly (Dinic's
    algorithm in scipy, on capacities rounded to 1e-9). Cost: one row forward, and one maximum flow over layers ×
    tokens² edges for each token: with 12 layers about 0.1 s a text of 30 words, 20 s one of 250, on the CPU.

    Args:
        subwords: how the scores of a word's tokens become the word's.
    """

    attention_copies = 2.0

    def score(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """Maximum flows, [batch, tokens]; special tokens are left out and score 0."""
        import torch

        from assay.architectures import reading

        layers = [_with_residual(weights.float().mean(1)).cpu().double().numpy() for weights in model.attentions(batch)]
        sources = reading(model, batch).cpu().double().numpy()
        scores = np.zeros(sources.shape)
        for row, eligible in enumerate(batch.eligible.cpu().numpy()):
            (sinks,) = np.nonzero(eligible)
            scores[row, sinks] = maximum_flows(sources[row], [weights[row] for weights in layers], sinks)
        return torch.from_numpy(scores).float().to(batch.input_ids.device)


class GradSam(AttentionExplainer):
    """Attention weighted by how much more of it would raise the output, over all layers and heads.

    score_t is the mean over layers, heads and queries i of A[i, t] · max(0, ∂f/∂A[i, t]), with A the attention weights
    and f the target's output (Barkan et al. 2021, section 3). The paper's indices leave open whether a token is scored
    as one that attends or as one that is attended to; here it is the latter, as in all attention methods (with
    a MiniLM fine-tuned on SST-2 its rank correlation with leave-one-out is then 0.43 in place of 0.23). For a prompted
    model with label words of several tokens the passes are added. Unsigned, in units of the output. Cost: one row
    forward and one backward.

    Args:
        subwords: how the scores of a word's tokens become the word's.
    """

    attention_copies = 3.0

    def score(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """Means over layers, heads and queries, [batch, tokens]."""
        import torch

        tokens = batch.input_ids.shape[1]
        passes = [
            torch.stack([(weights * gradient.clamp(min=0)).mean((1, 2)) for weights, gradient in layers]).mean(0)
            for layers in attention_gradients(model, batch, target)
        ]
        return torch.stack([scores[:, :tokens] for scores in passes]).sum(0)


class GenericAttention(AttentionExplainer):
    """Attention times its gradient, followed through all layers: generic attention-model explainability.

    R ← R + A̅ R from R = I on, layer by layer, with A̅ = E_heads[max(0, A ⊙ ∂f/∂A)], A the attention weights and f the
    target's output; score_t = R[r, t] − I[r, t], with r the token that the class is read from (Chefer, Gur & Wolf
    2021b, section 3). The identity is taken off because it says nothing but that a token is itself, which would
    put a decoder's last word first. For a prompted model with label words of several tokens, r is each token that they
    are read from, and the passes are added. Unsigned, in units of the output to first order. Cost: one row forward and
    one backward.

    Args:
        subwords: how the scores of a word's tokens become the word's.
    """

    attention_copies = 3.0

    def score(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """The read token's row of the relevance, [batch, tokens]."""
        import torch

        passes = []
        for layers in attention_gradients(model, batch, target):
            read = _read(model, batch, layers[0][0].shape[-1])
            relevance = read
            for weights, gradient in reversed(layers):
                relevance = relevance + _times(relevance, (weights * gradient).clamp(min=0).mean(1))
            passes.append((relevance - read)[:, : batch.input_ids.shape[1]])
        return torch.stack(passes).sum(0)


class AttAttr(AttentionExplainer):
    """Attention attribution: each attention weight's share of the output, by integrated gradients.

    a = A ⊙ ∫₀¹ ∂f(αA)/∂A dα for each head of a layer, with A that layer's attention weights, scaled by α while the
    layers above it respond, and f the target's output (Hao, Dong, Wei & Xu 2021, section 3). A layer's shares sum to
    f(x) − f(x with the layer's attention at 0). The integral is taken by Gauss-Legendre quadrature, which needs fewer
    points than the paper's sum for the same error.

    The paper draws a tree of the largest shares and names no score for a token. Here score_t sums the shares of the
    weights that attend to t over heads and layers: from all queries (`all`; then the scores, special tokens included,
    sum to the layers' differences), or only from the token that the class is read from, the trunk of the paper's tree
    (`read`). A prompted model's label words of several tokens have shares too, which are left out.

    Signed, in units of the output. Cost: 1 row forward, and `steps` × layers rows forward and backward.

    Args:
        steps: how many points the integral is taken at.
        row: whose attention counts, `all` or `read`.
        subwords: how the scores of a word's tokens become the word's.

    Raises:
        ValueError: `steps` below 1 or an unknown row.
    """

    signed = True
    attention_copies = 6.0

    def __init__(self, steps: int = 20, row: Literal["all", "read"] = "all", subwords: Subwords = "sum") -> None:
        super().__init__(subwords)
        self.steps = whole_number("steps", steps, at_least=1)
        if row not in ("all", "read"):
            raise ValueError(f"unknown row {row!r}. {near_matches(str(row), ('all', 'read'))}")
        self.row: Literal["all", "read"] = row

    def score(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """Sums of the shares, [batch, tokens]."""
        import torch

        sums = []
        for weights in self.shares(model, batch, target):
            read = _read(model, batch, weights.shape[-1])
            rows = torch.ones_like(read) if self.row == "all" else read
            sums.append(_times(rows, weights.sum(1))[:, : batch.input_ids.shape[1]])
        return torch.stack(sums).sum(0)

    def shares(self, model: Classifier, batch: Batch, target: Tensor) -> list[Tensor]:
        """The attribution of each attention weight, [batch, heads, tokens, tokens] for each layer of each pass.

        Args:
            model: the classifier.
            batch: encoded examples of one length, without padding.
            target: [batch], the class that is explained.
        """
        import torch

        from assay.architectures import AttentionWeights, count_layers

        depth = count_layers(model)
        embeddings = model.embeddings(batch)
        with eager_attention(model), AttentionWeights() as plain:
            model.output(batch, target, embeddings)
        # Points and weights for [-1, 1], moved to [0, 1].
        points, weights = (embeddings.new_tensor(values) / 2 for values in np.polynomial.legendre.leggauss(self.steps))
        points = points + 0.5
        copies = max(1, batch.tokens_per_pass // embeddings[..., 0].numel())
        totals = [torch.zeros_like(attention) for attention in plain.layers]
        for layer in range(depth):
            for some, parts in zip(torch.split(points, copies), torch.split(weights, copies), strict=True):
                scale = some.repeat_interleave(len(embeddings))[:, None, None, None]

                def scaled(place: int, all_weights: Tensor, layer: int = layer, scale: Tensor = scale) -> Tensor:
                    return (all_weights * scale).requires_grad_() if place % depth == layer else all_weights

                with torch.enable_grad(), eager_attention(model), AttentionWeights(scaled) as changed:
                    output = model.output(batch, target, embeddings.repeat(len(some), 1, 1)).sum()
                gradients = torch.autograd.grad(output, changed.layers[layer::depth])
                for total, gradient in zip(totals[layer::depth], gradients, strict=True):
                    total += torch.einsum("s,sbhij->bhij", parts, gradient.reshape(len(some), *total.shape))
        return [(attention * total).float() for attention, total in zip(plain.layers, totals, strict=True)]


class AttCat(AttentionExplainer):
    """Attentive class activation tokens: gradient × hidden state in each layer, weighted by the attention received.

    score_t = Σ_l a_t^l · Σ_d ∂f/∂h_td^l · h_td^l, with h^l the input of layer l, a_t^l the attention that token t
    receives in it, averaged over heads and queries, and f the target's output (Qiang et al. 2022, section 3; the mean
    over queries as in the authors' code). The hidden states are those that run through the residual connections, before
    any norm of a layer's own. For a prompted model with label words of several tokens the passes are added. Signed, in
    units of the output. Defined for the architectures of the vector decompositions. Cost: one row forward and one
    backward.

    Args:
        subwords: how the scores of a word's tokens become the word's.
    """

    signed = True

    def check(self, model: Classifier) -> None:
        """Find out whether the model's layers are known.

        Raises:
            AssayError: they are not.
        """
        from assay.architectures import architecture

        super().check(model)
        architecture(model)

    def score(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """Sums over layers, [batch, tokens]."""
        import torch

        from assay.architectures import AttentionWeights, architecture, layer_inputs

        with (
            torch.enable_grad(),
            layer_inputs(architecture(model).layers) as states,
            eager_attention(model),
            AttentionWeights() as attention,
        ):
            output = model.output(batch, target, model.embeddings(batch).requires_grad_()).sum()
        gradients = torch.autograd.grad(output, states)
        layers = [
            weights.detach().float().mean((1, 2)) * (state.detach().float() * gradient).sum(-1)
            for weights, state, gradient in zip(attention.layers, states, gradients, strict=True)
        ]
        return torch.stack([scores[:, : batch.input_ids.shape[1]] for scores in layers]).sum(0)


class AttentionNorm(AttentionExplainer):
    """Attention weighted by the length of what it carries: norms of the value vectors after both projections.

    score_t = ‖Σ_h A_h[r, t] · W_O^h (W_V^h x_t + b_V^h)‖₂, with A_h the attention weights of head h, x the input of a
    layer's attention (normalised in models that normalise first) and r the token that the class is read from
    (Kobayashi, Kuribayashi, Yokoi & Inui 2020, section 2.2, over all heads). Grouped-query attention repeats its shared
    values for each head. It does not depend on the target. Unsigned, in units of the hidden state, or a share in [0, 1]
    for `rollout`. Defined for the architectures of the vector decompositions. Cost: one row forward.

    Args:
        layer: which layer, from 0, negative from the last; `all` for the mean over layers; or `rollout`, which follows
            the norms through all layers as attention rollout does attention, each row divided by its sum.
        subwords: how the scores of a word's tokens become the word's.

    Raises:
        ValueError: a layer that is neither a whole number nor one of the words.
    """

    def __init__(self, layer: int | Literal["all", "rollout"] = -1, subwords: Subwords = "sum") -> None:
        super().__init__(subwords)
        self.layer = _place("layer", layer, ("all", "rollout"))

    def check(self, model: Classifier) -> None:
        """Find out whether the model's layers are known, and whether it has the one that is asked for.

        Raises:
            AssayError: they are not, or it has not.
        """
        from assay.architectures import architecture

        super().check(model)
        _within("attention_norm", "layer", self.layer, len(architecture(model).layers), model)

    def score(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """The read token's norms, [batch, tokens]."""
        import torch

        from assay.architectures import architecture, layer_inputs, reading

        layers = architecture(model).layers
        with layer_inputs(layers) as states:
            attention = model.attentions(batch)
        places = range(len(layers)) if isinstance(self.layer, str) else [self.layer % len(layers)]
        norms = []
        for place in places:
            parts = layers[place].contributions(states[place].float(), attention[place].float(), batch.tokens_per_pass)
            norms.append(torch.cat([vectors.norm(dim=-1) for _, vectors in parts], dim=1))
        read = reading(model, batch)
        if self.layer == "rollout":
            return rolled_out(read, [_with_residual(shares(layer)) for layer in norms])
        return _times(read, torch.stack(norms).mean(0))


def attention_gradients(model: Classifier, batch: Batch, target: Tensor) -> list[list[tuple[Tensor, Tensor]]]:
    """Each layer's attention weights and the gradient of each row's output at them, [batch, heads, tokens, tokens].

    They come one list for each pass that the output takes: one, or for a prompted model as many as it has label words
    of several tokens, whose tokens then follow the batch's own.
    """
    import torch

    from assay.architectures import AttentionWeights, count_layers

    with torch.enable_grad(), eager_attention(model), AttentionWeights() as attention:
        # Parameters are frozen, so the embeddings are where a graph can start. Rows do not see each other, so the
        # gradient of their sum holds each row's own.
        output = model.output(batch, target, model.embeddings(batch).requires_grad_()).sum()
    gradients = torch.autograd.grad(output, attention.layers)
    found = [
        (weights.detach().float(), gradient.float())
        for weights, gradient in zip(attention.layers, gradients, strict=True)
    ]
    depth = count_layers(model)
    return [found[first : first + depth] for first in range(0, len(found), depth)]


def maximum_flows(source: Matrix, layers: Sequence[Matrix], sinks: NDArray[np.intp]) -> Matrix:
    """The maximum flow to each of some tokens below the first layer.

    Args:
        source: [tokens], how much may flow from the source to each token above the last layer.
        layers: the capacities between the tokens above and below each layer, [tokens, tokens], the first layer first.
        sinks: the tokens that the flow is wanted to.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    tokens = len(source)
    # The tokens above layer l, from 1 on, are the nodes from (l - 1) * tokens on; then come the source and the sink.
    start = len(layers) * tokens
    place = np.arange(tokens)
    edges = [(np.full(tokens, start), start - tokens + place, source)]
    for layer in range(1, len(layers)):
        # Nothing flows through tokens that the source does not reach.
        weights = layers[layer] * (source > 0)[:, None] if layer == len(layers) - 1 else layers[layer]
        above, below = np.nonzero(weights)
        edges.append((layer * tokens + above, (layer - 1) * tokens + below, weights[above, below]))
    edges.append((place, np.full(tokens, start + 1), np.empty(tokens)))
    tail, head, capacity = (np.concatenate(column) for column in zip(*edges, strict=True))
    order = np.lexsort((head, tail))
    pointers = np.concatenate([[0], np.bincount(tail, minlength=start + 2).cumsum()]).astype(np.int32)
    found = []
    for sink in sinks:
        capacity[-tokens:] = layers[0][:, sink]
        parts = np.rint(capacity[order] * _PARTS).astype(np.int32)
        graph = csr_array((parts, head[order].astype(np.int32), pointers), shape=(start + 2, start + 2))
        found.append(maximum_flow(graph, start, start + 1).flow_value / _PARTS)
    return np.array(found)


def rolled_out(rows: Tensor, layers: Sequence[Tensor]) -> Tensor:
    """`rows` of the product of all layers' matrices, the last layer's on the left, [batch, tokens].

    Args:
        rows: [batch, tokens], how much each token counts after the last layer.
        layers: [batch, tokens, tokens] for each layer, the first layer first.
    """
    for weights in reversed(layers):
        rows = _times(rows, weights)
    return rows


def shares(weights: Tensor) -> Tensor:
    """Each row divided by its sum."""
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-30)


def _part(batch: Batch, rows: Tensor, length: int) -> Batch:
    """Some rows of a batch, all of one length, without padding."""
    segments, foil = batch.token_type_ids, batch.foil
    return replace(
        batch,
        input_ids=batch.input_ids[rows, :length],
        attention_mask=None,
        token_type_ids=None if segments is None else segments[rows, :length],
        feature_of_token=batch.feature_of_token[rows, :length],
        foil=None if foil is None else foil[rows],
        rngs=tuple(batch.rngs[row] for row in rows.tolist()) if batch.rngs else (),
        memo={},
    )


def _read(model: Classifier, batch: Batch, tokens: int) -> Tensor:
    """The weight of each token's last state in what the class is read from, [batch, tokens].

    What follows the batch's own tokens is a label word's, which a prompted model is read from too.
    """
    from torch.nn.functional import pad

    from assay.architectures import reading

    read = reading(model, batch)
    return pad(read, (0, tokens - read.shape[1]), value=1.0)


def _with_residual(weights: Tensor) -> Tensor:
    """Half of the weights, and half of the identity."""
    import torch

    return (weights + torch.eye(weights.shape[-1], device=weights.device)) / 2


def _times(rows: Tensor, weights: Tensor) -> Tensor:
    """Vectors times matrices, [batch, tokens]."""
    return (rows.to(weights.dtype)[:, None] @ weights)[:, 0]


def _chosen(layers: list[Tensor], layer: int | str) -> list[Tensor]:
    return layers if isinstance(layer, str) else [layers[layer]]


def _place(name: str, value: int | str, words: tuple[str, ...]) -> int | str:
    if value in words or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ValueError(f"{name} must be a whole number or {' or '.join(map(repr, words))}, not {value!r}")


def _within(explainer: str, name: str, place: int | str, count: int, model: Classifier) -> None:
    if isinstance(place, int) and not -count <= place < count:
        raise AssayError(
            f"{explainer}.{name}={place}: {model.name} has {count} {name}s, counted 0 to {count - 1} or -{count} to -1."
        )
