"""Explainers that follow the gradient along a path from an empty input to the real one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args, overload

import numpy as np
from numpy.typing import NDArray

from assay.checks import above_zero, whole_number
from assay.conversation import Explanation
from assay.encoding import Subwords
from assay.errors import AssayError, near_matches
from assay.explainers.base import WhiteBoxExplainer
from assay.explainers.passes import drawn, every_row, gradients, outputs, parts, take
from assay.explainers.steady import GROUPS_OF_MEANS, known_tolerance, rounds, standard_error

if TYPE_CHECKING:
    from torch import Tensor

    from assay.classifier import Classifier
    from assay.encoding import Batch
    from assay.example import Example

TokenBaseline = Literal["mask", "pad"]
HiddenBaseline = Literal["mask", "pad", "zero"]
Baseline = Literal["mask", "pad", "zero", "mean", "noise", "training"]

# Below this difference between the outputs at both ends, a relative error says nothing.
_LEAST_DIFFERENCE = 0.01

# What is drawn before a standard error is looked at.
_FIRST_SAMPLES = 10


class IntegratedGradients(WhiteBoxExplainer):
    """The gradient averaged on the straight way from an empty input to the real one, times the difference.

    score_t = (e_t − b_t) · ∫₀¹ ∂f/∂e_t (b + α(e − b)) dα, with e the word embeddings, b those of the baseline and f the
    target's output (Sundararajan, Taly & Yan 2017). The scores of an example sum to f(x) − f(baseline); the report's
    `completeness_error` is what they miss it by, its `steps` how many points the integral was taken at.

    In the baseline every token of a feature is replaced; special tokens and padding keep their embeddings, as they do
    when features are hidden, and so score 0. What replaces them:

    - `mask` (default): the model's mask token, or what stands in for it (`Classifier.hidden_token`). This is the
      absence that the model knows from pretraining and that the `mask` perturbation produces, so that the scores split
      the same difference f(x) − f(∅) as KernelSHAP's.
    - `pad`: the padding token. Many models never train its embedding.
    - `zero`: the zero vector; a point that no input of the model lies near, but a neutral one where embeddings are
      centred, and what makes a linear model's scores equal gradient × input. A model that normalises an embedding
      before anything is added to it jumps there, and no number of steps makes up for that.
    - `mean`: the mean of all rows of the embedding matrix.
    - `noise`: each entry drawn uniformly between the smallest and the largest entry of the embedding matrix; the scores
      are means over `samples` such baselines.
    - `training`: the embeddings of `samples` texts drawn from the task's train split, token by token at the places of
      the example's words; a text that is too short is begun again, one that is too long is cut off. The scores are
      means over them.

    Without `adaptive_steps` the integral is taken by Gauss-Legendre quadrature at `steps` points. With it, each example
    gets the points that it needs: Simpson's rule on intervals that are halved where they leave most unexplained. What
    an interval leaves unexplained is known, for its share of the integral is the difference of the outputs at its ends;
    and every point is used again when its interval is halved. The work on an example ends when the errors of its
    intervals, signs ignored, sum to at most `adaptive_steps` · |f(x) − f(b)| (0.01 taken for the difference where it is
    less), or with the `most_steps`. With small BERTs fine-tuned on SST-2 and MNLI, probabilities and the baseline
    `mask`, 0.01 takes 20 and 24 steps on average (10 texts each, at most 61) and keeps its bound in all of them.

    Signed, in units of the output. Cost: `steps` rows forward and backward for each baseline.

    Args:
        steps: how many points the integral is taken at, without `adaptive_steps`.
        baseline: `mask`, `pad`, `zero`, `mean`, `noise` or `training`.
        samples: how many baselines of `noise` or `training` are averaged; the others are one.
        adaptive_steps: the completeness error to reach, as a share of the difference, such as 0.01; null for a fixed
            number of steps.
        most_steps: the most points for one example and baseline with `adaptive_steps`.
        texts: how many texts of the train split the baseline `training` draws from.
        subwords: how token scores become a word's.

    Raises:
        ValueError: `steps`, `samples` or `texts` below 1, `most_steps` below 5, an unknown baseline or a bound that
            is not above 0.
    """

    def __init__(
        self,
        steps: int = 50,
        baseline: Baseline = "mask",
        samples: int = 5,
        adaptive_steps: float | None = None,
        most_steps: int = 129,
        texts: int = 100,
        subwords: Subwords = "sum",
    ) -> None:
        super().__init__(subwords)
        self.steps = whole_number("steps", steps, at_least=1)
        if baseline not in get_args(Baseline):
            raise ValueError(f"unknown baseline {baseline!r}. {near_matches(str(baseline), get_args(Baseline))}")
        self.baseline: Baseline = baseline
        self.samples = whole_number("samples", samples, at_least=1)
        self.adaptive_steps = None if adaptive_steps is None else above_zero("adaptive_steps", adaptive_steps)
        self.most_steps = whole_number("most_steps", most_steps, at_least=5)
        self.texts = whole_number("texts", texts, at_least=1)
        self.background = self.texts if baseline == "training" else 0
        self._texts: tuple[NDArray[np.int64], ...] = ()

    def check(self, model: Classifier) -> None:
        """Whether the tokenizer has what the baseline puts in place of words.

        Raises:
            AssayError: baseline `pad` with a tokenizer that has no padding token, or `mask` with one that has nothing
                to hide a word with.
        """
        baseline_token(model, self.baseline)

    def prepare(self, model: Classifier, background: Sequence[Example]) -> None:
        """Keep the texts that the baseline `training` draws from."""
        self._texts = word_tokens(model, background)

    def attribute(self, model: Classifier, batch: Batch, target: Tensor) -> Explanation:
        """Shares of f(x) − f(baseline), [batch, tokens].

        Raises:
            AssayError: see `check`; or baseline `training` without texts.
        """
        full = model.embeddings(batch)
        start = self._baselines(model, batch, full)
        drawn_baselines = start.shape[1]
        rows = every_row(batch, drawn_baselines)
        start = start.flatten(0, 1)
        path = _Straight(model, batch, target, rows, start, full.repeat_interleave(drawn_baselines, 0) - start)
        if self.adaptive_steps is None:
            scores, steps = path.fixed(self.steps)
            at_input = outputs(model, batch, target, every_row(batch), lambda rows, _: full[rows])
            at_start = outputs(model, batch, target, rows, lambda _, part: start[part])
            difference = at_input[rows] - at_start
        else:
            scores, steps, difference = path.adaptive(self.adaptive_steps, self.most_steps)
        scores = scores.view(len(full), drawn_baselines, -1).mean(1)
        difference = difference.view(-1, drawn_baselines).mean(1)
        report = {
            "completeness_error": (scores.sum(-1) - difference).abs(),
            "steps": steps.view(-1, drawn_baselines).float().mean(1),
        }
        return Explanation(scores, report)

    def _baselines(self, model: Classifier, batch: Batch, full: Tensor) -> Tensor:
        """The embeddings of the empty inputs, [batch, baselines, tokens, width]."""
        eligible = batch.eligible[:, None, :, None]
        matrix = model.embedding_table
        if self.baseline == "training":
            return text_embeddings(model, batch, self._texts, self.samples)
        if self.baseline == "noise":
            lowest, highest = matrix.min(), matrix.max()
            filled = lowest + (highest - lowest) * drawn(batch, _uniform, full, self.samples)
            return filled.where(eligible, full[:, None])
        if self.baseline == "mean":
            return matrix.mean(0).where(eligible, full[:, None])
        return hidden_embeddings(model, batch, self.baseline)[:, None]


class ExpectedGradients(WhiteBoxExplainer):
    """Integrated gradients averaged over training texts as baselines, one random point of each path at a time.

    score_t = E[(e_t − b_t) · ∂f/∂e_t (b + α(e − b))] over texts b of the task's train split and α uniform in [0, 1],
    with e the word embeddings and f the target's output (Erion et al. 2021; known as GradientSHAP from Lundberg & Lee's
    shap). In the limit of many samples it is the mean of `integrated_gradients` over those baselines, and its scores
    sum to f(x) − E f(b). A text takes the place of the example's words token by token; one that is too short is begun
    again, one that is too long is cut off; special tokens keep their embeddings and so score 0. Signed, in units of the
    output. The error of the mean falls with the root of `samples`. Cost: `samples` rows forward and backward.

    Args:
        samples: how many pairs of a text and a point on the way are drawn.
        texts: how many texts of the train split they are drawn from.
        subwords: how token scores become a word's.
        tolerance: the standard error at which no more pairs are drawn; None for all of them.

    Raises:
        ValueError: `samples` or `texts` below 1, or `tolerance` not above 0.
    """

    def __init__(
        self, samples: int = 100, texts: int = 100, subwords: Subwords = "sum", tolerance: float | None = None
    ) -> None:
        super().__init__(subwords)
        self.tolerance = known_tolerance(tolerance)
        self.samples = whole_number("samples", samples, at_least=1)
        self.texts = whole_number("texts", texts, at_least=1)
        self.background = self.texts
        self._texts: tuple[NDArray[np.int64], ...] = ()

    def prepare(self, model: Classifier, background: Sequence[Example]) -> None:
        """Keep the texts to draw from."""
        self._texts = word_tokens(model, background)

    def attribute(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor | Explanation:
        """Shares of f(x) − E f(b), [batch, tokens].

        Raises:
            AssayError: no texts.
        """
        full = model.embeddings(batch)
        scores = full.new_zeros(full.shape[:2])
        used, errors = full.new_zeros(len(full)), full.new_zeros(len(full))
        # The texts of as many examples at a time as fit into a pass are made into embeddings.
        for group in parts(batch, len(full), self.samples):
            some = take(batch, every_row(batch)[group])
            start = text_embeddings(model, some, self._texts, self.samples)
            along = np.stack([rng.random(self.samples) for rng in some.rngs])
            rows = every_row(some, self.samples)
            path = _Straight(
                model, some, target[group], rows, start.flatten(0, 1), (full[group, None] - start).flatten(0, 1)
            )
            if self.tolerance is None:
                shares, _ = path.at(np.arange(len(rows)), along.reshape(-1))
                scores[group] = shares.view(-1, self.samples, full.shape[1]).mean(1)
            else:
                scores[group], used[group], errors[group] = self._steady(path, along, self.tolerance)
        return scores if self.tolerance is None else Explanation(scores, {"samples": used, "standard_error": errors})

    def _steady(self, path: _Straight, along: NDArray[np.float64], tolerance: float) -> tuple[Tensor, ...]:
        """The scores of some examples, [rows, tokens], their numbers of samples and standard errors, [rows].

        Args:
            path: from each text to each example, all those of one example before the next.
            along: [rows, samples], the point on each of them.
            tolerance: the standard error to reach.
        """
        count = len(along)
        known = np.zeros((*along.shape, path.start.shape[1]))
        scores, used, errors = np.zeros((count, known.shape[2])), np.zeros(count), np.full(count, np.inf)
        before = 0
        for samples in rounds(_FIRST_SAMPLES, self.samples):
            active = np.flatnonzero(errors > tolerance)
            if not len(active):
                break
            new = np.arange(before, samples)
            places = (active[:, None] * self.samples + new).reshape(-1)
            shares, _ = path.at(places, along[active][:, new].reshape(-1))
            known[active[:, None], new] = shares.double().cpu().numpy().reshape(len(active), len(new), -1)
            for row in active:
                shares_of_row = known[row, :samples]
                scores[row], used[row] = shares_of_row.mean(0), samples
                mean_of = partial(_mean_of, shares_of_row)
                errors[row] = standard_error(mean_of, np.arange(samples), groups=GROUPS_OF_MEANS).max()
            before = samples
        return tuple(path.start.new_tensor(values) for values in (scores, used, errors))


class SequentialIntegratedGradients(WhiteBoxExplainer):
    """Integrated gradients for one word at a time, from the text with that word hidden to the text as it is.

    score_w = Σ_{t in w} (e_t − b) · ∫₀¹ ∂f/∂e_t (x_w + α(x − x_w)) dα, where x_w is the text with the tokens of word w
    replaced by the mask token b, or what stands in for it, and all other words kept (Enguehard 2023). So every point on
    the way lies near the real text. The score of a word comes to f(x) − f(x_w), the score of `leave_one_out` with the
    perturbation `mask`: what the method adds to that is only how it is shared within a word, which a word's score does
    not show. The paper divides the scores by their norm; here they keep their unit. The integral is taken by
    Gauss-Legendre quadrature; the report's `completeness_error` is the largest |score_w − (f(x) − f(x_w))|. Signed, in
    units of the output. Cost: words × `steps` rows forward and backward.

    Args:
        steps: how many points the integral is taken at, for each word.

    Raises:
        ValueError: `steps` below 1.
    """

    scores_features = True

    def __init__(self, steps: int = 50) -> None:
        super().__init__()
        self.steps = whole_number("steps", steps, at_least=1)

    def check(self, model: Classifier) -> None:
        """Whether the tokenizer has something to hide a word with.

        Raises:
            AssayError: it has not.
        """
        _ = model.hidden_token

    def attribute(self, model: Classifier, batch: Batch, target: Tensor) -> Explanation:
        """Shares of f(x) − f(x without the word), [batch, features]."""
        import torch

        full, hidden = model.embeddings(batch), hidden_embeddings(model, batch, "mask")
        features = torch.arange(int(batch.feature_of_token.max()) + 1, device=full.device)
        words = (batch.feature_of_token[..., None] == features).any(1)  # [batch, features], which of them a row has
        rows, word = words.nonzero(as_tuple=True)
        points, weights = _gauss_legendre(self.steps)
        alpha, weight = (full.new_tensor(values) for values in (points, weights))

        def of_word(index: Tensor) -> tuple[Tensor, Tensor]:
            """The texts with their word hidden, and the way from there to the text."""
            chosen = rows[index]
            here = (batch.feature_of_token[chosen] == word[index, None])[..., None]
            start = hidden[chosen].where(here, full[chosen])
            return start, full[chosen] - start

        def between(_: Tensor, part: slice) -> Tensor:
            start, way = of_word(places[part])
            return start + alpha[step[part], None, None] * way

        places = torch.arange(len(rows), device=full.device).repeat_interleave(self.steps)
        step = torch.arange(self.steps, device=full.device).repeat(len(rows))
        slopes = full.new_zeros(len(places))
        for _, part, gradient, _ in gradients(model, batch, target, rows[places], between):
            slopes[part] = (of_word(places[part])[1] * gradient).sum((1, 2))
        shares = (slopes.view(-1, self.steps) * weight).sum(1)

        at_input = outputs(model, batch, target, every_row(batch), lambda rows, _: full[rows])
        everywhere = torch.arange(len(rows), device=full.device)
        without = outputs(model, batch, target, rows, lambda _, part: of_word(everywhere[part])[0])
        scores, errors = (full.new_zeros(words.shape) for _ in range(2))
        scores[rows, word] = shares
        errors[rows, word] = (shares - (at_input[rows] - without)).abs()
        return Explanation(scores, {"completeness_error": errors.amax(1)})


class _Straight:
    """Straight paths in the space of embeddings, and the integral of the gradient along them.

    Attributes:
        rows: [paths], the row of the batch that each path belongs to.
        start: [paths, tokens, width], where they begin.
        way: [paths, tokens, width], the way from there to their end.
    """

    def __init__(
        self, model: Classifier, batch: Batch, target: Tensor, rows: Tensor, start: Tensor, way: Tensor
    ) -> None:
        self._model, self._batch, self._target = model, batch, target
        self.rows, self.start, self.way = rows, start, way

    def at(self, paths: NDArray[np.intp], along: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        """What each token adds to the slope at points of paths, [points, tokens], and the outputs there, [points].

        Args:
            paths: [points], which path each point lies on.
            along: [points], where on it, from 0 to 1.
        """
        import torch

        path = torch.from_numpy(paths).to(self.rows.device)
        alpha = self.start.new_tensor(along)[:, None, None]
        slopes, values = [], []
        for _, part, gradient, value in gradients(
            self._model,
            self._batch,
            self._target,
            self.rows[path],
            lambda _, part: self.start[path[part]] + alpha[part] * self.way[path[part]],
        ):
            slopes.append((self.way[path[part]] * gradient).sum(-1))
            values.append(value)
        return torch.cat(slopes), torch.cat(values)

    def fixed(self, steps: int) -> tuple[Tensor, Tensor]:
        """The integral by Gauss-Legendre quadrature, [paths, tokens], and the number of points, [paths]."""
        points, weights = _gauss_legendre(steps)
        count = len(self.rows)
        slopes, _ = self.at(np.repeat(np.arange(count), steps), np.tile(points, count))
        scores = (slopes.view(count, steps, -1) * slopes.new_tensor(weights)[:, None]).sum(1)
        return scores, self.rows.new_full((count,), steps)

    def adaptive(self, bound: float, most: int) -> tuple[Tensor, Tensor, Tensor]:
        """The integral with as many points as it needs, the number of points, and the outputs' difference.

        Args:
            bound: the error to reach, as a share of that difference.
            most: the most points for one path.
        """
        integrals = [_Integral(bound, most) for _ in self.rows]
        wanted = [(path, point) for path, integral in enumerate(integrals) for point in integral.wanted()]
        while wanted:
            slopes, values = self.at(np.array([path for path, _ in wanted]), np.array([point for _, point in wanted]))
            for (path, point), slope, value in zip(
                wanted, slopes.double().cpu().numpy(), values.double().tolist(), strict=True
            ):
                integrals[path].known[point] = slope, value
            wanted = [
                (path, point) for path in sorted({path for path, _ in wanted}) for point in integrals[path].wanted()
            ]
        return (
            self.start.new_tensor(np.stack([integral.value for integral in integrals])),
            self.rows.new_tensor([len(integral.known) for integral in integrals]),
            self.start.new_tensor([integral.difference for integral in integrals]),
        )


@dataclass
class _Integral:
    """The integral of a function from 0 to 1 by Simpson's rule, on intervals halved where it is worst.

    The function's values add up to a slope whose antiderivative is known at each point, and so is the error of each
    interval.

    Attributes:
        bound: the sum of the intervals' errors to reach, as a share of the antiderivative's difference.
        most: the most points.
        known: by point, the function's values there, [tokens], and the antiderivative.
        intervals: their ends.
    """

    bound: float
    most: int
    known: dict[float, tuple[NDArray[np.float64], float]] = field(default_factory=dict)
    intervals: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 0.5), (0.5, 1.0)])

    @property
    def difference(self) -> float:
        """By how much the antiderivative grows from 0 to 1."""
        return self.known[1.0][1] - self.known[0.0][1]

    @property
    def value(self) -> NDArray[np.float64]:
        """The integral, [tokens]."""
        total: NDArray[np.float64] = np.sum([self._share(*interval) for interval in self.intervals], axis=0)
        return total

    def wanted(self) -> list[float]:
        """The points to evaluate next; none when the work is done."""
        if not self.known:
            return [0.0, 0.25, 0.5, 0.75, 1.0]
        errors = [
            abs(float(self._share(left, right).sum()) - (self.known[right][1] - self.known[left][1]))
            for left, right in self.intervals
        ]
        if sum(errors) <= self.bound * max(abs(self.difference), _LEAST_DIFFERENCE):
            return []
        # Each halving costs two points. Intervals about as bad as the worst are halved in the same round.
        affordable = (self.most - len(self.known)) // 2
        worst = [index for index in np.argsort(errors)[::-1] if errors[index] >= max(errors) / 2][:affordable]
        points: list[float] = []
        for index in worst:
            left, right = self.intervals[index]
            middle = (left + right) / 2
            self.intervals[index] = (left, middle)
            self.intervals.append((middle, right))
            points += [(left + middle) / 2, (middle + right) / 2]
        return points

    def _share(self, left: float, right: float) -> NDArray[np.float64]:
        ends = self.known[left][0] + self.known[right][0]
        share: NDArray[np.float64] = (right - left) / 6 * (ends + 4 * self.known[(left + right) / 2][0])
        return share


def _mean_of(shares: NDArray[np.float64], used: NDArray[np.intp]) -> NDArray[np.float64]:
    """The mean over some samples, [tokens]."""
    mean: NDArray[np.float64] = shares[used].mean(0)
    return mean


def word_tokens(model: Classifier, background: Sequence[Example]) -> tuple[NDArray[np.int64], ...]:
    """The token ids of the words of each text, special tokens left out; texts without any are passed over."""
    encodings = [model.encode(example) for example in background]
    found = [encoding.row.ids[encoding.feature_of_token >= 0] for encoding in encodings]
    return tuple(ids for ids in found if len(ids))


def text_embeddings(model: Classifier, batch: Batch, texts: Sequence[NDArray[np.int64]], count: int) -> Tensor:
    """The embeddings of each row with its words replaced by those of drawn texts, [batch, count, tokens, width].

    Raises:
        AssayError: there are no texts.
    """
    import torch

    if not texts:
        raise AssayError("No training texts to take for baselines: the task has no train split, or all are empty.")
    replaced = np.repeat(batch.input_ids.cpu().numpy()[:, None], count, axis=1)
    for row, (rng, eligible) in enumerate(zip(batch.rngs, batch.eligible.cpu().numpy(), strict=True)):
        for copy, text in enumerate(rng.integers(len(texts), size=count)):
            replaced[row, copy, eligible] = np.resize(texts[text], eligible.sum())
    ids = torch.from_numpy(replaced).to(batch.input_ids.device)
    embedded = model.embeddings(replace(batch, input_ids=ids.flatten(0, 1)))
    return embedded.view(len(replaced), count, ids.shape[-1], -1)


def known_baseline(baseline: HiddenBaseline) -> HiddenBaseline:
    """The setting of a method that knows only what stands for a hidden word.

    Raises:
        ValueError: an unknown baseline.
    """
    if baseline not in get_args(HiddenBaseline):
        raise ValueError(f"unknown baseline {baseline!r}. {near_matches(str(baseline), get_args(HiddenBaseline))}")
    return baseline


@overload
def baseline_token(model: Classifier, baseline: TokenBaseline) -> int: ...
@overload
def baseline_token(model: Classifier, baseline: Baseline) -> int | None: ...
def baseline_token(model: Classifier, baseline: Baseline) -> int | None:
    """The token that stands in the baseline; None for a baseline without one.

    Raises:
        AssayError: the tokenizer has no such token.
    """
    if baseline == "mask":
        return model.hidden_token[1]
    if baseline != "pad":
        return None
    if model.tokenizer.pad_token_id is None:
        raise AssayError(f"{model.name}'s tokenizer has no padding token; use baseline=mask or baseline=zero.")
    return int(model.tokenizer.pad_token_id)


def hidden_embeddings(model: Classifier, batch: Batch, baseline: HiddenBaseline) -> Tensor:
    """The embeddings of each row with every token of a feature replaced, [batch, tokens, width].

    Raises:
        AssayError: the tokenizer has no such token.
    """
    filler = baseline_token(model, baseline)
    if filler is None:
        return model.embeddings(batch).masked_fill(batch.eligible[..., None], 0.0)
    return model.embeddings(replace(batch, input_ids=batch.input_ids.masked_fill(batch.eligible, filler)))


def _gauss_legendre(steps: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points and weights for an integral from 0 to 1."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    return (points + 1) / 2, weights / 2


def _uniform(rng: np.random.Generator, count: int, width: int) -> NDArray[np.float64]:
    return rng.random((count, width))
