"""What a transformer's layers are made of, taken apart: affine maps, norms, activations, and how they share a sum out.

This file imports torch; explainers and metrics import it inside their methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

# Below this, an activation's slope from zero is taken here instead: the quotient would be all rounding error.
_SMALL = 1e-6


@dataclass(frozen=True)
class Affine:
    """x ↦ W x + b, with `weight` [out, in] and `bias` [out] or None."""

    weight: Tensor
    bias: Tensor | None = None

    def apply(self, states: Tensor) -> Tensor:
        """The map itself."""
        return functional.linear(states, self.weight, self.bias)

    def share(self, parts: Tensor) -> Tensor:
        """What each of the `parts` (last axis but one) of a state adds to the outcome, the bias left out."""
        return functional.linear(parts, self.weight)


@dataclass(frozen=True)
class Norm:
    """Layer normalisation, or root mean square normalisation where it is not `centred`."""

    weight: Tensor | None
    bias: Tensor | None
    epsilon: float
    centred: bool

    def apply(self, states: Tensor) -> Tensor:
        """The map itself."""
        normed = self.linear(states, states)
        return normed if self.bias is None else normed + self.bias

    def share(self, parts: Tensor) -> Tensor:
        """What each of the `parts` (last axis but one) of a state adds to the outcome, the bias left out."""
        return self.linear(parts, parts.sum(-2, keepdim=True))

    def linear(self, parts: Tensor, states: Tensor) -> Tensor:
        """The map with its factor frozen at that of `states`, and so linear in `parts`; the bias left out."""
        if self.centred:
            states = states - states.mean(-1, keepdim=True)
            parts = parts - parts.mean(-1, keepdim=True)
        normed = parts * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return normed if self.weight is None else normed * self.weight


@dataclass(frozen=True)
class Activation:
    """A function of each coordinate that is 0 at 0."""

    function: Callable[[Tensor], Tensor]
    bias: None = None

    def apply(self, states: Tensor) -> Tensor:
        """The map itself."""
        return self.function(states)

    def share(self, parts: Tensor) -> Tensor:
        """What each of the `parts` adds, along the straight line through zero and the state that they sum to."""
        states = parts.sum(-2, keepdim=True)
        states = torch.where(states.abs() < _SMALL, _SMALL, states)
        return parts * (self.function(states) / states)


Step = Affine | Norm | Activation


@dataclass(frozen=True)
class FeedForward:
    """x ↦ down(activation(up(x))), or down(activation(gate(x)) · up(x)) where there is a gate."""

    up: Affine
    activation: Activation
    down: Affine
    gate: Affine | None = None

    def apply(self, states: Tensor) -> Tensor:
        """The map itself."""
        if self.gate is None:
            return self.down.apply(self.activation.apply(self.up.apply(states)))
        return self.down.apply(self.activation.apply(self.gate.apply(states)) * self.up.apply(states))


@dataclass(frozen=True)
class Layer:
    """One layer of a transformer: attention and a feed-forward network, each with a residual connection and a norm.

    Attributes:
        block: the module whose input is the layer's, [batch, tokens, width].
        heads: the number of attention heads.
        values: the value projection of all heads one after the other; shared values are repeated for each head.
        output: the projection of the mixed values of all heads.
        order: `post`: each norm follows a residual sum (BERT). `pre`: each norm precedes what reads the residual stream
            (GPT-2). `parallel`: as `pre`, and the feed-forward network reads the layer's input too (Falcon).
        attention_norm: the norm that belongs to attention; None where there is none (the first layer of ModernBERT).
        feed_forward_norm: the norm that belongs to the feed-forward network.
    """

    block: nn.Module
    heads: int
    values: Affine
    output: Affine
    feed_forward: FeedForward
    order: Literal["post", "pre", "parallel"]
    attention_norm: Norm | None
    feed_forward_norm: Norm

    def contributions(self, states: Tensor, attention: Tensor, tokens_per_pass: int) -> Iterator[tuple[slice, Tensor]]:
        """What attention carries from each token to some of them: Σ_h α W_O (W_V x + b_V).

        Args:
            states: [batch, tokens, width], the layer's input.
            attention: [batch, heads, tokens, tokens].
            tokens_per_pass: how many vectors may be held at once.

        Yields:
            Some tokens that attend, and what is carried to them, [batch, those, tokens, width].
        """
        if self.order != "post" and self.attention_norm is not None:
            states = self.attention_norm.apply(states)
        values = self.values.apply(states)
        values = values.reshape(*values.shape[:-1], self.heads, -1)
        per_head = self.output.weight.reshape(len(self.output.weight), self.heads, -1)
        carried = torch.einsum("bjhd,whd->bhjw", values, per_head)
        rows, tokens, _ = states.shape
        some = max(1, tokens_per_pass // (rows * tokens))
        for first in range(0, tokens, some):
            queries = slice(first, first + some)
            yield queries, torch.einsum("bhij,bhjw->bijw", attention[:, :, queries], carried)

    def attended(self, contributions: Tensor) -> Tensor:
        """Attention's output, from what it carries from each token."""
        total = contributions.sum(-2)
        return total if self.output.bias is None else total + self.output.bias

    def after_attention(self, states: Tensor, attended: Tensor) -> Tensor:
        """The layer's output, from its input and attention's output."""
        middle = states + attended
        if self.order == "parallel":
            return middle + self.feed_forward.apply(self.feed_forward_norm.apply(states))
        if self.order == "pre":
            return middle + self.feed_forward.apply(self.feed_forward_norm.apply(middle))
        if self.attention_norm is not None:
            middle = self.attention_norm.apply(middle)
        return self.feed_forward_norm.apply(middle + self.feed_forward.apply(middle))
