from __future__ import annotations

from contextlib import contextmanager

import networkx
import numpy as np
import pytest
import torch

from assay import registry
from assay.architectures import architecture, reading
from assay.classifier import Classifier
from assay.eager_attention import eager_attention
from assay.errors import AssayError
from assay.explainers.attention import maximum_flows, rolled_out
from tests.explainers.attributing import TARGET, batch_of, encode, token_scores
from tests.explainers.linear_model import linear_classifier
from tests.tiny_models import ARCHITECTURES, CORPUS, DECODERS, tiny_classifier, tiny_model, tiny_prompted

TEXTS = [(CORPUS[1],), ("good",), (CORPUS[6], CORPUS[2])]
METHODS = (
    "attention",
    "attention_rollout",
    "attention_flow",
    "grad_sam",
    "generic_attention",
    "attattr",
    "attcat",
    "attention_norm",
)


def own_pass(model, encoding):
    """What transformers itself reports for the row alone, with a graph: attentions, states, and the target's logit."""
    ids = torch.from_numpy(encoding.row.ids)[None]
    inputs = {"inputs_embeds": model.embeddings(batch_of(model, [encoding])).requires_grad_()}
    if encoding.row.segments is not None:
        inputs["token_type_ids"] = torch.from_numpy(encoding.row.segments)[None]
    assert inputs["inputs_embeds"].shape[:2] == ids.shape
    with model.at_work(), eager_attention(model):
        outputs = model.model(**inputs, output_attentions=True, output_hidden_states=True)
    return outputs.attentions, outputs.hidden_states, outputs.logits[0, TARGET]


def own_attention(model, encoding):
    """What transformers itself reports for the row alone, [layers, heads, tokens, tokens]."""
    return torch.cat(own_pass(model, encoding)[0]).detach().numpy()


def attribute(name, model, encodings, **settings):
    return token_scores(registry.build("explainer", name, **settings), model, encodings)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_attention_is_the_models_own_of_the_row_that_is_asked_for(architecture):
    model = tiny_classifier(architecture)
    encodings = encode(model, TEXTS)
    read = -1 if architecture in DECODERS else 0
    for settings, select in (
        ({}, lambda weights: weights[-1].mean(0)[read]),
        ({"layer": 0, "head": 2}, lambda weights: weights[0, 2][read]),
        ({"layer": "all"}, lambda weights: weights.mean((0, 1))[read]),
        ({"layer": "all", "head": -1}, lambda weights: weights[:, -1].mean(0)[read]),
        ({"head": "max", "row": "cls"}, lambda weights: weights[-1].max(0)[0]),
        ({"row": "last"}, lambda weights: weights[-1].mean(0)[-1]),
        ({"row": "mean"}, lambda weights: weights[-1].mean((0, 1))),
    ):
        found = attribute("attention", model, encodings, **settings)
        for encoding, scores in zip(encodings, found, strict=True):
            np.testing.assert_allclose(scores, select(own_attention(model, encoding)), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("attention", {"layer": 2}, r"attention.layer=2: tiny-bert has 2 layers, counted 0 to 1 or -2 to -1"),
        ("attention", {"layer": -3}, "has 2 layers"),
        ("attention", {"head": 4}, r"attention.head=4: tiny-bert has 4 heads"),
        ("attention_norm", {"layer": 2}, r"attention_norm.layer=2: tiny-bert has 2 layers"),
    ],
)
def test_a_layer_or_head_that_the_model_lacks_is_named(name, settings, message, tiny_bert):
    with pytest.raises(AssayError, match=message):
        registry.build("explainer", name, **settings).check(tiny_bert)


@pytest.mark.parametrize("name", METHODS)
def test_a_model_without_attention_is_refused(name):
    with pytest.raises(AssayError, match=r"linear \(LinearBagOfWords\) has no attention weights"):
        registry.build("explainer", name).check(linear_classifier())


@pytest.mark.parametrize("name", METHODS)
def test_falcons_alibi_is_refused_because_it_reports_attention_that_it_does_not_use(name):
    network, tokenizer = tiny_model("falcon", alibi=True)
    with pytest.raises(AssayError, match="ALiBi"):
        registry.build("explainer", name).check(Classifier(network, tokenizer))


