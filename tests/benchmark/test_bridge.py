from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
import torch

from assay import registry
from assay.benchmark.bridge import Bridge
from assay.conversation import Case
from assay.errors import AssayError
from tests.conversations import TARGET, make_case, pool, run, table

WEIGHTS = np.array([0.5, -1.0, 0.0, 2.0])


def linear(keep):
    return keep @ WEIGHTS


def leave_one_out(predict, features):
    full = predict(np.ones(len(features)))[0]
    scores = []
    for index in range(len(features)):
        mask = np.ones(len(features), dtype=bool)
        mask[index] = False
        scores.append(full - predict(mask)[0])
    return scores


def guess(predict, features, rng, scale=1.0):
    return scale * rng.random(len(features))


def test_a_plain_function_becomes_a_conversation():
    transcript = run(Bridge(leave_one_out).converse(make_case(4)), linear)
    np.testing.assert_allclose(transcript.result, WEIGHTS, atol=1e-6)
    assert [len(keep) for keep in transcript.rounds] == [1] * 5


def test_it_is_named_by_a_dotted_path_with_settings():
    target = {"_target_": "assay.benchmark.bridge.Bridge", "explain": f"{__name__}.guess", "signed": False}
    explainer = registry.instantiate({**target, "scale": 100.0})
    assert explainer.signed is False
    assert Bridge.signed is True
    assert run(explainer.converse(make_case(4)), linear).result.max() > 1
    with pytest.raises(AssayError, match="takes no setting 'scales'"):
        registry.instantiate({**target, "scales": 1})
    with pytest.raises(AssayError, match="Did you mean 'guess'"):
        registry.instantiate({**target, "explain": f"{__name__}.gues"})
    with pytest.raises(AssayError, match="must be a function"):
        registry.instantiate({**target, "explain": 3})


def test_predict_gives_the_targets_outputs_and_refuses_masks_of_another_length():
    def explain(predict, features):
        outputs = predict(np.eye(len(features)))
        assert outputs.shape == (4,)
        assert outputs.dtype == np.float64
        assert predict(np.empty((0, 4))).shape == (0,)
        with pytest.raises(ValueError, match=r"\[queries, 4\], not \(2, 5\)"):
            predict(np.ones((2, 5)))
        return outputs

    assert features_seen(explain) == ("word0", "word1", "word2", "word3")


def features_seen(explain):
    seen = []

    def wrapper(predict, features):
        seen.append(features)
        return explain(predict, features)

    np.testing.assert_allclose(run(Bridge(wrapper).converse(make_case(4)), linear).result, WEIGHTS)
    return seen[0]


def test_what_the_function_raises_reaches_whoever_runs_it():
    def explain(predict, features):
        predict(np.ones(len(features)))
        raise ZeroDivisionError("in the middle")

    with pytest.raises(ZeroDivisionError, match="in the middle"):
        run(Bridge(explain).converse(make_case(4)), linear)


def test_an_error_thrown_into_the_conversation_ends_the_function():
    cleaned = []

    def explain(predict, features):
        try:
            predict(np.ones(len(features)))
        finally:
            cleaned.append(True)

    for end in ("close", "throw"):
        conversation = Bridge(explain).converse(make_case(4))
        next(conversation)
        if end == "close":
            conversation.close()
        else:
            with pytest.raises(RuntimeError, match="stop"):
                conversation.throw(RuntimeError("stop"))
    assert cleaned == [True, True]


def test_the_result_depends_on_the_example_alone_even_when_global_random_numbers_are_drawn():
    def explain(predict, features):
        drawn = []
        for _ in features:
            drawn.append(random.random() + np.random.random() + torch.rand(()).item())
            predict(np.ones(len(features)))
        return drawn

    explainer = Bridge(explain)
    alone = [run(explainer.converse(make_case(4, seed)), linear).result for seed in range(3)]
    np.random.seed(7)
    before = np.random.get_state()[1].copy(), random.getstate(), torch.get_rng_state()
    together, calls = pool([explainer.converse(make_case(4, seed)) for seed in range(3)], [linear] * 3)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other.result)
    assert calls == 4
    assert len({tuple(result) for result in alone}) == 3
    np.testing.assert_array_equal(before[0], np.random.get_state()[1])
    assert before[1] == random.getstate()
    assert torch.equal(before[2], torch.get_rng_state())


def test_blocks_that_pause_do_not_leak_into_others():
    def explain(predict, features):
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(len(features)):
                assert not torch.is_grad_enabled()
                predict(np.ones(len(features)))
        assert torch.is_grad_enabled()
        return np.zeros(len(features))

    filters = list(warnings.filters)
    lengths = (2, 4, 3)
    pool([Bridge(explain).converse(make_case(n)) for n in lengths], [lambda keep: keep.sum(1)] * 3)
    assert torch.is_grad_enabled()
    assert warnings.filters == filters


