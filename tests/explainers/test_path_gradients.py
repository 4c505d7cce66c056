from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from assay import registry
from assay.errors import AssayError
from tests.conversations import TARGET
from tests.explainers.attributing import BACKGROUND, batch_of, encode, explain, set_function, token_scores
from tests.explainers.linear_model import linear_classifier
from tests.tiny_models import ARCHITECTURES, CORPUS, tiny_classifier

TEXTS = [(CORPUS[1],), ("good",), (CORPUS[6], CORPUS[2])]

# Where nothing is added to a zero embedding before it is normalised, the output jumps there and no quadrature helps.
SMOOTH = [name for name in ARCHITECTURES if name not in ("deberta_v1", "modernbert", "llama", "qwen2", "falcon")]


def build(name, **settings):
    return registry.build("explainer", name, **settings)


def attribute(name, model, output="probability", texts=TEXTS, tokens_per_pass=4096, **settings):
    explainer = build(name, **settings)
    explainer.prepare(model, BACKGROUND[: explainer.background])
    batch = replace(batch_of(model, encode(model, texts), output), tokens_per_pass=tokens_per_pass)
    with model.at_work():
        return explainer.attribute(model, batch, torch.full((len(texts),), TARGET))


def completeness_error(model, **settings):
    return attribute("integrated_gradients", model, **settings).report["completeness_error"].max().item()


@pytest.mark.parametrize("architecture", SMOOTH)
@pytest.mark.parametrize("baseline", ["mask", "pad", "zero", "mean", "noise", "training"])
def test_integrated_gradients_sum_to_what_they_split(architecture, baseline):
    model = tiny_classifier(architecture)
    settings = {"samples": 2} if baseline in ("noise", "training") else {}
    few, many = (completeness_error(model, steps=steps, baseline=baseline, **settings) for steps in (4, 128))
    # Noise lies far from all that the model has seen, and the output is rough on the way there.
    assert many < (5e-2 if baseline == "noise" else 2e-2)
    assert many < few


def test_the_report_is_the_error_against_outputs_asked_for_separately(tiny_bert):
    found = attribute("integrated_gradients", tiny_bert, output="logit", steps=5)
    for index, encoding in enumerate(encode(tiny_bert, TEXTS)):
        ends = np.stack([np.ones(encoding.n, bool), np.zeros(encoding.n, bool)])
        full, empty = set_function(tiny_bert, encoding)(ends)[:, TARGET]
        missed = abs(found.scores[index].sum().item() - (full - empty))
        assert found.report["completeness_error"][index].item() == pytest.approx(missed, abs=1e-4)
    assert (found.report["steps"] == 5).all()


def test_the_error_is_zero_for_a_quadratic_from_two_steps_on(monkeypatch, tiny_bert):
    def square(batch, target, embeddings=None):
        return (embeddings**2).sum((1, 2))

    monkeypatch.setattr(tiny_bert, "output", square)
    assert completeness_error(tiny_bert, steps=1) < 1e-2
    assert completeness_error(tiny_bert, steps=2) < 1e-3
    assert (attribute("integrated_gradients", tiny_bert, adaptive_steps=1e-3).report["steps"] == 5).all()


