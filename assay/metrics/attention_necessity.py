"""Is attention needed: does the output hang on which tokens the model attends to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from assay.checks import whole_number
from assay.conversation import generator, rank
from assay.eager_attention import eager_attention
from assay.errors import AssayError, Undefined
from assay.metrics.base import Measure, Method, MethodMetric, Scores
from assay.metrics.similarity import for_each, measured, scores_of

if TYPE_CHECKING:
    from torch import Tensor

    from assay.classifier import Classifier
    from assay.encoding import Encoding

# How many attention weights of all layers together are held at once.
_WEIGHTS_AT_ONCE = 2**26

# The rows [rows] of a pass, the layer's place and its weights [rows, heads, tokens, tokens] -> what is used instead.
Change = Callable[[slice, int, "Tensor"], "Tensor"]


class _OnAttention(MethodMetric):
    """Base of what changes a model's attention weights while it runs.

    Args:
        layer: which layer's, from 0, negative from the last; or `all`.

    Raises:
        ValueError: a layer that is neither a whole number nor `all`.
    """

    def __init__(self, layer: int | Literal["all"]) -> None:
        if layer != "all" and (isinstance(layer, bool) or not isinstance(layer, int)):
            raise ValueError(f"layer must be a whole number or all, not {layer!r}")
        self.layer: int | Literal["all"] = layer

    def check(self, model: Classifier) -> None:
        """Find out whether the model's attention can be changed, and whether it has the layer.

        Raises:
            AssayError: it cannot, or it has not.
        """
        from assay.architectures import count_layers

        depth = count_layers(model)
        if self.layer != "all" and not -depth <= self.layer < depth:
            raise AssayError(f"{model.name} has no layer {self.layer}; its layers are 0 to {depth - 1}.")

    def outputs(self, model: Classifier, encoding: Encoding, rows: int, change: Change) -> NDArray[np.float64]:
        """Probabilities of every class for copies of one input under changed attention, [rows, classes].

        Raises:
            Undefined: the model's attention is not where it can be changed.
        """
        import torch

        from assay.architectures import AttentionWeights, count_layers

        depth = count_layers(model)
        chosen = range(depth) if self.layer == "all" else [self.layer % depth]
        heads = int(model.model.config.num_attention_heads)
        together = max(1, _WEIGHTS_AT_ONCE // (depth * heads * len(encoding.row.ids) ** 2))
        logits = []
        for first in range(0, rows, together):
            part = slice(first, min(first + together, rows))

            def changed(place: int, weights: Tensor, part: slice = part) -> Tensor:
                return change(part, place, weights) if place % depth in chosen else weights

            with ExitStack() as stack:
                stack.enter_context(model.at_work())
                stack.enter_context(eager_attention(model))
                seen = stack.enter_context(AttentionWeights(changed))
                logits.append(model.answer([encoding.row] * (part.stop - part.start)))
            if not seen.layers:
                raise Undefined(f"{type(model.model).__name__} computes no attention that can be changed")
        probabilities: NDArray[np.float64] = torch.from_numpy(np.concatenate(logits)).double().softmax(-1).numpy()
        return probabilities


class AttentionPermutation(_OnAttention):
    """How much the output changes when attention weights are dealt out anew (Jain & Wallace 2019, section 4.2.1).

    median over permutations of TVD(p, p′), with p the model's probabilities, p′ those with the weights of each head and
    each attending token permuted among the tokens that it attends to, and TVD = ½ Σ_c |p_c − p′_c|. In [0, 1]. Near 0
    the attention weights are not needed for the output, so that they can hardly explain it. It tells of the model and
    not of the method that is judged, so neither way is better, and it is the same for all methods.
    `attention_permutation_flips`, stored only: the share of permutations under which another class is predicted.

    The paper's models have one layer of attention, read by the classifier; the last layer stands for it. Sensitive to
    the layer: in a transformer the read token has gathered much of the text before the last. Special tokens are
    permuted as well. Probabilities are taken whatever output is explained. Undefined for a text without tokens to
    permute. Cost: 1 + `permutations` rows forward.

    Args:
        permutations: how many; the paper takes 100.
        layer: which layer's weights, from 0, negative from the last; or `all`.

    Raises:
        ValueError: `permutations` below 1, or a layer that is neither a whole number nor `all`.
    """

    def __init__(self, permutations: int = 20, layer: int | Literal["all"] = -1) -> None:
        super().__init__(layer)
        self.permutations = whole_number("permutations", permutations, at_least=1)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The median distance, and how often the prediction flips."""
        return (
            Measure("attention_permutation", "none", (0.0, 1.0)),
            Measure("attention_permutation_flips", "none", (0.0, 1.0), headline=False),
        )

    def judge(self, method: Method) -> Sequence[Scores]:
        """Run each example under permuted attention."""

        def judge(index: int) -> Scores:
            encoding = method.encodings[index]
            if len(encoding.row.ids) < 2:
                raise Undefined("there is nothing to permute")
            seed = int(generator(method.seed, encoding.id, "attention_permutation").integers(2**63))
            (plain,) = self.outputs(method.model, encoding, 1, lambda rows, place, weights: weights)
            found = self.outputs(method.model, encoding, self.permutations, _permuted(seed))
            return Scores(
                {
                    "attention_permutation": float(np.median(np.abs(found - plain).sum(1) / 2)),
                    "attention_permutation_flips": float(np.mean(found.argmax(1) != plain.argmax())),
                }
            )

        return for_each(self, len(method.examples), judge)


