"""Explainers that follow the gradient of the output back to the word embeddings, at the input or close around it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from assay.checks import not_below_zero, whole_number
from assay.conversation import Explanation
from assay.encoding import Subwords
from assay.errors import near_matches
from assay.explainers.base import WhiteBoxExplainer
from assay.explainers.passes import drawn, every_row, given, gradients, parts, take
from assay.explainers.steady import GROUPS, known_tolerance, rounds

if TYPE_CHECKING:
    from torch import Tensor

    from assay.classifier import Classifier
    from assay.encoding import Batch

Norm = Literal["l2", "l1", "sum"]

# What is drawn before a standard error is looked at.
_FIRST_SAMPLES = 10


class Gradient(WhiteBoxExplainer):
    """How sharply the output changes with a token's embedding: the size of the gradient.

    score_t = ‖∂f/∂e_t‖, with e_t the word embedding of token t and f the target's output (Simonyan, Vedaldi &
    Zisserman 2014; for words Li et al. 2016). The gradient's entries are taken together as `norm` says; their `sum` is
    signed, and says how f changes when all entries of the embedding grow alike. Otherwise unsigned. In units of the
    output by unit of embedding. Cost: one row forward and one backward, shared with all methods that need the gradient
    at the input.

    Args:
        norm: `l2`, `l1` or `sum`.
        subwords: how token scores become a word's.

    Raises:
        ValueError: an unknown norm.
    """

    signed = False

    def __init__(self, norm: Norm = "l2", subwords: Subwords = "sum") -> None:
        super().__init__(subwords)
        self.norm = _known_norm(norm)
        if norm == "sum":
            self.signed = True

    def attribute(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """Norms of the gradient, [batch, tokens]."""
        return _reduced(model.input_gradient(batch, target), self.norm)


class GradientTimesInput(WhiteBoxExplainer):
    """The gradient times the embedding: what each token adds, were the model linear with the zero vector as nothing.

    score_t = e_t · ∂f/∂e_t, with e_t the word embedding of token t and f the target's output (Denil, Demiraj & de
    Freitas 2014; Kindermans et al. 2016). Signed, in units of the output. Cost: one row forward and one backward,
    shared with all methods that need the gradient at the input.

    Args:
        subwords: how token scores become a word's.
    """

    def attribute(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """Products summed over the embedding, [batch, tokens]."""
        return (model.embeddings(batch) * model.input_gradient(batch, target)).sum(-1)


class _Noisy(WhiteBoxExplainer):
    """The gradient under noise on the embeddings: what its mean, its variance or its mean square say."""

    signed = False

    def __init__(self, samples: int, noise: float, subwords: Subwords, tolerance: float | None) -> None:
        super().__init__(subwords)
        self.samples = whole_number("samples", samples, at_least=1)
        self.noise = not_below_zero("noise", noise)
        self.tolerance = known_tolerance(tolerance)

    @abstractmethod
    def _of_moments(self, mean: Tensor, deviations: Tensor) -> Tensor:
        """The scores, [..., tokens], from the mean gradient and the mean square of its deviations."""

    def attribute(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor | Explanation:
        """Scores, [batch, tokens]."""
        if self.tolerance is None:
            return self._of_moments(*self._moments(model, batch, target))
        return self._steady(model, batch, target, self.tolerance)

    def _steady(self, model: Classifier, batch: Batch, target: Tensor, tolerance: float) -> Explanation:
        """Scores of each example from as many samples as it needs."""
        import torch

        embeddings, spread = model.embeddings(batch), self._spread(model, batch)
        scores = embeddings.new_zeros(embeddings.shape[:2])
        used, errors = (embeddings.new_zeros(len(embeddings)) for _ in range(2))
        for part in parts(batch, len(embeddings), self.samples):
            active, before = every_row(batch)[part], 0
            sums = {row: _GroupSums(embeddings[row]) for row in active.tolist()}
            for count in rounds(_FIRST_SAMPLES, self.samples):
                some = take(batch, active)
                size = spread[active, None, None, None] * some.eligible[:, None, :, None]
                noise = drawn(some, _normal, embeddings[active], count - before) * size
                points = (embeddings[active, None] + noise).flatten(0, 1)
                rows = every_row(some, count - before)
                found = [gradient for _, _, gradient, _ in gradients(model, some, target[active], rows, given(points))]
                sampled = torch.cat(found).view(len(active), count - before, *embeddings.shape[1:])
                for row, new in zip(active.tolist(), sampled, strict=True):
                    sums[row].add(new)
                    scores[row] = self._of_moments(*sums[row].moments())
                    error = sums[row].standard_error(self._of_moments)
                    used[row], errors[row] = count, error[batch.eligible[row]].max()
                before = count
                active = active[errors[active] > tolerance]
                if not len(active):
                    break
        return Explanation(scores, {"samples": used, "standard_error": errors})

    def _spread(self, model: Classifier, batch: Batch) -> Tensor:
        """The noise's standard deviation, [batch]."""
        embeddings, eligible = model.embeddings(batch), batch.eligible[..., None]
        widest = embeddings.masked_fill(~eligible, -float("inf")).amax((1, 2))
        narrowest = embeddings.masked_fill(~eligible, float("inf")).amin((1, 2))
        return self.noise * (widest - narrowest)

    def _moments(self, model: Classifier, batch: Batch, target: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of the gradient under noise, and the mean square of its deviations; [batch, tokens, width]."""
        import torch

        embeddings, spread = model.embeddings(batch), self._spread(model, batch)
        eligible = batch.eligible[..., None]
        mean, deviations = embeddings.new_zeros(embeddings.shape), embeddings.new_zeros(embeddings.shape)
        # Noise is drawn for as many examples at a time as fit, all samples of one before the next.
        for group in parts(batch, len(embeddings), self.samples):
            some = take(batch, every_row(batch)[group])
            size = spread[group, None, None, None] * eligible[group, None]
            noise = drawn(some, _normal, embeddings[group], self.samples) * size
            points = (embeddings[group, None] + noise).flatten(0, 1)
            rows = every_row(some, self.samples)
            found = [gradient for _, _, gradient, _ in gradients(model, some, target[group], rows, given(points))]
            sampled = torch.cat(found).view(-1, self.samples, *embeddings.shape[1:])
            mean[group] = sampled.mean(1)
            deviations[group] = (sampled - mean[group, None]).square().mean(1)
        return mean, deviations


class _GroupSums:
    """The sums of one example's gradients and of their squares, in groups of samples that can be left out.

    They are of the differences from the first gradient, since squares of large numbers hide how little those vary.
    """

    def __init__(self, like: Tensor) -> None:
        import torch

        dtype = torch.promote_types(like.dtype, torch.float32)
        self._sums, self._squares = (like.new_zeros((GROUPS, *like.shape), dtype=dtype) for _ in range(2))
        self._counts = like.new_zeros((GROUPS, 1, 1), dtype=dtype)
        self._first: Tensor | None = None
        self._samples = 0

    def add(self, gradients: Tensor) -> None:
        """Take in gradients, [samples, tokens, width]."""
        gradients = gradients.to(self._sums.dtype)
        if self._first is None:
            self._first = gradients[0].clone()
        for difference in gradients - self._first:
            group = self._samples % GROUPS
            self._sums[group] += difference
            self._squares[group] += difference.square()
            self._counts[group] += 1
            self._samples += 1

    def moments(self) -> tuple[Tensor, Tensor]:
        """The mean, and the mean square of the deviations from it, [tokens, width]."""
        return self._moments_of(self._sums.sum(0), self._squares.sum(0), self._counts.sum(0))

    def standard_error(self, scores: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The standard error of scores of the moments, [tokens]: the grouped jackknife (see `steady`)."""
        groups = min(GROUPS, self._samples)
        if groups < 2:
            return self._sums.new_full(self._sums.shape[1:2], float("inf"))
        sums, squares, counts = (
            values.sum(0) - values[:groups] for values in (self._sums, self._squares, self._counts)
        )
        without = scores(*self._moments_of(sums, squares, counts))
        return ((groups - 1) * without.var(0, correction=0)).sqrt()

    def _moments_of(self, sums: Tensor, squares: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        assert self._first is not None
        mean = sums / counts
        return self._first + mean, (squares / counts - mean.square()).clamp_min(0)


class SmoothGrad(_Noisy):
    """The gradient averaged over noisy copies of the input, which takes out its fast wiggles.

    score_t = ‖E[∂f/∂e_t (e + ε)]‖, with ε normal noise on the word embeddings of all words, f the target's output
    (Smilkov et al. 2017). Its standard deviation is `noise` times the range of the text's embeddings, largest entry
    less smallest, as in the paper, which recommends 0.1 to 0.2 for pixels; special tokens get none. The embeddings of a
    trained model spread far less than their range, so that already 0.1 moves a word further than its neighbours lie.
    The mean is of the gradients, not of their norms, so that what points a different way in each sample cancels.
    `norm` takes the mean's entries together as in `gradient`, which this is without noise. Unsigned unless `norm` is
    `sum`, in units of the output by unit of embedding. The error of the mean falls with the root of `samples`. Cost:
    `samples` rows forward and backward.

    Args:
        samples: how many noisy copies; the paper sees little gain above 50.
        noise: the noise's standard deviation, as a share of the embeddings' range.
        norm: `l2`, `l1` or `sum`.
        subwords: how token scores become a word's.
        tolerance: the standard error, in the score's unit, at which no more copies are drawn; None for all of them.

    Raises:
        ValueError: `samples` below 1, a negative noise, an unknown norm, or `tolerance` not above 0.
    """

    def __init__(
        self,
        samples: int = 50,
        noise: float = 0.1,
        norm: Norm = "l2",
        subwords: Subwords = "sum",
        tolerance: float | None = None,
    ) -> None:
        super().__init__(samples, noise, subwords, tolerance)
        self.norm = _known_norm(norm)
        if norm == "sum":
            self.signed = True

    def _of_moments(self, mean: Tensor, deviations: Tensor) -> Tensor:
        """Norms of the mean gradient."""
        return _reduced(mean, self.norm)


class VarGrad(_Noisy):
    """How much the gradient varies among noisy copies of the input.

    score_t = Σ_d Var[∂f/∂e_td (e + ε)], with the noise ε of `smoothgrad` (Adebayo et al. 2018). The variances of the
    embedding's entries are summed, so that the score is the mean squared distance of the gradient from its mean; it
    divides by `samples`. It does not contain the gradient itself (Seo et al. 2018) and is 0 for a linear model.
    Unsigned, in squared units of the output by unit of embedding. Cost: `samples` rows forward and backward.

    Args:
        samples: how many noisy copies.
        noise: the noise's standard deviation, as a share of the embeddings' range.
        subwords: how token scores become a word's.
        tolerance: the standard error, in the score's unit, at which no more copies are drawn; None for all of them.

    Raises:
        ValueError: `samples` below 2, a negative noise, or `tolerance` not above 0.
    """

    def __init__(
        self, samples: int = 50, noise: float = 0.1, subwords: Subwords = "sum", tolerance: float | None = None
    ) -> None:
        super().__init__(whole_number("samples", samples, at_least=2), noise, subwords, tolerance)

    def _of_moments(self, mean: Tensor, deviations: Tensor) -> Tensor:
        """Variances summed over the embedding."""
        return deviations.sum(-1)


class SquareGrad(_Noisy):
    """The mean square of the gradient over noisy copies of the input.

    score_t = E ‖∂f/∂e_t (e + ε)‖₂², with the noise ε of `smoothgrad` (SmoothGrad² in Hooker et al. 2019, who find that
    it ranks far better than `smoothgrad` and than the gradient). It is the squared mean and the variance together:
    ‖smoothgrad‖₂² + vargrad. Unsigned, in squared units of the output by unit of embedding. Cost: `samples` rows
    forward and backward.

    Args:
        samples: how many noisy copies.
        noise: the noise's standard deviation, as a share of the embeddings' range.
        subwords: how token scores become a word's.
        tolerance: the standard error, in the score's unit, at which no more copies are drawn; None for all of them.

    Raises:
        ValueError: `samples` below 1, a negative noise, or `tolerance` not above 0.
    """

    def __init__(
        self, samples: int = 50, noise: float = 0.1, subwords: Subwords = "sum", tolerance: float | None = None
    ) -> None:
        super().__init__(samples, noise, subwords, tolerance)

    def _of_moments(self, mean: Tensor, deviations: Tensor) -> Tensor:
        """Mean squares summed over the embedding."""
        return (mean.square() + deviations).sum(-1)


def _known_norm(norm: Norm) -> Norm:
    if norm not in get_args(Norm):
        raise ValueError(f"unknown norm {norm!r}. {near_matches(str(norm), get_args(Norm))}")
    return norm


def _reduced(gradient: Tensor, norm: Norm) -> Tensor:
    """The entries of each token's gradient taken together, [batch, tokens]."""
    if norm == "sum":
        return gradient.sum(-1)
    reduced: Tensor = gradient.norm(p=1 if norm == "l1" else 2, dim=-1)
    return reduced


def _normal(rng: np.random.Generator, count: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return rng.standard_normal((count, width))
