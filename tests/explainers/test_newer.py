from __future__ import annotations

import numpy as np
import pytest
import torch

from assay import registry
from assay.eager_attention import eager_attention
from tests.conversations import TARGET, make_case, run
from tests.explainers.attributing import batch_of, encode, token_scores
from tests.explainers.linear_model import linear_classifier
from tests.tiny_models import CORPUS, tiny_classifier

TEXTS = [(CORPUS[1],), ("good",), (CORPUS[6], CORPUS[2])]


def build(name, **settings):
    return registry.build("explainer", name, **settings)


# GIM


def gims_scores(model, encoding, **settings):
    """What the package says of the target's logit; it changes classes of torch, and puts them back."""
    gim = pytest.importorskip("gim")
    batch = batch_of(model, [encoding])
    full = model.embeddings(batch)
    hidden = model.model.get_input_embeddings().weight[model.hidden_token[1]].detach()
    leaf = full.clone().requires_grad_()
    with torch.enable_grad(), gim.GIM(model.model, **settings):
        model.output(batch, torch.tensor([TARGET]), leaf).sum().backward()
    return ((full - hidden) * batch.eligible[..., None] * leaf.grad).sum(-1)[0].numpy()


OFF = {"q_scale": None, "k_scale": None, "v_scale": None}


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "gpt2"])
@pytest.mark.parametrize(
    ("attention", "ours", "theirs"),
    [
        ("sdpa", {"temperature": 1.0, "divide_products": False}, {"softmax_temperature": None, **OFF}),
        ("sdpa", {"temperature": 1.0, "freeze_norms": False}, {"softmax_temperature": None, "freeze_norm": False}),
        ("sdpa", {"temperature": 1.0}, {"softmax_temperature": None}),
        ("eager", {"divide_products": False, "freeze_norms": False}, {"freeze_norm": False, **OFF}),
        ("eager", {"divide_products": False}, OFF),
        ("eager", {"divide_products": False, "temperature": 5.0}, {"softmax_temperature": 5.0, **OFF}),
    ],
)
def test_gim_is_the_packages_in_each_of_its_changes(architecture, attention, ours, theirs):
    """In one pass the package sees either open softmaxes or fused products, so its changes are compared apart."""
    pytest.importorskip("gim")
    model = tiny_classifier(architecture)
    for encoding in encode(model, TEXTS):
        (found,) = token_scores(build("gim", **ours), model, [encoding])
        with model.at_work():
            if attention == "eager":
                with eager_attention(model):
                    expected = gims_scores(model, encoding, **theirs)
            else:
                expected = gims_scores(model, encoding, **theirs)
        error = np.abs(found - expected).max() / max(1.0, np.abs(expected).max())
        print(f"gim-explain, {attention}: largest difference {error:.1e}")
        assert error < 1e-5


def test_with_every_change_off_gim_is_the_gradient_times_the_change(tiny_bert):
    encodings = encode(tiny_bert, TEXTS)
    off = build("gim", temperature=1.0, freeze_norms=False, divide_products=False, baseline="zero")
    for one, other, encoding in zip(
        token_scores(off, tiny_bert, encodings),
        token_scores(build("gradient_x_input"), tiny_bert, encodings),
        encodings,
        strict=True,
    ):
        np.testing.assert_allclose(one, other * (encoding.feature_of_token >= 0), rtol=1e-4, atol=1e-5)


def test_gim_leaves_torch_as_it_was(tiny_bert):
    before = torch.softmax, torch.Tensor.softmax, torch.nn.functional.scaled_dot_product_attention
    token_scores(build("gim"), tiny_bert, encode(tiny_bert, TEXTS))
    after = torch.softmax, torch.Tensor.softmax, torch.nn.functional.scaled_dot_product_attention
    assert all(one is other for one, other in zip(before, after, strict=True))


# Noiser


def noiser_by_hand(model, encoding, samples, bisections):
    """The paper's search for each token on its own, and the least of what they bear."""
    batch = batch_of(model, [encoding])
    with torch.no_grad():
        full = model.embeddings(batch)[0]
        words = np.flatnonzero(encoding.feature_of_token >= 0)
        noise = torch.from_numpy(batch.rngs[0].standard_normal((samples, full.shape[1]))).float()
        noise *= 8 * full[words].norm(dim=1).mean() / full.shape[1] ** 0.5

        def logits(embeddings):
            inputs = {name: value.expand(len(embeddings), -1) for name, value in batch.model_inputs.items()}
            return model.model(inputs_embeds=embeddings, **inputs).logits

        def noisy(token, share):
            copies = full.repeat(samples, 1, 1)
            copies[:, token] += share * noise
            return logits(copies)

        predicted = logits(full[None])[0].argmax()
        shares = []
        for token in words:
            low, high = 0.0, 1.0
            for _ in range(bisections):
                share = (low + high) / 2
                if noisy(token, share).softmax(-1).mean(0).argmax() == predicted:
                    low = share
                else:
                    high = share
            shares.append(share)
        least = min(shares)
        scores = np.zeros(len(full))
        for token in words:
            scores[token] = logits(full[None])[0, TARGET] - noisy(token, least)[:, TARGET].mean()
    return scores, least


