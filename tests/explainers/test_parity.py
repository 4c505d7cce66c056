"""Against the libraries that people use: the same inputs, the same numbers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from assay import registry
from assay.conversation import Case, Explanation, Feature, generator
from assay.example import Example
from assay.explainers.hierarchy import group_neighbours
from assay.explainers.surrogate import kernel, neighbourhood, ridge
from tests.conversations import TARGET, make_case, run, table
from tests.explainers.attributing import batch_of, encode, explain, set_function, token_scores
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
    result = run(registry.build("explainer", name, **settings).converse(make_case(n, seed)), function).result
    return result.scores if isinstance(result, Explanation) else result


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


def test_exact_values_are_the_peers(question):
    captum = pytest.importorskip("captum.attr")
    shapiq = pytest.importorskip("shapiq")
    n, function = question
    values = function((np.arange(2**n)[:, None] & (1 << np.arange(n))) > 0)
    function = table(values)  # asked thousands of times below
    ours = ask("kernel_shap", n, function)

    computer = shapiq.ExactComputer(game=lambda masks: function(masks).astype(float), n_players=n)
    for index, names in (("SV", ("kernel_shap", "exact_shapley")), ("BV", ("banzhaf",))):
        found = computer(index=index, order=1)
        theirs = np.array([found[(player,)] for player in range(n)])
        for name in names:
            compare(f"{name}, shapiq's exact {index}", [ask(name, n, function)], [theirs], 1e-6)

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


def made_up_words(n, seed):
    """Words alone, in pairs and in threes; all 2^n values."""
    rng = np.random.default_rng(seed)
    sets = (np.arange(2**n)[:, None] & (1 << np.arange(n))) > 0
    pairs, threes = rng.normal(size=(n, n)) / 4, rng.integers(0, n, (3 * n, 3))
    logits = (
        sets @ rng.normal(size=n) + ((sets @ pairs) * sets).sum(1) + sets[:, threes].all(2) @ rng.normal(size=3 * n)
    )
    return table(1 / (1 + np.exp(-logits)))


@pytest.mark.parametrize(("interactions", "closer"), [(True, 0.75), (False, 1.1)])
def test_sampled_kernel_shap_is_closer_to_the_truth_than_shaps(interactions, closer):
    shap = pytest.importorskip("shap")
    n, budget = 12, 300
    errors = {"ours": [], "shap": []}
    for seed in range(10):
        function = made_up_words(n, seed)
        exact = ask("exact_shapley", n, function)
        explainer = shap.KernelExplainer(lambda masks, function=function: function(masks > 0.5), np.zeros((1, n)))
        np.random.seed(seed)
        found = ask("kernel_shap", n, function, seed, samples=budget, interactions=interactions)
        errors["ours"].append(found - exact)
        errors["shap"].append(explainer.shap_values(np.ones((1, n)), nsamples=budget, silent=True, l1_reg=0)[0] - exact)
    rmse = {name: float(np.sqrt(np.mean(np.square(found)))) for name, found in errors.items()}
    print(f"error at {budget} of {2**n} subsets: {rmse}")
    assert rmse["ours"] < closer * rmse["shap"]


class Dealt:
    """In place of a random generator: hands out orders that were drawn elsewhere."""

    def __init__(self, orders):
        self.orders = iter(orders)

    def permuted(self, permutations, axis, out):
        for place in range(len(permutations)):
            out[place] = next(self.orders)


def test_permutation_shap_is_shapiqs_for_the_same_orders(question):
    shapiq = pytest.importorskip("shapiq")
    n, function = question
    ours = ask("permutation_shap", n, function, permutations=3, interactions=False)
    forwards = make_case(n).rng.permuted(np.tile(np.arange(n), (3, 1)), axis=1)
    sampler = shapiq.PermutationSamplingSV(n)
    sampler._rng = Dealt([*forwards, *forwards[:, ::-1]])
    found = sampler.approximate(2 + 6 * (n - 1), lambda masks: function(np.atleast_2d(masks)).astype(float))
    theirs = np.array([found[(player,)] for player in range(n)])
    compare("shapiq PermutationSamplingSV, same orders", [ours], [theirs], 1e-6)


def test_permutation_shap_comes_to_the_same_as_shapiqs(question):
    shapiq = pytest.importorskip("shapiq")
    n, function = question
    function = table(function((np.arange(2**n)[:, None] & (1 << np.arange(n))) > 0))
    sampler = shapiq.PermutationSamplingSV(n, random_state=0)
    found = sampler.approximate(2000 * (n - 1), lambda masks: function(np.atleast_2d(masks)).astype(float))
    theirs = np.array([found[(player,)] for player in range(n)])
    compare(
        "shapiq PermutationSamplingSV",
        [ask("permutation_shap", n, function, permutations=1000, interactions=False)],
        [theirs],
        0.03,
    )


SENTENCES = (
    "nobody is outside because it rains all day long",
    "a dull , lifeless script . it never finds its feet , and nobody cares !",
    "good",
    "the film is a warm and funny story but an unbelievable friendship . how do i learn ?",
)


def linkage(case):
    """Our tree of groups in the format of scipy and shap."""
    rows = []

    def visit(group):
        if not group.halves:
            return int(group.members[0])
        left, right = (visit(half) for half in group.halves)
        rows.append([left, right, len(group.members), len(group.members)])
        return case.n + len(rows) - 1

    visit(group_neighbours(case.features))
    return np.array(rows, dtype=float)


def case_of(sentence):
    words = sentence.split()
    return Case(sentence, tuple(Feature(word, 0, place) for place, word in enumerate(words)), TARGET)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_partition_shap_is_shaps_partition_explainer_on_the_same_tree(sentence):
    shap = pytest.importorskip("shap")
    case = case_of(sentence)
    if case.n == 1:
        pytest.skip("shap has no tree of one feature")
    rng = np.random.default_rng(0)
    pairs, threes = rng.normal(size=(case.n, case.n)), rng.integers(0, case.n, (20, 3))

    def function(keep):
        return ((keep @ pairs) * keep).sum(1) / 3 + keep[:, threes].all(2).sum(1)

    result = run(registry.build("explainer", "partition_shap", samples=5000).converse(case), function).result
    assert result.report["exact"]

    def masker(mask, x):
        return (x * mask)[None]

    masker.clustering = linkage(case)
    masker.shape = (1, case.n)
    explainer = shap.explainers.Partition(lambda masks: function(masks > 0.5).astype(float), masker)
    theirs = explainer(np.ones((1, case.n)), max_evals=100_000, batch_size=200, silent=True).values[0]
    compare(f"shap Partition, {case.n} words", [result.scores], [theirs], 1e-6)


def groups(tree, n):
    """The leaves under each inner node of a tree in scipy's format."""
    leaves = [frozenset([leaf]) for leaf in range(n)]
    for left, right in tree[:, :2].astype(int):
        leaves.append(leaves[left] | leaves[right])
    return set(leaves)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_the_tree_of_words_is_that_of_shaps_text_masker(sentence):
    text = pytest.importorskip("shap.maskers._text")
    case = case_of(sentence)
    if case.n > 1:
        assert groups(linkage(case), case.n) == groups(text.partition_tree(sentence.split(), []), case.n)


