from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from assay import registry
from assay.classifier import Classifier
from assay.eager_attention import eager_attention
from assay.errors import AssayError
from assay.explainers import propagation
from assay.explainers.decomposition import head_relevance, output_without_heads
from tests.conversations import TARGET
from tests.explainers import with_lxt
from tests.explainers.attributing import batch_of, encode, token_scores
from tests.explainers.bert_by_hand import AttnByHand, ByHand, ChefersByHand, detached_logits
from tests.explainers.linear_model import WIDTH, LinearBagOfWords, linear_classifier
from tests.tiny_models import (
    ARCHITECTURES,
    CORPUS,
    DECODERS,
    tiny_classifier,
    tiny_model,
    tiny_prompted,
    word_piece_tokenizer,
)

TEXTS = [("a dull , unforgettable script",), ("good",), (CORPUS[6], CORPUS[2])]
RELEVANCE = ("lrp_0", "lrp_epsilon", "lrp_gamma", "attn_lrp", "conservative_lrp", "deep_taylor")
RULES = {
    "lrp_0": propagation.LayerwiseRelevance,
    "lrp_epsilon": lambda network: propagation.LayerwiseRelevance(network, epsilon=1e-6),
    "lrp_gamma": lambda network: propagation.LayerwiseRelevance(network, gamma=0.25),
    "attn_lrp": lambda network: propagation.AttentionAware(network, epsilon=1e-6),
    "conservative_lrp": propagation.Conservative,
    "deep_taylor": propagation.PositiveContributions,
}


def build(name, **settings):
    return registry.build("explainer", name, **settings)


