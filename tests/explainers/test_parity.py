"""Against the libraries that people use: the same inputs, the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assay import registry
from tests.conversations import TARGET, make_case, run, table
from tests.explainers.attributing import batch_of, encode, set_function, token_scores
from tests.tiny_models import CORPUS, tiny_classifier

TEXTS = [(CORPUS[1],), ("good",), (CORPUS[6], CORPUS[2])]


@pytest.fixture(params=["bert", "roberta", "distilbert"])
def model(request):
    return tiny_classifier(request.param)


def compare(what, ours, theirs, tolerance):
    error = max(float(np.abs(one - other).max()) for one, other in zip(ours, theirs, strict=True))
    largest = max(float(np.abs(other).max()) for other in theirs)
    print(f"{what}: largest difference {error:.1e}, largest score {largest:.1e}")
    assert error <= tolerance * max(1, largest)


def captum_scores(model, encodings, method, reduce, baseline=None, **arguments):
    """A captum method on the word embeddings of each example alone, as [tokens] scores."""
    found = []
    for encoding in encodings:
        batch = batch_of(model, [encoding])

        def forward(embeddings, batch=batch):
            inputs = {name: value.expand(len(embeddings), -1) for name, value in batch.model_inputs.items()}
            return model.model(inputs_embeds=embeddings, **inputs).logits

        with model.at_work():
            embeddings = model.embeddings(batch)
            start = {"baselines": baseline(batch, embeddings)} if baseline else {}
            scores = method(forward).attribute(embeddings.requires_grad_(), target=TARGET, **start, **arguments)
        found.append(reduce(scores[0], embeddings[0]).detach().numpy())
    return found


def test_gradient_is_captums_saliency(model):
    captum = pytest.importorskip("captum.attr")
    encodings = encode(model, TEXTS)
    ours = token_scores(registry.build("explainer", "gradient"), model, encodings)
    theirs = captum_scores(model, encodings, captum.Saliency, lambda scores, _: scores.norm(dim=-1))
    compare("Saliency", ours, theirs, 1e-5)


def test_gradient_x_input_is_captums(model):
    captum = pytest.importorskip("captum.attr")
    encodings = encode(model, TEXTS)
    ours = token_scores(registry.build("explainer", "gradient_x_input"), model, encodings)
    theirs = captum_scores(model, encodings, captum.InputXGradient, lambda scores, _: scores.sum(-1))
    compare("InputXGradient", ours, theirs, 1e-5)


@pytest.mark.parametrize("baseline", ["mask", "zero"])
def test_integrated_gradients_are_captums_with_the_same_points(model, baseline):
    captum = pytest.importorskip("captum.attr")
    encodings = encode(model, TEXTS)

    def start(batch, embeddings):
        filler = model.model.get_input_embeddings().weight[model.hidden_token[1]]
        return torch.where(batch.eligible[..., None], filler * (baseline == "mask"), embeddings).detach()

    ours = token_scores(
        registry.build("explainer", "integrated_gradients", steps=20, baseline=baseline), model, encodings
    )
    theirs = captum_scores(
        model,
        encodings,
        captum.IntegratedGradients,
        lambda scores, _: scores.sum(-1),
        start,
        n_steps=20,
    )
    compare(f"IntegratedGradients from {baseline}", ours, theirs, 1e-5)


def ask(name, n, function, seed=0, **settings):
    return run(registry.build("explainer", name, **settings).converse(make_case(n, seed)), function).result


def with_torch(function):
    """A set function as captum calls models."""
    return lambda masks: torch.from_numpy(function(masks.numpy() > 0.5).astype(np.float64))


@pytest.fixture
def question(tiny_bert):
    """A real set function over nine words."""
    (encoding,) = encode(tiny_bert, [("nobody is outside because it rains all day long",)])
    answers = set_function(tiny_bert, encoding)
    return encoding.n, lambda keep: answers(keep)[:, TARGET]


def test_leave_one_out_is_captums_feature_ablation(question):
    captum = pytest.importorskip("captum.attr")
    n, function = question
    theirs = captum.FeatureAblation(with_torch(function)).attribute(torch.ones(1, n))[0].numpy()
    compare("FeatureAblation", [ask("leave_one_out", n, function)], [theirs], 1e-6)


def test_exact_kernel_shap_is_the_peers_shapley_value(question):
    captum = pytest.importorskip("captum.attr")
    shapiq = pytest.importorskip("shapiq")
    n, function = question
    values = function((np.arange(2**n)[:, None] & (1 << np.arange(n))) > 0)
    function = table(values)  # asked thousands of times below
    ours = ask("kernel_shap", n, function)

    computer = shapiq.ExactComputer(game=lambda masks: function(masks).astype(float), n_players=n)
    found = computer(index="SV", order=1)
    compare("shapiq exact", [ours], [np.array([found[(index,)] for index in range(n)])], 1e-6)

    torch.manual_seed(0)
    ones = torch.ones(1, n)
    sampled = captum.KernelShap(with_torch(function)).attribute(ones, n_samples=20000, perturbations_per_eval=500)
    compare("captum KernelShap, 20,000 samples", [ours], [sampled[0].numpy()], 0.03)


def test_exact_kernel_shap_is_shaps(question):
    shap = pytest.importorskip("shap")
    n, function = question
    ours = ask("kernel_shap", n, function)
    explainer = shap.KernelExplainer(lambda masks: function(masks > 0.5).astype(float), np.zeros((1, n)))
    theirs = explainer.shap_values(np.ones((1, n)), nsamples=2**n, silent=True, l1_reg=0)[0]
    compare("shap KernelExplainer, all subsets", [ours], [theirs], 1e-5)


def test_sampled_kernel_shap_is_as_close_to_the_truth_as_shaps():
    shap = pytest.importorskip("shap")
    n, budget = 12, 300
    rng = np.random.default_rng(3)
    sets = (np.arange(2**n)[:, None] & (1 << np.arange(n))) > 0
    # Words alone, in pairs and in threes. (On noise drawn for each subset alone, pairing gains nothing and shap is 15 %
    # closer here.)
    pairs, threes = rng.normal(size=(n, n)) / 4, rng.integers(0, n, (3 * n, 3))
    logits = (
        sets @ rng.normal(size=n) + ((sets @ pairs) * sets).sum(1) + sets[:, threes].all(2) @ rng.normal(size=3 * n)
    )
    function = table(1 / (1 + np.exp(-logits)))
    exact = ask("kernel_shap", n, function, samples=2**n)
    errors = {"ours": [], "shap": []}
    explainer = shap.KernelExplainer(lambda masks: function(masks > 0.5), np.zeros((1, n)))
    for seed in range(10):
        errors["ours"].append(ask("kernel_shap", n, function, seed, samples=budget) - exact)
        np.random.seed(seed)
        errors["shap"].append(explainer.shap_values(np.ones((1, n)), nsamples=budget, silent=True, l1_reg=0)[0] - exact)
    rmse = {name: float(np.sqrt(np.mean(np.square(found)))) for name, found in errors.items()}
    print(f"error at {budget} of {2**n} subsets: {rmse}")
    assert rmse["ours"] < 1.1 * rmse["shap"]


class Recorded:
    """A classifier of strings that answers by which words are left, and remembers what it was asked."""

    def __init__(self, words, function):
        self.words, self.function, self.keep = words, function, None

    def __call__(self, texts):
        self.keep = np.array([[word in text.split() for word in self.words] for text in texts])
        outputs = self.function(self.keep)
        return np.stack([1 - outputs, outputs], axis=1)


def lime_weights(function, n, samples, seed=0):
    lime_text = pytest.importorskip("lime.lime_text")
    words = [f"word{index}" for index in range(n)]
    classifier = Recorded(words, function)
    explainer = lime_text.LimeTextExplainer(bow=False, random_state=seed, split_expression=r"\s+", mask_string="")
    explanation = explainer.explain_instance(
        " ".join(words), classifier, labels=(1,), num_features=n, num_samples=samples
    )
    weights = np.zeros(n)
    for index, weight in explanation.as_map()[1]:
        weights[index] = weight
    return weights, classifier.keep


@pytest.mark.parametrize("n", [1, 5, 11])
def test_lime_is_limes_text_explainer_on_the_same_rows(n):
    from assay.explainers.surrogate import lime_coefficients

    function = table(np.random.default_rng(n).random(2**n))
    theirs, keep = lime_weights(function, n, samples=300)
    compare(f"lime, {n} words, same rows", [lime_coefficients(keep, function(keep))], [theirs], 1e-9)


def test_lime_agrees_with_limes_text_explainer_on_rows_of_its_own():
    n = 6
    function = table(np.random.default_rng(0).random(2**n))
    theirs, _ = lime_weights(function, n, samples=20000)
    compare("lime, 20,000 rows of its own", [ask("lime", n, function, samples=20000)], [theirs], 0.02)
