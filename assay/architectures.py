"""Where each architecture keeps its layers, values, norms and head, and its attention weights while it runs.

This file imports torch; explainers and metrics import it inside their methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from assay.classifier import Classifier
from assay.encoding import Batch
from assay.errors import AssayError
from assay.layers import Activation, Affine, FeedForward, Layer, Norm, Step
from assay.prompted import PromptedClassifier


@dataclass(frozen=True)
class Architecture:
    """A classifier taken apart.

    Attributes:
        layers: its layers, in the order in which they run.
        final_norm: the norm of every token's state after the last layer; None where there is none.
        head: what turns the state that the class is read from into the logits, step by step; for a prompted model into
            the logits of the first token of each label word.
        vocabulary: what gives the logits of all tokens in place of the head's last step; None unless prompted.
    """

    layers: tuple[Layer, ...]
    final_norm: Norm | None
    head: tuple[Step, ...]
    vocabulary: Affine | None = None


def architecture(model: Classifier) -> Architecture:
    """A classifier taken apart.

    Raises:
        AssayError: an architecture that is not known here, a variant of one that these methods cannot take apart, or
            weights that are not in float32 on one device.
    """
    network = model.model
    model.check_whole()
    kind = getattr(network.config, "model_type", None)
    if kind not in _KNOWN:
        raise AssayError(
            f"{model.name} ({type(network).__name__}) is of an architecture whose layers are not known here. "
            f"Known: {', '.join(sorted(_KNOWN))}."
        )
    layers, head = _KNOWN[kind]
    steps = tuple(head(network))
    vocabulary = None
    if isinstance(model, PromptedClassifier):
        vocabulary = _affine(network.lm_head)
        firsts = torch.tensor([word[0] for word in model.label_ids], device=model.device)
        steps = (*steps[:-1], _rows(vocabulary, firsts))
    return Architecture(tuple(layers(network)), _final_norm(network.base_model), steps, vocabulary)


def count_layers(model: Classifier) -> int:
    """How many layers of attention a classifier has.

    Raises:
        AssayError: its configuration names none, or its attention cannot be read.
    """
    config = model.model.config
    layers = getattr(config, "num_hidden_layers", None)
    if not layers or not hasattr(config, "_attn_implementation"):
        raise AssayError(f"{model.name} ({type(model.model).__name__}) has no attention weights.")
    if getattr(config, "alibi", False):
        raise AssayError(
            f"{model.name} ({type(model.model).__name__}) counts its position bias (ALiBi) twice where it reports its "
            "attention weights, so that they are not those it uses."
        )
    return int(layers) * int(getattr(config, "inner_group_num", 1))


def reading(model: Classifier, batch: Batch) -> Tensor:
    """The weight that each token's last state has in what the class is read from, [batch, tokens]; a row sums to 1."""
    mask = torch.ones_like(batch.input_ids) if batch.attention_mask is None else batch.attention_mask
    if getattr(model.model.config, "classifier_pooling", "cls") == "mean":
        return mask / mask.sum(1, keepdim=True)
    return functional.one_hot(model.read_token(batch), mask.shape[1]).float()