def shake(network, seed=1):
    """Biases and norms as training leaves them: none of them 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias") or parameter.dim() == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return network


def shaken_bert():
    network, tokenizer = tiny_model("bert")
    return Classifier(shake(network), tokenizer, "shaken")


def constants(network, architecture):
    """The parameters that are added on the way: biases, position and segment embeddings.

    DeBERTa sends relative positions through a norm and the projections of queries and keys as well; the biases of these
    are left out (and left at 0), for what comes of a position is a constant as well.
    """
    relative = {
        "deberta": ("query_proj", "key_proj", "encoder.LayerNorm"),
        "deberta_v1": ("pos_q_proj",),
    }.get(architecture, ())
    added = ("bias", "position_embeddings", "token_type_embeddings", "wpe", "embed_positions")
    return [
        parameter
        for name, parameter in network.named_parameters()
        if any(part in name for part in added) and not any(part in name for part in relative)
    ]


class Softmax(TorchFunctionMode):
    """What the Taylor expansion of each softmax leaves over: Σ (s - J x) times the gradient at s."""

    def __init__(self):
        super().__init__()
        self.left_over = 0.0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") == "softmax" and found.requires_grad:
            scores, weights = args[0].detach(), found.detach()

            def count(gradient):
                inner = weights * (gradient - (weights * gradient).sum(-1, keepdim=True))
                kept = weights > 0
                self.left_over += (weights * gradient).sum().item() - (scores * inner)[kept].sum().item()

            found.register_hook(count)
        return found


CONSERVING = pytest.mark.parametrize("name", ["lrp_0", "lrp_epsilon", "lrp_gamma", "attn_lrp", "deep_taylor"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@CONSERVING
def test_relevance_is_conserved(name, architecture):
    assert conservation_error(name, architecture) < 1e-3


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("bert", {"hidden_act": "gelu_new"}),
        ("bert", {"hidden_act": "quick_gelu"}),
        ("deberta", {"share_att_key": False}),
        ("deberta", {"conv_kernel_size": 3}),
        ("modernbert", {"classifier_pooling": "mean"}),
        ("gpt2", {"reorder_and_upcast_attn": True, "attn_implementation": "eager"}),
        ("opt", {"do_layer_norm_before": False}),
        ("llama", {"mlp_bias": True, "attention_bias": True}),
        ("falcon", {"bias": True}),
        ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    ],
    ids=str,
)
@CONSERVING
def test_relevance_is_conserved_in_the_variants_of_an_architecture(name, architecture, settings):
    assert conservation_error(name, architecture, **settings) < 1e-3


def conservation_error(name, architecture, **settings):
    """Word embeddings, constants and (under AttnLRP) what the softmax keeps share the logit; this is the rest."""
    network, tokenizer = tiny_model(architecture, **settings)
    model = Classifier(network, tokenizer)
    batch = batch_of(model, encode(model, [(CORPUS[0],), (CORPUS[0],)]))
    target = torch.tensor([0, 1])
    with model.at_work(), Softmax() as softmax:
        added = constants(network, architecture)
        generator = torch.Generator().manual_seed(1)
        for parameter in added:
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.1
            parameter.requires_grad_()
        plain = model.output(batch, target).detach()
        softmax.left_over = 0.0
        embeddings = model.embeddings(batch).requires_grad_()
        with RULES[name](network):
            output = model.output(batch, target, embeddings)
        weights = torch.tensor([1.0, 0.5])  # so that the two rows can not make up for one another
        gradients = torch.autograd.grad((output * weights).sum(), [embeddings, *added], allow_unused=True)
    np.testing.assert_allclose(output.detach(), plain, atol=1e-5)
    shares = [
        (value * gradient).sum().item()
        for value, gradient in zip([embeddings, *added], gradients, strict=True)
        if gradient is not None
    ]
    left_over = softmax.left_over if name == "attn_lrp" else 0.0
    total = (plain * weights).sum().item()
    error = abs(sum(shares) + left_over - total) / abs(total)
    print(f"{name} {architecture}: tokens {shares[0]:.3f}, constants {sum(shares[1:]):.3f}, ", end="")
    print(f"softmax {left_over:.3f}, logit {total:.3f}, error {error:.1e}")
    return error


@pytest.mark.parametrize("architecture", ["opt", "llama", "qwen2"])
def test_conservative_lrp_conserves_where_activations_are_homogeneous_or_gates(architecture):
    """ReLU and SwiGLU; with zero biases and no positions all of it goes to the tokens."""
    model = tiny_classifier(architecture)
    found = attribute("conservative_lrp", model)
    if architecture == "opt":
        # Positions are added, and hold the rest.
        assert found.report["absorbed"].abs().max() > 1e-3
    else:
        np.testing.assert_allclose(found.report["absorbed"], 0, atol=1e-4)


def attribute(name, model, texts=TEXTS, target=TARGET, **settings):
    batch = batch_of(model, encode(model, texts))
    with model.at_work():
        return build(name, **settings).attribute(model, batch, torch.full((len(texts),), target))


@pytest.mark.parametrize("epsilon", [1e-6, 1e-3])
@pytest.mark.parametrize(("name", "by_hand"), [("lrp_epsilon", ByHand), ("attn_lrp", AttnByHand)])
def test_epsilon_rules_are_those_worked_out_by_hand(name, by_hand, epsilon):
    model = shaken_bert()
    encodings = encode(model, TEXTS)
    found = token_scores(build(name, epsilon=epsilon), model, encodings)
    for encoding, scores in zip(encodings, found, strict=True):
        reference = by_hand(model.model, encoding.row.ids, encoding.row.segments, epsilon)
        expected = reference.relevance(TARGET).sum(1)
        error = np.abs(scores - expected).max() / max(1, np.abs(expected).max())
        print(f"{name}, ε {epsilon}: relative error {error:.1e}")
        assert error < 1e-4


def test_deep_taylor_is_that_worked_out_by_hand():
    model = shaken_bert()
    encodings = encode(model, TEXTS)
    for encoding, scores in zip(encodings, token_scores(build("deep_taylor"), model, encodings), strict=True):
        expected = ChefersByHand(model.model, encoding.row.ids, encoding.row.segments).relevance(TARGET).sum(1)
        np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-4)


def test_transformer_attribution_is_that_worked_out_by_hand():
    model = shaken_bert()
    encodings = encode(model, TEXTS)
    found = token_scores(build("transformer_attribution"), model, encodings)
    for encoding, scores in zip(encodings, found, strict=True):
        reference = ChefersByHand(model.model, encoding.row.ids, encoding.row.segments)
        reference.relevance(TARGET, start=1.0)
        gradients = gradient_of_attention(model, encoding)
        rollout = np.eye(len(scores))
        for gradient, relevance in zip(gradients, reference.attention, strict=True):
            rollout = (np.eye(len(scores)) + np.maximum(gradient * relevance, 0).mean(0)) @ rollout
        expected = rollout[0] - np.eye(len(scores))[0]
        assert expected.max() > 1e-4
        np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-5 * expected.max())


def gradient_of_attention(model, encoding):
    """Each layer's gradient of the logit at the attention weights that transformers reports."""
    inputs = {"input_ids": torch.from_numpy(encoding.row.ids)[None]}
    inputs["token_type_ids"] = torch.from_numpy(encoding.row.segments)[None]
    with eager_attention(model), torch.enable_grad():
        outputs = model.model(**inputs, output_attentions=True)
        gradients = torch.autograd.grad(outputs.logits[0, TARGET], outputs.attentions)
    return [gradient[0].numpy() for gradient in gradients]


