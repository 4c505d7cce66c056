"""The last layer of an encoder, worked for one token alone where the class is read off nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn import Module

from assay.model_loading import is_spread

# Where a network has its layers, and what in the last of them takes each token by itself after attention has mixed
# them. What is added to its output without going through it, as a residual, is repeated for tokens that no one reads.
_BERT = ("encoder.layer", ("attention.output",))
_PLACES = {
    "bert.modeling_bert.BertForSequenceClassification": _BERT,
    "roberta.modeling_roberta.RobertaForSequenceClassification": _BERT,
    "xlm_roberta.modeling_xlm_roberta.XLMRobertaForSequenceClassification": _BERT,
    "camembert.modeling_camembert.CamembertForSequenceClassification": _BERT,
    "electra.modeling_electra.ElectraForSequenceClassification": _BERT,
    "deberta.modeling_deberta.DebertaForSequenceClassification": _BERT,
    "deberta_v2.modeling_deberta_v2.DebertaV2ForSequenceClassification": _BERT,
    "mpnet.modeling_mpnet.MPNetForSequenceClassification": (
        "encoder.layer",
        ("attention.attn.o", "attention.LayerNorm"),
    ),
    "distilbert.modeling_distilbert.DistilBertForSequenceClassification": (
        "transformer.layer",
        ("attention.out_lin", "sa_layer_norm"),
    ),
    "modernbert.modeling_modernbert.ModernBertForSequenceClassification": ("layers", ("attn.Wo", "mlp_norm")),
}
_LIBRARIES = ("torch.nn.", "transformers.")


@contextmanager
def first_token_only(network: Any) -> Iterator[None]:
    """Have the last layer work for the first token alone, for as long as this lasts.

    The classes of transformers that read the class off the first token have the same logits but for rounding, whatever
    is hidden or deleted of the others; hidden states of the last layer are wrong meanwhile. Every other network, and
    one that someone has changed or looks into, is left alone.

    Args:
        network: a transformers sequence classifier; afterwards it is as it was.
    """
    handles = [module.register_forward_pre_hook(_first_token) for module in narrowed(network)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def narrowed(network: Any) -> list[Module]:
    """The modules whose input can be cut to the first token; none where the network is not known to the last detail.

    Args:
        network: a transformers sequence classifier.
    """
    kind = type(network)
    places = _PLACES.get(f"{kind.__module__.removeprefix('transformers.models.')}.{kind.__qualname__}")
    if places is None or is_spread(network) or not _reads_first_token(network):
        return []
    try:
        *before, last = network.base_model.get_submodule(places[0])
        parts = [last.get_submodule(part) for part in places[1]]
    except AttributeError:  # another version of transformers names them otherwise
        return []
    # A hook on the whole sees no more than ids and logits.
    known = all(module is network or _is_unobserved(module) for module in _behind(network, set(before)))
    return parts if known else []


def _reads_first_token(network: Any) -> bool:
    """Whether the settings let the class hang on the last layer's first token alone, and on one pass through it."""
    config = network.config
    return (
        getattr(config, "classifier_pooling", "cls") == "cls"  # ModernBERT can read the mean of all tokens.
        and getattr(config, "chunk_size_feed_forward", 0) == 0  # Chunks of tokens must come out even.
        and getattr(network.base_model, "z_steps", 0) == 0  # DeBERTa can call its last layer again.
        and not (config.output_hidden_states or config.output_attentions)
    )


def _behind(network: Module, before: set[Module]) -> Iterator[Module]:
    """The modules of a network but for some and what is inside them."""
    if network not in before:
        yield network
        for module in network._modules.values():
            if module is not None:
                yield from _behind(module, before)


def _is_unobserved(module: Module) -> bool:
    """Whether a module computes what its library wrote, and nobody sees or changes what goes in and out."""
    kind = type(module)
    return (
        kind.__module__.startswith(_LIBRARIES)
        and kind.forward.__module__.startswith(_LIBRARIES)
        and "forward" not in vars(module)
        and not (module._forward_hooks or module._forward_pre_hooks)
    )


def _first_token(_: Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    # In memory of its own, so that the same kernels compute it; on a CPU in low precision nothing would be gained else.
    return tuple(part[:, :1].contiguous() for part in given)
