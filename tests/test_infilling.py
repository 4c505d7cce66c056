"""Hidden features filled in by a masked language model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from assay import registry
from assay.benchmark.engine import Engine
from assay.classifier import Classifier
from assay.errors import AssayError
from assay.example import Example
from assay.infilling import Infill, MaskedLanguageModel
from tests.conversations import TARGET
from tests.explainers.attributing import encode, explain
from tests.explainers.linear_model import linear_classifier
from tests.tiny_masked_lm import tiny_masked_lm, uniform_masked_lm
from tests.tiny_models import byte_level_tokenizer, tiny_classifier

TEXTS = [("the film is unbelievable",), ("a good meal", "not a good film at all")]


def infill(model, **settings):
    perturbation = Infill(**settings)
    perturbation.check(model)
    return perturbation


def drawn(perturbation, encoding, keep):
    """The token ids of the fillings of one keep-mask, [samples, tokens]."""
    return np.stack([row.ids for row in perturbation.rows(encoding, np.array([keep]), 0)])


def test_with_a_uniform_language_model_a_linear_bag_of_words_loses_the_word_less_the_mean_word():
    model, samples = linear_classifier(), 1500
    found = explain(registry.build("explainer", "olm", masked_lm=uniform_masked_lm(), samples=samples), model, TEXTS)
    shares = (model.model.embedding.weight @ model.model.classes.weight[TARGET]).detach().numpy()
    ordinary = np.delete(shares, model.tokenizer.all_special_ids)
    for encoding, scores in zip(encode(model, TEXTS), found, strict=True):
        real = encoding.feature_of_token >= 0
        expected = np.zeros(encoding.n)
        np.add.at(expected, encoding.feature_of_token[real], shares[encoding.row.ids[real]] - ordinary.mean())
        pieces = np.bincount(encoding.feature_of_token[real])
        error = ordinary.std() * np.sqrt(pieces / samples)
        assert (np.abs(scores - expected) < 4 * error).all()


def own_chances(lm, encoding, masked):
    """The tiny BERT's own softmax over ordinary tokens with some tokens masked, [tokens, vocabulary]."""
    ids = torch.from_numpy(encoding.row.ids).clone()
    ids[masked] = lm.tokenizer.mask_token_id
    with torch.no_grad():
        logits = lm.model(input_ids=ids[None], token_type_ids=torch.from_numpy(encoding.row.segments)[None]).logits[0]
    logits[:, lm.tokenizer.all_special_ids] = -torch.inf
    return logits.softmax(-1).numpy()


def far(counts, expected):
    """By how many standard errors the counts of draws miss what is expected, at most."""
    spread = np.sqrt(np.maximum(expected * (1 - expected / counts.sum()), 1))
    return (np.abs(counts - expected) / spread).max()


def test_the_draws_have_the_language_models_own_chances(tiny_bert):
    lm, samples = tiny_masked_lm(), 5000
    encoding = tiny_bert.encode(Example("pair", ("the film is warm", "a good meal")))
    keep = np.array([True, False, True, True, True, False, True])
    ids = drawn(infill(tiny_bert, masked_lm=lm, samples=samples), encoding, keep)
    hidden = np.flatnonzero(np.isin(encoding.feature_of_token, [1, 5]))
    assert len(hidden) == 2
    chances = own_chances(lm, encoding, hidden)
    for token in hidden:
        counts = np.bincount(ids[:, token], minlength=chances.shape[1])
        assert far(counts, samples * chances[token]) < 5
    # Drawn independently of each other.
    pairs = np.zeros((chances.shape[1],) * 2)
    np.add.at(pairs, (ids[:, hidden[0]], ids[:, hidden[1]]), 1)
    assert far(pairs, samples * np.outer(*chances[hidden])) < 6
    rest = np.setdiff1d(np.arange(len(encoding.row.ids)), hidden)
    assert (ids[:, rest] == encoding.row.ids[rest]).all()


