"""Classifiers with other weights, beside the one that is explained and without touching it.

This file imports torch; metrics import it inside their methods.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy, deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from assay.architectures import architecture
from assay.classifier import Classifier
from assay.conversation import Cost, generator
from assay.errors import AssayError
from assay.layers import Layer

# What adds to a word's embedding before anything else is done to it, by the names of transformers.
_ADDED_TO_EMBEDDINGS = ("position_embeddings", "wpe", "embed_positions", "token_type_embeddings")


def with_noisy_embeddings(model: Classifier, radius: float, seed: int, sample: int) -> Classifier:
    """The classifier, with uniform noise in [−radius, radius] on every entry of its word embeddings.

    What stands for something hidden keeps its embedding, and so do all special tokens and a prompt's label words.
    The noise on a token hangs on the seed and the sample alone. Weights are shared but for a second embedding table.

    Args:
        model: the classifier; it stays as it is.
        radius: the largest noise, in units of the embedding's entries.
        seed: of the noise.
        sample: which noise.
    """
    table = _table(model)
    noise = generator(seed, "noisy embeddings", sample).random(tuple(table.shape), dtype=np.float32)
    noise = (2 * noise - 1) * np.float32(radius)
    noise[_untouched(model)] = 0
    return _with_table(model, table + torch.from_numpy(noise).to(table))


def with_shifted_embeddings(model: Classifier, size: float, seed: int) -> Classifier:
    """The same function of the text by other embeddings: all words' are shifted alike, and positions the other way.

    Where positions are not added to the word embeddings, the embeddings of segments take the shift off. Weights are
    shared but for these two tables.

    Args:
        model: the classifier; it stays as it is.
        size: the length of the shift, as a share of the words' mean length.
        seed: of the shift's direction.

    Raises:
        AssayError: nothing is added to the word embeddings that could take the shift off.
    """
    name = compensating_embeddings(model)
    table = _table(model)
    direction = generator(seed, "shifted embeddings").standard_normal(table.shape[1])
    length = size * float(table.norm(dim=1).mean())
    shift = torch.from_numpy(length * direction / np.linalg.norm(direction)).to(table)
    shifted = _with_table(model, table + shift)
    added = shifted.model.get_submodule(name)
    added.weight = nn.Parameter(added.weight.detach() - shift)
    return shifted


def compensating_embeddings(model: Classifier) -> str:
    """The module whose embeddings are added to the words' own, by its name: that of positions, else of segments.

    Raises:
        AssayError: there is none, or the model's weights are not in float32 on one device.
    """
    model.check_whole()
    width = model.embedding_width
    found: dict[str, str] = {
        name.rpartition(".")[2]: name
        for name, module in model.model.named_modules()
        if isinstance(module, nn.Embedding) and module.weight.shape[1] == width
    }
    for kind in _ADDED_TO_EMBEDDINGS:
        if kind in found:
            return found[kind]
    raise AssayError(
        f"{model.name} ({type(model.model).__name__}) adds neither positions nor segments to its word embeddings, so "
        "that nothing can take a shift of them off again. input_invariance is for models that do, such as BERT."
    )


def count_levels(model: Classifier) -> int:
    """How many parts `with_random_weights` tells apart: what lies above the layers, each layer, the embeddings."""
    return len(_levels(model.model))


def with_random_weights(model: Classifier, levels: Iterable[int], seed: int) -> Classifier:
    """The classifier with some levels' weights as they were before any training, by the model's own `_init_weights`.

    Tied weights go together. The weights of a level hang on the seed and the level alone. All weights are copied.

    Args:
        model: the classifier; it stays as it is.
        levels: which parts, from the top: 0 is the head with what else lies above the layers, then the layers from the
            last to the first, and the last level is the embeddings.
        seed: of the weights.
    """
    network = deepcopy(model.model).cpu()
    for marked in (*network.modules(), *network.parameters(), *network.buffers()):
        # Transformers leaves alone what bears this mark, which loading weights has set.
        vars(marked).pop("_is_hf_initialized", None)
    parts = _levels(network)
    for level in levels:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator(seed, "random weights", level).integers(2**63)))
            for module in parts[level]:
                network._init_weights(module)
    return _around(model, network.to(model.device))


def with_other_hidden_units(model: Classifier, seed: int) -> Classifier:
    """The same function by other weights: values of attention are rotated, hidden feed-forward units change places.

    In each head v ↦ R v with a random orthogonal matrix R, which the output projection takes back; in each feed-forward
    network the hidden units are put in another order. Weights are shared but for the layers'.

    Args:
        model: the classifier; it stays as it is.
        seed: of the rotations and orders.

    Raises:
        AssayError: an architecture that is not known here.
    """
    names = {module: name for name, module in model.model.named_modules()}
    twin = _around(model, _sharing(model.model))
    done = set()
    for place, layer in enumerate(architecture(model).layers):
        if layer.block in done:
            continue
        done.add(layer.block)
        numbered = _around(model, _numbered(model.model, names[layer.block]))
        where = architecture(numbered).layers[place]
        parameters = list(layer.block.named_parameters())
        # On the CPU: some accelerators have no float64.
        flat = torch.cat([parameter.detach().flatten() for _, parameter in parameters]).cpu()
        _rotate_values(layer, where, flat, generator(seed, "rotation", place))
        _reorder_units(layer, where, flat, generator(seed, "order", place))
        block = twin.model.get_submodule(names[layer.block])
        for (name, parameter), values in zip(
            parameters, torch.split(flat, [parameter.numel() for _, parameter in parameters]), strict=True
        ):
            _put(block, name, values.reshape(parameter.shape).to(parameter.device))
    return twin


def _around(model: Classifier, network: Any) -> Classifier:
    """A classifier like another, over another network."""
    twin = copy(model)
    twin.model = network
    twin.cost, twin.borrowed = Cost(), Cost()
    # What has been made of the other network: its fingerprint and its compiled form.
    for name in ("fingerprint", "_compiled"):
        vars(twin).pop(name, None)
    return twin


def _sharing(network: Any) -> Any:
    """A copy of a network's modules over the same weights."""
    return deepcopy(network, {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())})


