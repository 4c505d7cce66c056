"""Methods that hide parts of the input, against captum, brute force and functions simple enough to work out."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from assay import registry
from assay.conversation import Case, Feature, generator
from assay.errors import AssayError
from tests.conversations import TARGET, make_case, run, table
from tests.explainers.attributing import batch_of, encode, explain, set_function, token_scores
from tests.explainers.linear_model import linear_classifier
from tests.tiny_models import CORPUS, tiny_classifier, tiny_prompted

TEXTS = [(CORPUS[1],), ("good",), (CORPUS[6], CORPUS[2])]
SENTENCES = ("a dull script . nobody laughs ! why should they", "is it good ? no")


def build(name, **settings):
    return registry.build("explainer", name, **settings)


def ask(name, n, function, seed=0, **settings):
    return run(build(name, **settings).converse(make_case(n, seed)), function)


def subsets(n):
    return (np.arange(2**n)[:, None] & (1 << np.arange(n))) > 0


def close(ours, theirs, tolerance=1e-5):
    np.testing.assert_allclose(ours, theirs, atol=tolerance * max(1, np.abs(theirs).max()))


# Leave-one-out.


def ablation(function, n, groups):
    captum = pytest.importorskip("captum.attr")
    forward = captum.FeatureAblation(lambda masks: torch.from_numpy(function(masks.numpy() > 0.5)[:, TARGET]))
    return forward.attribute(torch.ones(1, n), feature_mask=torch.tensor([groups]))[0].numpy()


def test_sentences_left_out_are_captums_feature_groups(tiny_bert):
    (found,) = explain(build("leave_one_out", unit="sentence"), tiny_bert, [SENTENCES])
    (encoding,) = encode(tiny_bert, [SENTENCES])
    groups = [0] * 4 + [1] * 3 + [2] * 3 + [3] * 4 + [4]
    close(found, ablation(set_function(tiny_bert, encoding), encoding.n, groups))


@pytest.mark.parametrize("window", [1, 2, 3, 12, 20])
def test_spans_left_out_are_captums_occlusion(window, tiny_bert):
    captum = pytest.importorskip("captum.attr")
    (encoding,) = encode(tiny_bert, [TEXTS[0]])
    function, n = set_function(tiny_bert, encoding), encoding.n
    occlusion = captum.Occlusion(lambda masks: torch.from_numpy(function(masks.numpy() > 0.5)[:, TARGET]))
    theirs = occlusion.attribute(torch.ones(1, n), sliding_window_shapes=(min(window, n),))[0].numpy()
    (ours,) = explain(build("leave_one_out", unit="span", window=window), tiny_bert, [TEXTS[0]])
    close(ours, theirs)


def test_spans_and_sentences_end_with_their_text():
    weights = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    case = make_case(5, segments=[0, 0, 0, 1, 1])
    spans = run(build("leave_one_out", unit="span", window=2).converse(case), lambda keep: keep @ weights)
    np.testing.assert_allclose(spans.result, [3, 4.5, 6, 24, 24])
    assert spans.rows == 4
    sentences = run(build("leave_one_out", unit="sentence").converse(case), lambda keep: keep @ weights)
    np.testing.assert_allclose(sentences.result, [7, 7, 7, 24, 24])
    assert sentences.rows == 3


# One feature's embeddings or states replaced.


def feature_masks(encoding):
    """Which tokens each feature has, [features, 1, tokens, 1]."""
    features = torch.from_numpy(encoding.feature_of_token)
    return (features == torch.arange(encoding.n)[:, None])[:, None, :, None]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("replacement", ["zero", "mean"])
def test_replaced_embeddings_are_captums_layer_feature_ablation(architecture, replacement):
    captum = pytest.importorskip("captum.attr")
    model = tiny_classifier(architecture)
    encodings = encode(model, TEXTS)
    ours = token_scores(build("loo_embedding", replacement=replacement), model, encodings)
    embedding = model.model.get_input_embeddings()
    width = embedding.weight.shape[1]
    baseline = 0.0 if replacement == "zero" else embedding.weight.mean(0).detach()
    for encoding, scores in zip(encodings, ours, strict=True):
        batch = batch_of(model, [encoding])
        # Special tokens make a group of their own, whose score is not asked for.
        groups = torch.from_numpy(encoding.feature_of_token).masked_fill(~batch.eligible[0], encoding.n)
        mask = groups[None, :, None].expand(1, -1, width)

        def forward(ids, batch=batch):
            return model.model(input_ids=ids, **batch.model_inputs).logits

        start = torch.zeros(1, len(groups), width) + baseline
        with torch.no_grad():
            found = captum.LayerFeatureAblation(forward, embedding).attribute(
                batch.input_ids, target=TARGET, layer_baselines=start, layer_mask=mask
            )
        theirs = [found[0, encoding.feature_of_token == feature, 0][0].item() for feature in range(encoding.n)]
        close(scores, np.array(theirs))


def test_noise_takes_a_linear_models_words_to_the_mean_word_on_average():
    model = linear_classifier()
    encodings = encode(model, [("the film is unbelievable",)])
    (found,) = token_scores(build("loo_embedding", replacement="noise", samples=2000), model, encodings)
    shares = (model.model.embedding.weight @ model.model.classes.weight[TARGET]).detach().numpy()
    lost = shares - shares.mean()
    expected = np.zeros(4)
    real = encodings[0].feature_of_token >= 0
    np.add.at(expected, encodings[0].feature_of_token[real], lost[encodings[0].row.ids[real]])
    pieces = np.bincount(encodings[0].feature_of_token[real])
    deviation = (model.model.embedding.weight.std(0, correction=0) * model.model.classes.weight[TARGET]).norm().item()
    assert (np.abs(found - expected) < 4 * deviation * np.sqrt(pieces / 2000)).all()
    assert np.abs(found - expected).max() > 0.01 * deviation / np.sqrt(2000)


def test_noise_hangs_on_the_seed_and_not_on_the_batch(tiny_bert):
    explainer = build("loo_embedding", replacement="noise", samples=2)
    encodings = encode(tiny_bert, TEXTS)
    together = token_scores(explainer, tiny_bert, encodings)
    close(together[0], token_scores(explainer, tiny_bert, encodings[:1])[0])
    assert not np.allclose(together[0], token_scores(explainer, tiny_bert, encodings[:1], seed=1)[0])


def slow_bert(model, inputs, layer, tokens, replacement):
    """The forward pass of BERT written out, with some states replaced after one layer."""
    bert = model.bert
    states = bert.embeddings(**inputs)
    for number, module in enumerate(bert.encoder.layer):
        states = changed(first(module(states)), layer == number, tokens, replacement)
    return model.classifier(bert.pooler(states))


def slow_albert(model, inputs, layer, tokens, replacement):
    albert = model.albert
    states = albert.encoder.embedding_hidden_mapping_in(albert.embeddings(**inputs))
    for number in range(model.config.num_hidden_layers):
        states = changed(first(albert.encoder.albert_layer_groups[0](states)), layer == number, tokens, replacement)
    return model.classifier(albert.pooler_activation(albert.pooler(states[:, 0])))


def slow_distilbert(model, inputs, layer, tokens, replacement):
    states = model.distilbert.embeddings(inputs["input_ids"])
    for number, module in enumerate(model.distilbert.transformer.layer):
        states = changed(first(module(states)), layer == number, tokens, replacement)
    return model.classifier(model.pre_classifier(states[:, 0]).relu())


def first(output):
    return output[0] if isinstance(output, tuple) else output


def changed(states, now, tokens, replacement):
    if now and tokens is not None:
        states = states.clone()
        real = tokens["real"]
        states[0, tokens["hidden"]] = 0 if replacement == "zero" else states[0, real].mean(0)
    return states


SLOW = {"bert": slow_bert, "albert": slow_albert, "distilbert": slow_distilbert}


@pytest.mark.parametrize("architecture", SLOW)
@pytest.mark.parametrize("replacement", ["zero", "mean"])
@pytest.mark.parametrize("layer", [0, -1])
def test_replaced_states_are_those_of_a_forward_pass_written_out(architecture, replacement, layer):
    model = tiny_classifier(architecture)
    encodings = encode(model, TEXTS)
    found = token_scores(build("loo_hidden", layer=layer, replacement=replacement), model, encodings)
    for encoding, scores in zip(encodings, found, strict=True):
        inputs = {"input_ids": torch.from_numpy(encoding.row.ids)[None]}
        if encoding.row.segments is not None:
            inputs["token_type_ids"] = torch.from_numpy(encoding.row.segments)[None]
        real = np.flatnonzero(encoding.feature_of_token >= 0)
        outputs = []
        for feature in range(-1, encoding.n):
            tokens = {"hidden": np.flatnonzero(encoding.feature_of_token == feature), "real": real}
            with torch.no_grad():
                logits = SLOW[architecture](
                    model.model, inputs, layer % 2, None if feature < 0 else tokens, replacement
                )
            outputs.append(logits[0, TARGET].item())
        close(scores, outputs[0] - np.array(outputs[1:]))
        assert layer == -1 or encoding.n == 1 or np.abs(scores).max() > 1e-3


@pytest.mark.parametrize("words", [(" good", " dull"), (" unforgettable", " dull")])
def test_a_prompted_models_label_words_keep_their_states(words, monkeypatch):
    model = tiny_prompted("gpt2", words=words)
    (encoding,) = encode(model, [("nobody sees the park",)])
    (found,) = token_scores(build("loo_hidden"), model, [encoding])
    block = model.model.transformer.h[0]
    forward = block.forward
    full = model.answer([encoding.row])[0, TARGET]
    for feature, score in enumerate(found):
        hidden = np.flatnonzero(encoding.feature_of_token == feature)

        def without(states, *rest, hidden=hidden, **given):
            output = forward(states, *rest, **given)
            first(output)[:, hidden] = 0
            return output

        monkeypatch.setattr(block, "forward", without)
        assert score == pytest.approx(full - model.answer([encoding.row])[0, TARGET], abs=1e-5)
        monkeypatch.setattr(block, "forward", forward)


@pytest.mark.parametrize("architecture", ["bert", "albert", "modernbert", "llama"])
def test_at_the_last_layer_only_the_token_that_is_read_counts(architecture):
    model = tiny_classifier(architecture)
    (found,) = token_scores(build("loo_hidden", layer=-1), model, encode(model, [TEXTS[0]]))
    read = [len(found) - 1] if architecture == "llama" else []
    assert np.flatnonzero(np.abs(found) > 1e-6).tolist() == read


def test_the_hooks_are_gone_whatever_happens(tiny_bert, monkeypatch):
    def fail(*_):
        assert any(module._forward_hooks for module in tiny_bert.model.modules())
        raise RuntimeError("broken")

    encodings = encode(tiny_bert, TEXTS)
    with monkeypatch.context() as patch:
        patch.setattr(tiny_bert.model.classifier, "forward", fail)
        with pytest.raises(RuntimeError, match="broken"):
            token_scores(build("loo_hidden"), tiny_bert, encodings)
    assert not any(module._forward_hooks for module in tiny_bert.model.modules())


def test_a_layer_that_the_model_lacks_is_named(tiny_bert):
    for layer in (2, -3):
        with pytest.raises(AssayError, match=rf"loo_hidden.layer={layer}: tiny-bert has 2 layers, counted 0 to 1 or"):
            build("loo_hidden", layer=layer).check(tiny_bert)
    with pytest.raises(AssayError, match="has no list of layers that loo_hidden could change"):
        build("loo_hidden").check(linear_classifier())


@pytest.mark.parametrize("name", ["loo_embedding", "loo_hidden"])
def test_copies_stay_within_the_tokens_of_a_pass(name, tiny_bert, monkeypatch):
    from dataclasses import replace

    batch = batch_of(tiny_bert, encode(tiny_bert, [TEXTS[0]]))
    tokens = batch.input_ids.numel()
    target = torch.tensor([TARGET])
    sizes = []
    real = tiny_bert.model.forward

    def forward(*args, **inputs):
        sizes.append(inputs["inputs_embeds"].shape[:2].numel())
        return real(*args, **inputs)

    with tiny_bert.at_work():
        whole = build(name).attribute(tiny_bert, replace(batch, tokens_per_pass=10**6), target)
        monkeypatch.setattr(tiny_bert.model, "forward", forward)
        parts = build(name).attribute(tiny_bert, replace(batch, tokens_per_pass=3 * tokens), target)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)
    assert max(sizes) == 3 * tokens
    assert sum(sizes) == tokens * (whole.shape[1] + 1)


# Input reduction.


def classes(function):
    """A function of the keep-mask as a classifier of two classes whose target is predicted where it is above 0."""
    return lambda keep: np.stack([np.zeros(len(keep)), function(keep)], axis=1)


def test_a_sum_of_words_is_reduced_by_weight_and_keeps_the_fewest_that_hold_it_up():
    weights = np.array([0.5, -1.0, 2.0, 0.2, 1.0, -0.3])
    found = ask("input_reduction", 6, classes(lambda keep: keep @ weights - 1.5)).result
    order = np.argsort(weights)
    np.testing.assert_allclose(found.scores[order], np.arange(1, 7) / 6)
    assert found.report == {"rationale": [2], "rationale_size": 1}


def smallest(function, n):
    """The size of the smallest input that can be reached with the prediction held at every step, by trying all."""
    reached = {tuple(range(n))}
    size = n
    while True:
        smaller = {
            left
            for kept in reached
            for left in combinations(kept, len(kept) - 1)
            if left and function(np.isin(np.arange(n), left)[None])[0] > 0
        }
        if not smaller:
            return size
        reached, size = smaller, size - 1


@pytest.mark.parametrize("seed", range(6))
def test_a_wide_beam_finds_the_smallest_input_that_can_be_reached(seed):
    n = 6
    values = np.random.default_rng(seed).normal(0.3, 1, 2**n)
    values[-1] = 1.0
    function = table(values)
    found = ask("input_reduction", n, classes(function), beam=2**n).result
    assert found.report["rationale_size"] == len(found.report["rationale"]) == smallest(function, n)
    assert function(np.isin(np.arange(n), found.report["rationale"])[None])[0] > 0
    # The order leads there, and the prediction holds all the way.
    order = np.argsort(found.scores)
    for hidden in range(n - found.report["rationale_size"] + 1):
        assert function(~np.isin(np.arange(n), order[:hidden])[None])[0] > 0
    # Within the rationale: by leave-one-out.
    kept = np.isin(np.arange(n), found.report["rationale"])
    if kept.sum() > 1:
        falls = [-function((kept & (np.arange(n) != feature))[None])[0] for feature in order[-kept.sum() :]]
        assert falls == sorted(falls)


def test_a_beam_of_one_hides_the_least_important_feature_each_time():
    n = 5
    values = np.random.default_rng(3).random(2**n) + 1
    found = ask("input_reduction", n, classes(table(values)), beam=1)
    kept, order = np.ones(n, dtype=bool), []
    while kept.sum() > 1:
        outputs = {i: table(values)((kept & (np.arange(n) != i))[None])[0] for i in np.flatnonzero(kept)}
        order.append(max(outputs, key=outputs.get))
        kept[order[-1]] = False
    np.testing.assert_array_equal(np.argsort(found.result.scores)[:-1], order)
    assert found.rows == 1 + 5 + 4 + 3 + 2
    assert len(found.rounds) == n


def test_few_candidates_ask_fewer_rows_and_still_end_where_no_step_is_left():
    weights = np.random.default_rng(0).normal(0.5, 1, 40)
    function = classes(lambda keep: keep @ weights - weights.sum() / 2)
    every, few = (ask("input_reduction", 40, function, candidates=count) for count in (40, 4))
    assert few.result.report["rationale_size"] == every.result.report["rationale_size"] > 3
    distinct = [len({keep.tobytes() for part in found.rounds for keep in part}) for found in (every, few)]
    assert distinct[1] < distinct[0] / 3
    kept = np.isin(np.arange(40), few.result.report["rationale"])
    steps = np.array([kept & (np.arange(40) != feature) for feature in np.flatnonzero(kept)])
    assert (function(steps)[:, 1] < 0).all()


def test_without_the_prediction_there_is_no_rationale_but_an_order():
    weights = np.array([0.5, -1.0, 2.0])
    found = ask("input_reduction", 3, classes(lambda keep: keep @ weights - 9)).result
    np.testing.assert_allclose(found.scores, [2 / 3, 1 / 3, 1])
    assert found.report == {"rationale": [], "rationale_size": 0}


def test_ties_in_the_reduction_are_broken_by_the_seed():
    orders = {
        tuple(ask("input_reduction", 4, classes(lambda keep: keep.sum(1) + 1), seed).result.scores) for seed in range(8)
    }
    assert len(orders) > 4


# RISE.


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_rise_comes_to_the_mean_over_all_masks(p):
    n = 6
    sets = subsets(n)
    function = table(np.random.default_rng(0).random(2**n))
    weights = np.prod(np.where(sets, p, 1 - p), axis=1)
    outputs = function(sets)
    mean = weights @ outputs
    expected = np.array([weights[sets[:, i]] @ outputs[sets[:, i]] / p for i in range(n)])
    errors = []
    for samples in (100, 1600, 25600):
        found = [ask("rise", n, function, seed, samples=samples, p=p).result for seed in range(6)]
        errors.append(np.sqrt(np.mean([(one.scores + one.report["mean_output"] - expected) ** 2 for one in found])))
        assert np.sqrt(np.mean([(one.scores - expected + mean) ** 2 for one in found])) < 0.7 / np.sqrt(samples)
    # The error falls with the root of the samples: by 4 each time.
    assert errors[0] / errors[1] > 2.5
    assert errors[1] / errors[2] > 2.5


def test_rise_at_one_half_is_half_the_banzhaf_value():
    n = 5
    function = table(np.random.default_rng(1).random(2**n))
    sets = subsets(n)
    values = function(sets)
    banzhaf = [values[sets[:, i]].mean() - values[~sets[:, i]].mean() for i in range(n)]
    found = ask("rise", n, function, samples=200000)
    np.testing.assert_allclose(found.result.scores, np.array(banzhaf) / 2, atol=2e-3)
    assert len(found.rounds) == 1


def test_rise_scores_a_feature_that_was_never_shown_0():
    found = ask("rise", 30, lambda keep: keep.sum(1), samples=2, p=0.1)
    never = ~found.rounds[0].any(axis=0)
    assert never.any()
    assert (found.result.scores[never] == 0).all()


# Sobol.


def total_indices(function, n):
    """E[Var(f | all but i)] / Var(f) over all subsets, from the definition."""
    sets = subsets(n)
    values = function(sets).astype(float)
    inner = []
    for i in range(n):
        groups = {}
        for row, value in zip(np.delete(sets, i, axis=1), values, strict=True):
            groups.setdefault(row.tobytes(), []).append(value)
        inner.append(np.mean([np.var(group) for group in groups.values()]))
    return np.array(inner) / np.var(values)


@pytest.mark.parametrize("n", [3, 5, 7])
def test_sobol_comes_to_the_total_indices(n):
    rng = np.random.default_rng(n)
    function = table(subsets(n) @ rng.normal(size=n) + rng.normal(size=2**n) / 2)
    expected = total_indices(function, n)
    errors = []
    for designs in (16, 128, 1024):
        found = [ask("sobol", n, function, seed, designs=designs).result for seed in range(6)]
        errors.append(np.sqrt(np.mean((np.array(found) - expected) ** 2)))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.03


def test_sobols_shares_of_a_sum_are_the_squared_weights():
    weights = np.array([3.0, -2.0, 1.0, 0.0])
    found = ask("sobol", 4, lambda keep: keep @ weights, designs=1024)
    np.testing.assert_allclose(found.result, weights**2 / 14, atol=0.02)
    assert found.result[3] == 0
    assert found.rows == 1024 * 6
    assert len(found.rounds) == 1


@pytest.mark.parametrize("n", [9, 16, 40])
def test_no_word_that_matters_gets_nothing_from_sobol(n):
    # Rounded, a column of the sequence for B is often that for A: of 32 masks none would then change the feature.
    for seed in range(5):
        assert (ask("sobol", n, lambda keep: keep.sum(1), seed).result > 0).all()


@pytest.mark.parametrize("name", ["leave_one_out", "rise", "sobol", "olm"])
def test_one_round_is_enough(name):
    assert len(ask(name, 8, lambda keep: keep.sum(1)).rounds) == 1


def test_a_case_of_tokens_ends_a_sentence_at_its_full_stop():
    features = tuple(Feature(text, 0, place) for place, text in enumerate(("un", "##able", ".", "Ġok", "▁?", "no")))
    case = Case("case", features, TARGET, generator(0, "case"))
    found = run(build("leave_one_out", unit="sentence").converse(case), lambda keep: keep @ np.arange(6.0))
    np.testing.assert_allclose(found.result, [3, 3, 3, 7, 7, 5])
