"""Explainers that share the output out fairly: Shapley values, Owen values and Banzhaf values, exact or estimated."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from assay.checks import whole_number
from assay.conversation import Answer, Case, Conversation, Explanation, Keep, Vector
from assay.errors import Undefined
from assay.explainers.base import BlackBoxExplainer
from assay.explainers.hierarchy import Group, group_neighbours
from assay.explainers.interpolation import MOST_ROWS, Interpolation, signs, true_or_false
from assay.explainers.steady import GROUPS, GROUPS_OF_MEANS, interleaved, known_tolerance, of_strata, until_steady
from assay.subsets import all_subsets, numbered_subsets, random_subsets

# 2^16 inputs for one example is where an exact value stops being something that anyone would wait for.
_MOST_EXACT = 16

# What is asked before a standard error is looked at.
_FIRST_PAIRS = 32
_FIRST_PERMUTATIONS = 10

# Differences of outputs below this share of the outputs are rounding, which is not to be read as interactions.
_ROUNDING = 1e-6


class KernelShap(BlackBoxExplainer):
    """Shapley values by regression: the average effect of showing a feature, over all orders of showing them.

    Solves the weighted least squares problem of Lundberg & Lee (2017): φ minimises
    Σ_S w(S) · (f(S) − f(∅) − Σ_{i∈S} φ_i)² subject to Σ φ_i = f(x) − f(∅), where f(S) is the target's output with only
    S visible and w(S) = (n − 1) / (C(n, |S|) · |S| · (n − |S|)). Where `samples` covers all 2^n − 2 proper subsets they
    are all asked and the values are exact. Otherwise the sizes that the budget can cover are asked whole, from the
    outside in (1 and n − 1, then 2 and n − 2, …), and the rest is drawn from the remaining sizes in proportion to their
    weight, each subset with its complement (paired sampling, Covert & Lee 2021), until the budget's rows are spent on
    different subsets. Give at least 2n samples: below, the regression has fewer equations than unknowns.

    With `interactions`, what the linear regression leaves unexplained is interpolated between the asked subsets by a
    Gaussian process over sets, whose interactions are weaker the more features they join and stronger among features
    that matter, and that function's exact Shapley values are added (a regression-adjusted estimate, as in Witter, Liu
    & Musco 2025, by another regression). With the answers of a sentiment classifier to texts of 10 words, the error
    falls by a third at 64 rows, by half at 128 and to a seventh at 512. Without it, the method is the one of the
    papers. Either way the values come to the exact ones as the samples come to all subsets, and sum to f(x) − f(∅) up
    to rounding.

    Signed, in units of the output. Cost: at most `samples` + 2 different model rows in one round, and no backward
    pass. Reports `rows`, how many different inputs were asked, and `exact`.

    Args:
        samples: how many different proper subsets may be asked.
        interactions: whether to interpolate what a linear regression leaves; used up to 4,096 samples.
        tolerance: the standard error at which no more subsets are drawn; None for all of them.

    Raises:
        ValueError: `samples` below 2, or `interactions` neither true nor false, or `tolerance` not above 0.
    """

    def __init__(self, samples: int = 512, interactions: bool = True, tolerance: float | None = None) -> None:
        self.samples = whole_number("samples", samples, at_least=2)
        self.interactions = true_or_false("interactions", interactions)
        self.tolerance = known_tolerance(tolerance)

    def converse(self, case: Case) -> Conversation[Explanation]:
        """Ask about nothing, everything and subsets in between; return [n] Shapley values."""
        n = case.n
        exact = 2**n - 2 <= self.samples
        subsets, weights = _shapley_pairs(n, self.samples // 2, exact, case.rng)
        whole = np.ones((1, n), dtype=np.bool_)
        pairs = np.concatenate([whole, subsets])
        if self.tolerance is None:
            answers = yield np.concatenate([pairs, ~pairs])
            values = self._values(pairs, weights, answers[:, case.target].astype(np.float64), exact)
            return Explanation(values, {"rows": 2 * len(pairs), "exact": exact})
        sizes = np.minimum(pairs.sum(axis=1), (~pairs).sum(axis=1))
        # Without the pairs of single features the regression would be nearly without an answer.
        always = np.flatnonzero(sizes <= 1) if (sizes == 1).sum() == n else np.zeros(1, dtype=np.intp)
        drawn = np.setdiff1d(np.arange(len(pairs)), always)
        outputs = _Halves(len(pairs))

        def estimate(used: NDArray[np.intp]) -> Vector:
            mass = of_strata(np.concatenate([[1.0], weights]), sizes, used)
            return self._values(pairs[used], mass[1:], outputs.of(used), exact and len(used) == len(pairs))

        found = yield from until_steady(
            np.concatenate([always, drawn[interleaved(sizes[drawn], case.rng.spawn(1)[0])]]),
            lambda new: np.concatenate([pairs[new], ~pairs[new]]),
            outputs.learn,
            estimate,
            self.tolerance,
            case.target,
            first=max(2 * n, _FIRST_PAIRS),
            always=len(always),
            population=max(1, 2 ** (n - 1) - len(always)),
        )
        rows = 2 * len(found.used)
        report = {"rows": rows, "exact": exact and len(found.used) == len(pairs), **found.report(rows - 2)}
        return Explanation(found.scores, report)

    def _values(self, pairs: Keep, weights: Vector, outputs: Vector, exact: bool) -> Vector:
        """The values from pairs of complements, the first being everything and nothing, and their outputs in halves."""
        n = pairs.shape[1]
        # A Shapley value depends on the differences between complements alone, which halves the regression.
        differences = outputs[: len(pairs)] - outputs[len(pairs) :]
        total = float(differences[0])
        values = _shapley_regression(signs(pairs[1:]), weights, differences[1:], total)
        if self.interactions and not exact:
            nodes, shares = _evenly(n)
            values += _interactions(pairs, differences, values, nodes, shares, float(np.abs(outputs).max()))
            values += (total - values.sum()) / n
        return values


class TransShap(KernelShap):
    """Kernel SHAP over subword tokens, with the values of a word's tokens added up to the word's.

    The method of Kokalj et al. (2021, "BERT meets Shapley"): tokens are the players, whatever unit the run scores, and
    are hidden by the run's perturbation; a word's score is Σ φ_t over its tokens, so that the scores still sum to
    f(x) − f(∅). It differs from `kernel_shap` over words only in texts with words of several tokens, which can here be
    hidden in part.

    The values φ_t are estimated as in `kernel_shap`, of which it shares the settings, the cost (with n the number of
    tokens) and the report. Signed, in units of the output.

    Args:
        samples: how many different proper subsets of the tokens may be asked.
        interactions: whether to interpolate what a linear regression leaves; used up to 4,096 samples.
        tolerance: the standard error at which no more subsets are drawn; None for all of them.

    Raises:
        ValueError: `samples` below 2, or `interactions` neither true nor false, or `tolerance` not above 0.
    """

    feature = "token"


class PermutationShap(BlackBoxExplainer):
    """Shapley values by random orders: what each feature adds when shown after those before it.

    φ_i is the mean of f(P ∪ {i}) − f(P) over random orders of the features, P being those that come before i (Castro,
    Gómez & Tejada 2009). Each order is also walked backwards (antithetic pairs; Mitchell et al. 2022), so that words
    that act in pairs get their exact values from a single one. The values of each order sum to f(x) − f(∅), and so do
    their means, and they converge to the Shapley values as `permutations` grows.

    With `interactions`, a Gaussian process is drawn through what the means leave unexplained of the answers, as in
    `kernel_shap`, and its exact Shapley values are added, which lowers the error several times; without it, the method
    is the one of the papers.

    Signed, in units of the output. Cost: at most 2 · (n − 1) · `permutations` + 2 model rows in one round; subsets that
    several orders share are asked once. Reports `rows`, how many different inputs were asked.

    Args:
        permutations: how many orders are drawn, each walked forwards and backwards.
        interactions: whether to interpolate between the answers; used up to 4,096 rows.
        tolerance: the standard error at which no more orders are drawn; None for all of them.

    Raises:
        ValueError: `permutations` below 1, or `interactions` neither true nor false, or `tolerance` not above 0.
    """

    def __init__(self, permutations: int = 10, interactions: bool = True, tolerance: float | None = None) -> None:
        self.permutations = whole_number("permutations", permutations, at_least=1)
        self.interactions = true_or_false("interactions", interactions)
        self.tolerance = known_tolerance(tolerance)

    def converse(self, case: Case) -> Conversation[Explanation]:
        """Ask about the beginnings of random orders; return [n] mean gains."""
        forwards = case.rng.permuted(np.tile(np.arange(case.n), (self.permutations, 1)), axis=1)
        # [permutations, forwards and backwards, n]
        place = np.argsort(np.stack([forwards, forwards[:, ::-1]], axis=1), axis=2)
        # [permutations, 2, n + 1 steps, n]: after k steps the first k features of the order are visible.
        walks = place[:, :, None, :] < np.arange(case.n + 1)[:, None]
        outputs = np.empty(walks.shape[:3])
        if self.tolerance is None:
            asked, which = np.unique(walks.reshape(-1, case.n), axis=0, return_inverse=True)
            answers = yield asked
            outputs[:] = answers[:, case.target].astype(np.float64)[which].reshape(outputs.shape)
            return Explanation(self._values(place, walks, outputs), {"rows": len(asked)})

        def learn(new: NDArray[np.intp], answers: Vector) -> None:
            outputs[new] = answers.reshape(outputs[new].shape)

        found = yield from until_steady(
            np.arange(self.permutations),
            lambda new: walks[new].reshape(-1, case.n),
            learn,
            lambda used: self._values(place[used], walks[used], outputs[used]),
            self.tolerance,
            case.target,
            first=_FIRST_PERMUTATIONS,
            groups=GROUPS if self.interactions else GROUPS_OF_MEANS,
        )
        rows = len(np.unique(walks[found.used].reshape(-1, case.n), axis=0))
        return Explanation(found.scores, {"rows": rows, **found.report(len(found.used))})

    def _values(self, place: NDArray[np.intp], walks: Keep, outputs: Vector) -> Vector:
        """The values from where each feature stands in each order, the walks and the outputs along them."""
        n = place.shape[2]
        gains = np.take_along_axis(np.diff(outputs, axis=2), place, axis=2)
        # All walks forwards before all backwards.
        values: Vector = gains.swapaxes(0, 1).reshape(-1, n).mean(axis=0)
        if self.interactions:
            asked, first = np.unique(walks.reshape(-1, n), axis=0, return_index=True)
            known = outputs.reshape(-1)[first]
            # What one walk shows the walk back hides. Rows come sorted, so that complements stand at opposite ends.
            half = len(asked) // 2
            differences = known[half:] - known[:half][::-1]
            nodes, shares = _evenly(n)
            values += _interactions(asked[half:], differences, values, nodes, shares, float(np.abs(known).max()))
            values += (known[-1] - known[0] - values.sum()) / n
        return values


class PartitionShap(BlackBoxExplainer):
    """Owen values: Shapley values where neighbouring words enter and leave in groups, and groups in larger groups.

    The features are the leaves of a binary tree. Each group's share is what it adds averaged over its sibling hidden
    and shown, and is divided among its two halves in the same way, everything outside their parent staying as it was
    (Owen 1977; as PartitionExplainer of Lundberg 2020 does). The values sum to f(x) − f(∅), a group's values to the
    group's share, and for a model without interactions across groups they are the Shapley values.

    The tree joins neighbours step by step, always the two groups that together are smallest, and the first such pair of
    equals; reaching across a comma counts as 10 words, across the end of a sentence as 20, next to "and", "or" or "but"
    as 2, and the two texts of a pair are joined last. These are the rules of shap's text masker without those for
    brackets, apostrophes and subwords. Groups are divided level by level while `samples` rows allow, on the last level
    those of the largest share first; a group that is left whole is shared out evenly.

    Signed, in units of the output. Cost: at most `samples` model rows, in about log2(n) rounds; dividing everything
    takes about n² rows. Reports `rows`, how many different inputs were asked, and `exact`, whether everything was
    divided.

    Args:
        samples: the most model rows.

    Raises:
        ValueError: `samples` below 2.
    """

    def __init__(self, samples: int = 512) -> None:
        self.samples = whole_number("samples", samples, at_least=2)

    def converse(self, case: Case) -> Conversation[Explanation]:
        """Ask about groups with their surroundings hidden and shown; return [n] Owen values."""
        ask = _Memory(case.target)
        nothing, everything = np.zeros(case.n, dtype=np.bool_), np.ones(case.n, dtype=np.bool_)
        yield from ask.about([nothing, everything])
        values = np.zeros(case.n)
        exact = True
        parts = [_Part(group_neighbours(case.features), nothing, 1.0)]
        while parts:
            shares = [part.weight * (ask.output(part.shown) - ask.output(part.around)) for part in parts]
            new: dict[bytes, Keep] = {}
            divided = []
            for index in np.argsort(-np.abs(shares), kind="stable"):
                part = parts[index]
                wanted = {keep.tobytes(): keep for keep in part.halves_shown}
                missing = [key for key in wanted if key not in ask.known and key not in new]
                if part.group.halves and len(ask.known) + len(new) + len(missing) <= self.samples:
                    new |= {key: wanted[key] for key in missing}
                    divided.append(part)
                else:
                    values[part.group.members] += shares[index] / len(part.group.members)
                    exact &= not part.group.halves
            yield from ask.about(list(new.values()))
            parts = [smaller for part in divided for smaller in part.divide()]
        return Explanation(values, {"rows": len(ask.known), "exact": exact})


class ExactShapley(BlackBoxExplainer):
    """Shapley values from their definition, over all subsets of the features; for short texts only.

    φ_i = Σ_{S ∌ i} |S|! (n − |S| − 1)! / n! · (f(S ∪ {i}) − f(S)) (Shapley 1953), where f(S) is the target's output
    with only S visible. Nothing is drawn at random. For longer texts use `kernel_shap`, whose values these are in the
    limit.

    Signed, in units of the output. Cost: 2^n model rows in one round. A text with more than `exact_up_to` features has
    no score, and the reason is stored.

    Args:
        exact_up_to: the most features that a text may have.

    Raises:
        ValueError: `exact_up_to` is below 1 or above 16.
    """

    def __init__(self, exact_up_to: int = 12) -> None:
        self.exact_up_to = whole_number("exact_up_to", exact_up_to, at_least=1, at_most=_MOST_EXACT)

    def converse(self, case: Case) -> Conversation[Vector]:
        """Ask about all subsets; return [n] Shapley values.

        Raises:
            Undefined: the text has too many features.
        """
        n = case.n
        if n > self.exact_up_to:
            raise Undefined(f"the text has {n} features, more than exact_up_to={self.exact_up_to}")
        answers = yield numbered_subsets(np.arange(2**n), n)
        outputs = answers[:, case.target].astype(np.float64)
        sizes = numbered_subsets(np.arange(2**n), n).sum(axis=1)
        weight = np.array([1 / (n * comb(n - 1, size)) if size < n else 0.0 for size in range(n + 1)])
        values = np.empty(n)
        for feature in range(n):
            without = np.flatnonzero(np.arange(2**n) >> feature & 1 == 0)
            values[feature] = weight[sizes[without]] @ (outputs[without | 1 << feature] - outputs[without])
        return values


class Banzhaf(BlackBoxExplainer):
    """Banzhaf values: the effect of showing a feature, each other one being visible with a chance of one half.

    φ_i = mean f(S) over subsets S with i − mean f(S) over subsets without i (Banzhaf 1965). Where `samples` covers all
    2^n subsets the values are exact. Otherwise subsets are drawn uniformly, all different, each with its complement,
    and every one of them serves every feature (maximum sample reuse; Wang & Jia 2023, "Data Banzhaf", their equation
    5). With `interactions`, a regression and a Gaussian process are drawn through the answers, as in `kernel_shap`, and
    their exact Banzhaf values are returned, which lowers the error several times; without, the method is the paper's.

    Compared with Shapley values, subsets of middle size count more and noise in the outputs less. The values need not
    sum to f(x) − f(∅). Signed, in units of the output. Cost: at most `samples` model rows in one round. Reports `rows`,
    how many different inputs were asked, and `exact`.

    Args:
        samples: how many different subsets may be asked.
        interactions: whether to interpolate between the answers; used up to 4,096 samples.
        tolerance: the standard error at which no more subsets are drawn; None for all of them.

    Raises:
        ValueError: `samples` below 2, or `interactions` neither true nor false, or `tolerance` not above 0.
    """

    def __init__(self, samples: int = 512, interactions: bool = True, tolerance: float | None = None) -> None:
        self.samples = whole_number("samples", samples, at_least=2)
        self.interactions = true_or_false("interactions", interactions)
        self.tolerance = known_tolerance(tolerance)

    def converse(self, case: Case) -> Conversation[Explanation]:
        """Ask about subsets of any size; return [n] Banzhaf values."""
        exact = 2**case.n <= self.samples
        pairs = _uniform_pairs(case.n, self.samples // 2, case.rng)
        if self.tolerance is None:
            answers = yield np.concatenate([pairs, ~pairs])
            values = self._values(pairs, answers[:, case.target].astype(np.float64), exact)
            return Explanation(values, {"rows": 2 * len(pairs), "exact": exact})
        outputs = _Halves(len(pairs))
        found = yield from until_steady(
            case.rng.spawn(1)[0].permutation(len(pairs)),
            lambda new: np.concatenate([pairs[new], ~pairs[new]]),
            outputs.learn,
            lambda used: self._values(pairs[used], outputs.of(used), exact and len(used) == len(pairs)),
            self.tolerance,
            case.target,
            first=max(2 * case.n, _FIRST_PAIRS),
            population=2 ** (case.n - 1),
        )
        rows = 2 * len(found.used)
        report = {"rows": rows, "exact": exact and len(found.used) == len(pairs), **found.report(rows)}
        return Explanation(found.scores, report)

    def _values(self, pairs: Keep, outputs: Vector, exact: bool) -> Vector:
        """The values from pairs of complements and their outputs in halves."""
        differences = outputs[: len(pairs)] - outputs[len(pairs) :]
        values: Vector
        if self.interactions and not exact:
            values = np.asarray(np.linalg.lstsq(signs(pairs), differences, rcond=None)[0], dtype=np.float64)
            middle, all_of_it = np.zeros(1), np.ones(1)
            values += _interactions(pairs, differences, values, middle, all_of_it, float(np.abs(outputs).max()))
        else:
            values = signs(pairs).T @ differences / len(pairs)
        return values


class _Halves:
    """The outputs of pairs of complements, as far as they are known."""

    def __init__(self, pairs: int) -> None:
        self._outputs = np.empty((2, pairs))

    def learn(self, new: NDArray[np.intp], outputs: Vector) -> None:
        """Take in the outputs of some pairs: those of the first of each, then those of the complements."""
        self._outputs[:, new] = outputs.reshape(2, -1)

    def of(self, used: NDArray[np.intp]) -> Vector:
        """The outputs of some pairs, in the same order."""
        return self._outputs[:, used].reshape(-1)


@dataclass(frozen=True)
class _Part:
    """A share of the output that is still to be divided: what a group adds to what is visible around it.

    Attributes:
        group: the features that enter together.
        around: what is visible beside them.
        weight: how much of the mean over surroundings this one stands for.
    """

    group: Group
    around: Keep
    weight: float

    @property
    def shown(self) -> Keep:
        """The input with the whole group visible."""
        return self.group.joined(self.around)

    @property
    def halves_shown(self) -> list[Keep]:
        """The inputs with one half of the group visible."""
        return [half.joined(self.around) for half in self.group.halves]

    def divide(self) -> list[_Part]:
        """Each half, its sibling being hidden and shown."""
        return [
            _Part(half, around, self.weight / 2)
            for half, sibling in zip(self.group.halves, self.group.halves[::-1], strict=True)
            for around in (self.around, sibling.joined(self.around))
        ]


class _Memory:
    """What was answered to which input."""

    def __init__(self, target: int) -> None:
        self.known: dict[bytes, float] = {}
        self._target = target

    def about(self, inputs: list[Keep]) -> Generator[Keep, Answer, None]:
        """Ask about inputs, all different and new."""
        if inputs:
            answers = yield np.array(inputs)
            for keep, output in zip(inputs, answers[:, self._target], strict=True):
                self.known[keep.tobytes()] = float(output)

    def output(self, keep: Keep) -> float:
        """The output for an input that was asked about."""
        return self.known[keep.tobytes()]


def _evenly(n: int) -> tuple[Vector, Vector]:
    """Points and their shares for `Interpolation.slopes`: a Shapley value is the mean gain over all probabilities."""
    nodes, weights = np.polynomial.legendre.leggauss(min(n // 2 + 1, 32))
    return nodes, weights / 2


def _interactions(
    pairs: Keep, differences: Vector, values: Vector, points: Vector, shares: Vector, largest_output: float
) -> Vector:
    """What interactions add to the values of a linear regression, [n]; nothing where that explains everything.

    Args:
        pairs: one of each two complementary inputs.
        differences: the outputs of those less the outputs of their complements.
        values: what the regression gave.
        points: see `Interpolation.slopes`, as for `shares`.
        shares: their weights.
        largest_output: what rounding is measured by.
    """
    inputs = signs(pairs)
    left = (differences - inputs @ values) / 2
    if np.abs(left).max() <= _ROUNDING * largest_output or len(pairs) > MOST_ROWS:
        return np.zeros_like(values)
    return Interpolation(inputs, left, values, odd=True).slopes(points, shares)


def _shapley_regression(inputs: NDArray[np.float64], weights: Vector, differences: Vector, total: float) -> Vector:
    """Solve the constrained least squares problem over pairs of complements; `total` is f(x) − f(∅)."""
    n = inputs.shape[1]
    even_share = total / n
    if len(inputs) == 0:
        return np.full(n, even_share)
    # Deviations from an even split sum to 0, so a row's mean can be taken off the design; the solution of least norm
    # is then free of a constant part and the constraint holds by itself. No feature is singled out, as by substitution.
    design = inputs - inputs.mean(axis=1, keepdims=True)
    residual = differences - even_share * inputs.sum(axis=1)
    root = np.sqrt(weights)
    deviation = np.linalg.lstsq(root[:, None] * design, root * residual, rcond=None)[0]
    values: Vector = even_share + deviation - deviation.mean()
    return values


def _shapley_pairs(n: int, budget: int, exact: bool, rng: np.random.Generator) -> tuple[Keep, Vector]:
    """One of each pair of complementary proper subsets to ask, [pairs, n], and the weights of the pairs, [pairs]."""
    sizes = np.arange(1, n // 2 + 1)  # of the smaller of the two
    mass = np.where(2 * sizes == n, 0.5, 1.0) / (sizes * (n - sizes))  # the Shapley kernel's weight of a whole size
    subsets: list[Keep] = [np.empty((0, n), dtype=np.bool_)]
    weights: list[Vector] = [np.empty(0)]
    first = 0
    for size in range(1, n // 2 + 1):
        count = comb(n, size) // (2 if 2 * size == n else 1)
        # A size is worth asking whole where as many of its subsets would be drawn anyway; the first, wherever it can
        # be: few draws at random leave the regression nearly without an answer.
        if not exact and (budget if size == 1 else budget * mass[first] / mass[first:].sum()) < count:
            break
        whole = all_subsets(n, size)[:count]  # of halves, the first half are those with the first feature
        subsets.append(whole)
        weights.append(np.full(count, mass[first] / count))
        budget -= count
        first += 1
    if first < len(sizes) and budget > 0:
        # Repeats cost no model row, so a budget of rows affords more draws than rows.
        drawn_sizes = rng.choice(sizes[first:], 4 * budget, p=mass[first:] / mass[first:].sum())
        drawn = random_subsets(rng, drawn_sizes, n)
        one_of_pair = np.where(drawn[:, :1], drawn, ~drawn)
        _, earliest = np.unique(one_of_pair, axis=0, return_index=True)
        earliest.sort()
        reach = earliest[budget] if len(earliest) > budget else len(drawn)
        distinct, counts = np.unique(one_of_pair[:reach], axis=0, return_counts=True)
        subsets.append(distinct)
        weights.append(counts * (mass[first:].sum() / reach))
    return np.concatenate(subsets), np.concatenate(weights)


def _uniform_pairs(n: int, budget: int, rng: np.random.Generator) -> Keep:
    """One of each pair of complementary subsets, [pairs, n]: all pairs where the budget covers them, or a choice."""
    if n <= _MOST_EXACT:
        count = 2 ** (n - 1)
        numbers = np.arange(count) if count <= budget else rng.choice(count, budget, replace=False)
        return numbered_subsets(numbers, n)
    drawn = rng.random((budget, n)) < 0.5
    return np.unique(np.where(drawn[:, :1], drawn, ~drawn), axis=0)