def test_an_architecture_that_is_not_in_the_table_is_named(tiny_bert):
    network, tokenizer = tiny_model("bert")
    network.config.model_type = "new"
    with pytest.raises(AssayError, match=r"not known here. Known: albert, bert"):
        registry.build("explainer", "attcat").check(Classifier(network, tokenizer))


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_left_on_the_model_when_a_pass_fails(name, monkeypatch):
    network, tokenizer = tiny_model("bert")
    model = Classifier(network, tokenizer)
    network.classifier.forward = None
    with pytest.raises(TypeError):
        attribute(name, model, encode(model, TEXTS[:1]))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert network.config._attn_implementation == "sdpa"


def test_where_the_head_reads_the_mean_all_tokens_are_read_in_equal_parts():
    network, tokenizer = tiny_model("modernbert", classifier_pooling="mean")
    model = Classifier(network, tokenizer)
    encodings = encode(model, TEXTS)
    weights = reading(model, batch_of(model, encodings))
    for encoding, row in zip(encodings, weights, strict=True):
        tokens = len(encoding.row.ids)
        np.testing.assert_allclose(row, np.where(np.arange(len(row)) < tokens, 1 / tokens, 0), atol=1e-7)
    for encoding, scores in zip(encodings, attribute("attention", model, encodings), strict=True):
        np.testing.assert_allclose(scores, own_attention(model, encoding)[-1].mean((0, 1)), atol=1e-6)


def test_rollout_on_a_network_small_enough_for_the_hand():
    first, second = torch.tensor([[[0.75, 0.25], [0.5, 0.5]]]), torch.tensor([[[0.6, 0.4], [0.0, 1.0]]])
    # 0.6 · (0.75, 0.25) + 0.4 · (0.5, 0.5)
    torch.testing.assert_close(rolled_out(torch.tensor([[1.0, 0.0]]), [first, second]), torch.tensor([[0.65, 0.35]]))


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_rollout_multiplies_attention_with_half_a_residual(architecture):
    model = tiny_classifier(architecture)
    encodings = encode(model, TEXTS)
    for encoding, scores in zip(encodings, attribute("attention_rollout", model, encodings), strict=True):
        product = np.eye(len(scores))
        for weights in own_attention(model, encoding).mean(1):
            product = (0.5 * weights + 0.5 * np.eye(len(scores))) @ product
        np.testing.assert_allclose(scores, product[-1 if architecture == "llama" else 0], atol=1e-6)


def networkx_flows(source, layers):
    """Maximum flows by a library that works on the definition."""
    graph = networkx.DiGraph()
    for token, held in enumerate(source):
        graph.add_edge("source", (len(layers), token), capacity=held)
    for layer, weights in enumerate(layers):
        for (above, below), weight in np.ndenumerate(weights):
            graph.add_edge((layer + 1, above), (layer, below), capacity=weight)
    return [networkx.maximum_flow_value(graph, "source", (0, token)) for token in range(len(source))]


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
@pytest.mark.parametrize("causal", [False, True])
def test_flow_is_networkx_maximum_flow(layers, causal):
    rng = np.random.default_rng(layers)
    weights = rng.random((layers, 5, 5)) ** 4
    if causal:
        weights = np.tril(weights)
    weights /= weights.sum(-1, keepdims=True)
    for source in (np.eye(5)[-1], np.full(5, 0.2)):
        found = maximum_flows(source, list(weights), np.arange(5))
        np.testing.assert_allclose(found, networkx_flows(source, list(weights)), atol=1e-7)


def test_flow_scores_the_words_by_the_flow_from_the_read_token(tiny_bert):
    encodings = encode(tiny_bert, TEXTS[:2])
    for encoding, scores in zip(encodings, attribute("attention_flow", tiny_bert, encodings), strict=True):
        layers = own_attention(tiny_bert, encoding).mean(1).astype(np.float64)
        layers = [(weights + np.eye(len(scores))) / 2 for weights in layers]
        flows = networkx_flows(np.eye(len(scores))[0], layers)
        np.testing.assert_allclose(scores, np.where(encoding.feature_of_token >= 0, flows, 0), atol=1e-6)


