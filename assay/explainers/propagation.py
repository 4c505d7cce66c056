"""Rules of relevance propagation, as changes to the gradient of one forward pass.

Every tensor's relevance is its value times its gradient. Where an operation is linear, the true gradient already hands
on relevance in proportion to what each input contributed, so only the other operations need a rule, which replaces
their gradient. While a `Propagation` is entered, it sees each torch operation of the pass (a torch function mode) and
the activation modules of one model (forward hooks); nothing of the model or of torch is altered, and both are gone when
it is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakIdKeyDictionary

from assay.explainers.open_attention import open_attention

Product = Callable[[Tensor, Tensor], Tensor]
Operation = Callable[..., Tensor]

# The method of `Propagation` that stands in for an operation, by the operation's name.
_STAND_INS = {
    "linear": "_linear",
    "addmm": "_addmm",
    **dict.fromkeys(("matmul", "__matmul__", "bmm", "mm"), "_matmul"),
    "baddbmm": "_baddbmm",
    "einsum": "_einsum",
    "scaled_dot_product_attention": "_scaled_dot_product_attention",
    "softmax": "_softmax",
    **dict.fromkeys(("mul", "multiply", "__mul__", "__rmul__", "__imul__"), "_multiply"),
    **dict.fromkeys(("div", "true_divide", "__truediv__", "__itruediv__"), "_divide"),
    **dict.fromkeys(("add", "__add__", "__radd__", "__iadd__"), "_add"),
    **dict.fromkeys(("sqrt", "rsqrt"), "_root"),
    "layer_norm": "_layer_norm",
    "rms_norm": "_rms_norm",
    **dict.fromkeys(("celu", "elu", "gelu", "hardswish", "hardtanh", "leaky_relu", "mish", "relu"), "_activation"),
    **dict.fromkeys(("relu6", "relu_", "selu", "sigmoid", "silu", "softplus", "tanh"), "_activation"),
}


class Propagation(TorchFunctionMode):
    """The true gradient, with the attention weights brought into the open; the base of all sets of rules.

    Attributes:
        attentions: the attention weights of each layer, in the order of the pass, [batch, heads, tokens, tokens].
    """

    def __init__(self, model: nn.Module, heads: Tensor | None = None) -> None:
        """Prepare rules for one pass of a model.

        Args:
            model: whose activation modules get the rule for activations.
            heads: [layers, heads], what each head's attention weights are multiplied by; None for all ones.
        """
        super().__init__()
        self.attentions: list[Tensor] = []
        self._heads = heads
        self._model = model
        self._hooks: list[RemovableHandle] = []
        self._inside = 0  # how many modules with a rule as a whole the pass is in
        self._gates = WeakIdKeyDictionary()

    # The rules: what a method changes.

    def layer(self, product: Product, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """A linear layer: `product` of its inputs and its weights, and a bias."""
        outputs = product(inputs, weight)
        return outputs if bias is None else outputs + bias

    def product(self, outputs: Tensor, activations: int) -> Tensor:
        """A sum of products of two tensors, of which one or both are activations: as many as `activations` says."""
        return outputs

    def gate(self, left: Tensor, right: Tensor) -> Tensor:
        """The product, element by element, of two activations."""
        return left * right

    def attention(self, scores: Tensor, weights: Tensor) -> Tensor:
        """The softmax that makes attention weights of scores."""
        return weights

    def activation(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """A function of each element."""
        return outputs

    def factor(self, factor: Tensor) -> Tensor:
        """What a state is divided by, or multiplied with, to normalise it."""
        return factor

    def norm(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """A layer that normalises, with all its parts."""
        return outputs

    def sum(self, left: Tensor, right: Tensor) -> Tensor:
        """The sum of two activations."""
        return left + right

    def whole(self, module: nn.Module) -> Callable[[Tensor, Tensor], Tensor] | None:
        """The rule for a module as a whole, whatever operations it is made of, from its inputs and its outputs."""
        return self._activated if _is_activation(module) else None

    # The operations: which rule each of them asks for.

    def __enter__(self) -> Propagation:
        for module in self._model.modules():
            rule = self.whole(module)
            if rule is not None:
                self._hooks.append(module.register_forward_pre_hook(self._before))
                self._hooks.append(module.register_forward_hook(self._after(rule)))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        while self._hooks:
            self._hooks.pop().remove()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        stand_in = None if self._inside else _STAND_INS.get(getattr(func, "__name__", ""))
        if stand_in is None or not any(map(_carries, _tensors((*args, *(kwargs or {}).values())))):
            return func(*args, **(kwargs or {}))
        return getattr(self, stand_in)(func, *args, **(kwargs or {}))

    def _before(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._inside += 1

    def _after(self, rule: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor | None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> Tensor | None:
            self._inside -= 1
            return rule(inputs[0], outputs) if _carries(outputs) else None

        return hook

    def _linear(self, func: Operation, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return self.layer(func, input, weight, bias)

    def _addmm(self, func: Operation, input: Tensor, mat1: Tensor, mat2: Tensor) -> Tensor:
        return self.layer(torch.mm, mat1, mat2, input)

    def _matmul(self, func: Operation, left: Tensor, right: Tensor) -> Tensor:
        if right.dim() == 2 and not right.requires_grad:
            return self.layer(func, left, right, None)
        return self.product(func(left, right), _count(left, right))

    def _baddbmm(
        self, func: Operation, input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1
    ) -> Tensor:
        outputs = alpha * self.product(torch.bmm(batch1, batch2), _count(batch1, batch2))
        # As torch has it: with a beta of 0 the input is not read, and may be memory that nobody has written yet.
        return outputs if beta == 0 else beta * input + outputs

    def _einsum(self, func: Operation, equation: str, *operands: Tensor) -> Tensor:
        return self.product(func(equation, *operands), _count(*operands))

    def _scaled_dot_product_attention(self, func: Operation, *args: Any, **kwargs: Any) -> Tensor:
        return open_attention(
            *args,
            **kwargs,
            matmul=lambda left, right: self.product(left @ right, _count(left, right)),
            softmax=lambda scores: self._softmax(functional.softmax, scores, dim=-1),
        )

    def _softmax(self, func: Operation, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        weights: Tensor = func(input, *args, **kwargs)
        if weights.dim() < 3:  # probabilities of classes
            return weights
        weights = self.attention(input, weights)
        if weights.dim() != 4:  # attention that pools, without heads
            return weights
        if self._heads is not None:
            weights = weights * self._heads[len(self.attentions) % len(self._heads)][:, None, None]
        self.attentions.append(weights)
        return weights

    def _multiply(self, func: Operation, left: Any, right: Any) -> Tensor:
        if _carries(left) and _carries(right):
            return self.gate(*((right, left) if right in self._gates else (left, right)))
        return func(left, right)

    def _divide(self, func: Operation, left: Any, right: Any, **kwargs: Any) -> Tensor:
        return func(left, self.factor(right) if _carries(right) else right, **kwargs)

    def _add(self, func: Operation, left: Any, right: Any, **kwargs: Any) -> Tensor:
        if _carries(left) and _carries(right) and left.shape == right.shape and not kwargs:
            return self.sum(left, right)
        return func(left, right, **kwargs)

    def _root(self, func: Operation, input: Tensor, **kwargs: Any) -> Tensor:
        return self.factor(func(input, **kwargs))

    def _layer_norm(
        self,
        func: Operation,
        input: Tensor,
        normalized_shape: Sequence[int],
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
    ) -> Tensor:
        axes = tuple(range(-len(normalized_shape), 0))
        centred = input.float() - input.float().mean(axes, keepdim=True)
        return self._scaled(input, centred, axes, weight, bias, eps)

    def _rms_norm(
        self,
        func: Operation,
        input: Tensor,
        normalized_shape: Sequence[int],
        weight: Tensor | None = None,
        eps: float | None = None,
    ) -> Tensor:
        axes = tuple(range(-len(normalized_shape), 0))
        epsilon = torch.finfo(input.dtype).eps if eps is None else eps
        return self._scaled(input, input.float(), axes, weight, None, epsilon)

    def _scaled(
        self,
        inputs: Tensor,
        states: Tensor,
        axes: tuple[int, ...],
        weight: Tensor | None,
        bias: Tensor | None,
        epsilon: float,
    ) -> Tensor:
        states = states * self.factor((states.square().mean(axes, keepdim=True) + epsilon).rsqrt())
        if weight is not None:
            states = states * weight
        if bias is not None:
            states = states + bias
        return self.norm(inputs, states.to(inputs.dtype))

    def _activation(self, func: Operation, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        # One that overwrites its input would take away what the rule compares its output with.
        if func.__name__ == "relu_":
            func = torch.relu
        kwargs.pop("inplace", None)
        return self._activated(input, func(input, *args, **kwargs))

    def _activated(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """An activation by its rule, remembered: where it multiplies another activation, it is the gate."""
        outputs = self.activation(inputs, outputs)
        self._gates[outputs] = True
        return outputs


class Conservative(Propagation):
    """Attention weights, gates and normalising factors are taken for constants (Ali et al. 2022)."""

    def attention(self, scores: Tensor, weights: Tensor) -> Tensor:
        """A constant: relevance goes to the values alone."""
        return weights.detach()

    def gate(self, left: Tensor, right: Tensor) -> Tensor:
        """The gate is a constant: relevance goes to what it lets through."""
        return left.detach() * right

    def factor(self, factor: Tensor) -> Tensor:
        """A constant."""
        return factor.detach()


class LayerwiseRelevance(Conservative):
    """The ε- or γ-rule in linear layers, relevance unchanged by activations, the rest as in `Conservative`."""

    def __init__(self, model: nn.Module, epsilon: float = 0.0, gamma: float = 0.0, heads: Tensor | None = None) -> None:
        """Prepare rules for one pass; see `Propagation`.

        Args:
            model: whose activation modules get the rule for activations.
            epsilon: what is added to the size of each denominator.
            gamma: how much more the contributions count that have the sign of what they add up to.
            heads: [layers, heads], what each head's attention weights are multiplied by.
        """
        super().__init__(model, heads)
        self.epsilon = epsilon
        self.gamma = gamma

    def layer(self, product: Product, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """R_j = Σ_k a_j (w_jk + γ w_jk^±) / (z_k ± ε) R_k, with the weights of the sign of z_k favoured."""
        outputs = super().layer(product, inputs, weight, bias)
        if not self.gamma:
            return self._stabilised(outputs, outputs)
        # The contributions of one sign add up to half of (sum ± sum of magnitudes), which spares products of each sign.
        magnitudes = super().layer(product, inputs.abs(), weight.abs(), None if bias is None else bias.abs())
        sign = torch.where(outputs < 0, -1.0, 1.0).to(outputs.dtype)
        return self._stabilised(outputs + self.gamma * (outputs + sign * magnitudes) / 2, outputs)

    def product(self, outputs: Tensor, activations: int) -> Tensor:
        """R_j = Σ_k a_j w_jk / (z_k ± ε) R_k."""
        return self._stabilised(outputs, outputs)

    def activation(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Relevance stays as it is."""
        return _unchanged(inputs, outputs)

    def _stabilised(self, carrier: Tensor, outputs: Tensor, share: float = 1.0) -> Tensor:
        """`outputs`, whose relevance goes to what `carrier` is made of, in proportion."""
        if carrier is outputs and not self.epsilon and share == 1.0:
            return outputs
        return _pass_on(carrier, outputs, share * _ratio(outputs, carrier, self.epsilon))