def test_conservative_lrp_is_gradient_x_input_on_the_detached_graph():
    model = shaken_bert()
    encodings = encode(model, TEXTS)
    for encoding, scores in zip(encodings, token_scores(build("conservative_lrp"), model, encodings), strict=True):
        words = model.model.state_dict()["bert.embeddings.word_embeddings.weight"].double()
        embeddings = words[torch.from_numpy(encoding.row.ids)].requires_grad_()
        logits = detached_logits(model.model, embeddings, torch.from_numpy(encoding.row.segments))
        (gradient,) = torch.autograd.grad(logits[TARGET], embeddings)
        expected = (embeddings * gradient).sum(1).detach()
        np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-5)


def test_attn_lrp_and_conservative_lrp_are_those_of_lxt(tmp_path):
    """In another process, for it alters the classes of transformers for good."""
    pytest.importorskip("lxt")
    found = tmp_path / "found.npz"
    subprocess.run([sys.executable, "-m", "tests.explainers.with_lxt", str(found)], check=True, capture_output=True)
    theirs = np.load(found)
    for architecture, rules in with_lxt.CASES.items():
        model = with_lxt.model(architecture)
        explainer = build("attn_lrp", epsilon=0.0) if rules == "attnLRP" else build("conservative_lrp")
        ours = token_scores(explainer, model, encode(model, with_lxt.TEXTS))
        for index, scores in enumerate(ours):
            expected = theirs[f"{architecture} {index}"]
            error = np.abs(scores - expected).max() / np.abs(expected).max()
            print(f"{rules} {architecture}: largest difference {error:.1e}")
            assert error < 1e-5


class Perceptron(LinearBagOfWords):
    """Layers with ReLUs on the sum of the word embeddings, all of which are positive."""

    def __init__(self, vocabulary, special):
        super().__init__(vocabulary, special, torch.zeros(3, WIDTH))
        self.classes = nn.Sequential(nn.Linear(WIDTH, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))
        with torch.no_grad():
            self.embedding.weight.abs_()
            for layer in self.classes[::2]:
                # captum's rule leaves biases as they are; the paper's gives positive ones a (1 + γ).
                layer.bias.abs_().neg_()


def perceptron():
    tokenizer = word_piece_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = Perceptron(len(tokenizer), tokenizer.all_special_ids)
    return Classifier(network.eval(), tokenizer, "perceptron")