def gradients(model, encoding):
    """Attention, its gradient, and hidden states with theirs, from what transformers reports."""
    attention, states, logit = own_pass(model, encoding)
    found = torch.autograd.grad(logit, [*attention, *states[:-1]])
    both = [torch.cat([tensor.detach() for tensor in tensors]).numpy() for tensors in (attention, states[:-1])]
    return both[0], torch.cat(found[: len(attention)]).numpy(), both[1], torch.cat(found[len(attention) :]).numpy()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradient_weighted_attention_is_what_the_reported_attentions_give(architecture):
    model = tiny_classifier(architecture)
    encodings = encode(model, TEXTS)
    read = -1 if architecture in DECODERS else 0
    names = ("grad_sam", "generic_attention", "attcat")
    found = [attribute(name, model, encodings) for name in names]
    for index, encoding in enumerate(encodings):
        weights, slopes, states, state_slopes = gradients(model, encoding)
        np.testing.assert_allclose(
            found[0][index], (weights * np.maximum(slopes, 0)).mean((0, 1, 2)), atol=1e-6, rtol=1e-4
        )
        relevance = np.eye(weights.shape[-1])
        for layer, slope in zip(weights, slopes, strict=True):
            relevance = relevance + np.maximum(layer * slope, 0).mean(0) @ relevance
        own = np.eye(len(relevance))[read]
        np.testing.assert_allclose(found[1][index], relevance[read] - own, atol=1e-5, rtol=1e-4)
        received = weights.mean((1, 2))
        np.testing.assert_allclose(
            found[2][index], (received * (states * state_slopes).sum(-1)).sum(0), atol=1e-5, rtol=1e-4
        )


@contextmanager
def values_at_zero(model, layer):
    """A layer's attention weights at 0: nothing is handed on but the bias of the output projection."""
    name = {"bert": "value", "gpt2": "c_attn", "llama": "v_proj", "modernbert": "Wqkv"}[model.model.config.model_type]
    module = [module for path, module in model.model.named_modules() if path.endswith(name)][layer]
    third = 1 if name in ("value", "v_proj") else 3

    def zero(_, __, output):
        output = output.clone()
        output[..., output.shape[-1] // third * (third - 1) :] = 0
        return output

    hook = module.register_forward_hook(zero)
    try:
        yield
    finally:
        hook.remove()


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "modernbert"])
def test_attattr_splits_what_a_layers_attention_is_worth(architecture):
    model = tiny_classifier(architecture)
    encodings = encode(model, TEXTS)
    expected = np.zeros(len(encodings))
    target = torch.full((1,), TARGET)
    for index, encoding in enumerate(encodings):
        batch = batch_of(model, [encoding])
        for layer in range(2):
            with torch.no_grad():
                full = model.output(batch, target)
                with values_at_zero(model, layer):
                    expected[index] += float(full - model.output(batch, target))
    found = attribute("attattr", model, encodings, steps=60)
    np.testing.assert_allclose([scores.sum() for scores in found], expected, atol=2e-3)


def test_attattr_of_the_read_row_is_the_share_of_its_attention(tiny_bert):
    (encoding,) = encode(tiny_bert, TEXTS[:1])
    batch, target = batch_of(tiny_bert, [encoding]), torch.tensor([TARGET])
    explainer = registry.build("explainer", "attattr", row="read", steps=4)
    with tiny_bert.at_work(), torch.no_grad():
        shares = explainer.shares(tiny_bert, batch, target)
    (scores,) = token_scores(explainer, tiny_bert, [encoding])
    np.testing.assert_allclose(scores, sum(share[0, :, 0].sum(0) for share in shares), atol=1e-5)


def norms(weights, state, values, output):
    """The definition of Kobayashi et al., query by query, token by token, head by head, [tokens, tokens]."""
    heads, tokens, _ = weights.shape
    value = (state @ values.weight.T + values.bias).reshape(tokens, heads, -1)
    projection = output.weight.reshape(output.weight.shape[0], heads, -1)
    found = np.zeros((tokens, tokens))
    for query in range(tokens):
        for token in range(tokens):
            vector = sum(
                weights[head, query, token] * projection[:, head] @ value[token, head] for head in range(heads)
            )
            found[query, token] = np.linalg.norm(vector.numpy())
    return found


