"""Gradients and outputs at many points around the inputs of a batch, in passes of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from assay.classifier import Classifier
    from assay.encoding import Batch

# The rows [points] of the batch that points belong to, and which points -> their embeddings, [points, tokens, width].
Points = Callable[["Tensor", slice], "Tensor"]


def gradients(
    model: Classifier, batch: Batch, target: Tensor, rows: Tensor, points: Points
) -> Iterator[tuple[Tensor, slice, Tensor, Tensor]]:
    """The output and its gradient at points in the space of embeddings, one pass after the other.

    Args:
        model: the classifier.
        batch: the encoded examples.
        target: [batch], the class that is explained.
        rows: [points], the row of the batch that each point belongs to, in any order.
        points: makes the embeddings of the points of one pass.

    Yields:
        The rows of a pass, which points they are, the gradients [points, tokens, width] and the outputs [points].
    """
    import torch

    for part in parts(batch, len(rows)):
        chosen = rows[part]
        with torch.enable_grad():
            leaf = points(chosen, part).detach().requires_grad_()
            outputs = model.output(take(batch, chosen), target[chosen], leaf)
            # Rows do not see each other, so the gradient of their sum holds each row's own.
            (gradient,) = torch.autograd.grad(outputs.sum(), leaf)
        yield chosen, part, gradient, outputs.detach()


def outputs(model: Classifier, batch: Batch, target: Tensor, rows: Tensor, points: Points) -> Tensor:
    """The output at points in the space of embeddings, [points]; arguments as in `gradients`."""
    import torch

    found = []
    with torch.no_grad():
        for part in parts(batch, len(rows)):
            chosen = rows[part]
            found.append(model.output(take(batch, chosen), target[chosen], points(chosen, part)))
    return torch.cat(found)


def parts(batch: Batch, count: int, copies: int = 1) -> Iterator[slice]:
    """Slices of `count` things, each of which takes `copies` rows, that keep to the batch's tokens for one pass."""
    size = max(1, batch.tokens_per_pass // (copies * batch.input_ids.shape[1]))
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def take(batch: Batch, rows: Tensor) -> Batch:
    """A batch of some rows of another, in the order given, repeats included; nothing is remembered from the other."""
    import torch

    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    chosen: dict[str, Any] = {name: value[rows] for name, value in values.items() if isinstance(value, torch.Tensor)}
    return replace(batch, rngs=tuple(batch.rngs[row] for row in rows.tolist()), memo={}, **chosen)


def given(points: Tensor) -> Points:
    """Points whose embeddings are there already, [points, tokens, width]."""

    def those(_: Tensor, part: slice) -> Tensor:
        return points[part]

    return those


def every_row(batch: Batch, copies: int = 1) -> Tensor:
    """[batch * copies], each row of a batch `copies` times, its copies next to each other."""
    import torch

    return torch.arange(len(batch.input_ids), device=batch.input_ids.device).repeat_interleave(copies)


def drawn(
    batch: Batch, draw: Callable[[np.random.Generator, int, int], np.ndarray], embeddings: Tensor, copies: int
) -> Tensor:
    """Random numbers for each real token of each row, [batch, copies, tokens, width]; 0 for padding.

    Each row's come from its own generator, drawn for its own length, so that they depend on neither batch nor padding.

    Args:
        batch: the encoded examples.
        draw: gives [count, width] numbers, from a generator, a count and a width.
        embeddings: [batch, tokens, width], of the type and on the device that are wanted.
        copies: how many draws for each row.
    """
    rows, tokens, width = embeddings.shape
    found = embeddings.new_zeros((rows, copies, tokens, width))
    for row, (rng, length) in enumerate(zip(batch.rngs, batch.lengths, strict=True)):
        numbers = draw(rng, copies * length, width).reshape(copies, length, width)
        found[row, :, :length] = embeddings.new_tensor(numbers)
    return found
