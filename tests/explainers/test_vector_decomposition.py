from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import erf
from transformers import AutoModelForSequenceClassification, CamembertConfig, MistralConfig, XLMRobertaConfig

from assay import registry
from assay.architectures import AttentionWeights, architecture, layer_inputs, reading
from assay.classifier import Classifier
from assay.eager_attention import eager_attention
from assay.errors import AssayError
from tests.explainers.attributing import TARGET, batch_of, encode, token_scores
from tests.tiny_models import (
    ARCHITECTURES,
    CORPUS,
    byte_level_tokenizer,
    decoder_tokenizer,
    tiny_model,
    tiny_prompted,
)

TEXTS = [(CORPUS[1],), ("good",), (CORPUS[6], CORPUS[2])]
METHODS = ("value_zeroing", "globenc", "alti", "decompx")

# Every architecture, and the variants of each that the table tells apart.
VARIANTS = (
    *((name, {}) for name in ARCHITECTURES),
    ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1}),
    ("falcon", {"multi_query": False}),
    ("falcon", {"parallel_attn": False}),
    ("opt", {"do_layer_norm_before": False}),
    ("opt", {"word_embed_proj_dim": 16}),
    ("albert", {"num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2}),
    ("modernbert", {"classifier_pooling": "mean"}),
    ("llama", {"attention_bias": True, "mlp_bias": True}),
)
every_variant = pytest.mark.parametrize(("name", "settings"), VARIANTS, ids=lambda value: str(value) if value else "")


def with_biases(network, tokenizer):
    """The model with random biases and norms, which a fresh one has at 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return Classifier(network, tokenizer, "biased")


def biased(name, **settings):
    return with_biases(*tiny_model(name, num_labels=3, **settings))


def logits(model, encoding):
    batch = batch_of(model, [encoding])
    with model.at_work(), torch.no_grad():
        return [float(model.output(batch, torch.tensor([target]))) for target in range(3)]


def attribute(name, model, encodings, **settings):
    return token_scores(registry.build("explainer", name, **settings), model, encodings)


def check_the_table(model, encoding):
    """Each layer rebuilt from its parts gives the next one's input, and the head the logits."""
    batch, found = batch_of(model, [encoding]), architecture(model)
    with model.at_work(), torch.no_grad():
        with layer_inputs(found.layers) as states:
            attention = model.attentions(batch)
        assert len(states) == len(attention) == len(found.layers)
        rebuilt = []
        for layer, state, weights in zip(found.layers, states, attention, strict=True):
            vectors = torch.cat([part for _, part in layer.contributions(state, weights, 7)], dim=1)
            rebuilt.append(layer.after_attention(state, layer.attended(vectors)))
        for above, state in zip(rebuilt, states[1:], strict=False):
            torch.testing.assert_close(above, state, atol=1e-4, rtol=1e-4)
        state = rebuilt[-1] if found.final_norm is None else found.final_norm.apply(rebuilt[-1])
        state = (reading(model, batch)[..., None] * state).sum(1)
        for step in found.head:
            state = step.apply(state)
    np.testing.assert_allclose(state[0], logits(model, encoding), atol=1e-4)


@every_variant
def test_the_table_knows_every_part_of_the_network(name, settings):
    model = biased(name, **settings)
    check_the_table(model, encode(model, TEXTS)[2])


@pytest.mark.parametrize("config", [CamembertConfig, XLMRobertaConfig, MistralConfig])
def test_their_kin_are_known_too(config):
    tokenizer = (decoder_tokenizer if config is MistralConfig else byte_level_tokenizer)()
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    if config is MistralConfig:
        settings["num_key_value_heads"] = 2
    with torch.random.fork_rng(devices=[]):
        network = AutoModelForSequenceClassification.from_config(
            config(
                vocab_size=len(tokenizer),
                num_labels=3,
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                **settings,
            )
        )
    model = with_biases(network.eval(), tokenizer)
    (encoding,) = encode(model, TEXTS[:1])
    check_the_table(model, encoding)
    (scores,) = attribute("decompx", model, [encoding])
    assert scores.sum() == pytest.approx(logits(model, encoding)[TARGET], abs=1e-4)


@every_variant
def test_decompx_sums_to_the_logit(name, settings):
    model = biased(name, **settings)
    encodings = encode(model, TEXTS)
    for encoding, scores in zip(encodings, attribute("decompx", model, encodings), strict=True):
        assert scores.sum() == pytest.approx(logits(model, encoding)[TARGET], abs=1e-4)


def test_under_a_contrast_decompx_sums_to_the_difference_and_a_probability_is_explained_by_its_logit():
    model = biased("bert")
    (encoding,) = encode(model, TEXTS[:1])
    batch = replace(batch_of(model, [encoding], "probability"), foil=torch.tensor([2]))
    with model.at_work():
        scores = registry.build("explainer", "decompx").attribute(model, batch, torch.tensor([0]))
    own = logits(model, encoding)
    assert float(scores.sum()) == pytest.approx(own[0] - own[2], abs=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("words", [(" good", " dull", " movie"), (" good", " unforgettable", " dull")])
def test_a_prompted_models_scores_sum_to_the_log_probability_and_the_entropy_of_the_next_token(name, words):
    model = tiny_prompted(name, words=words)
    encodings = encode(model, TEXTS[:2])
    first = model.tokenizer(words[TARGET])["input_ids"][0]
    for encoding, scores in zip(encodings, attribute("decompx", model, encodings), strict=True):
        with model.at_work(), torch.no_grad():
            logits = model.model(input_ids=torch.from_numpy(encoding.row.ids)[None]).logits[0, -1]
        log_probabilities = logits.log_softmax(-1)
        entropy = -(log_probabilities.exp() * log_probabilities).sum()
        assert scores.sum() == pytest.approx(float(log_probabilities[first] + entropy), abs=1e-4)
        batch = replace(batch_of(model, [encoding]), foil=torch.tensor([2]))
        with model.at_work(), torch.no_grad():
            contrast = registry.build("explainer", "decompx").attribute(model, batch, torch.tensor([0]))
            assert float(contrast.sum()) == pytest.approx(float(model.output(batch, torch.tensor([0]))), abs=1e-4)


def frozen(stack, network):
    """Hooks that let the gradient pass every norm, activation and gate as if its factor were a constant."""

    def norm(module, args, _):
        states = args[0]
        centred = states if "RMS" in type(module).__name__ else states - states.mean(-1, keepdim=True)
        epsilon = getattr(module, "eps", None) or module.variance_epsilon
        normed = centred * torch.rsqrt(centred.pow(2).mean(-1, keepdim=True) + epsilon).detach() * module.weight
        bias = getattr(module, "bias", None)
        return normed if bias is None else normed + bias

    def activation(_, args, output):
        return args[0] * (output / args[0]).detach()

    def halves(_, args):
        return ((args[0] + args[0].detach()) / 2,)

    for path, module in network.named_modules():
        name = type(module).__name__
        if "Norm" in name:
            stack.callback(module.register_forward_hook(norm).remove)
        elif "Activation" in name or name in ("Tanh", "ReLU", "GELU", "SiLU"):
            stack.callback(module.register_forward_hook(activation).remove)
        elif path.endswith(("mlp.down_proj", "mlp.Wo")):
            stack.callback(module.register_forward_pre_hook(halves).remove)


@pytest.mark.parametrize(
    "name", ["bert", "albert", "distilbert", "gpt2", "opt", "llama", "qwen2", "falcon", "modernbert"]
)
def test_without_biases_decompx_is_gradient_times_input_of_the_frozen_network(name):
    model = biased(name)
    encodings = encode(model, TEXTS)
    for encoding, scores in zip(encodings, attribute("decompx", model, encodings, bias="left_out"), strict=True):
        batch = batch_of(model, [encoding])
        with ExitStack() as stack:
            stack.enter_context(model.at_work())
            frozen(stack, model.model)
            states = stack.enter_context(layer_inputs(architecture(model).layers))
            stack.enter_context(eager_attention(model))
            stack.enter_context(AttentionWeights(lambda _, weights: weights.detach()))
            output = model.output(batch, torch.tensor([TARGET]), model.embeddings(batch).requires_grad_())
        (gradient,) = torch.autograd.grad(output, states[0])
        np.testing.assert_allclose(scores, (gradient * states[0]).sum(-1)[0].detach(), atol=1e-4, rtol=1e-3)


def own_bert(model, encoding):
    """A BERT's weights, attention and layer inputs as transformers reports them, in float64, and nothing else."""
    inputs = {"input_ids": torch.from_numpy(encoding.row.ids)[None]}
    inputs["token_type_ids"] = torch.from_numpy(encoding.row.segments)[None]
    with model.at_work(), eager_attention(model), torch.no_grad():
        outputs = model.model(**inputs, output_attentions=True, output_hidden_states=True)
    return SimpleNamespace(
        weights={key: value.double().numpy() for key, value in model.model.state_dict().items()},
        attention=[weights[0].double().numpy() for weights in outputs.attentions],
        states=[state[0].double().numpy() for state in outputs.hidden_states],
    )


def part(own, layer, name):
    prefix = f"bert.encoder.layer.{layer}.{name}."
    return own.weights[prefix + "weight"], own.weights[prefix + "bias"]


def factor(state):
    return 1 / np.sqrt(((state - state.mean()) ** 2).mean() + 1e-12)


def gelu(state):
    return state * (1 + erf(state / np.sqrt(2))) / 2


def carried(own, layer, query, token, states, with_bias=True):
    """Σ_h α W_O (W_V x + b_V), written with one loop for everything."""
    (value, value_bias), (output, _) = (
        part(own, layer, "attention.self.value"),
        part(own, layer, "attention.output.dense"),
    )
    vector = np.zeros(len(output))
    for head, weights in enumerate(own.attention[layer]):
        width = slice(head * 8, head * 8 + 8)
        moved = value[width] @ states[token] + (value_bias[width] if with_bias else 0)
        vector += weights[query, token] * output[:, width] @ moved
    return vector


def mixing_by_hand(own, layer, method):
    """GlobEnc's norms or ALTI's closeness of one layer from the definitions, [tokens, tokens]."""
    states = own.states[layer]
    tokens = len(states)
    gamma, beta = part(own, layer, "attention.output.LayerNorm")
    gamma_above, _ = part(own, layer, "output.LayerNorm")
    _, output_bias = part(own, layer, "attention.output.dense")
    found = np.zeros((tokens, tokens))
    for query in range(tokens):
        parts = [
            carried(own, layer, query, token, states) + (query == token) * states[query] for token in range(tokens)
        ]
        middle = sum(parts) + output_bias
        normed = [factor(middle) * (vector - vector.mean()) * gamma for vector in parts]
        after = factor(middle) * (middle - middle.mean()) * gamma + beta
        for token in range(tokens):
            if method == "alti":
                found[query, token] = max(0, np.abs(after).sum() - np.abs(after - normed[token]).sum())
            else:
                (up, up_bias), (down, down_bias) = (
                    part(own, layer, "intermediate.dense"),
                    part(own, layer, "output.dense"),
                )
                above = after + down @ gelu(up @ after + up_bias) + down_bias
                vector = normed[token] - normed[token].mean()
                found[query, token] = np.linalg.norm(factor(above) * vector * gamma_above)
    return found


@pytest.mark.parametrize("method", ["globenc", "alti"])
def test_globenc_and_alti_are_their_definitions_on_bert(method):
    model = biased("bert")
    encodings = encode(model, TEXTS[:2])
    for encoding, scores in zip(encodings, attribute(method, model, encodings), strict=True):
        own = own_bert(model, encoding)
        product = np.eye(len(scores))
        for layer in range(2):
            mixing = mixing_by_hand(own, layer, method)
            product = mixing / mixing.sum(1, keepdims=True) @ product
        np.testing.assert_allclose(scores, product[0], atol=1e-5)


def split(parts, bias):
    """A bias split among parts by the size of their dot products with it."""
    sizes = np.abs(parts @ bias)
    return parts + np.outer(sizes / sizes.sum(), bias)


def decompx_by_hand(own):
    """DecompX on BERT from the definitions, token by token, [tokens, classes]."""
    tokens, width = own.states[0].shape
    parts = np.zeros((tokens, tokens, width))
    for token in range(tokens):
        parts[token, token] = own.states[0][token]

    def normed(vectors, scale, offset):
        scaled = factor(vectors.sum(0)) * (vectors - vectors.mean(1, keepdims=True)) * scale
        return split(scaled, offset)

    for layer in range(2):
        above = np.zeros_like(parts)
        output, output_bias = part(own, layer, "attention.output.dense")
        bias = output @ part(own, layer, "attention.self.value")[1] + output_bias
        for query in range(tokens):
            vectors = parts[query].copy()
            for source in range(tokens):
                for token in range(tokens):
                    vectors[source] += carried(own, layer, query, token, parts[:, source], with_bias=False)
            vectors = normed(split(vectors, bias), *part(own, layer, "attention.output.LayerNorm"))
            (up, up_bias), (down, down_bias) = part(own, layer, "intermediate.dense"), part(own, layer, "output.dense")
            inner = split(vectors @ up.T, up_bias)
            inner = inner * gelu(inner.sum(0)) / inner.sum(0)
            above[query] = normed(vectors + split(inner @ down.T, down_bias), *part(own, layer, "output.LayerNorm"))
        parts = above
    pooled = split(parts[0] @ own.weights["bert.pooler.dense.weight"].T, own.weights["bert.pooler.dense.bias"])
    pooled = pooled * np.tanh(pooled.sum(0)) / pooled.sum(0)
    return split(pooled @ own.weights["classifier.weight"].T, own.weights["classifier.bias"])


def test_decompx_is_its_definition_on_bert():
    model = biased("bert")
    encodings = encode(model, [("a dull script",), ("good",)])
    for encoding, scores in zip(encodings, attribute("decompx", model, encodings), strict=True):
        np.testing.assert_allclose(scores, decompx_by_hand(own_bert(model, encoding))[:, TARGET], atol=1e-4)


@pytest.mark.parametrize("tokens_per_pass", [1, 40])
@pytest.mark.parametrize("method", METHODS)
def test_how_much_is_computed_at_once_changes_nothing(method, tokens_per_pass):
    model = biased("llama")
    batch = batch_of(model, encode(model, TEXTS))
    explainer = registry.build("explainer", method)
    with model.at_work():
        whole, little = (
            explainer.attribute(model, some, torch.full((3,), TARGET))
            for some in (batch, replace(batch, tokens_per_pass=tokens_per_pass))
        )
    torch.testing.assert_close(whole, little, atol=1e-5, rtol=1e-4)


def value_module(model, layer):
    names = {"bert": "value", "gpt2": "c_attn", "llama": "v_proj", "modernbert": "Wqkv", "opt": "v_proj"}
    name = names[model.model.config.model_type]
    return [module for path, module in model.model.named_modules() if path.endswith(f".{name}")][layer]


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "modernbert", "opt"])
def test_value_zeroing_is_what_zeroing_values_does(name):
    model = biased(name)
    (encoding,) = encode(model, TEXTS[:1])
    (scores,) = attribute("value_zeroing", model, [encoding])
    batch = batch_of(model, [encoding])
    tokens = len(scores)

    def outcome(layer, zeroed):
        """The output of a layer, with one token's values at 0 there."""
        states = []
        values = value_module(model, layer)

        def zero(_, __, output):
            output = output.clone()
            # These two project queries, keys and values at once.
            first = output.shape[-1] // 3 * 2 if name in ("gpt2", "modernbert") else 0
            if zeroed is not None:
                output[:, zeroed, first:] = 0
            return output

        def keep(_, __, output):
            states.append(output[0] if isinstance(output, tuple) else output)

        hooks = [
            values.register_forward_hook(zero),
            architecture(model).layers[layer].block.register_forward_hook(keep),
        ]
        with model.at_work(), eager_attention(model), torch.no_grad():
            model.output(batch, torch.tensor([TARGET]))
        for hook in hooks:
            hook.remove()
        return states[0][0].double().numpy()

    product = np.eye(tokens)
    for layer in range(2):
        whole = outcome(layer, None)
        mixing = np.zeros((tokens, tokens))
        for token in range(tokens):
            changed = outcome(layer, token)
            sizes = np.linalg.norm(whole, axis=1) * np.linalg.norm(changed, axis=1)
            mixing[:, token] = 1 - (whole * changed).sum(1) / sizes
        product = mixing / mixing.sum(1, keepdims=True) @ product
    np.testing.assert_allclose(scores, product[-1 if name in ("gpt2", "llama", "opt") else 0], atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("deberta", {"conv_kernel_size": 3, "conv_act": "gelu"}, "a convolution between its layers"),
        ("deberta_v1", {"talking_head": True}, "heads that talk to each other"),
        ("falcon", {"alibi": True}, "ALiBi"),
    ],
)
def test_variants_that_cannot_be_taken_apart_are_refused(method, name, settings, message):
    network, tokenizer = tiny_model(name, **settings)
    with pytest.raises(AssayError, match=message):
        registry.build("explainer", method).check(Classifier(network, tokenizer))
