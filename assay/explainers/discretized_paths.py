"""Explainers that follow the gradient along a path close to real words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args
from weakref import WeakKeyDictionary

from assay.checks import whole_number
from assay.conversation import Explanation
from assay.encoding import Subwords
from assay.errors import near_matches
from assay.explainers.base import WhiteBoxExplainer
from assay.explainers.passes import every_row, gradients
from assay.explainers.path_gradients import TokenBaseline, baseline_token

if TYPE_CHECKING:
    from torch import Tensor

    from assay.classifier import Classifier
    from assay.encoding import Batch

Strategy = Literal["greedy", "maxcount"]

# Doubled this often, a path of 30 words has 32,000 points.
_MOST_DOUBLINGS = 10

# Differences between the embeddings of this many numbers are looked at together: 64 MiB.
_NUMBERS_AT_A_TIME = 2**24


class DiscretizedIntegratedGradients(WhiteBoxExplainer):
    """Integrated gradients along a path through the embeddings of real words, rather than along a straight line.

    score_t = Σ_k (p_{k+1} − p_k) · (g_k + g_{k+1}) / 2, with p_0 … p_m the path of token t from the baseline's
    embedding to its own and g_k the gradient of the target's output f where all tokens have gone k points of their
    paths (Sanyal & Ren 2021, DIG). The paper sums with g_k; the trapezoid here has a smaller error for the same rows.

    The path of a token begins at the token itself and goes back to the baseline over `steps` anchors: the next one is a
    word among the `neighbours` nearest to the last that was not visited yet. A dimension of a word is monotonic where
    it lies between the last anchor and the baseline. `greedy` takes the word that has to be moved the least to become
    monotonic in all dimensions, `maxcount` the one that is monotonic in the most. Then every anchor is moved in the
    dimensions where it is not monotonic, to a `steps`-th of the way from the point before it to the baseline, so that
    the whole path is monotonic in each dimension. Special tokens are not words. Without an unvisited neighbour the path
    goes to the baseline. Paths are found once for each word of a model.

    The scores of an example sum to f(x) − f(baseline), but for the sum's error, the report's `completeness_error`. More
    words do not make it small: neighbours are close to each other, and the last step of a path, from the last of them
    to the baseline, stays long. `factor` does, which puts new points halfway between all points, as the paper's
    upscaling. Special tokens keep their embeddings and so score 0. Signed, in units of the output. Cost: (`steps` + 1)
    · 2^`factor` + 1 rows forward and backward, and a search among the embeddings for each new word.

    Args:
        steps: how many words a path goes over.
        strategy: `greedy` or `maxcount`.
        neighbours: among how many nearest words the next one is looked for.
        factor: how often the points of a path are doubled.
        baseline: `mask` or `pad`, as in `integrated_gradients`.
        subwords: how token scores become a word's.

    Raises:
        ValueError: `steps` or `neighbours` below 1, a negative `factor`, or an unknown strategy or baseline.
    """

    def __init__(
        self,
        steps: int = 30,
        strategy: Strategy = "greedy",
        neighbours: int = 500,
        factor: int = 0,
        baseline: TokenBaseline = "mask",
        subwords: Subwords = "sum",
    ) -> None:
        super().__init__(subwords)
        self.steps = whole_number("steps", steps, at_least=1)
        if strategy not in get_args(Strategy):
            raise ValueError(f"unknown strategy {strategy!r}. {near_matches(str(strategy), get_args(Strategy))}")
        self.strategy: Strategy = strategy
        self.neighbours = whole_number("neighbours", neighbours, at_least=1)
        self.factor = whole_number("factor", factor, at_least=0, at_most=_MOST_DOUBLINGS)
        if baseline not in get_args(TokenBaseline):
            raise ValueError(f"unknown baseline {baseline!r}. {near_matches(str(baseline), get_args(TokenBaseline))}")
        self.baseline: TokenBaseline = baseline

    def check(self, model: Classifier) -> None:
        """Whether the tokenizer has what the baseline puts in place of words.

        Raises:
            AssayError: it has not.
        """
        baseline_token(model, self.baseline)

    def attribute(self, model: Classifier, batch: Batch, target: Tensor) -> Explanation:
        """Shares of f(x) − f(baseline), [batch, tokens]."""
        import torch

        full = model.embeddings(batch)
        words, index = torch.unique(batch.input_ids[batch.eligible], return_inverse=True)
        word_of_token = torch.zeros_like(batch.input_ids)
        word_of_token[batch.eligible] = index
        paths = self._paths(model, words)
        for _ in range(self.factor):
            halfway = (paths[:, 1:] + paths[:, :-1]) / 2
            paths = torch.cat([torch.stack([paths[:, :-1], halfway], dim=2).flatten(1, 2), paths[:, -1:]], dim=1)
        # Half of the way from the point before and half of the way to the next one belong to a point.
        ways = torch.cat([paths[:, :1], paths, paths[:, -1:]], dim=1)
        shares = (ways[:, 2:] - ways[:, :-2]) / 2
        count = paths.shape[1]
        rows = every_row(batch, count)
        step = torch.arange(count, device=full.device).repeat(len(full))

        def placed(table: Tensor, elsewhere: Tensor, part: slice) -> Tensor:
            """What a table [words, count, width] says of each token at the steps of a pass."""
            found = table[word_of_token[rows[part]], step[part, None]]
            return found.where(batch.eligible[rows[part], :, None], elsewhere)

        slopes, values = [], []
        for _, part, gradient, value in gradients(
            model, batch, target, rows, lambda chosen, part: placed(paths, full[chosen], part)
        ):
            slopes.append((gradient * placed(shares, torch.zeros_like(gradient), part)).sum(-1))
            values.append(value)
        scores = torch.cat(slopes).view(len(full), count, -1).sum(1)
        ends = torch.cat(values).view(-1, count)
        difference = ends[:, -1] - ends[:, 0]
        return Explanation(scores, {"completeness_error": (scores.sum(-1) - difference).abs()})

    def _paths(self, model: Classifier, words: Tensor) -> Tensor:
        """The path of each word, from the baseline to the word, [words, steps + 2, width]."""
        import torch

        matrix = model.embedding_table
        filler = baseline_token(model, self.baseline)
        key = (self.steps, self.strategy, self.neighbours, filler, matrix._version)
        known = _KNOWN.setdefault(model, {}).setdefault(key, {})
        new = [word for word in words.tolist() if word not in known]
        if new:
            known.update(zip(new, self._anchors(model, matrix, filler, new), strict=True))
        anchors = torch.tensor([known[word] for word in words.tolist()], device=matrix.device)
        return monotonic_path(matrix[anchors], matrix[filler], self.steps)

    def _anchors(self, model: Classifier, matrix: Tensor, filler: int, words: list[int]) -> list[tuple[int, ...]]:
        """Each word and the `steps` words that its path goes over; the baseline where no neighbour is left."""
        import torch

        visited = torch.zeros((len(words), len(matrix)), dtype=torch.bool, device=matrix.device)
        visited[:, [filler, *model.tokenizer.all_special_ids]] = True
        path = [torch.tensor(words, device=matrix.device)]
        everyone = torch.arange(len(words), device=matrix.device)
        nearest: dict[int, Tensor] = {}
        for _ in range(self.steps):
            last = path[-1]
            visited[everyone, last] = True
            unknown = [word for word in sorted(set(last.tolist())) if word not in nearest]
            nearest.update(zip(unknown, self._nearest(matrix, unknown), strict=True))
            near = torch.stack([nearest[word] for word in last.tolist()])
            following = []
            size = max(1, _NUMBERS_AT_A_TIME // (near.shape[1] * matrix.shape[1]))
            for here in torch.split(everyone, size):
                worst = self._cost(matrix[near[here]], matrix[last[here], None], matrix[filler])
                worst = worst.masked_fill(visited[here[:, None], near[here]], float("inf"))
                least, chosen = worst.min(1)
                candidate = near[here, chosen]
                # Where all are visited, and where the path has come to the baseline already.
                over = least.isinf() | (last[here] == filler)
                following.append(candidate.masked_fill(over, filler))
            path.append(torch.cat(following))
        return [tuple(row) for row in torch.stack(path, 1).tolist()]

    def _nearest(self, matrix: Tensor, words: list[int]) -> list[Tensor]:
        """The nearest words of each word, itself left out, by Euclidean distance."""
        import torch

        count = min(self.neighbours, len(matrix) - 1)
        found: list[Tensor] = []
        size = max(1, _NUMBERS_AT_A_TIME // len(matrix))
        lengths = matrix.square().sum(1)
        for start in range(0, len(words), size):
            some = torch.tensor(words[start : start + size], device=matrix.device)
            distance = lengths - 2 * matrix[some] @ matrix.T
            distance[torch.arange(len(some)), some] = float("inf")
            found += list(distance.topk(count, largest=False).indices)
        return found

    def _cost(self, candidates: Tensor, last: Tensor, end: Tensor) -> Tensor:
        """How little each candidate suits as the next anchor, [words, candidates]."""
        monotonic = _between(candidates, last, end)
        if self.strategy == "maxcount":
            return (~monotonic).sum(-1).float()
        moved = _pulled(last, end, self.steps) - candidates
        return moved.masked_fill(monotonic, 0.0).square().sum(-1)


# The paths that were found, by model and settings; they go when the model does.
_KNOWN: WeakKeyDictionary[Classifier, dict[tuple[object, ...], dict[int, tuple[int, ...]]]] = WeakKeyDictionary()


def monotonic_path(anchors: Tensor, end: Tensor, steps: int) -> Tensor:
    """A path in which every dimension goes one way, from the baseline to the word, [words, anchors + 1, width].

    Args:
        anchors: [words, anchors, width], the word itself first.
        end: [width], the baseline.
        steps: an anchor's other dimensions move a `steps`-th of the way that is left.
    """
    import torch

    points = [anchors[:, 0]]
    for anchor in anchors[:, 1:].unbind(1):
        last = points[-1]
        points.append(anchor.where(_between(anchor, last, end), _pulled(last, end, steps)))
    points.append(end.expand_as(points[0]))
    return torch.stack(points[::-1], dim=1)


def _between(values: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Which values lie between two others, or on one of them."""
    return (values - one) * (values - other) <= 0


def _pulled(values: Tensor, end: Tensor, steps: int) -> Tensor:
    """Values moved a `steps`-th of the way to the end."""
    return values - (values - end) / steps