def test_steps_of_many_examples_share_forward_passes_of_bounded_size(monkeypatch, tiny_bert):
    sizes = []
    forward = tiny_bert._forward

    def count(ids, embeddings, inputs, dtype):
        if torch.is_grad_enabled():
            sizes.append(embeddings.shape[:2])
        return forward(ids, embeddings, inputs, dtype)

    monkeypatch.setattr(tiny_bert, "_forward", count)
    token_scores(build("integrated_gradients", steps=100), tiny_bert, encode(tiny_bert, TEXTS))
    assert sum(rows for rows, _ in sizes) == 100 * len(TEXTS)
    assert all(rows * tokens <= 4096 for rows, tokens in sizes)
    assert len(sizes) == -(-100 * len(TEXTS) // (4096 // sizes[0][1]))


@pytest.mark.parametrize("name", ["integrated_gradients", "gim", "deeplift"])
def test_a_model_without_padding_token_has_no_such_baseline(monkeypatch, tiny_bert, name):
    monkeypatch.setattr(tiny_bert.tokenizer, "_pad_token", None, raising=False)
    monkeypatch.setitem(tiny_bert.tokenizer._special_tokens_map, "pad_token", None)
    with pytest.raises(AssayError, match="no padding token; use baseline=mask"):
        build(name, baseline="pad").check(tiny_bert)


@pytest.mark.parametrize("name", ["integrated_gradients", "expected_gradients"])
def test_training_baselines_need_training_texts(name, tiny_bert):
    explainer = build(name, **({"baseline": "training"} if name == "integrated_gradients" else {}))
    assert explainer.background == 100
    explainer.prepare(tiny_bert, [])
    with pytest.raises(AssayError, match="No training texts"):
        token_scores(explainer, tiny_bert, encode(tiny_bert, TEXTS))


def test_the_mean_baseline_is_the_mean_of_the_matrix(tiny_bert):
    """With one step, the score is the difference from the baseline times the gradient halfway."""
    found = attribute("integrated_gradients", tiny_bert, output="logit", texts=[("good",)], steps=1, baseline="mean")
    batch = batch_of(tiny_bert, encode(tiny_bert, [("good",)]))
    with tiny_bert.at_work():
        full = tiny_bert.embeddings(batch)
        start = full.clone()
        start[0, 1] = tiny_bert.model.get_input_embeddings().weight.mean(0)
        middle = ((full + start) / 2).requires_grad_()
        (gradient,) = torch.autograd.grad(tiny_bert.output(batch, torch.tensor([TARGET]), middle).sum(), middle)
    torch.testing.assert_close(found.scores, ((full - start) * gradient).sum(-1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("baseline", ["mask", "zero", "training"])
def test_adaptive_steps_reach_their_bound_and_come_to_the_same_scores(tiny_bert, baseline):
    exact = attribute("integrated_gradients", tiny_bert, steps=300, baseline=baseline)
    last = 0.0
    for bound in (0.1, 0.01, 0.001):
        found = attribute("integrated_gradients", tiny_bert, adaptive_steps=bound, baseline=baseline, most_steps=1001)
        difference = exact.scores.sum(1).abs().clamp_min(0.01)
        assert (found.report["completeness_error"] <= bound * difference * 1.5 + 1e-5).all()
        assert found.report["steps"].mean() > last
        last = found.report["steps"].mean()
    torch.testing.assert_close(found.scores, exact.scores, rtol=0.05, atol=2e-3)


def test_adaptive_steps_stop_at_the_most_steps_and_go_their_own_way_in_each_example(tiny_bert):
    together = attribute("integrated_gradients", tiny_bert, adaptive_steps=0.01)
    alone = [attribute("integrated_gradients", tiny_bert, adaptive_steps=0.01, texts=[text]) for text in TEXTS]
    assert len(set(together.report["steps"].tolist())) > 1
    for index, one in enumerate(alone):
        assert one.report["steps"][0] == together.report["steps"][index]
        tokens = one.scores.shape[1]
        torch.testing.assert_close(one.scores[0], together.scores[index, :tokens], rtol=1e-3, atol=1e-5)
    capped = attribute("integrated_gradients", tiny_bert, adaptive_steps=1e-9, most_steps=9)
    assert (capped.report["steps"] == 9).all()


def test_expected_gradients_come_to_the_mean_of_integrated_gradients_over_the_texts(tiny_bert):
    encodings = encode(tiny_bert, [(CORPUS[7],)])
    exact = []
    for text in BACKGROUND:
        explainer = build("integrated_gradients", steps=100, baseline="training", samples=1)
        explainer.prepare(tiny_bert, [text])
        exact.append(token_scores(explainer, tiny_bert, encodings)[0])
    errors = []
    for samples in (10, 100, 1000):
        explainer = prepared("expected_gradients", tiny_bert, samples=samples)
        found = [token_scores(explainer, tiny_bert, encodings, seed=seed)[0] for seed in range(3)]
        errors.append(np.mean([np.linalg.norm(one - np.mean(exact, axis=0)) for one in found]))
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < errors[0] / 3


def prepared(name, model, **settings):
    explainer = build(name, **settings)
    explainer.prepare(model, BACKGROUND[: explainer.background])
    return explainer


def test_expected_gradients_are_captums_gradient_shap_on_average(tiny_bert):
    captum = pytest.importorskip("captum.attr")
    encodings = encode(tiny_bert, [(CORPUS[3],)])
    batch = batch_of(tiny_bert, encodings)
    (ours,) = token_scores(prepared("expected_gradients", tiny_bert, samples=3000), tiny_bert, encodings)
    eligible = batch.eligible[0].numpy()
    texts = [one.row.ids[one.feature_of_token >= 0] for one in map(tiny_bert.encode, BACKGROUND)]
    ids = np.repeat(batch.input_ids.numpy(), len(texts), axis=0)
    for row, text in enumerate(texts):
        ids[row, eligible] = np.resize(text, eligible.sum())

    def forward(embeddings):
        return tiny_bert.model(
            inputs_embeds=embeddings, token_type_ids=batch.token_type_ids.expand(len(embeddings), -1)
        ).logits

    with tiny_bert.at_work(), torch.random.fork_rng():
        torch.manual_seed(0)
        np.random.seed(0)
        baselines = tiny_bert.embeddings(replace(batch, input_ids=torch.from_numpy(ids)))
        full = tiny_bert.embeddings(batch).requires_grad_()
        theirs = captum.GradientShap(forward).attribute(full, baselines, n_samples=3000, stdevs=0.0, target=TARGET)
    expected = theirs[0].sum(-1).detach().numpy()
    error = np.abs(ours - expected).max() / np.abs(expected).max()
    print(f"GradientShap, 3,000 samples each: largest difference {error:.2f} of the largest score")
    assert error < 0.1


@pytest.mark.parametrize("architecture", ["bert", "roberta", "gpt2"])
def test_sequential_ig_gives_each_word_what_the_output_loses_without_it(architecture):
    model = tiny_classifier(architecture)
    texts = [*TEXTS, ("an unbelievable film",)]
    found = attribute("sequential_ig", model, "logit", texts, steps=40)
    assert found.report["completeness_error"].max() < 0.02
    for scores, encoding in zip(found.scores, encode(model, texts), strict=True):
        outputs = set_function(model, encoding)(np.vstack([np.ones(encoding.n, bool), ~np.eye(encoding.n, dtype=bool)]))
        lost = outputs[0, TARGET] - outputs[1:, TARGET]
        np.testing.assert_allclose(scores[: encoding.n], lost, atol=0.02)


def test_sequential_ig_keeps_its_passes_bounded(monkeypatch, tiny_bert):
    sizes = []
    forward = tiny_bert._forward

    def count(ids, embeddings, inputs, dtype):
        sizes.append(embeddings.shape[0] * embeddings.shape[1])
        return forward(ids, embeddings, inputs, dtype)

    monkeypatch.setattr(tiny_bert, "_forward", count)
    attribute("sequential_ig", tiny_bert, steps=20, tokens_per_pass=500)
    assert max(sizes) <= 500


@pytest.mark.parametrize("name", ["sequential_ig", "deeplift", "gim", "discretized_ig"])
def test_a_linear_bag_of_words_gives_each_words_share(name):
    model = linear_classifier()
    texts = [("the film is unbelievable",), ("a good meal", "not a good film at all")]
    found = explain(build(name), model, texts)
    share_of_token = (model.model.embedding.weight @ model.model.classes.weight[TARGET]).detach().numpy()
    for encoding, scores in zip(encode(model, texts), found, strict=True):
        real = encoding.feature_of_token >= 0
        shares = np.bincount(
            encoding.feature_of_token[real], share_of_token[encoding.row.ids[real]], minlength=encoding.n
        )
        np.testing.assert_allclose(scores, shares, atol=1e-5)
