"""DeepLIFT's rules, as changes to the gradient of one forward pass over inputs and their baselines.

The pass is over a batch whose first half are inputs and whose second half are their baselines. Where an operation is
linear in what depends on the input, its gradient is its multiplier. The others are computed as they are and get another
gradient. While `Multipliers` is entered, it sees each torch operation; nothing of the model or of torch is altered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from assay.explainers.open_attention import open_attention

Operation = Callable[..., Tensor]

# Over a short way rounding spoils a slope; the derivative averaged over the way is then more exact. What is short hangs
# on how fast the derivative changes: not at all but at a kink, over ways of length 1, or in proportion to the input.
_SHORT = 0.2
_KINKED = ("abs", "clamp", "clip", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "relu", "relu6", "relu_")
_SMOOTH = (
    *("celu", "cos", "elu", "erf", "exp", "expm1", "gelu", "logsigmoid", "mish", "selu", "sigmoid", "silu", "sin"),
    *("softplus", "softsign", "tanh"),
)
_SCALE_FREE = ("log", "log1p", "pow", "__pow__", "reciprocal", "rsqrt", "sqrt", "square")


class Multipliers(TorchFunctionMode):
    """DeepLIFT's rescale rule, and the rule for products, while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self._rules: Mapping[str, Operation] = {
            **dict.fromkeys((*_KINKED, *_SMOOTH, *_SCALE_FREE), _rescaled),
            **dict.fromkeys(("mul", "multiply", "__mul__", "__rmul__", "mul_", "__imul__"), _multiplied),
            **dict.fromkeys(("matmul", "__matmul__", "__rmatmul__", "bmm", "mm"), _multiplied),
            **dict.fromkeys(("div", "divide", "true_divide", "__truediv__", "__rtruediv__"), _divided),
            "einsum": _einsum,
            "baddbmm": _added_product,
            "scaled_dot_product_attention": self._attention,
            "softmax": _softmax,
            "log_softmax": _log_softmax,
            "layer_norm": _layer_norm,
            "rms_norm": _rms_norm,
        }

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        rule = self._rules.get(getattr(func, "__name__", ""))
        if rule is None:
            return func(*args, **(kwargs or {}))
        return rule(func, *args, **(kwargs or {}))

    def _attention(
        self, func: Operation, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        # What a fused operation does inside is not seen; done in the open, each of its operations finds its rule.
        with self:
            return open_attention(query, key, value, *args, **kwargs)


def _depends(value: Any) -> bool:
    """Whether a value depends on the input."""
    return isinstance(value, Tensor) and value.requires_grad


def _with_gradient_of(outputs: Tensor, stand_in: Tensor) -> Tensor:
    """The values of one tensor with the gradient of another."""
    return outputs.detach() + (stand_in - stand_in.detach()).to(outputs.dtype)


def _between(values: Tensor) -> Tensor:
    """Midway between inputs and baselines, for both halves."""
    at_input, at_start = values.detach().chunk(2)
    return ((at_input + at_start) / 2).repeat(2, *[1] * (values.dim() - 1))


def _rescaled(func: Operation, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
    """A function of each element: its slope between the baseline's value and the input's."""
    if not _depends(inputs) or any(map(_depends, args)):
        return func(inputs, *args, **kwargs)
    kwargs.pop("inplace", None)
    values = inputs.detach()
    # An operation that overwrites its input must not do so here.
    outputs = func(values.clone(), *args, **kwargs)
    at_input, at_start = values.chunk(2)
    way = at_input - at_start
    slope = (outputs.chunk(2)[0] - outputs.chunk(2)[1]) / way
    if func.__name__ in _KINKED:
        slope = torch.where(way == 0, _derivative(func, at_input, *args, **kwargs), slope)
    else:
        middle = (at_input + at_start) / 2
        short = _SHORT * (middle.abs() if func.__name__ in _SCALE_FREE else torch.ones_like(middle))
        # Gauss-Legendre quadrature with three points.
        mean = 4 / 9 * _derivative(func, middle, *args, **kwargs)
        for side in (-1, 1):
            mean += 5 / 18 * _derivative(func, middle + side * 0.15**0.5 * way, *args, **kwargs)
        slope = torch.where(way.abs() <= short, mean, slope)
    return _with_gradient_of(outputs, inputs * slope.repeat(2, *[1] * (inputs.dim() - 1)))


def _derivative(func: Operation, inputs: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The derivative of a function of each element."""
    with torch.enable_grad():
        leaf = inputs.detach().requires_grad_()
        (found,) = torch.autograd.grad(func(leaf.clone(), *args, **kwargs).sum(), leaf)
    return found


def _multiplied(func: Operation, left: Any, right: Any, **kwargs: Any) -> Tensor:
    """A product, or a sum of products, of two: each gets its own change times the other's midpoint."""
    if not (_depends(left) and _depends(right)):
        return func(left, right, **kwargs)
    with torch.no_grad():
        outputs = func(left.clone(), right, **kwargs)
    stand_in = func(left.clone(), _between(right), **kwargs) + func(_between(left), right, **kwargs)
    return _with_gradient_of(outputs, stand_in)


def _divided(func: Operation, left: Any, right: Any, **kwargs: Any) -> Tensor:
    if not _depends(right):
        return func(left, right, **kwargs)
    if func.__name__ == "__rtruediv__":
        left, right = right, left
        return left * right if not _depends(right) else _multiplied(torch.mul, left, _rescaled(torch.reciprocal, right))
    return _multiplied(torch.mul, left, _rescaled(torch.reciprocal, right))


def _einsum(func: Operation, equation: str, *operands: Any) -> Tensor:
    if sum(map(_depends, operands)) < 2:
        return func(equation, *operands)
    return _multiplied(lambda left, right: func(equation, left, right), *operands)


def _added_product(
    func: Operation, input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    outputs = alpha * _multiplied(torch.bmm, batch1, batch2)
    # As torch has it: with a beta of 0 the input is not read, and may be memory that nobody has written yet.
    return outputs if beta == 0 else beta * input + outputs


def _softmax(func: Operation, input: Tensor, dim: int | None = None, **kwargs: Any) -> Tensor:
    """The exponential of its logarithm: a product with the reciprocal of the sum would cancel large multipliers."""
    if not _depends(input):
        return func(input, dim, **kwargs)
    weights = _rescaled(torch.exp, _log_weights(input, -1 if dim is None else dim))
    return _with_gradient_of(func(input.detach(), dim, **kwargs), weights)


def _log_softmax(func: Operation, input: Tensor, dim: int | None = None, **kwargs: Any) -> Tensor:
    if not _depends(input):
        return func(input, dim, **kwargs)
    return _with_gradient_of(func(input.detach(), dim, **kwargs), _log_weights(input, -1 if dim is None else dim))


def _log_weights(scores: Tensor, dim: int) -> Tensor:
    """The logarithm of a softmax, from operations with rules."""
    # What one end attends to may be far below the other's: single precision would lose it.
    scores = scores.masked_fill(scores.isneginf(), torch.finfo(scores.dtype).min)
    scores = scores if scores.device.type == "mps" else scores.double()
    # The same shift for inputs and baselines: a constant, which cancels.
    highest = torch.maximum(*scores.detach().amax(dim, keepdim=True).chunk(2)).repeat(2, *[1] * (scores.dim() - 1))
    shifted = scores - highest
    total = _rescaled(torch.exp, shifted).sum(dim, keepdim=True).clamp_min(torch.finfo(scores.dtype).tiny)
    return shifted - _rescaled(torch.log, total)


def _layer_norm(
    func: Operation,
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    if not _depends(input):
        return func(input, normalized_shape, weight, bias, eps)
    axes = tuple(range(-len(normalized_shape), 0))
    scaled = _scaled(input - input.mean(axes, keepdim=True), axes, eps)
    return _with_gradient_of(
        func(input.detach(), normalized_shape, weight, bias, eps), scaled if weight is None else scaled * weight
    )


def _rms_norm(
    func: Operation, input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    if not _depends(input):
        return func(input, normalized_shape, weight, eps)
    scaled = _scaled(
        input, tuple(range(-len(normalized_shape), 0)), torch.finfo(input.dtype).eps if eps is None else eps
    )
    return _with_gradient_of(
        func(input.detach(), normalized_shape, weight, eps), scaled if weight is None else scaled * weight
    )


def _scaled(states: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    """States divided by the root of their mean square."""
    mean_square = _rescaled(torch.square, states).mean(axes, keepdim=True) + eps
    return _multiplied(torch.mul, states, _rescaled(torch.rsqrt, mean_square))
