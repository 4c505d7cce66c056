from __future__ import annotations

import numpy as np
import pytest
import torch

from assay import registry
from tests.conversations import TARGET
from tests.explainers.attributing import batch_of, encode, token_scores
from tests.tiny_models import CORPUS

TEXTS = [(CORPUS[1],), ("good",), (CORPUS[6], CORPUS[2])]


def build(name, **settings):
    return registry.build("explainer", name, **settings)


def test_the_cost_is_counted(tiny_bert):
    for name, rows, backward in (("gradient", 1, 1), ("gradient_x_input", 1, 1), ("attention", 1, 0)):
        before = vars(tiny_bert.cost).copy()
        token_scores(build(name), tiny_bert, encode(tiny_bert, TEXTS))
        assert tiny_bert.cost.forward_rows - before["forward_rows"] == rows * len(TEXTS)
        assert tiny_bert.cost.backward_rows - before["backward_rows"] == backward * len(TEXTS)


def test_the_gradient_at_the_input_is_shared(tiny_bert):
    batch = batch_of(tiny_bert, encode(tiny_bert, TEXTS))
    target = torch.full((len(TEXTS),), TARGET)
    before = tiny_bert.cost.forward_rows
    with tiny_bert.at_work():
        for explainer in (build("gradient"), build("gradient", norm="l1"), build("gradient_x_input")):
            explainer.attribute(tiny_bert, batch, target)
    assert tiny_bert.cost.forward_rows - before == len(TEXTS)


@pytest.mark.parametrize("name", ["gradient", "smoothgrad"])
def test_the_sum_of_the_gradient_is_signed(name):
    assert build(name, norm="sum").signed
    assert not build(name, norm="l1").signed


@pytest.mark.parametrize("output", ["logit", "probability", "log_probability"])
@pytest.mark.parametrize("name", ["gradient", "gradient_x_input", "integrated_gradients", "gim"])
def test_the_output_that_the_batch_names_is_explained(name, output, tiny_bert):
    """Against a difference quotient along the embedding of one token."""
    encodings = encode(tiny_bert, [(CORPUS[3],)])
    batch = batch_of(tiny_bert, encodings, output)
    target = torch.tensor([TARGET])
    scores = token_scores(build(name), tiny_bert, encodings, output)[0]
    with tiny_bert.at_work():
        embeddings = tiny_bert.embeddings(batch)
        if name == "gradient_x_input":
            step = 1e-2
            longer, shorter = embeddings.clone(), embeddings.clone()
            longer[:, 3] *= 1 + step
            shorter[:, 3] *= 1 - step
            outputs = [tiny_bert.output(batch, target, changed).item() for changed in (longer, shorter)]
            assert scores[3] == pytest.approx((outputs[0] - outputs[1]) / (2 * step), rel=2e-2)
    other = token_scores(build(name), tiny_bert, encodings, "logit")[0]
    assert np.allclose(scores, other) is (output == "logit")


# Noisy gradients, against captum on the same noise.


def noise_of(model, encoding, samples, noise):
    """The noise that an example gets, drawn again: normal, in proportion to the range of its words' embeddings."""
    batch = batch_of(model, [encoding])
    with torch.no_grad():
        embeddings = model.embeddings(batch)[0]
    words = embeddings[batch.eligible[0]]
    drawn = batch.rngs[0].standard_normal((samples, *embeddings.shape))
    size = noise * (words.max() - words.min())
    return torch.from_numpy(drawn).float() * size * batch.eligible[0][:, None]


@pytest.mark.parametrize(
    ("name", "kind", "reduce"),
    [
        ("smoothgrad", "smoothgrad", lambda mean: mean.norm(dim=-1)),
        ("squaregrad", "smoothgrad_sq", lambda mean: mean.sum(-1)),
        ("vargrad", "vargrad", lambda mean: mean.sum(-1)),
    ],
)
def test_noisy_gradients_are_captums_noise_tunnel_on_the_same_noise(name, kind, reduce, tiny_bert, monkeypatch):
    captum = pytest.importorskip("captum.attr")
    samples, noise = 6, 0.05
    for encoding in encode(tiny_bert, TEXTS):
        (ours,) = token_scores(build(name, samples=samples, noise=noise), tiny_bert, [encoding])
        given = noise_of(tiny_bert, encoding, samples, noise)
        batch = batch_of(tiny_bert, [encoding])

        def forward(embeddings, batch=batch):
            return tiny_bert.output(batch, torch.tensor([TARGET]), embeddings)

        with tiny_bert.at_work():
            tunnel = captum.NoiseTunnel(captum.Saliency(forward))
            monkeypatch.setattr(torch, "normal", lambda mean, std, given=given: given.reshape(std.shape))
            theirs = tunnel.attribute(
                tiny_bert.embeddings(batch).requires_grad_(), nt_type=kind, nt_samples=samples, abs=False
            )
            monkeypatch.undo()
        expected = reduce(theirs[0]).detach().numpy()
        error = np.abs(ours - expected).max() / np.abs(expected).max()
        print(f"{kind}: largest difference {error:.1e} of the largest score")
        assert error < 2e-5


def test_without_noise_smoothgrad_is_the_gradient_and_squaregrad_its_square(tiny_bert):
    encodings = encode(tiny_bert, TEXTS)
    plain = token_scores(build("gradient"), tiny_bert, encodings)
    smooth = token_scores(build("smoothgrad", samples=2, noise=0), tiny_bert, encodings)
    square = token_scores(build("squaregrad", samples=2, noise=0), tiny_bert, encodings)
    variance = token_scores(build("vargrad", samples=2, noise=0), tiny_bert, encodings)
    for one, two, three, four in zip(plain, smooth, square, variance, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-4)
        np.testing.assert_allclose(three, one**2, rtol=1e-4)
        np.testing.assert_allclose(four, 0, atol=1e-9)


@pytest.mark.parametrize("name", ["smoothgrad", "vargrad", "squaregrad"])
def test_more_noisy_samples_come_closer_to_the_limit(name, tiny_bert):
    encodings = encode(tiny_bert, [(CORPUS[0],)])

    def scores(samples, seed):
        return token_scores(build(name, samples=samples, noise=0.05), tiny_bert, encodings, seed=seed)[0]

    limit = np.mean([scores(800, seed) for seed in (101, 102)], axis=0)
    errors = [np.mean([np.linalg.norm(scores(samples, seed) - limit) for seed in range(4)]) for samples in (4, 32, 256)]
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < errors[0] / 3


def test_noise_does_not_hang_on_the_size_of_a_pass(tiny_bert):
    from dataclasses import replace

    batch = batch_of(tiny_bert, encode(tiny_bert, TEXTS))
    found = []
    for tokens in (16, 4096):
        again = replace(batch_of(tiny_bert, encode(tiny_bert, TEXTS)), tokens_per_pass=tokens)
        with tiny_bert.at_work():
            found.append(build("smoothgrad", samples=5).attribute(tiny_bert, again, torch.tensor([1, 1, 1])))
    assert batch.tokens_per_pass == 4096
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
