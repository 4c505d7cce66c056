"""Explainers that follow the vector which each token sends through the layers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from assay.errors import near_matches
from assay.explainers.attention import AttentionExplainer, rolled_out, shares

if TYPE_CHECKING:
    from torch import Tensor

    from assay.architectures import Architecture
    from assay.classifier import Classifier
    from assay.encoding import Batch, Subwords
    from assay.layers import FeedForward, Layer, Step

# DecompX holds tokens² vectors a row: at once as many as this many times the tokens of a pass, or a single row's.
_VECTORS_PER_TOKEN = 8


class VectorDecomposition(AttentionExplainer):
    """Base of the methods that need to know where a model keeps its values, projections, norms and head."""

    attention_copies = 5.0

    def check(self, model: Classifier) -> None:
        """Find out whether the model's layers are known.

        Raises:
            AssayError: they are not, or its attention cannot be read.
        """
        from assay.architectures import architecture

        super().check(model)
        architecture(model)


class LayerMixing(VectorDecomposition):
    """Base of the methods that say for each layer how much of each token a token's state is made of."""

    def score(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """The layers' shares followed from the read token down to the input, [batch, tokens]."""
        from assay.architectures import architecture, layer_inputs, reading

        layers = architecture(model).layers
        with layer_inputs(layers) as states:
            attention = model.attentions(batch)
        mixing = [
            shares(self.mixing(layer, state.float(), weights.float(), batch.tokens_per_pass))
            for layer, state, weights in zip(layers, states, attention, strict=True)
        ]
        return rolled_out(reading(model, batch), mixing)

    @abstractmethod
    def mixing(self, layer: Layer, states: Tensor, attention: Tensor, tokens_per_pass: int) -> Tensor:
        """How much of each token's input is in each token's output, [batch, tokens, tokens], of any scale."""


class ValueZeroing(LayerMixing):
    """How far each token's state turns in a layer when another token's value vector is zeroed there.

    C[i, t] = 1 − cos(y_i, y_i without t), with y_i the output of a layer at token i, and `without t` the same with the
    value vector of token t at 0 in all heads, attention weights kept; rows are divided by their sums, and the layers
    multiplied: score = C_L … C_1 [r], with r the token that the class is read from (Mohebbi, Zuidema, Chrupała &
    Alishahi 2023, section 3). A layer is taken whole, with its residual connections, norms and feed-forward network, so
    no residual is added in the rollout.

    Zeroing a value takes its weighted share off what attention hands on, so only what follows attention is computed
    again. It holds of any order of norms; grouped-query attention zeroes the value that the heads share. It does not
    depend on the target. Unsigned, a share in [0, 1]. Cost: one row forward, and the feed-forward networks of as many
    rows as there are tokens (for n tokens about what n rows forward take).

    Args:
        subwords: how the scores of a word's tokens become the word's.
    """

    def mixing(self, layer: Layer, states: Tensor, attention: Tensor, tokens_per_pass: int) -> Tensor:
        """Cosine distances, [batch, tokens, tokens]."""
        import torch
        from torch.nn.functional import normalize

        rows = []
        for queries, vectors in layer.contributions(states, attention, tokens_per_pass):
            attended = layer.attended(vectors)
            whole = normalize(layer.after_attention(states[:, queries], attended), dim=-1)
            without = normalize(layer.after_attention(states[:, queries, None], attended[:, :, None] - vectors), dim=-1)
            # 1 − cos = ‖u − v‖² / 2 for unit vectors; a small distance is lost in the rounding of the cosine.
            rows.append((whole[:, :, None] - without).pow(2).sum(-1) / 2)
        return torch.cat(rows, dim=1)


class GlobEnc(LayerMixing):
    """Norms of what each token adds to another's state through a whole layer, followed through all layers.

    N[i, t] = ‖g₂(g₁(Σ_h A_h[i, t] · W_O^h (W_V^h x_t + b_V^h) + 1[i = t] x_i))‖₂, with x the layer's input and g₁, g₂
    its two norms, each with its factor kept as it is for the whole state, and without its bias; rows are divided by
    their sums, and the layers multiplied: score = N_L … N_1 [r], with r the token that the class is read from
    (Modarressi, Fayyaz, Yaghoobzadeh & Pilehvar 2022, section 3: N_ENC, aggregated by rollout). The feed-forward
    network counts only in that it changes g₂'s factor.

    In layers that normalise first (GPT-2, LLaMA, ModernBERT, Falcon), which the paper does not treat, no norm comes
    after the sums: attention reads normalised states, and N is the norm of the sum in the residual stream.
    Grouped-query attention repeats its shared values for each head. It does not depend on the target. Unsigned, a share
    in [0, 1]. Cost: one row forward.

    Args:
        subwords: how the scores of a word's tokens become the word's.
    """

    def mixing(self, layer: Layer, states: Tensor, attention: Tensor, tokens_per_pass: int) -> Tensor:
        """Norms, [batch, tokens, tokens]."""
        import torch

        rows = []
        for queries, vectors in layer.contributions(states, attention, tokens_per_pass):
            middle = states[:, queries] + layer.attended(vectors)
            vectors = _with_own(vectors, states, queries)
            if layer.order == "post":
                assert layer.attention_norm is not None
                vectors = layer.attention_norm.linear(vectors, middle[:, :, None])
                middle = layer.attention_norm.apply(middle)
                above = middle + layer.feed_forward.apply(middle)
                vectors = layer.feed_forward_norm.linear(vectors, above[:, :, None])
            rows.append(vectors.norm(dim=-1))
        return torch.cat(rows, dim=1)


class Alti(LayerMixing):
    """How close what each token adds to another's state comes to the whole of it, followed through all layers.

    c[i, t] = max(0, ‖y_i‖₁ − ‖y_i − T_i(x_t)‖₁), with y_i = Σ_t T_i(x_t) + biases the state of token i after
    attention, residual connection and norm, and T_i(x_t) what token t adds to it, the norm's factor kept; rows are
    divided by their sums, and the layers multiplied: score = c_L … c_1 [r], with r the token that the class is read
    from (Ferrando, Gállego & Costa-jussà 2022, section 3). The feed-forward network does not mix tokens and is left
    out.

    In layers that normalise first, attention reads normalised states and y is the residual stream after attention, as
    in the authors' code. Grouped-query attention repeats its shared values for each head. It does not depend on the
    target. Unsigned, a share in [0, 1]. Cost: one row forward.

    Args:
        subwords: how the scores of a word's tokens become the word's.
    """

    def mixing(self, layer: Layer, states: Tensor, attention: Tensor, tokens_per_pass: int) -> Tensor:
        """Closeness, [batch, tokens, tokens]."""
        import torch

        rows = []
        for queries, vectors in layer.contributions(states, attention, tokens_per_pass):
            whole = states[:, queries] + layer.attended(vectors)
            vectors = _with_own(vectors, states, queries)
            if layer.order == "post":
                assert layer.attention_norm is not None
                vectors = layer.attention_norm.linear(vectors, whole[:, :, None])
                whole = layer.attention_norm.apply(whole)
            length = whole.abs().sum(-1, keepdim=True)
            rows.append(length - (whole[:, :, None] - vectors).abs().sum(-1))
        return torch.cat(rows, dim=1).clamp(min=0)


class DecompX(VectorDecomposition):
    """Each token's share of the logit: its vector followed through every layer and the classification head.

    Each token's state is kept as a sum of one vector a token of the input. Attention weights, the norms' factors and
    the slopes of activations are frozen at the values they have for the example, which makes every step linear, so the
    shares, those of special tokens included, sum to the logit. An activation f counts as the line from zero through the
    point, slope f(z) / z (Modarressi, Fayyaz, Aghazadeh, Yaghoobzadeh & Pilehvar 2023, section 3).

    It explains the target's logit (less the foil's under a contrast), also where the run's output is a probability. A
    prompted model's logits are the log-probabilities of the first tokens of the label words. They are taken apart with
    the probabilities of all next tokens frozen, log p(w) = z_w − Σ_v p_v z_v − H(p), and the scores sum to log p(w) and
    the entropy H(p) together, which is the same for all words and belongs to no token.

    Position and segment embeddings belong to the token they stand at. In feed-forward networks with a gate (LLaMA,
    Qwen2, ModernBERT), which the paper does not treat, the product of two decomposed vectors is split in halves between
    them. In layers that normalise first, the norm is frozen like any other. Grouped-query attention repeats its shared
    values for each head.

    Signed, in logits. Cost: one row forward, and what as many rows forward as there are tokens take. Memory: tokens²
    vectors twice or three times, 120 MB each for 200 tokens of width 768.

    Args:
        bias: what becomes of the network's biases: each is split among tokens by the size of their vectors' dot
            products with it (`dot_product`, the paper's), or `left_out`, and the scores sum to the logit less the
            biases' share.
        subwords: how the scores of a word's tokens become the word's.

    Raises:
        ValueError: an unknown bias.
    """

    signed = True

    def __init__(self, bias: Literal["dot_product", "left_out"] = "dot_product", subwords: Subwords = "sum") -> None:
        super().__init__(subwords)
        if bias not in ("dot_product", "left_out"):
            raise ValueError(f"unknown bias {bias!r}. {near_matches(str(bias), ('dot_product', 'left_out'))}")
        self.bias: Literal["dot_product", "left_out"] = bias

    def memory(self, model: Classifier, tokens: int) -> float:
        """The attention weights, and three times tokens² vectors."""
        return super().memory(model, tokens) + 3 * 4.0 * tokens**2 * int(model.model.config.hidden_size)

    def score(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """Shares of the logit, [batch, tokens]."""
        import torch

        from assay.architectures import architecture, layer_inputs, reading

        found = architecture(model)
        with layer_inputs(found.layers) as states:
            attention = model.attentions(batch)
        read = reading(model, batch)
        rows, tokens = batch.input_ids.shape
        together = max(1, _VECTORS_PER_TOKEN * batch.tokens_per_pass // tokens**2)
        logits = torch.cat(
            [
                self._logits(
                    found,
                    states[0][some].float(),
                    [weights[some].float() for weights in attention],
                    read[some],
                    batch.tokens_per_pass,
                )
                for some in torch.split(torch.arange(rows, device=read.device), together)
            ]
        )[:, :tokens]
        chosen = logits.gather(2, target[:, None, None].expand(-1, tokens, 1))
        if batch.foil is not None:
            chosen = chosen - logits.gather(2, batch.foil[:, None, None].expand(-1, tokens, 1))
        return chosen[..., 0]

    def _logits(
        self, found: Architecture, states: Tensor, attention: list[Tensor], read: Tensor, tokens_per_pass: int
    ) -> Tensor:
        """Each token's share of each logit, [batch, tokens, classes]; last come the biases' where they are left out."""
        import torch

        rows, tokens, width = states.shape
        # The parts of each token's state, [batch, tokens, parts, width].
        parts = states.new_zeros(rows, tokens, tokens + (self.bias == "left_out"), width)
        place = torch.arange(tokens, device=states.device)
        parts[:, place, place] = states
        for index, (layer, weights) in enumerate(zip(found.layers, attention, strict=True)):
            own = parts
            if index == len(attention) - 1 and bool(read.max(1).values.eq(1).all()):
                # Nothing is asked of the last layer but the state that the class is read from.
                token = read.argmax(1)
                all_rows = torch.arange(rows, device=token.device)
                own, weights = parts[all_rows, token][:, None], weights[all_rows, :, token][:, :, None]
                read = read.new_ones(rows, 1)
            parts = self._layer(layer, parts, own, weights, tokens_per_pass)
        if found.final_norm is not None:
            parts = self._step(found.final_norm, parts)
        parts = torch.einsum("bi,bikw->bkw", read, parts)
        for step in found.head[:-1]:
            parts = self._step(step, parts)
        logits = self._step(found.head[-1], parts)
        if found.vocabulary is None:
            return logits
        probabilities = found.vocabulary.apply(parts.sum(1)).softmax(-1)
        return logits - torch.einsum("bv,vw,bkw->bk", probabilities, found.vocabulary.weight, parts)[..., None]

    def _layer(self, layer: Layer, parts: Tensor, own: Tensor, attention: Tensor, tokens_per_pass: int) -> Tensor:
        """The parts of a layer's output.

        Args:
            layer: the layer.
            parts: [batch, tokens, parts, width], those of its input.
            own: [batch, queries, parts, width], those of its input at the tokens whose output is wanted.
            attention: [batch, heads, queries, tokens].
            tokens_per_pass: how many vectors may be taken through the feed-forward network at once.
        """
        import torch

        seen = parts
        if layer.order != "post" and layer.attention_norm is not None:
            attention_norm = layer.attention_norm
            seen = torch.empty_like(parts)
            _position_wise(lambda some: self._step(attention_norm, some), [parts], seen, tokens_per_pass)
        middle = _mixed(layer, own, seen, attention, tokens_per_pass)
        bias = layer.output.bias
        if layer.values.bias is not None:
            # Attention's rows sum to 1, so every token gets the values' bias whole.
            values_bias = layer.output.weight @ layer.values.bias
            bias = values_bias if bias is None else bias + values_bias

        def after_attention(some: Tensor, some_own: Tensor) -> Tensor:
            some = self._biased(some, bias)
            if layer.order == "post":
                some = some if layer.attention_norm is None else self._step(layer.attention_norm, some)
                return self._step(layer.feed_forward_norm, some + self._feed_forward(layer.feed_forward, some))
            read = some_own if layer.order == "parallel" else some
            return some + self._feed_forward(layer.feed_forward, self._step(layer.feed_forward_norm, read))

        # In place, for these tensors are what takes the memory.
        _position_wise(after_attention, [middle, own], middle, tokens_per_pass)
        return middle

    def _feed_forward(self, network: FeedForward, parts: Tensor) -> Tensor:
        up = self._step(network.up, parts)
        if network.gate is None:
            return self._step(network.down, network.activation.share(up))
        gate = network.activation.share(self._step(network.gate, parts))
        product = (gate * up.sum(-2, keepdim=True) + gate.sum(-2, keepdim=True) * up) / 2
        return self._step(network.down, product)

    def _step(self, step: Step, parts: Tensor) -> Tensor:
        return self._biased(step.share(parts), step.bias)

    def _biased(self, parts: Tensor, bias: Tensor | None) -> Tensor:
        """The parts with a bias added to their sum."""
        import torch

        if bias is None:
            return parts
        if self.bias == "left_out":
            return torch.cat([parts[..., :-1, :], parts[..., -1:, :] + bias], dim=-2)
        sizes = (parts @ bias).abs()
        total = sizes.sum(-1, keepdim=True)
        # Where no part points along the bias at all, it is split evenly: it must not get lost.
        weights = torch.where(total > 0, sizes / total, 1 / sizes.shape[-1])
        return parts + weights[..., None] * bias


def _with_own(vectors: Tensor, states: Tensor, queries: slice) -> Tensor:
    """What attention carries, [batch, queries, tokens, width], and what the residual connection does, put together."""
    import torch

    own = torch.arange(queries.start, queries.start + vectors.shape[1], device=states.device)
    vectors[:, own - queries.start, own] += states[:, own]
    return vectors


def _mixed(layer: Layer, own: Tensor, parts: Tensor, attention: Tensor, tokens_per_pass: int) -> Tensor:
    """The parts of what attention hands on, without biases, added to `own`, [batch, queries, parts, width]."""
    import torch

    mixed = torch.empty_like(own)
    some = max(1, tokens_per_pass // (parts.shape[0] * parts.shape[1]))
    for first in range(0, parts.shape[2], some):
        place = slice(first, first + some)
        values = layer.values.share(parts[:, :, place])
        values = values.reshape(*values.shape[:-1], layer.heads, -1)
        handed_on = layer.output.share(torch.einsum("bhij,bjkhd->bikhd", attention, values).flatten(-2))
        mixed[:, :, place] = own[:, :, place] + handed_on
    return mixed


def _position_wise(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], outcome: Tensor, tokens_per_pass: int
) -> None:
    """Fill `outcome` with a function of each token's parts, a few tokens at a time."""
    flat = [tensor.flatten(0, 1) for tensor in inputs]
    filled = outcome.view(-1, *outcome.shape[2:])
    some = max(1, tokens_per_pass // outcome.shape[2])
    for first in range(0, len(filled), some):
        place = slice(first, first + some)
        filled[place] = function(*(tensor[place] for tensor in flat))