@pytest.mark.parametrize(
    ("name", "settings", "rule"),
    [
        ("lrp_0", {}, ("EpsilonRule", {"epsilon": 1e-12})),
        ("lrp_epsilon", {"epsilon": 0.05}, ("EpsilonRule", {"epsilon": 0.05})),
        ("lrp_gamma", {"gamma": 0.25}, ("GammaRule", {"gamma": 0.25})),
        ("lrp_gamma", {"gamma": 2.0}, ("GammaRule", {"gamma": 2.0})),
        ("deep_taylor", {}, ("Alpha1_Beta0_Rule", {"set_bias_to_zero": True})),
    ],
)
def test_layers_with_relus_agree_with_captum(name, settings, rule):
    captum = pytest.importorskip("captum.attr")
    rules = pytest.importorskip("captum.attr._utils.lrp_rules")
    model = perceptron()
    (encoding,) = encode(model, [(CORPUS[0],)])
    embedded = model.model.embedding.weight[torch.from_numpy(encoding.row.ids)].detach()
    pooled = embedded.sum(0, keepdim=True)
    target = int(model.model.classes(pooled).argmax())
    assert model.model.classes(pooled)[0, target] > 0.1
    (scores,) = token_scores(build(name, **settings), model, [encoding], target=target)
    for layer in model.model.classes[::2]:
        layer.rule = getattr(rules, rule[0])(**rule[1])
    relevance = captum.LRP(model.model.classes).attribute(pooled.requires_grad_(), target=target)
    expected = (embedded / pooled * relevance).sum(1).detach()
    assert expected.abs().max() > 0.01
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["lrp_0", "lrp_epsilon", "lrp_gamma", "attn_lrp", "conservative_lrp"])
def test_a_linear_bag_of_words_gives_its_weights(name):
    model = linear_classifier()
    settings = {"lrp_epsilon": {"epsilon": 1e-7}, "lrp_gamma": {"gamma": 0.0}}.get(name, {})
    encodings = encode(model, TEXTS)
    for encoding, scores in zip(encodings, token_scores(build(name, **settings), model, encodings), strict=True):
        embedded = model.model.embedding.weight[torch.from_numpy(encoding.row.ids)]
        expected = (embedded @ model.model.classes.weight[TARGET]).detach()
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_gamma_favours_contributions_of_the_sign_of_their_sum():
    """One linear layer, two words: shares c + γ c^± of what they add up to, for a positive and a negative sum."""
    model = linear_classifier(torch.eye(3, WIDTH))
    tokens = model.tokenizer.convert_tokens_to_ids(["film", "story"])
    gamma = 0.5
    for values in ((3.0, -1.0), (-3.0, 1.0), (2.0, 1.0)):
        with torch.no_grad():
            model.model.embedding.weight.zero_()
            model.model.classes.bias.zero_()
            model.model.embedding.weight[tokens[0], 0] = values[0]
            model.model.embedding.weight[tokens[1], 1] = values[1]
            model.model.classes.weight.zero_()
            model.model.classes.weight[TARGET, :2] = 1.0
        (scores,) = token_scores(build("lrp_gamma", gamma=gamma), model, encode(model, [("film story",)]))
        total = sum(values)
        favoured = [value * (1 + gamma * (value * total > 0)) for value in values]
        expected = [value / sum(favoured) * total for value in favoured]
        np.testing.assert_allclose(scores[1:3], expected, rtol=1e-5)


@pytest.mark.parametrize("name", [*RELEVANCE, "transformer_attribution", "head_relevance"])
@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "falcon", "modernbert"])
def test_it_is_the_same_whichever_way_attention_is_computed(name, architecture):
    model = tiny_classifier(architecture)
    encodings = encode(model, TEXTS)
    fused = token_scores(build(name), model, encodings)
    with eager_attention(model):
        for scores, again in zip(fused, token_scores(build(name), model, encodings), strict=True):
            np.testing.assert_allclose(scores, again, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [*RELEVANCE, "transformer_attribution", "head_relevance"])
def test_half_precision_gives_nearly_the_same(name):
    network, tokenizer = tiny_model("bert", initializer_range=0.15)
    exact, rounded = Classifier(network, tokenizer), Classifier(network, tokenizer, dtype="bfloat16")
    encodings = encode(exact, [(CORPUS[0],)])
    (scores,), (again,) = (token_scores(build(name), model, encodings) for model in (exact, rounded))
    assert np.isfinite(again).all()
    if name != "deep_taylor":  # its shares jump where those of a residual connection cancel
        assert np.corrcoef(scores, again)[0, 1] > 0.9