@pytest.mark.parametrize("labels", [2, 3])
def test_noiser_is_the_papers_search_token_by_token(labels):
    found_shares = []
    for seed in (0, 1):
        model = tiny_classifier("bert", num_labels=labels, seed=seed)
        explainer = build("noiser", samples=3, bisections=4, most_noise=8)
        for encoding in encode(model, TEXTS):
            batch = batch_of(model, [encoding])
            with model.at_work():
                found = explainer.attribute(model, batch, torch.tensor([TARGET]))
                scores, share = noiser_by_hand(model, encoding, 3, 4)
            assert found.report["noise"].item() == pytest.approx(8 * share, abs=1e-6)
            np.testing.assert_allclose(found.scores[0].numpy(), scores, atol=1e-4)
            found_shares.append(share)
    if labels == 3:  # With two, nothing flips the predictions of these models.
        assert min(found_shares) < 0.9


def test_noiser_finds_what_noise_does_to_a_linear_model():
    """The output changes by the noise times the direction, on average by little for many samples."""
    model = linear_classifier()
    encodings = encode(model, [("a good film",)])
    sizes = [
        np.abs(token_scores(build("noiser", samples=samples), model, encodings)[0]).max() for samples in (10, 4000)
    ]
    assert sizes[1] < sizes[0]
    # The same noise on every token of a linear model does the same.
    (scores,) = token_scores(build("noiser", samples=5), model, encodings)
    words = scores[encodings[0].feature_of_token >= 0]
    np.testing.assert_allclose(words, words[0], rtol=1e-3, atol=1e-5)


# ReAGent


def probability_of(weights, bias=0.0):
    """Three classes, of which the target's odds are a weighted sum of the visible words."""

    def ask(keep):
        odds = bias + keep @ weights
        chance = 1 / (1 + np.exp(-odds))
        answers = np.stack([(1 - chance) / 2, chance, (1 - chance) / 2], axis=1)
        return answers

    return ask


def test_reagent_finds_the_word_that_decides():
    weights = np.zeros(8)
    weights[5] = 4.0
    found = [
        run(build("reagent", kept=0.13).converse(make_case(8, seed)), probability_of(weights, -2.0))
        for seed in range(5)
    ]
    for transcript in found:
        assert transcript.result.scores.argmax() == 5
        assert transcript.result.scores.sum() == pytest.approx(1)
        assert transcript.result.report["ended"] == 8


def test_reagent_ends_when_the_best_words_are_enough_and_asks_no_more():
    transcript = run(build("reagent", probes=3).converse(make_case(6)), probability_of(np.zeros(6), bias=2.0))
    assert transcript.result.report == {"ended": 3, "steps": 1.0}
    assert [len(keep) for keep in transcript.rounds] == [1, 3, 3]
    assert (transcript.rounds[2].sum(1) == 2).all()


def test_reagent_gives_up_after_the_most_steps_and_then_takes_all_probes():
    def never(keep):
        chance = np.where(keep.all(1), 0.9, 0.1)
        return np.stack([1 - chance, chance], axis=1)

    transcript = run(build("reagent", probes=2, most_steps=7).converse(make_case(6)), never)
    assert transcript.result.report == {"ended": 0, "steps": 7.0}
    assert len(transcript.rounds) == 1 + 2 * 7
    assert transcript.result.scores.sum() == pytest.approx(1)


def test_a_step_of_reagent_is_the_papers():
    """One step that ends it: the beginning moves up where a word was replaced and down elsewhere."""
    n, answer = 5, probability_of(np.array([0.3, -0.2, 0.9, 0.1, 0.4]), 3.0)
    transcript = run(build("reagent", probes=1, kept=0.9).converse(make_case(n)), answer)
    assert transcript.result.report["steps"] == 1
    keep = transcript.rounds[1][0]
    change = float(answer(np.ones((1, n)))[0, TARGET] - answer(keep[None])[0, TARGET])
    beginning = make_case(n).rng.random((1, n))[0]
    signed = np.where(keep, -change, change)
    belief = beginning + np.log((1 + signed) / 2) - np.log(1 - (1 + signed) / 2)
    expected = np.exp(belief) / np.exp(belief).sum()
    np.testing.assert_allclose(transcript.result.scores, expected, atol=1e-5)


def test_reagent_fills_in_words_from_a_masked_language_model_when_one_is_named():
    explainer = build("reagent", masked_lm="some/model")
    assert explainer.perturbation.masked_lm == "some/model"
    assert explainer.perturbation.draws == 1
    assert build("reagent").perturbation is None
