"""Relevance in a BERT classifier worked out step by step in float64 from the papers' equations, one row at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def gelu(x: Array) -> Array:
    return x * torch.special.ndtr(torch.from_numpy(x)).numpy()


class ByHand:
    """LRP-ε: the forward pass with everything kept, and relevance neuron by neuron on the way back."""

    def __init__(self, model: Any, ids: NDArray[np.int64], segments: NDArray[np.int64], epsilon: float = 0.0) -> None:
        self.weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
        self.config = model.config
        self.epsilon = epsilon
        embeddings = "bert.embeddings."
        self.words = self.weights[embeddings + "word_embeddings.weight"][ids]
        self.embedded = (
            self.words
            + self.weights[embeddings + "position_embeddings.weight"][: len(ids)]
            + self.weights[embeddings + "token_type_embeddings.weight"][segments]
        )
        state = self.norm_of(self.embedded, embeddings + "LayerNorm")
        self.layers = []
        for index in range(self.config.num_hidden_layers):
            kept = self.layer(state, f"bert.encoder.layer.{index}.")
            self.layers.append(kept)
            state = kept["out"]
        self.last = state
        self.pooled_before = self.linear_of(state[:1], "bert.pooler.dense")
        self.pooled = np.tanh(self.pooled_before)
        self.logits = self.linear_of(self.pooled, "classifier")[0]

    def linear_of(self, x: Array, name: str) -> Array:
        return x @ self.weights[name + ".weight"].T + self.weights[name + ".bias"]

    def norm_of(self, x: Array, name: str) -> Array:
        centred = x - x.mean(1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + self.config.layer_norm_eps)
        return scaled * self.weights[name + ".weight"] + self.weights[name + ".bias"]

    def layer(self, x: Array, name: str) -> dict[str, Any]:
        count = self.config.num_attention_heads
        queries, keys, values = (
            self.linear_of(x, f"{name}attention.self.{part}").reshape(len(x), count, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        products = queries @ keys.swapaxes(1, 2)
        scores = products / np.sqrt(queries.shape[-1])
        attention = np.exp(scores - scores.max(-1, keepdims=True))
        attention /= attention.sum(-1, keepdims=True)
        heads = attention @ values
        context = heads.swapaxes(0, 1).reshape(x.shape)
        attended = self.linear_of(context, name + "attention.output.dense")
        middle = self.norm_of(attended + x, name + "attention.output.LayerNorm")
        before = self.linear_of(middle, name + "intermediate.dense")
        after = gelu(before)
        fed = self.linear_of(after, name + "output.dense")
        out = self.norm_of(fed + middle, name + "output.LayerNorm")
        return {key: value for key, value in locals().items() if key != "self"}

    # How relevance goes back, rule by rule.

    def stabilised(self, z: Array) -> Array:
        return z + self.epsilon * np.where(z < 0, -1, 1)

    def linear(self, x: Array, relevance: Array, name: str) -> Array:
        found = np.zeros_like(x)
        for token in range(len(x)):
            contributions = x[token] * self.weights[name + ".weight"]  # [outputs, inputs]
            total = self.stabilised(contributions.sum(1) + self.weights[name + ".bias"])
            found[token] = (contributions * (relevance[token] / total)[:, None]).sum(0)
        return found

    def norm(self, x: Array, relevance: Array, name: str) -> Array:
        found = np.zeros_like(x)
        width = x.shape[1]
        for token in range(len(x)):
            scale = self.weights[name + ".weight"] / np.sqrt(x[token].var() + self.config.layer_norm_eps)
            contributions = (np.eye(width) - 1 / width) * x[token] * scale[:, None]  # [outputs, inputs]
            total = contributions.sum(1) + self.weights[name + ".bias"]
            found[token] = (contributions * (relevance[token] / total)[:, None]).sum(0)
        return found

    def add(self, left: Array, right: Array, relevance: Array) -> tuple[Array, Array]:
        return left / (left + right) * relevance, right / (left + right) * relevance

    def head(
        self, kept: dict[str, Any], head: int, relevance: Array
    ) -> tuple[Array | None, Array | None, Array, Array | None]:
        """Relevance of queries, keys, values and attention weights of one head."""
        attention, values = kept["attention"][head], kept["values"][head]
        found = np.zeros_like(values)
        for token in range(len(values)):
            contributions = attention[token][:, None] * values
            found += contributions / self.stabilised(contributions.sum(0)) * relevance[token]
        return None, None, found, None

    def relevance(self, target: int, start: float | None = None) -> Array:
        """The relevance of each word embedding, [tokens, width]; that of heads and attention is kept on the way."""
        self.heads: list[Array] = []
        self.attention: list[Array] = []
        at_logits = np.zeros((1, len(self.logits)))
        at_logits[0, target] = self.logits[target] if start is None else start
        at_pooled = self.linear(self.pooled, at_logits, "classifier")
        state = np.zeros_like(self.last)
        state[:1] = self.linear(self.last[:1], at_pooled, "bert.pooler.dense")
        for index in reversed(range(len(self.layers))):
            kept = self.layers[index]
            name = f"bert.encoder.layer.{index}."
            state = self.norm(kept["fed"] + kept["middle"], state, name + "output.LayerNorm")
            at_fed, at_middle = self.add(kept["fed"], kept["middle"], state)
            at_after = self.linear(kept["after"], at_fed, name + "output.dense")
            at_middle = at_middle + self.linear(kept["middle"], at_after, name + "intermediate.dense")
            state = self.norm(kept["attended"] + kept["x"], at_middle, name + "attention.output.LayerNorm")
            at_attended, at_x = self.add(kept["attended"], kept["x"], state)
            at_context = self.linear(kept["context"], at_attended, name + "attention.output.dense")
            split = at_context.reshape(len(at_x), self.config.num_attention_heads, -1).swapaxes(0, 1)
            self.heads.insert(0, split.sum((1, 2)))
            parts = [self.head(kept, head, split[head]) for head in range(len(split))]
            if parts[0][3] is not None:
                self.attention.insert(0, np.stack([part[3] for part in parts]))
            state = at_x
            for part, which in enumerate(("query", "key", "value")):
                if parts[0][part] is not None:
                    joined = np.stack([found[part] for found in parts]).swapaxes(0, 1).reshape(at_x.shape)
                    state = state + self.linear(kept["x"], joined, f"{name}attention.self.{which}")
        state = self.norm(self.embedded, state, "bert.embeddings.LayerNorm")
        return self.words / self.embedded * state


class AttnByHand(ByHand):
    """AttnLRP (Achtibat et al. 2024)."""

    def product(self, left: Array, right: Array, relevance: Array) -> tuple[Array, Array]:
        """Both factors of left @ right: the ε-rule and a half for each."""
        at_left, at_right = np.zeros_like(left), np.zeros_like(right)
        for row in range(left.shape[0]):
            for column in range(right.shape[1]):
                contributions = left[row] * right[:, column]
                shares = contributions / (2 * self.stabilised(contributions.sum())) * relevance[row, column]
                at_left[row] += shares
                at_right[:, column] += shares
        return at_left, at_right

    def softmax(self, scores: Array, weights: Array, relevance: Array) -> Array:
        return scores * (relevance - weights * relevance.sum(1, keepdims=True))

    def head(self, kept: dict[str, Any], head: int, relevance: Array) -> tuple[Array, Array, Array, Array]:
        attention, values = kept["attention"][head], kept["values"][head]
        at_attention, at_values = self.product(attention, values, relevance)
        at_scores = self.softmax(kept["scores"][head], attention, at_attention)
        at_queries, at_keys = self.product(kept["queries"][head], kept["keys"][head].T, at_scores)
        return at_queries, at_keys.T, at_values, at_attention


class ChefersByHand(AttnByHand):
    """z⁺ in linear layers, shares by size at residual connections, the rest unchanged (Chefer, Gur & Wolf 2021a)."""

    def linear(self, x: Array, relevance: Array, name: str) -> Array:
        found = np.zeros_like(x)
        for token in range(len(x)):
            positive = np.maximum(x[token] * self.weights[name + ".weight"], 0)
            found[token] = (positive / positive.sum(1, keepdims=True) * relevance[token][:, None]).sum(0)
        return found

    def norm(self, x: Array, relevance: Array, name: str) -> Array:
        return relevance

    def softmax(self, scores: Array, weights: Array, relevance: Array) -> Array:
        return relevance

    def add(self, left: Array, right: Array, relevance: Array) -> tuple[Array, Array]:
        at_left, at_right = super().add(left, right, relevance)
        size = abs(at_left.sum()) + abs(at_right.sum())
        return (
            at_left * (abs(at_left.sum()) / size * relevance.sum() / at_left.sum()),
            at_right * (abs(at_right.sum()) / size * relevance.sum() / at_right.sum()),
        )


def detached_logits(model: Any, embeddings: Tensor, segments: Tensor) -> Tensor:
    """A BERT's logits of one row of word embeddings, attention weights and the scale of norms held fixed."""
    weights = {name: value.double() for name, value in model.state_dict().items()}
    config = model.config

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[name + ".weight"].T + weights[name + ".bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        scale = (x.detach().var(1, unbiased=False, keepdim=True) + config.layer_norm_eps).sqrt()
        return (x - x.mean(1, keepdim=True)) / scale * weights[name + ".weight"] + weights[name + ".bias"]

    root = "bert.embeddings."
    positions = weights[root + "position_embeddings.weight"][: len(embeddings)]
    x = norm(embeddings + positions + weights[root + "token_type_embeddings.weight"][segments], root + "LayerNorm")
    for index in range(config.num_hidden_layers):
        name = f"bert.encoder.layer.{index}."
        queries, keys, values = (
            linear(x, f"{name}attention.self.{part}").view(len(x), config.num_attention_heads, -1).transpose(0, 1)
            for part in ("query", "key", "value")
        )
        attention = (queries @ keys.transpose(1, 2) / queries.shape[-1] ** 0.5).softmax(-1).detach()
        attended = linear((attention @ values).transpose(0, 1).reshape(x.shape), name + "attention.output.dense")
        x = norm(attended + x, name + "attention.output.LayerNorm")
        fed = linear(torch.nn.functional.gelu(linear(x, name + "intermediate.dense")), name + "output.dense")
        x = norm(fed + x, name + "output.LayerNorm")
    return linear(torch.tanh(linear(x[:1], "bert.pooler.dense")), "classifier")[0]