def _table(model: Classifier) -> Tensor:
    table: Tensor = model.model.get_input_embeddings().weight
    return table.detach()


def _with_table(model: Classifier, table: Tensor) -> Classifier:
    """The classifier with other word embeddings; an output layer that was tied to them keeps the old ones."""
    twin = _around(model, _sharing(model.model))
    twin.model.get_input_embeddings().weight = nn.Parameter(table)
    return twin


def _untouched(model: Classifier) -> list[int]:
    """The tokens that are no words: special ones, and what else stands for something hidden or for a class."""
    words = [token for ids in getattr(model, "label_ids", ()) for token in ids]
    return sorted({*model.tokenizer.all_special_ids, *words})


def _levels(network: Any) -> list[list[nn.Module]]:
    """What can be given new weights, from the top: all above the layers, each layer from the last, the embeddings."""
    stacks = [
        (name, module) for name, module in network.named_modules() if isinstance(module, nn.ModuleList) and len(module)
    ]
    name, stack = max(stacks, key=lambda named: sum(parameter.numel() for parameter in named[1].parameters()))
    inside = set(stack.modules())
    above: list[nn.Module] = []
    embeddings: list[nn.Module] = []
    for own, module in network.named_modules():
        if module in inside or name.startswith(f"{own}.") or not own:
            continue
        (embeddings if isinstance(module, nn.Embedding) or "embed" in own else above).append(module)
    # A module's own rule for its parts, such as a smaller scale before a residual sum, comes after the parts'.
    layers = [list(layer.modules()) for layer in stack]
    return [part[::-1] for part in (above, *layers[::-1], embeddings)]


def _numbered(network: Any, block: str) -> Any:
    """A copy in which the parameters of one block hold their places in the row of all its entries."""
    numbered, first = _sharing(network), 0
    own = numbered.get_submodule(block)
    for name, parameter in list(own.named_parameters()):
        places = torch.arange(first, first + parameter.numel(), dtype=torch.float64)
        _put(own, name, places.reshape(parameter.shape))
        first += parameter.numel()
    return numbered


def _rotate_values(layer: Layer, where: Layer, flat: Tensor, rng: np.random.Generator) -> None:
    """Rotate each head's values, and its part of the output projection back.

    Args:
        layer: whose values.
        where: the same layer with the places of its weights in `flat` in place of them.
        flat: all entries of the layer's weights, changed in place.
        rng: of the rotations.
    """
    rotation = _rotations(where.values.weight, layer.heads, rng)
    _write(flat, where.values.weight, rotation @ layer.values.weight.cpu().double())
    if layer.values.bias is not None:
        _write(flat, where.values.bias, rotation @ layer.values.bias.cpu().double())
    _write(flat, where.output.weight, layer.output.weight.cpu().double() @ rotation.T)


def _reorder_units(layer: Layer, where: Layer, flat: Tensor, rng: np.random.Generator) -> None:
    """Put the hidden units of a feed-forward network in another order; arguments as of `_rotate_values`."""
    inner, places = layer.feed_forward, where.feed_forward
    order = torch.from_numpy(rng.permutation(len(inner.up.weight)))
    for affine, at in ((inner.up, places.up), (inner.gate, places.gate)):
        if affine is not None and at is not None:
            _write(flat, at.weight, affine.weight.cpu()[order])
            if affine.bias is not None:
                _write(flat, at.bias, affine.bias.cpu()[order])
    _write(flat, places.down.weight, inner.down.weight.cpu()[:, order])


def _write(flat: Tensor, places: Tensor | None, values: Tensor) -> None:
    if places is not None:
        flat[places.detach().long().flatten()] = values.detach().to(flat).flatten()


def _put(module: nn.Module, name: str, values: Tensor) -> None:
    owner, _, own = name.rpartition(".")
    setattr(module.get_submodule(owner), own, nn.Parameter(values))


def _rotations(places: Tensor, heads: int, rng: np.random.Generator) -> Tensor:
    """One random rotation for each head, [width, width] with them on the diagonal; heads that share values share it."""
    of_head: dict[float, NDArray[np.float64]] = {}
    width = len(places) // heads
    blocks = []
    for head in range(heads):
        shared = float(places.detach()[head * width, 0])
        if shared not in of_head:
            of_head[shared] = np.linalg.qr(rng.standard_normal((width, width)))[0]
        blocks.append(torch.from_numpy(of_head[shared]))
    rotations: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return rotations
