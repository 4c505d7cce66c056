"""The last layer for one token: the logits of the whole network, where it is known, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    CamembertConfig,
    MPNetConfig,
    XLMRobertaConfig,
)

from assay.classifier import Classifier
from assay.conversation import Soften
from assay.encoding import make_batch
from assay.example import Example
from assay.last_layer import first_token_only, narrowed
from assay.perturbation import Delete, Mask, Pad, ZeroEmbedding, soften
from assay.rows import Rows, Stack
from tests.benchmark.watching import changed, state
from tests.tiny_models import ARCHITECTURES, CORPUS, tiny_classifier, tiny_model

# Each class that is known, and the weight that the last layer's feed-forward network begins with.
KNOWN = {
    "bert": "bert.encoder.layer.1.intermediate.dense",
    "roberta": "roberta.encoder.layer.1.intermediate.dense",
    "xlm_roberta": "roberta.encoder.layer.1.intermediate.dense",
    "camembert": "roberta.encoder.layer.1.intermediate.dense",
    "electra": "electra.encoder.layer.1.intermediate.dense",
    "deberta_v1": "deberta.encoder.layer.1.intermediate.dense",
    "deberta": "deberta.encoder.layer.1.intermediate.dense",
    "mpnet": "mpnet.encoder.layer.1.intermediate.dense",
    "distilbert": "distilbert.transformer.layer.1.ffn.lin1",
    "modernbert": "model.layers.1.mlp.Wi",
}
KIN = {"xlm_roberta": XLMRobertaConfig, "camembert": CamembertConfig, "mpnet": MPNetConfig}
REAL = Path(__file__).parents[2] / "shared" / "models" / "minilm-sst2"
PAIR = Example("pair", ("the film is unforgettable and funny", "nobody was at home , because it rains"))
ONE = Example("one", (CORPUS[0],))


def fresh(architecture: str, labels: int = 2, **settings: Any) -> Classifier:
    """A classifier of one test alone; those that RoBERTa's tokenizer serves have its settings."""
    if architecture not in KIN:
        return Classifier(*tiny_model(architecture, labels, **settings))
    model, tokenizer = tiny_model("roberta", labels)
    config = {name: value for name, value in model.config.to_dict().items() if name not in ("model_type", "dtype")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kin = AutoModelForSequenceClassification.from_config(KIN[architecture](**config))
    return Classifier(kin.eval(), tokenizer)


def stacks(model: Classifier) -> Iterator[Stack]:
    """Rows of every kind that the engine has: plain, attended or embedded in part, shortened; of one and two texts."""
    for example in (ONE, PAIR):
        encoding = model.encode(example)
        keep = np.random.default_rng(0).random((5, encoding.n)) < 0.5
        keep[0], keep[:, 0] = True, True  # a decoder reads nothing where nothing is left
        for perturbation in (Mask(), Delete(), Pad(), ZeroEmbedding()):
            for _, stack in Rows.of(perturbation.rows(encoding, keep, perturbation.hidden_id(model))).parts:
                yield stack
        question = Soften(np.full((2, encoding.n), 0.5), draws=2)
        for _, stack in soften(encoding, question, model.embedding_width).parts:
            yield stack


@contextmanager
def inputs_of(module: nn.Module) -> Iterator[list[tuple[int, ...]]]:
    """The shapes that reach a linear layer; without a hook, which would be seen."""
    shapes = []
    linear = nn.functional.linear

    def noting(given: Any, weight: Any, *rest: Any) -> Any:
        if weight is module.weight:
            shapes.append(tuple(given.shape))
        return linear(given, weight, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, "linear", noting)
        yield shapes


def whole(model: Classifier, stack: Stack) -> NDArray[np.float32]:
    """The same rows by the whole network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.classifier.first_token_only", nullcontext)
        return model.begin(stack)()


@pytest.mark.parametrize(("labels", "precision"), [(1, torch.float64), (3, torch.float64), (2, torch.float32)])
@pytest.mark.parametrize("architecture", KNOWN)
def test_the_logits_are_those_of_the_whole_network(architecture: str, labels: int, precision: torch.dtype) -> None:
    model = fresh(architecture, labels)
    model.model.to(precision)
    # Answers are read in float32; these random weights are so steep that arithmetic in it loses more than its last bit.
    tolerance = 2e-7 if precision == torch.float64 else 5e-6
    before = state(model.model)
    kinds = set()
    for stack in stacks(model):
        with inputs_of(model.model.get_submodule(KNOWN[architecture])) as shapes:
            found = model.begin(stack)()
        expected = whole(model, stack)
        assert [shape[:2] for shape in shapes] == [(len(stack), 1)]
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
        kinds.add((stack.attended is not None, stack.embedded is not None, stack.segments is not None))
    assert len({kind[:2] for kind in kinds}) == 3
    assert changed(before, state(model.model)) == []


@pytest.mark.skipif(not REAL.is_dir(), reason="the fine-tuned model is not here")
def test_the_logits_of_a_real_model_move_by_less_than_a_millionth() -> None:
    model = Classifier.from_pretrained(REAL, device="cpu")
    assert narrowed(model.model)
    for stack in stacks(model):
        np.testing.assert_allclose(model.begin(stack)(), whole(model, stack), rtol=0, atol=1e-6)


def test_the_cost_is_counted_as_before() -> None:
    one, other = fresh("bert"), fresh("bert")
    for stack in stacks(one):
        one.begin(stack)()
        whole(other, stack)
    assert one.cost == other.cost


@pytest.mark.parametrize("layers", [1, 2])
def test_debertas_convolution_after_the_first_layer_does_not_mind(layers: int) -> None:
    model = fresh("deberta", conv_kernel_size=3, num_hidden_layers=layers)
    assert narrowed(model.model)
    for stack in stacks(model):
        np.testing.assert_allclose(model.begin(stack)(), whole(model, stack), atol=1e-5)


@pytest.mark.parametrize("architecture", sorted({*ARCHITECTURES} - {*KNOWN}))
def test_a_network_that_reads_more_or_shares_its_layers_is_left_alone(architecture: str) -> None:
    model = tiny_classifier(architecture)
    assert narrowed(model.model) == []
    for stack in stacks(model):
        np.testing.assert_array_equal(model.begin(stack)(), whole(model, stack))


class Averaging(BertForSequenceClassification):
    """A BERT whose user has it read the mean of all tokens."""

    def forward(self, **given: Any) -> Any:
        return super().forward(**given)


class OwnLinear(nn.Linear):
    """A layer that someone put into the network."""


def hooked(network: Any) -> None:
    network.bert.encoder.layer[1].output.register_forward_hook(lambda *_: None)


def hooked_behind(network: Any) -> None:
    network.bert.pooler.register_forward_pre_hook(lambda *_: None)


def hooked_around(network: Any) -> None:
    network.bert.encoder.register_forward_hook(lambda *_: None)


def own_forward(network: Any) -> None:
    network.bert.pooler.forward = lambda hidden: hidden.mean(1)


def own_class(network: Any) -> None:
    network.__class__ = Averaging


def own_part(network: Any) -> None:
    network.bert.encoder.layer[1].intermediate.dense = OwnLinear(32, 64)


def other_name(network: Any) -> None:
    attention = network.bert.encoder.layer[1].attention
    attention.projection = attention.output
    del attention.output


def in_chunks(network: Any) -> None:
    network.config.chunk_size_feed_forward = 4


def all_states(network: Any) -> None:
    network.config.output_hidden_states = True


def spread(network: Any) -> None:
    network.hf_device_map = {"": "cpu"}


@pytest.mark.parametrize(
    "change",
    [hooked, hooked_behind, hooked_around, own_forward, own_class, own_part, other_name, in_chunks, all_states, spread],
)
def test_a_network_that_someone_changed_or_looks_into_is_left_alone(change: Callable[[Any], None]) -> None:
    network = fresh("bert").model
    assert len(narrowed(network)) == 1
    change(network)
    assert narrowed(network) == []


def test_another_way_of_computing_a_whole_class_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    network = fresh("bert").model
    kind = type(network.bert.pooler)
    monkeypatch.setattr(kind, "forward", lambda self, hidden: self.dense(hidden.mean(1)))
    assert narrowed(network) == []


def test_modernbert_that_reads_the_mean_is_left_alone() -> None:
    assert narrowed(fresh("modernbert").model)
    model = fresh("modernbert", classifier_pooling="mean")
    assert narrowed(model.model) == []


def test_hooks_on_the_whole_and_in_layers_before_see_what_they_always_saw() -> None:
    model = fresh("bert")
    shapes = []
    model.model.register_forward_hook(lambda module, given, found: shapes.append(found.logits.shape))
    model.model.bert.encoder.layer[0].register_forward_hook(lambda module, given, found: shapes.append(found.shape))
    stack = next(stacks(model))
    with inputs_of(model.model.get_submodule(KNOWN["bert"])) as reached:
        model.begin(stack)()
    assert reached == [(len(stack), 1, 32)]
    assert shapes == [(*stack.ids.shape, 32), (len(stack), 2)]


def test_methods_that_look_inside_see_all_tokens() -> None:
    model = fresh("bert")
    batch = make_batch([model.encode(ONE)])
    model.answer([model.encode(ONE).row])
    with inputs_of(model.model.get_submodule(KNOWN["bert"])) as reached, torch.inference_mode():
        states = model.hidden_states(batch)
        model.output(batch, torch.tensor([0]))
    assert states[-1].shape[:2] == batch.input_ids.shape
    assert [shape[1] for shape in reached] == [batch.input_ids.shape[1]] * 2


def test_a_compiled_network_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fresh("bert")
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
    model.compile()
    stack = next(stacks(model))
    with inputs_of(model.model.get_submodule(KNOWN["bert"])) as reached:
        model.begin(stack)()
    assert reached == [(*stack.ids.shape, 32)]


def test_nothing_is_left_behind_when_a_pass_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fresh("distilbert")
    before = state(model.model)
    stack = next(stacks(model))
    monkeypatch.setattr(nn.functional, "layer_norm", None)
    with pytest.raises(TypeError):
        model.begin(stack)()
    with pytest.raises(KeyError), first_token_only(model.model):
        raise KeyError
    assert changed(before, state(model.model)) == []