class AttentionWeights(TorchFunctionMode):
    """Catches each layer's attention weights, [batch, heads, tokens, tokens], where they are computed.

    Unlike the weights that a model reports, these take part in the graph, and can be changed on the way.

    Args:
        change: what to use in place of a layer's weights, given its place and them.
    """

    def __init__(self, change: Callable[[int, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.change = change
        self.layers: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run what torch was asked to, and look at it if it is a softmax over keys."""
        result = func(*args, **(kwargs or {}))
        if func in (functional.softmax, torch.softmax, Tensor.softmax) and result.ndim == 4:
            if self.change is not None:
                result = self.change(len(self.layers), result)
            self.layers.append(result)
        return result


@contextmanager
def layer_inputs(layers: Sequence[Layer]) -> Iterator[list[Tensor]]:
    """The input of each layer, [batch, tokens, width], filled in while the model runs."""
    states: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states.append(args[0] if args else kwargs["hidden_states"])

    # Layers that share their weights are one module, called many times.
    blocks = dict.fromkeys(layer.block for layer in layers)
    hooks = [block.register_forward_pre_hook(keep, with_kwargs=True) for block in blocks]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()


def _affine(module: Any) -> Affine:
    # GPT-2 keeps its weights the other way round.
    transposed = type(module).__name__ == "Conv1D"
    return Affine(module.weight.T if transposed else module.weight, module.bias)


def _norm(module: Any) -> Norm:
    centred = "RMS" not in type(module).__name__
    epsilon = module.eps if hasattr(module, "eps") else module.variance_epsilon
    return Norm(module.weight, getattr(module, "bias", None), epsilon, centred)


def _rows(affine: Affine, chosen: Tensor) -> Affine:
    """The outputs of an affine map that `chosen` names."""
    return Affine(affine.weight[chosen], None if affine.bias is None else affine.bias[chosen])


def _grouped(values: Affine, heads: int, width: int) -> Affine:
    """A value projection that several heads share, repeated for each of them; `width` is a head's."""
    groups = len(values.weight) // width
    place = torch.arange(groups * width, device=values.weight.device).reshape(groups, width)
    return _rows(values, place.repeat_interleave(heads // groups, 0).flatten())


def _bert(network: Any) -> Iterator[Layer]:
    for block in network.base_model.encoder.layer:
        attention = block.attention
        yield Layer(
            block,
            heads=attention.self.num_attention_heads,
            values=_bert_values(attention.self),
            output=_affine(attention.output.dense),
            feed_forward=FeedForward(
                _affine(block.intermediate.dense),
                Activation(block.intermediate.intermediate_act_fn),
                _affine(block.output.dense),
            ),
            order="post",
            attention_norm=_norm(attention.output.LayerNorm),
            feed_forward_norm=_norm(block.output.LayerNorm),
        )


def _bert_values(attention: Any) -> Affine:
    if hasattr(attention, "in_proj"):
        # The first DeBERTa projects queries, keys and values head by head, and adds the bias apart.
        weight = attention.in_proj.weight
        weight = weight.reshape(attention.num_attention_heads, 3, -1, weight.shape[1])[:, 2].flatten(0, 1)
        return Affine(weight, attention.v_bias)
    return _affine(attention.value if hasattr(attention, "value") else attention.value_proj)


def _deberta(network: Any) -> Iterator[Layer]:
    encoder = network.base_model.encoder
    for found, what in (
        (getattr(encoder, "conv", None), "a convolution between its layers"),
        (getattr(network.config, "talking_head", False), "heads that talk to each other (talking_head)"),
    ):
        if found:
            raise AssayError(f"{type(network).__name__} has {what} here, which these methods cannot take apart.")
    yield from _bert(network)


def _distilbert(network: Any) -> Iterator[Layer]:
    for block in network.base_model.transformer.layer:
        yield Layer(
            block,
            heads=block.attention.n_heads,
            values=_affine(block.attention.v_lin),
            output=_affine(block.attention.out_lin),
            feed_forward=FeedForward(
                _affine(block.ffn.lin1), Activation(block.ffn.activation), _affine(block.ffn.lin2)
            ),
            order="post",
            attention_norm=_norm(block.sa_layer_norm),
            feed_forward_norm=_norm(block.output_layer_norm),
        )


def _albert(network: Any) -> Iterator[Layer]:
    encoder, config = network.base_model.encoder, network.config
    for place in range(config.num_hidden_layers):
        group = int(place / (config.num_hidden_layers / config.num_hidden_groups))
        for block in encoder.albert_layer_groups[group].albert_layers:
            yield Layer(
                block,
                heads=block.attention.num_attention_heads,
                values=_affine(block.attention.value),
                output=_affine(block.attention.dense),
                feed_forward=FeedForward(_affine(block.ffn), Activation(block.activation), _affine(block.ffn_output)),
                order="post",
                attention_norm=_norm(block.attention.LayerNorm),
                feed_forward_norm=_norm(block.full_layer_layer_norm),
            )


def _modernbert(network: Any) -> Iterator[Layer]:
    for block in network.base_model.layers:
        query_key_value, gated = _affine(block.attn.Wqkv), _affine(block.mlp.Wi)
        width, inner = len(query_key_value.weight) // 3, len(gated.weight) // 2
        yield Layer(
            block,
            heads=width // block.attn.head_dim,
            values=_rows(query_key_value, torch.arange(2 * width, 3 * width)),
            output=_affine(block.attn.Wo),
            feed_forward=FeedForward(
                up=_rows(gated, torch.arange(inner, 2 * inner)),
                activation=Activation(block.mlp.act),
                down=_affine(block.mlp.Wo),
                gate=_rows(gated, torch.arange(inner)),
            ),
            order="pre",
            attention_norm=None if isinstance(block.attn_norm, nn.Identity) else _norm(block.attn_norm),
            feed_forward_norm=_norm(block.mlp_norm),
        )


def _gpt2(network: Any) -> Iterator[Layer]:
    for block in network.base_model.h:
        query_key_value = _affine(block.attn.c_attn)
        width = len(query_key_value.weight) // 3
        yield Layer(
            block,
            heads=block.attn.num_heads,
            values=_rows(query_key_value, torch.arange(2 * width, 3 * width)),
            output=_affine(block.attn.c_proj),
            feed_forward=FeedForward(_affine(block.mlp.c_fc), Activation(block.mlp.act), _affine(block.mlp.c_proj)),
            order="pre",
            attention_norm=_norm(block.ln_1),
            feed_forward_norm=_norm(block.ln_2),
        )


def _opt(network: Any) -> Iterator[Layer]:
    for block in network.base_model.decoder.layers:
        yield Layer(
            block,
            heads=block.self_attn.num_heads,
            values=_affine(block.self_attn.v_proj),
            output=_affine(block.self_attn.out_proj),
            feed_forward=FeedForward(_affine(block.fc1), Activation(block.activation_fn), _affine(block.fc2)),
            order="pre" if block.do_layer_norm_before else "post",
            attention_norm=_norm(block.self_attn_layer_norm),
            feed_forward_norm=_norm(block.final_layer_norm),
        )


def _llama(network: Any) -> Iterator[Layer]:
    for block in network.base_model.layers:
        attention, mlp = block.self_attn, block.mlp
        heads = attention.config.num_attention_heads
        yield Layer(
            block,
            heads=heads,
            values=_grouped(_affine(attention.v_proj), heads, attention.head_dim),
            output=_affine(attention.o_proj),
            feed_forward=FeedForward(
                _affine(mlp.up_proj), Activation(mlp.act_fn), _affine(mlp.down_proj), _affine(mlp.gate_proj)
            ),
            order="pre",
            attention_norm=_norm(block.input_layernorm),
            feed_forward_norm=_norm(block.post_attention_layernorm),
        )


def _falcon(network: Any) -> Iterator[Layer]:
    for block in network.base_model.h:
        attention, config = block.self_attention, block.config
        heads, width = attention.num_heads, attention.head_dim
        place = torch.arange(attention.query_key_value.weight.shape[0])
        if attention.new_decoder_architecture:
            # Each group holds its heads' queries, one key and one value.
            place = place.reshape(attention.num_kv_heads, -1, width)[:, -1]
        elif attention.multi_query:
            place = place.reshape(-1, width)[-1:]
        else:
            place = place.reshape(heads, 3, width)[:, 2]
        two_norms = hasattr(block, "ln_attn")
        parallel = config.parallel_attn or config.new_decoder_architecture
        attention_norm = _norm(block.ln_attn if two_norms else block.input_layernorm)
        if two_norms:
            feed_forward_norm = _norm(block.ln_mlp)
        else:
            feed_forward_norm = attention_norm if parallel else _norm(block.post_attention_layernorm)
        yield Layer(
            block,
            heads=heads,
            values=_grouped(_rows(_affine(attention.query_key_value), place.flatten()), heads, width),
            output=_affine(attention.dense),
            feed_forward=FeedForward(
                _affine(block.mlp.dense_h_to_4h), Activation(block.mlp.act), _affine(block.mlp.dense_4h_to_h)
            ),
            order="parallel" if parallel else "pre",
            attention_norm=attention_norm,
            feed_forward_norm=feed_forward_norm,
        )


def _bert_head(network: Any) -> Iterator[Step]:
    yield _affine(network.base_model.pooler.dense)
    yield Activation(torch.tanh)
    yield _affine(network.classifier)


def _roberta_head(network: Any) -> Iterator[Step]:
    yield _affine(network.classifier.dense)
    yield Activation(torch.tanh)
    yield _affine(network.classifier.out_proj)


def _electra_head(network: Any) -> Iterator[Step]:
    yield _affine(network.classifier.dense)
    yield Activation(network.classifier.activation)
    yield _affine(network.classifier.out_proj)


def _distilbert_head(network: Any) -> Iterator[Step]:
    yield _affine(network.pre_classifier)
    yield Activation(torch.relu)
    yield _affine(network.classifier)


def _albert_head(network: Any) -> Iterator[Step]:
    yield _affine(network.base_model.pooler)
    yield Activation(network.base_model.pooler_activation)
    yield _affine(network.classifier)


def _deberta_head(network: Any) -> Iterator[Step]:
    from transformers.activations import ACT2FN

    yield _affine(network.pooler.dense)
    yield Activation(ACT2FN[network.config.pooler_hidden_act])
    yield _affine(network.classifier)


def _modernbert_head(network: Any) -> Iterator[Step]:
    yield _affine(network.head.dense)
    yield Activation(network.head.act)
    yield _norm(network.head.norm)
    yield _affine(network.classifier)


def _decoder_head(network: Any) -> Iterator[Step]:
    if getattr(network.base_model, "decoder", None) is not None and network.base_model.decoder.project_out is not None:
        yield _affine(network.base_model.decoder.project_out)
    yield _affine(network.score if hasattr(network, "score") else network.lm_head)


def _final_norm(base: Any) -> Norm | None:
    base = getattr(base, "decoder", base)
    for name in ("ln_f", "norm", "final_norm", "final_layer_norm"):
        if isinstance(getattr(base, name, None), nn.Module):
            return _norm(getattr(base, name))
    return None


# The layers and the head of each model_type of transformers.
_KNOWN: dict[str, tuple[Callable[[Any], Iterator[Layer]], Callable[[Any], Iterator[Step]]]] = {
    "albert": (_albert, _albert_head),
    "bert": (_bert, _bert_head),
    "camembert": (_bert, _roberta_head),
    "deberta": (_deberta, _deberta_head),
    "deberta-v2": (_deberta, _deberta_head),
    "distilbert": (_distilbert, _distilbert_head),
    "electra": (_bert, _electra_head),
    "falcon": (_falcon, _decoder_head),
    "gpt2": (_gpt2, _decoder_head),
    "llama": (_llama, _decoder_head),
    "mistral": (_llama, _decoder_head),
    "modernbert": (_modernbert, _modernbert_head),
    "opt": (_opt, _decoder_head),
    "qwen2": (_llama, _decoder_head),
    "roberta": (_bert, _roberta_head),
    "xlm-roberta": (_bert, _roberta_head),
}