def fifty(explainer):
    """Fifty random set functions, alone and pooled: transcripts, rounds alone, pooled calls."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(5, 9, 50).tolist()
    functions = [table(rng.random(2**n)) for n in sizes]
    alone = [
        run(explainer.converse(make_case(n, seed)), function)
        for seed, (n, function) in enumerate(zip(sizes, functions, strict=True))
    ]
    together, calls = pool([explainer.converse(make_case(n, seed)) for seed, n in enumerate(sizes)], functions)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.result, other.result)
    return alone, sizes, functions, sum(len(transcript.rounds) for transcript in alone), calls


def shap_permutation(predict, features, rng):
    import shap

    n = len(features)
    explainer = shap.PermutationExplainer(predict, np.zeros((1, n)), seed=int(rng.integers(2**31)))
    return explainer(np.ones((1, n)), max_evals=10 * (2 * n + 1), silent=True).values[0]


def test_fifty_runs_of_shaps_permutation_explainer_share_their_calls():
    pytest.importorskip("shap")
    alone, _, functions, rounds, calls = fifty(Bridge(shap_permutation))
    print(f"shap: {rounds} calls one by one, {calls} pooled")
    assert calls == max(len(transcript.rounds) for transcript in alone)
    assert rounds >= 40 * calls
    for transcript, function in zip(alone, functions, strict=True):
        n = len(transcript.result)
        total = np.diff(function(np.array([[False] * n, [True] * n])))
        assert transcript.result.sum() == pytest.approx(total[0], abs=1e-5)


def shapiq_kernel_shap(predict, features, rng):
    import shapiq

    n = len(features)
    approximator = shapiq.KernelSHAP(n=n, random_state=int(rng.integers(2**31)))
    values = approximator.approximate(budget=2**n, game=predict)
    return [values[(index,)] for index in range(n)]


def test_fifty_runs_of_shapiqs_kernel_shap_share_one_call_and_agree_with_ours():
    pytest.importorskip("shapiq")
    alone, sizes, functions, rounds, calls = fifty(Bridge(shapiq_kernel_shap))
    print(f"shapiq: {rounds} calls one by one, {calls} pooled")
    assert calls <= 2
    assert rounds >= 50
    ours = registry.build("explainer", "kernel_shap")
    for transcript, n, function in zip(alone, sizes, functions, strict=True):
        exact = run(ours.converse(make_case(n)), function).result.scores
        np.testing.assert_allclose(transcript.result, exact, atol=1e-6)


def captum_ablation(predict, features):
    from captum.attr import FeatureAblation

    ones = torch.ones(1, len(features))
    return FeatureAblation(lambda masks: torch.from_numpy(predict(masks.numpy()))).attribute(ones)[0].numpy()


def test_captums_feature_ablation_runs_unchanged_and_agrees_with_leave_one_out():
    pytest.importorskip("captum")
    alone, sizes, functions, rounds, calls = fifty(Bridge(captum_ablation))
    print(f"captum: {rounds} calls one by one, {calls} pooled")
    ours = registry.build("explainer", "leave_one_out")
    for transcript, n, function in zip(alone, sizes, functions, strict=True):
        exact = run(ours.converse(make_case(n)), function).result
        np.testing.assert_allclose(transcript.result, exact, atol=1e-6)
    assert torch.is_grad_enabled()


def test_in_the_engine_its_calls_share_batches_with_those_of_other_examples(tiny_bert, monkeypatch):
    from assay.benchmark.engine import Engine
    from assay.example import Example
    from assay.perturbation import Mask
    from tests.tiny_models import WORDS

    encodings = [tiny_bert.encode(Example(f"{i}", (" ".join(WORDS[i : i + 5]),))) for i in range(40)]
    batches, results = [], {}
    begin = tiny_bert.begin
    monkeypatch.setattr(tiny_bert, "begin", lambda rows, dtype=None: batches.append(len(rows)) or begin(rows, dtype))
    engine = Engine(tiny_bert)
    for encoding in encodings:
        conversation = Bridge(leave_one_out).converse(Case(encoding.id, encoding.features, TARGET))
        engine.add(conversation, encoding, Mask(), lambda outcome, key=encoding.id: results.update({key: outcome}))
    with tiny_bert.at_work():
        engine.run()
    assert all(outcome.error is None and len(outcome.result) == 5 for outcome in results.values())
    assert len(results) == 40
    assert sum(batches) == 40 * 6
    # Alone, each of the 40 functions makes 6 calls of one row; pooled, only rows of different length are kept apart.
    assert len(batches) <= 6 * len({len(encoding.row.ids) for encoding in encodings})