def test_the_second_piece_of_a_word_is_drawn_given_the_first(tiny_bert):
    lm, samples = tiny_masked_lm(), 8000
    encoding = tiny_bert.encode(Example("pieces", ("the newspaper is good",)))
    first, second = np.flatnonzero(encoding.feature_of_token == 1)
    ids = drawn(infill(tiny_bert, masked_lm=lm, samples=samples), encoding, np.arange(4) != 1)
    start = own_chances(lm, encoding, [first, second])[first]
    assert far(np.bincount(ids[:, first], minlength=len(start)), samples * start) < 5
    common = np.bincount(ids[:, first]).argmax()
    given = encoding.row.ids.copy()
    given[first] = common
    known = replace(encoding, row=replace(encoding.row, ids=given))
    chances = own_chances(lm, known, [second])[second]
    follows = ids[ids[:, first] == common, second]
    assert far(np.bincount(follows, minlength=len(chances)), len(follows) * chances) < 5


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "albert", "modernbert"])
def test_special_tokens_stay_and_are_never_drawn(architecture):
    model = tiny_classifier(architecture)
    perturbation = infill(model, masked_lm=tiny_masked_lm(architecture), samples=40)
    encoding = model.encode(Example("pair", TEXTS[1]))
    ids = drawn(perturbation, encoding, np.zeros(encoding.n, dtype=bool))
    special = encoding.feature_of_token < 0
    assert (ids[:, special] == encoding.row.ids[special]).all()
    assert not np.isin(ids[:, ~special], model.tokenizer.all_special_ids).any()
    assert (ids < len(model.tokenizer)).all()
    assert len(np.unique(ids, axis=0)) > 30


def test_the_same_mask_is_filled_in_alike_whoever_else_asks(tiny_bert):
    perturbation = infill(tiny_bert, masked_lm=tiny_masked_lm(), samples=5)
    encoding = tiny_bert.encode(Example("one", TEXTS[0]))
    masks = np.array([[True, False, True, False], [False] * 4, [True] * 4])
    together = [row.ids for row in perturbation.rows(encoding, masks, 0)]
    alone = [row.ids for mask in masks for row in perturbation.rows(encoding, mask[None], 0)]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together[10:], np.stack([encoding.row.ids] * 5))
    other = tiny_bert.encode(Example("two", TEXTS[0]))
    assert not np.array_equal(drawn(perturbation, other, masks[1]), together[5:10])
    reseeded = infill(tiny_bert, masked_lm=tiny_masked_lm(), samples=5, seed=1)
    assert not np.array_equal(drawn(reseeded, encoding, masks[1]), together[5:10])
    # Without a seed of its own, that of the run.
    perturbation.prepare(tiny_bert, [], seed=1)
    np.testing.assert_array_equal(drawn(perturbation, encoding, masks[1]), drawn(reseeded, encoding, masks[1]))
    perturbation.prepare(tiny_bert, [])
    assert perturbation.rows(encoding, np.empty((0, 4), dtype=bool), 0) == []


def test_the_engine_averages_the_fillings_and_asks_the_same_one_once(tiny_bert):
    perturbation = infill(tiny_bert, masked_lm=tiny_masked_lm(), samples=6)
    encoding = tiny_bert.encode(Example("one", TEXTS[0]))
    keep = np.array([[True] * 4, [True, False, True, True]])
    rows = perturbation.rows(encoding, keep, 0)
    outcomes, answers = [], []

    def converse():
        answers.append((yield keep))

    engine = Engine(tiny_bert)
    engine.add(converse(), encoding, perturbation, outcomes.append)
    engine.run()
    logits = torch.from_numpy(tiny_bert.answer(rows)).double()
    expected = logits.softmax(-1).reshape(2, 6, -1).mean(1).numpy()
    np.testing.assert_allclose(answers[0], expected, atol=1e-6)
    assert engine.work.rows_answered == len({row.key for row in rows}) <= 7