def test_trans_shap_is_kernel_shap_on_tokens_summed(tiny_bert):
    text = "unforgettable newspaper scripts"
    encoding = tiny_bert.encode(Example(text, (text,)))
    tokens = tiny_bert.encode(Example(text, (text,)), "token")
    assert tokens.n > encoding.n
    (ours,) = explain(registry.build("explainer", "trans_shap", samples=2**14), tiny_bert, [(text,)])
    case = Case(text, tokens.features, TARGET, generator(0, text))
    explainer = registry.build("explainer", "kernel_shap", samples=2**14)
    on_tokens = run(explainer.converse(case), set_function(tiny_bert, tokens)).result.scores
    word_of_token = encoding.feature_of_token[tokens.feature_of_token >= 0]
    summed = np.array([on_tokens[word_of_token == word].sum() for word in range(encoding.n)])
    np.testing.assert_allclose(ours, summed, atol=1e-9)


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
    function = table(np.random.default_rng(n).random(2**n))
    theirs, keep = lime_weights(function, n, samples=300)
    ours, _ = ridge(keep, function(keep), kernel(keep.sum(1), n))
    compare(f"lime, {n} words, same rows", [ours], [theirs], 1e-9)


@pytest.mark.parametrize("n", [1, 2, 6])
def test_lime_agrees_with_the_mean_of_limes_text_explainer(n):
    function = table(np.random.default_rng(0).random(2**n))
    theirs = np.mean([lime_weights(function, n, samples=5000, seed=seed)[0] for seed in range(8)], axis=0)
    compare(f"lime, {n} words", [ask("lime", n, function)], [theirs], 0.01)


def test_limes_rows_stand_for_those_that_limes_text_explainer_draws():
    n, draws = 9, 40_000
    _, drawn = lime_weights(table(np.zeros(2**n)), n, samples=draws)
    sizes, counts = np.unique(drawn.sum(1), return_counts=True)
    expected = np.bincount(sizes, counts * kernel(sizes, n), minlength=n + 1)
    # Averaged over seeds, since a size may get one row more or less.
    found = np.zeros(n + 1)
    single = np.zeros(n)
    for seed in range(50):
        keep, weights = neighbourhood(n, 60, draws, np.random.default_rng(seed))
        assert len(np.unique(keep, axis=0)) == len(keep) == 60
        found += np.bincount(keep.sum(1), weights, minlength=n + 1) / 50
        single += weights @ keep / 50
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=25)
    np.testing.assert_allclose(single, drawn.T @ kernel(drawn.sum(1), n), rtol=0.02)


def test_lime_needs_less_than_half_of_the_rows_for_rankings_as_stable():
    n = 11
    stable = {"ours": [], "theirs": []}
    for number in range(3):
        function = made_up_words(n, number)
        for name, found in (
            ("ours", [ask("lime", n, function, seed, samples=128) for seed in range(4)]),
            ("theirs", [lime_weights(function, n, samples=256, seed=seed)[0] for seed in range(4)]),
        ):
            stable[name] += [kendalltau(*pair).statistic for pair in combinations(found, 2)]
    print({name: float(np.mean(found)) for name, found in stable.items()})
    assert np.mean(stable["ours"]) > np.mean(stable["theirs"])
