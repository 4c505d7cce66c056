from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from assay import registry
from assay.classifier import Classifier
from tests.conversations import TARGET
from tests.explainers.attributing import batch_of, encode
from tests.tiny_models import ARCHITECTURES, CORPUS, tiny_classifier, word_piece_tokenizer

TEXTS = [(CORPUS[1],), ("good",), (CORPUS[6], CORPUS[2])]


class BagNetwork(nn.Module):
    """A sum of embeddings and two hidden layers; activations are modules, which captum needs, or functions."""

    def __init__(self, vocabulary: int, modules: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 8)
        self.first, self.second, self.last = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.relu, self.tanh = (nn.ReLU(), nn.Tanh()) if modules else (functional.relu, torch.tanh)
        self.config = SimpleNamespace(id2label={index: str(index) for index in range(3)})

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, input_ids=None, inputs_embeds=None, attention_mask=None, token_type_ids=None):
        states = self.embedding(input_ids) if inputs_embeds is None else inputs_embeds
        if attention_mask is not None:
            states = states * attention_mask[..., None]
        return SimpleNamespace(logits=self.last(self.tanh(self.second(self.relu(self.first(states.sum(1)))))))


def attribute(model, baseline="mask", output="logit", texts=TEXTS):
    batch = batch_of(model, encode(model, texts), output)
    with model.at_work():
        explainer = registry.build("explainer", "deeplift", baseline=baseline)
        return explainer.attribute(model, batch, torch.full((len(texts),), TARGET))


@pytest.mark.parametrize("baseline", ["mask", "zero"])
@pytest.mark.parametrize("modules", [True, False])
def test_it_is_captums_on_linear_layers_and_activations(baseline, modules):
    captum = pytest.importorskip("captum.attr")
    tokenizer = word_piece_tokenizer()
    networks = []
    for kind in (modules, True):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            networks.append(BagNetwork(len(tokenizer), kind).eval())
    model = Classifier(networks[0], tokenizer)
    for text in TEXTS:
        ours = attribute(model, baseline, texts=[text]).scores[0]
        batch = batch_of(model, encode(model, [text]))
        full = model.embeddings(batch)
        filler = model.model.embedding.weight[model.hidden_token[1]].detach() * (baseline == "mask")
        start = torch.where(batch.eligible[..., None], filler, full)

        class Logits(nn.Module):
            def __init__(self, network):
                super().__init__()
                self.network = network

            def forward(self, embeddings):
                return self.network(inputs_embeds=embeddings).logits

        theirs = captum.DeepLift(Logits(networks[1])).attribute(full.clone(), start, target=TARGET).sum(-1)[0]
        print(f"DeepLift: largest difference {(ours - theirs).abs().max().item():.1e}")
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-5)


# Where nothing is added to an embedding of zeros before it is normalised, the model jumps at the baseline.
JUMPING = {"mask": ("llama", "qwen2"), "zero": ("deberta_v1", "modernbert", "llama", "qwen2", "falcon")}


@pytest.mark.parametrize("output", ["logit", "probability", "log_probability"])
@pytest.mark.parametrize("baseline", ["mask", "zero"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_sum_to_the_difference_in_every_architecture(architecture, baseline, output):
    if architecture in JUMPING[baseline]:
        pytest.skip("the model jumps at this baseline")
    found = attribute(tiny_classifier(architecture), baseline, output)
    assert found.report["completeness_error"].max() < 1e-4


def test_the_sum_is_the_difference_of_outputs_asked_for_separately(tiny_bert):
    from tests.explainers.attributing import set_function

    found = attribute(tiny_bert)
    for scores, encoding in zip(found.scores, encode(tiny_bert, TEXTS), strict=True):
        ends = np.stack([np.ones(encoding.n, bool), np.zeros(encoding.n, bool)])
        full, empty = set_function(tiny_bert, encoding)(ends)[:, TARGET]
        assert scores.sum().item() == pytest.approx(full - empty, abs=1e-4)


def test_a_product_of_two_words_is_shared_evenly():
    """f = a · b with a and b read off two tokens, from 0: each gets half, as by Shapley."""
    from assay.explainers.multipliers import Multipliers

    ends = torch.tensor([[2.0, 3.0], [0.0, 0.0]], requires_grad=True)
    with Multipliers():
        product = ends[:, 0] * ends[:, 1]
    (multiplier,) = torch.autograd.grad(product[0], ends)
    torch.testing.assert_close(multiplier[0] * ends[0].detach(), torch.tensor([3.0, 3.0]))


def test_a_softmax_whose_peak_moves_far_keeps_its_sum():
    from assay.explainers.multipliers import Multipliers

    ends = torch.tensor([[0.0, -120.0, 3.0], [-150.0, 40.0, -1.0]], requires_grad=True)
    with Multipliers():
        weights = ends.softmax(-1)
    for place in range(3):
        (multiplier,) = torch.autograd.grad(weights[0, place], ends, retain_graph=True)
        change = (multiplier[0] * (ends[0] - ends[1])).sum()
        torch.testing.assert_close(change, weights[0, place] - weights[1, place], rtol=1e-4, atol=1e-6)


def test_what_a_beta_of_zero_leaves_out_is_not_read():
    from assay.explainers.multipliers import Multipliers

    left, right = torch.ones(2, 2, 3, requires_grad=True), torch.ones(2, 3, 2)
    with Multipliers():
        found = torch.baddbmm(torch.full((2, 2, 2), torch.nan), left, right, beta=0, alpha=0.5)
    assert (found == 1.5).all()