class ReadableHeads(LayerwiseRelevance):
    """`LayerwiseRelevance` under which the gradient of the attention weights can be asked for."""

    def attention(self, scores: Tensor, weights: Tensor) -> Tensor:
        """A constant whose gradient can be asked for."""
        return weights.detach().requires_grad_()


class AttentionAware(LayerwiseRelevance):
    """AttnLRP (Achtibat et al. 2024): products of two activations share evenly; softmax by its Taylor expansion."""

    def attention(self, scores: Tensor, weights: Tensor) -> Tensor:
        """R_i = x_i (R_i - s_i Σ_j R_j), which is the true gradient times the input."""
        return weights

    def product(self, outputs: Tensor, activations: int) -> Tensor:
        """The ε-rule, and an equal share for each of the activations."""
        return self._stabilised(outputs, outputs, 1 / activations)

    def gate(self, left: Tensor, right: Tensor) -> Tensor:
        """An equal share for both."""
        outputs = left * right
        return self._stabilised(outputs, outputs, 1 / 2)


class PositiveContributions(Propagation):
    """The z⁺-rule of deep Taylor decomposition, with the rules of Chefer, Gur & Wolf (2021) for the rest."""

    def layer(self, product: Product, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """R_j = Σ_k (a_j w_jk)⁺ / Σ_i (a_i w_ik)⁺ R_k; biases get none."""
        outputs = super().layer(product, inputs, weight, bias)
        positive = product(inputs.clamp(min=0), weight.clamp(min=0)) + product(inputs.clamp(max=0), weight.clamp(max=0))
        return _pass_on(positive, outputs, _ratio(outputs, positive))

    def product(self, outputs: Tensor, activations: int) -> Tensor:
        """An equal share for each of the activations."""
        return _pass_on(outputs, outputs, torch.full_like(outputs, 1 / activations))

    def gate(self, left: Tensor, right: Tensor) -> Tensor:
        """An equal share for both."""
        return self.product(left * right, 2)

    def attention(self, scores: Tensor, weights: Tensor) -> Tensor:
        """Relevance stays as it is."""
        return _unchanged(scores, weights)

    def activation(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Relevance stays as it is."""
        return _unchanged(inputs, outputs)

    def norm(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Relevance stays as it is."""
        return _unchanged(inputs, outputs)

    def sum(self, left: Tensor, right: Tensor) -> Tensor:
        """Shares by size; see `_Sum`."""
        total: Tensor = _Sum.apply(left, right)  # type: ignore[no-untyped-call]
        return total

    def whole(self, module: nn.Module) -> Callable[[Tensor, Tensor], Tensor] | None:
        """Norms too: some are written out in Python, and leave relevance as it is only as a whole."""
        return self.norm if type(module).__name__.endswith("Norm") else super().whole(module)


class _PassOn(torch.autograd.Function):
    """A value and a gradient that have nothing to do with each other."""

    @staticmethod
    def forward(ctx: Any, carrier: Tensor, outputs: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return outputs.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return (gradients[0] * slope).to(gradients[0].dtype), None, None


class _Sum(torch.autograd.Function):
    """A sum that shares relevance by the size of what each summand gets in all (Chefer et al. 2021)."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        return left + right

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        shares = [(summand * gradient).float().flatten(1).sum(1) for summand in ctx.saved_tensors]
        size = shares[0].abs() + shares[1].abs()
        scales = [_ratio((shares[0] + shares[1]) * _ratio(share.abs(), size), share) for share in shares]
        left, right = (gradient * scale.view(-1, *[1] * (gradient.dim() - 1)).to(gradient.dtype) for scale in scales)
        return left, right


def _pass_on(carrier: Tensor, outputs: Tensor, slope: Tensor) -> Tensor:
    """`outputs`, with `slope` for its derivative by `carrier`."""
    found: Tensor = _PassOn.apply(carrier, outputs.detach(), slope.detach())  # type: ignore[no-untyped-call]
    return found


def _unchanged(inputs: Tensor, outputs: Tensor) -> Tensor:
    """`outputs`, each element of which hands all its relevance to the same element of `inputs`."""
    return _pass_on(inputs, outputs, _ratio(outputs, inputs))


def _ratio(numerator: Tensor, denominator: Tensor, epsilon: float = 0.0) -> Tensor:
    """The quotient, 0 where that is not finite; `epsilon` is added to the denominator's size."""
    with torch.no_grad():
        numerator, denominator = numerator.float(), denominator.float()
        if epsilon:
            denominator = denominator + torch.where(denominator < 0, -epsilon, epsilon)
        return (numerator / denominator).nan_to_num(0.0, 0.0, 0.0)


def _is_activation(module: nn.Module) -> bool:
    mixing = (nn.MultiheadAttention, nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d, nn.GLU)
    home = type(module).__module__
    return home in ("torch.nn.modules.activation", "transformers.activations") and not isinstance(module, mixing)


def _carries(value: Any) -> bool:
    """Whether a gradient, and so relevance, comes through here."""
    return isinstance(value, Tensor) and value.requires_grad


def _count(*factors: Tensor) -> int:
    return sum(map(_carries, factors))


def _tensors(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from value
        else:
            yield value