class AttentionErasure(_OnAttention):
    """How soon the decision flips as attention to features is erased, the highest ranking first (Serrano & Smith 2019).

    `attention_erasure`: the least share k/n such that another class is predicted once the attention weights on the k
    highest ranking features are 0 and those that are left are scaled to sum to 1; the paper ranks by attention itself.
    Lower is better, in (0, 1].

    `attention_erasure_gain`: the same share for a random ranking, averaged over `orders` of them, less the method's
    own. Higher is better, in (−1, 1), and 0 is chance; a random ranking that flips nothing counts as 1.

    Erased in all layers, a token is hidden from the others (as by the perturbation `pad`, but for its place in the
    sequence), while it still reads them itself. Attention to special tokens stays; a token that is left with nothing to
    attend to keeps its weights. Sensitive to what the model does without words, as one class then always flips sooner:
    the gain less so. Undefined where the decision never flips. Cost: at most `most_steps` rows forward, and as many for
    each random ranking.

    Args:
        orders: how many random rankings.
        most_steps: the most shares that are tried, evenly spaced; with as many features or fewer each is one of them.
        layer: which layer's weights are erased, from 0, negative from the last; or `all`.

    Raises:
        ValueError: `orders` or `most_steps` below 1, or a layer that is neither a whole number nor `all`.
    """

    def __init__(self, orders: int = 3, most_steps: int = 20, layer: int | Literal["all"] = "all") -> None:
        super().__init__(layer)
        self.orders = whole_number("orders", orders, at_least=1)
        self.most_steps = whole_number("most_steps", most_steps, at_least=1)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The share at the flip, and how much sooner than by chance it comes."""
        return (
            Measure("attention_erasure", "lower", (0.0, 1.0)),
            Measure("attention_erasure_gain", "higher", (-1.0, 1.0)),
        )

    def judge(self, method: Method) -> Sequence[Scores]:
        """Erase attention along the method's ranking, and along random ones."""

        def judge(index: int) -> Scores:
            scores, encoding = scores_of(method.attributions[index]), method.encodings[index]
            rng = generator(method.seed, encoding.id, "attention_erasure")
            rankings = [rank(scores, rng), *(rng.permutation(encoding.n) for _ in range(self.orders))]
            own, *others = self._flips(method.model, encoding, rankings)

            def at_flip() -> float:
                if own is None:
                    raise Undefined("the decision never flips")
                return own

            def sooner() -> float:
                return float(np.mean([1.0 if other is None else other for other in others])) - at_flip()

            return measured({"attention_erasure": at_flip, "attention_erasure_gain": sooner})

        return for_each(self, len(method.examples), judge)

    def _flips(self, model: Classifier, encoding: Encoding, rankings: Sequence[NDArray[np.intp]]) -> list[float | None]:
        """For each ranking the share of features after which another class is predicted; None where that never is."""
        n = encoding.n
        steps = np.unique(np.ceil(np.linspace(0, n, min(n, self.most_steps) + 1)[1:] - 1e-9).astype(np.intp))
        erased = np.zeros((1 + len(rankings) * len(steps), n), dtype=np.bool_)
        for number, ranking in enumerate(rankings):
            for place, step in enumerate(steps):
                erased[1 + number * len(steps) + place, ranking[:step]] = True
        # Special tokens have feature -1 and so read the appended column, which is never erased.
        tokens = np.pad(erased, ((0, 0), (0, 1)))[:, encoding.feature_of_token]
        found = self.outputs(model, encoding, len(tokens), _erased(tokens)).argmax(1)
        flipped = (found[1:] != found[0]).reshape(len(rankings), len(steps))
        return [float(steps[flips.argmax()]) / n if flips.any() else None for flips in flipped]


def _permuted(seed: int) -> Change:
    """Weights dealt out anew among the tokens that are attended to, by draws that hang on the seed alone."""
    import torch

    source = torch.Generator().manual_seed(seed)

    def change(rows: slice, place: int, weights: Tensor) -> Tensor:
        attended = weights > 0
        tokens = weights.shape[-1]
        drawn = torch.rand(weights.shape, generator=source).to(weights.device)
        # Both orders begin with the tokens that are attended to: once as they stand, once shuffled.
        standing = torch.arange(tokens, device=weights.device).expand(weights.shape) + tokens * ~attended
        shuffled = (drawn + 2 * ~attended).argsort(-1)
        return torch.zeros_like(weights).scatter(-1, standing.argsort(-1), weights.gather(-1, shuffled))

    return change


def _erased(tokens: NDArray[np.bool_]) -> Change:
    """Weights on the `tokens` [rows, tokens] set to 0, the others scaled to sum to 1."""
    import torch

    def change(rows: slice, place: int, weights: Tensor) -> Tensor:
        kept = ~torch.from_numpy(tokens[rows]).to(weights.device)
        # A prompted model's label words follow the text, and stay.
        kept = torch.nn.functional.pad(kept, (0, weights.shape[-1] - kept.shape[1]), value=True)
        left = weights * kept[:, None, None, :]
        total = left.sum(-1, keepdim=True)
        return torch.where(total > 0, left / total, weights)

    return change