def test_the_log_softmax_before_a_label_word_keeps_its_offset():
    """LLaMA has no constants, so the tokens hold Σ_v J_v logit_v, the label word's logit less the expected one."""
    model = tiny_prompted("llama")
    encodings = encode(model, [("a warm story",), (CORPUS[1],)])
    for encoding, scores in zip(encodings, token_scores(build("lrp_0"), model, encodings), strict=True):
        with torch.no_grad():
            logits = model.model(torch.from_numpy(encoding.row.ids)[None]).logits[0, -1].double()
        (token,) = model.label_ids[TARGET]
        assert scores.sum() == pytest.approx(float(logits[token] - logits.softmax(-1) @ logits), abs=1e-3)


@pytest.mark.parametrize("name", ["transformer_attribution", "head_relevance"])
@pytest.mark.parametrize("architecture", DECODERS)
def test_label_words_of_several_tokens_are_no_tokens_of_the_text(name, architecture):
    model = tiny_prompted(architecture, words=(" good", " unforgettable", " dull"))
    encodings = encode(model, TEXTS[:2])
    for target in (0, 1):
        for scores, encoding in zip(token_scores(build(name), model, encodings, target=target), encodings, strict=True):
            assert len(scores) == len(encoding.row.ids)
            assert (scores >= 0).all()
            if name == "head_relevance":
                assert scores.sum() == pytest.approx(1, abs=1e-5)
            else:
                assert scores.max() > 0
    batch = batch_of(model, encodings)
    with model.at_work():
        output = model.output(batch, torch.tensor([0, 1]))
        full = output_without_heads(model, batch, torch.tensor([0, 1]), torch.ones(2, 4))
    np.testing.assert_allclose(full, output.detach(), atol=1e-4)


def test_what_absorbs_relevance_is_reported():
    model = shaken_bert()
    batch = batch_of(model, encode(model, TEXTS))
    target = torch.full((len(TEXTS),), TARGET)
    for name in RELEVANCE:
        found = attribute(name, model)
        with model.at_work():
            logits = model.output(batch, target).detach()
        np.testing.assert_allclose(found.scores.sum(1) + found.report["absorbed"], logits, atol=1e-5)


def test_a_larger_epsilon_absorbs_more():
    model = tiny_classifier("llama")  # no biases and no positions: all that is missing is what ε keeps
    logits = attribute("lrp_0", model).scores.sum(1)
    missing = [
        (attribute("lrp_epsilon", model, epsilon=epsilon).report["absorbed"] / logits).abs().max()
        for epsilon in (1e-6, 1e-3, 1.0)
    ]
    assert missing[0] < 1e-4 < missing[1] < 1e-2 < missing[2]


@pytest.mark.parametrize("name", RELEVANCE)
def test_it_starts_from_the_logit_or_the_difference_of_two(name, tiny_bert):
    batch = batch_of(tiny_bert, encode(tiny_bert, TEXTS), "probability")
    target = torch.full((len(TEXTS),), TARGET)
    explainer = build(name)
    with tiny_bert.at_work():
        ours = explainer.attribute(tiny_bert, batch, target).scores
        np.testing.assert_array_equal(
            ours, explainer.attribute(tiny_bert, replace(batch, output="logit"), target).scores
        )
        contrast = explainer.attribute(tiny_bert, replace(batch, foil=1 - target), target).scores
        other = explainer.attribute(tiny_bert, batch, 1 - target).scores
    # At a residual connection the shares of deep Taylor decomposition are no linear function of relevance.
    if name != "deep_taylor":
        np.testing.assert_allclose(contrast, ours - other, atol=1e-4)


# Heads


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_heads_hold_the_relevance_that_comes_through_attention(architecture):
    model = tiny_classifier(architecture)
    encodings = encode(model, TEXTS)
    batch = batch_of(model, encodings)
    target = torch.full((len(TEXTS),), TARGET)
    with model.at_work():
        relevance = head_relevance(model, batch, target)
        alone = [head_relevance(model, batch_of(model, [encoding]), target[:1])[0] for encoding in encodings]
    assert relevance.shape == (len(TEXTS), 2, 4)
    np.testing.assert_allclose(relevance, torch.stack(alone), rtol=1e-3, atol=1e-4)
    for scores in token_scores(build("head_relevance"), model, encodings):
        assert scores.sum() == pytest.approx(1, abs=1e-5)