def test_olm_is_the_fall_from_the_full_input_to_the_mean_filling(tiny_bert):
    lm = tiny_masked_lm()
    (found,) = explain(registry.build("explainer", "olm", masked_lm=lm, samples=8), tiny_bert, TEXTS[:1])
    (encoding,) = encode(tiny_bert, TEXTS[:1])
    perturbation = infill(tiny_bert, masked_lm=lm, samples=8)
    for feature in range(encoding.n):
        rows = perturbation.rows(encoding, (np.arange(encoding.n) != feature)[None], 0)
        fall = tiny_bert.answer([encoding.row])[0, TARGET] - tiny_bert.answer(rows)[:, TARGET].mean()
        assert found[feature] == pytest.approx(fall, abs=1e-5)


def test_a_folder_is_loaded_once_and_gives_what_the_model_gives(tiny_bert, tmp_path):
    lm = tiny_masked_lm()
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    one, other = (infill(tiny_bert, masked_lm=str(tmp_path), samples=3) for _ in range(2))
    assert one._bound[0] is other._bound[0]
    encoding = tiny_bert.encode(Example("one", TEXTS[0]))
    keep = np.zeros(4, dtype=bool)
    given = infill(tiny_bert, masked_lm=lm, samples=3)
    np.testing.assert_array_equal(drawn(one, encoding, keep), drawn(given, encoding, keep))


def test_what_cannot_be_is_said(tiny_bert, tmp_path):
    with pytest.raises(AssayError, match=r"explainers\.olm\.masked_lm=PATH"):
        registry.build("explainer", "olm").check(tiny_bert)
    with pytest.raises(AssayError, match=r"perturbations\.infill\.masked_lm=PATH"):
        registry.build("perturbation", "infill").check(tiny_bert)
    with pytest.raises(AssayError, match="samples must be at least 1, not 0"):
        registry.build("perturbation", "infill", samples=0)
    with pytest.raises(AssayError, match="call its `check` with the classifier first"):
        Infill(tiny_masked_lm()).rows(tiny_bert.encode(Example("one", ("good",))), np.ones((1, 1), dtype=bool), 0)
    with pytest.raises(AssayError, match=r"have different vocabularies: '.+' is .+ in one and .+ in the other"):
        infill(tiny_classifier("roberta"), masked_lm=tiny_masked_lm())
    with pytest.raises(AssayError, match="Cannot load a masked language model from"):
        infill(tiny_bert, masked_lm=str(tmp_path / "nothing"))
    tiny_bert.model.save_pretrained(tmp_path)
    tiny_bert.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(AssayError, match="is not a masked language model: its weights lack"):
        infill(tiny_bert, masked_lm=str(tmp_path))
    decoder = tiny_classifier("gpt2")
    decoder.model.save_pretrained(tmp_path / "decoder")
    decoder.tokenizer.save_pretrained(tmp_path / "decoder")
    with pytest.raises(AssayError, match="is not a masked language model: gpt2 models fill in no gaps"):
        infill(tiny_bert, masked_lm=str(tmp_path / "decoder"))
    no_mask = byte_level_tokenizer()
    no_mask.mask_token = None
    with pytest.raises(AssayError, match="has no mask token"):
        MaskedLanguageModel(tiny_masked_lm("roberta").model, no_mask).check(
            Classifier(tiny_classifier("roberta").model, no_mask)
        )


def test_olm_in_a_run_fills_in_whatever_the_runs_perturbation(tiny_bert):
    from assay.benchmark.evaluation import Evaluation, Settings

    explainer = registry.build("explainer", "olm", masked_lm=tiny_masked_lm(), samples=4)
    explainer.check(tiny_bert)
    found = []
    for name in ("mask", "delete"):
        perturbation = {name: registry.build("perturbation", name)}
        evaluation = Evaluation(tiny_bert, [Example("one", TEXTS[0])], {}, perturbation, Settings())
        evaluation.add_explainer("olm", explainer)
        found.append(evaluation.run()["olm"].attributions[0]["scores"])
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert np.abs(found[0]).max() > 1e-4