def test_attention_norm_is_the_definition_on_bert(tiny_bert):
    encodings = encode(tiny_bert, TEXTS)
    blocks = [layer.attention for layer in tiny_bert.model.bert.encoder.layer]
    found = {
        layer: attribute("attention_norm", tiny_bert, encodings, layer=layer) for layer in (0, -1, "all", "rollout")
    }
    for index, encoding in enumerate(encodings):
        attention, states, _ = own_pass(tiny_bert, encoding)
        with torch.no_grad():
            layers = [
                norms(weights[0], state[0], block.self.value, block.output.dense)
                for weights, state, block in zip(attention, states, blocks, strict=False)
            ]
        np.testing.assert_allclose(found[0][index], layers[0][0], rtol=1e-4)
        np.testing.assert_allclose(found[-1][index], layers[1][0], rtol=1e-4)
        np.testing.assert_allclose(found["all"][index], (layers[0][0] + layers[1][0]) / 2, rtol=1e-4)
        shares = [(layer / layer.sum(1, keepdims=True) + np.eye(len(layer))) / 2 for layer in layers]
        np.testing.assert_allclose(found["rollout"][index], (shares[1] @ shares[0])[0], rtol=1e-4)


def test_a_prompted_models_attention_is_followed_through_the_pass_of_the_label_word():
    model = tiny_prompted("gpt2", words=(" good", " unforgettable", " dull"))
    word = model.tokenizer(" unforgettable")["input_ids"]
    assert len(word) > 1
    (encoding,) = encode(model, TEXTS[:1])
    tokens = len(encoding.row.ids)
    ids = torch.cat([torch.from_numpy(encoding.row.ids), torch.tensor(word[:-1])])[None]
    with model.at_work(), eager_attention(model):
        embeddings = model.model.get_input_embeddings()(ids).requires_grad_()
        outputs = model.model(inputs_embeds=embeddings, output_attentions=True, output_hidden_states=True)
    score = outputs.logits[0, tokens - 1 :].log_softmax(-1)[range(len(word)), word].sum()
    both = (*outputs.attentions, *outputs.hidden_states[:2])
    slopes = torch.autograd.grad(score, both)
    weights, states = (torch.cat(some).detach() for some in (both[:2], both[2:]))
    slopes, state_slopes = torch.cat(slopes[:2]), torch.cat(slopes[2:])
    relevance = torch.eye(weights.shape[-1])
    for layer, slope in zip(weights, slopes, strict=True):
        relevance = relevance + (layer * slope).clamp(min=0).mean(0) @ relevance
    for name, expected in (
        ("grad_sam", (weights * slopes.clamp(min=0)).mean((0, 1, 2))),
        ("generic_attention", (relevance - torch.eye(len(relevance)))[tokens - 1 :].sum(0)),
        ("attcat", (weights.mean((1, 2)) * (states * state_slopes).sum(-1)).sum(0)),
    ):
        (found,) = attribute(name, model, [encoding])
        np.testing.assert_allclose(found, expected[:tokens], atol=1e-5, rtol=1e-3)


def test_attattr_of_a_prompted_model_splits_what_attention_is_worth_in_all_its_passes():
    model = tiny_prompted("gpt2", words=(" good", " unforgettable", " dull"))
    (encoding,) = encode(model, TEXTS[:1])
    batch, target = batch_of(model, [encoding], "probability"), torch.tensor([TARGET])
    explainer = registry.build("explainer", "attattr", steps=40)
    with model.at_work(), torch.no_grad():
        shares = explainer.shares(model, batch, target)
        full = model.output(batch, target)
        for layer in range(2):
            with values_at_zero(model, layer):
                expected = float(full - model.output(batch, target))
            assert sum(float(share.sum()) for share in shares[layer::2]) == pytest.approx(expected, abs=1e-3)


def test_half_precision_gives_the_same_scores_up_to_its_rounding():
    network, tokenizer = tiny_model("bert")
    exact, rounded = (Classifier(network, tokenizer, dtype=dtype) for dtype in ("float32", "bfloat16"))
    for name in METHODS:
        (scores,), (others,) = (attribute(name, model, encode(model, TEXTS[:1])) for model in (exact, rounded))
        assert others.dtype == np.float32
        assert np.corrcoef(scores, others)[0, 1] > 0.99


def test_layers_that_share_their_weights_are_counted_each_time_they_run():
    network, tokenizer = tiny_model("albert", num_hidden_layers=4, num_hidden_groups=2, inner_group_num=2)
    model = Classifier(network, tokenizer)
    assert len(architecture(model).layers) == 8
    with pytest.raises(AssayError, match="has 8 layers"):
        registry.build("explainer", "attention", layer=8).check(model)
    registry.build("explainer", "attention", layer=7).check(model)