def test_head_relevance_is_that_worked_out_by_hand():
    model = shaken_bert()
    encodings = encode(model, TEXTS)
    with model.at_work():
        relevance = head_relevance(model, batch_of(model, encodings), torch.full((len(TEXTS),), TARGET), epsilon=1e-6)
    found = token_scores(build("head_relevance", epsilon=1e-6), model, encodings)
    for encoding, ours, scores in zip(encodings, relevance, found, strict=True):
        reference = ByHand(model.model, encoding.row.ids, encoding.row.segments, 1e-6)
        reference.relevance(TARGET)
        expected = np.stack(reference.heads)
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
        shares = np.abs(expected) / np.abs(expected).sum(1, keepdims=True)
        read = np.stack([kept["attention"][:, 0] for kept in reference.layers])
        np.testing.assert_allclose(scores, (shares[..., None] * read).sum(1).mean(0), atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_pruned_head_puts_out_zeros(architecture):
    model = tiny_classifier(architecture)
    batch = batch_of(model, encode(model, TEXTS))
    target = torch.full((len(TEXTS),), TARGET)
    keep = torch.ones(2, 4)
    with model.at_work():
        full = model.output(batch, target).detach()
        np.testing.assert_allclose(output_without_heads(model, batch, target, keep), full, atol=1e-5)
        keep[1, 2] = 0
        pruned = output_without_heads(model, batch, target, keep)
    assert (pruned - full).abs().max() > 1e-3
    if architecture == "bert":
        network, tokenizer = tiny_model("bert")
        with torch.no_grad():  # width 32 in four heads: the third one's output enters by columns 16 to 23
            network.bert.encoder.layer[1].attention.output.dense.weight[:, 16:24] = 0
        again = Classifier(network, tokenizer)
        with again.at_work():
            np.testing.assert_allclose(pruned, again.output(batch, target).detach(), atol=1e-5)


class AttentionOnly(LinearBagOfWords):
    """One layer of four heads and a linear read-out of the sum: the logit is the sum of what the heads put out."""

    def __init__(self, vocabulary, special):
        super().__init__(vocabulary, special, torch.randn(3, WIDTH))
        self.projections = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.config.num_attention_heads, self.config.num_hidden_layers = 4, 1

    def forward(self, input_ids=None, inputs_embeds=None, attention_mask=None, token_type_ids=None):
        embedded = self.embedding(input_ids) if inputs_embeds is None else inputs_embeds
        query, key, value = self.projections(embedded).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        heads = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        return super().forward(inputs_embeds=heads.transpose(1, 2).flatten(2))


def test_where_heads_add_up_to_the_logit_their_relevance_is_what_pruning_takes_away():
    tokenizer = word_piece_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Classifier(AttentionOnly(len(tokenizer), tokenizer.all_special_ids).eval(), tokenizer)
    batch = batch_of(model, encode(model, [(CORPUS[0],)]))
    target = torch.tensor([TARGET])
    with model.at_work():
        relevance = head_relevance(model, batch, target, epsilon=0.0)[0, 0]
        full = model.output(batch, target).detach()
        for head in range(4):
            keep = torch.ones(1, 4)
            keep[0, head] = 0
            without = output_without_heads(model, batch, target, keep)
            np.testing.assert_allclose(full - without, relevance[head], rtol=1e-4, atol=1e-5)
        with pytest.raises(AssayError, match=r"keep must be \[1, 4\], the layers and heads of model, not \[2, 4\]"):
            output_without_heads(model, batch, target, torch.ones(2, 4))


@pytest.mark.parametrize("name", ["transformer_attribution", "head_relevance"])
def test_a_model_without_attention_has_none_to_read(name):
    model = linear_classifier()
    with pytest.raises(AssayError, match=r"linear \(LinearBagOfWords\) has no attention heads. Use lrp_epsilon"):
        build(name).check(model)


# Operations


@pytest.mark.parametrize(
    "product",
    [
        lambda left, right: left @ right,
        torch.bmm,
        lambda left, right: torch.baddbmm(torch.zeros(1, 1, 1), left, right),
        lambda left, right: torch.einsum("bij,bjk->bik", left, right),
    ],
    ids=["matmul", "bmm", "baddbmm", "einsum"],
)
def test_both_factors_of_a_product_share_its_relevance(product):
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(2, 3, 3, generator=generator, requires_grad=True) for _ in range(2))
    with propagation.AttentionAware(nn.Identity()):
        both, alone = product(left, right).sum(), product(left, right.detach()).sum()
    for value, gradient in zip((left, right), torch.autograd.grad(both, (left, right)), strict=True):
        torch.testing.assert_close((value * gradient).sum(), both / 2)
    (gradient,) = torch.autograd.grad(alone, left)
    torch.testing.assert_close((left * gradient).sum(), alone)


def test_torchs_rms_norm_is_the_one_written_out():
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = torch.arange(1.0, 9.0)
    with propagation.Conservative(nn.Identity()):
        ours = nn.functional.rms_norm(x, (8,), weight, 1e-6)
        written_out = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weight
    torch.testing.assert_close(ours, written_out)
    torch.testing.assert_close(ours, nn.functional.rms_norm(x, (8,), weight, 1e-6))
    gradients = [torch.autograd.grad(found[:, 0].sum(), x)[0] for found in (ours, written_out)]
    torch.testing.assert_close(*gradients)


def test_attention_in_a_kernel_that_rules_cannot_see_is_opened_for_the_pass(tiny_bert):
    network, tokenizer = tiny_model("bert")
    model = Classifier(network, tokenizer)
    network.config._attn_implementation_internal = "flex_attention"
    encodings = encode(model, TEXTS)
    for name in ("attn_lrp", "head_relevance"):
        found = token_scores(build(name), model, encodings)
        for scores, expected in zip(found, token_scores(build(name), tiny_bert, encodings), strict=True):
            np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-4)
    assert network.config._attn_implementation == "flex_attention"


# What is left behind


def hooks(network):
    return [
        (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        for module in network.modules()
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    ]


@pytest.mark.parametrize("name", [*RELEVANCE, "transformer_attribution", "head_relevance"])
@pytest.mark.parametrize("breaks", [False, True])
def test_nothing_stays_behind_also_when_the_model_fails(name, breaks, monkeypatch):
    network, tokenizer = tiny_model("bert")
    model = Classifier(network, tokenizer)
    batch = batch_of(model, encode(model, TEXTS))
    target = torch.full((len(TEXTS),), TARGET)
    with model.at_work():
        before = model.output(batch, target).detach()
        if breaks:

            def fail(*_):
                raise RuntimeError("broken")

            monkeypatch.setattr(network.classifier, "forward", fail)
        with pytest.raises(RuntimeError, match="broken") if breaks else nullcontext():
            build(name).attribute(model, batch, target)
        monkeypatch.undo()
        assert not hooks(network)
        assert "forward" not in vars(network.classifier)
        np.testing.assert_array_equal(model.output(batch, target).detach(), before)
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    (gradient,) = torch.autograd.grad((x * x).sum(), x)
    np.testing.assert_array_equal(gradient, [2.0, -4.0])


@pytest.mark.parametrize("name", RELEVANCE)
def test_the_cost_is_one_pass_forward_and_one_back(name, tiny_bert):
    before = tiny_bert.cost.copy()
    attribute(name, tiny_bert)
    spent = tiny_bert.cost.since(before)
    assert (spent.forward_rows, spent.backward_rows) == (len(TEXTS), len(TEXTS))


def test_what_a_beta_of_zero_leaves_out_is_not_read():
    from assay.explainers.propagation import Propagation

    left, right = torch.ones(1, 2, 3, requires_grad=True), torch.ones(1, 3, 2)
    with Propagation(torch.nn.Module()):
        found = torch.baddbmm(torch.full((1, 2, 2), torch.nan), left, right, beta=0, alpha=0.5)
    assert found.tolist() == [[[1.5, 1.5], [1.5, 1.5]]]
