"""The engine: who asks what is answered rightly, once, in full batches, and nobody takes others down."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from assay.benchmark.engine import Engine
from assay.benchmark.talk import Outcome
from assay.classifier import Classifier
from assay.conversation import Answer, Keep, Question, Rough
from assay.encoding import Encoding, Row
from assay.errors import AssayError, Undefined
from assay.example import Example
from assay.perturbation import Delete, Mask, Perturbation
from tests.benchmark.watching import changed, state, watched
from tests.tiny_models import CORPUS, tiny_classifier, tiny_model

Talk = Generator[Keep, Answer, Any]


def read(model: Classifier, *texts: str) -> list[Encoding]:
    return [model.encode(Example(f"{place} {text}", (text,))) for place, text in enumerate(texts)]


def ask(*rounds: Keep) -> Talk:
    """Yields keep-masks one after another; returns all answers."""
    heard = []
    for keep in rounds:
        heard.append((yield keep))
    return heard


def some(n: int, rows: int, seed: int = 0) -> Keep:
    return np.random.default_rng(seed).random((rows, n)) < 0.6


def directly(model: Classifier, rows: list[Row]) -> NDArray[np.float64]:
    """Probabilities, one row a call, without any code of the engine."""
    found = []
    for row in rows:
        inputs = {"input_ids": torch.tensor(row.ids)[None]}
        if row.segments is not None:
            inputs["token_type_ids"] = torch.tensor(row.segments)[None]
        with torch.no_grad():
            found.append(model.model(**inputs).logits[0].double().softmax(-1).numpy())
    return np.array(found)


def converse(engine: Engine, *talks: tuple[Talk, Encoding, Perturbation]) -> list[Outcome]:
    outcomes: dict[int, Outcome] = {}
    for place, (talk, encoding, perturbation) in enumerate(talks):

        def finish(outcome: Outcome, place: int = place) -> None:
            assert place not in outcomes
            outcomes[place] = outcome

        engine.add(talk, encoding, perturbation, finish)
    engine.run()
    return [outcomes[place] for place in range(len(talks))]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "albert", "deberta"])
@pytest.mark.parametrize("perturbation", [Mask(), Delete()], ids=["mask", "delete"])
def test_answers_stand_in_the_order_asked_and_are_the_models(architecture: str, perturbation: Perturbation) -> None:
    model = tiny_classifier(architecture)
    texts = read(model, *CORPUS[:4])
    masks = [some(encoding.n, 9, seed) for seed, encoding in enumerate(texts)]
    outcomes = converse(
        Engine(model), *((ask(keep), encoding, perturbation) for keep, encoding in zip(masks, texts, strict=True))
    )
    for keep, encoding, outcome in zip(masks, texts, outcomes, strict=True):
        expected = directly(model, perturbation.rows(encoding, keep, model.hidden_token[1]))
        assert outcome.result[0] == pytest.approx(expected, abs=1e-5)
        assert np.array_equal(outcome.keep, keep)
        assert outcome.error is None


@pytest.mark.parametrize("output", ["probability", "logit", "log_probability"])
def test_the_output_is_what_was_asked_for(tiny_bert: Classifier, output: Any) -> None:
    (text,) = read(tiny_bert, CORPUS[0])
    keep = some(text.n, 3)
    (outcome,) = converse(Engine(tiny_bert, output), (ask(keep), text, Mask()))
    probability = directly(tiny_bert, Mask().rows(text, keep, tiny_bert.hidden_token[1]))
    found = outcome.result[0].astype(np.float64)
    as_probability = {
        "probability": found,
        "log_probability": np.exp(found),
        "logit": np.exp(found) / np.exp(found).sum(1, keepdims=True),
    }
    assert as_probability[output] == pytest.approx(probability, abs=1e-5)
    assert outcome.logits.shape == (3, 2)


@pytest.mark.parametrize("budget", [1, 40, 200, 4096])
def test_exactly_the_different_rows_are_forwarded_without_padding_within_the_budget(
    tiny_bert: Classifier, budget: int
) -> None:
    texts = read(tiny_bert, *CORPUS[:3])
    # The second round of each repeats the beginning of the first.
    talks = [(ask(some(t.n, 8, seed), some(t.n, 3, seed)), t, p()) for seed, t in enumerate(texts) for p in (Mask, Delete)]  # fmt: skip # noqa: E501
    wanted = set()
    for seed, text in enumerate(texts):
        keep = np.concatenate([some(text.n, 8, seed), some(text.n, 3, seed)])
        for perturbation in (Mask(), Delete()):
            wanted |= {(text.id, tuple(row.ids)) for row in perturbation.rows(text, keep, tiny_bert.hidden_token[1])}
    engine = Engine(tiny_bert, tokens_per_batch=budget)
    with watched(tiny_bert) as watch:
        converse(engine, *talks)
    assert sorted(watch.rows) == sorted(tuple(int(i) for i in ids) for _, ids in wanted)
    assert watch.padding <= 0.01 * watch.tokens
    assert all(call.numel() <= budget or len(call) == 1 for call in watch.calls)
    assert engine.work.rows_answered == len(wanted) < engine.work.rows_asked == 2 * 11 * len(texts)


def test_a_larger_budget_makes_fewer_calls(tiny_bert: Classifier) -> None:
    calls = []
    for budget in (1, 80, 4096):
        (text,) = read(tiny_bert, CORPUS[0])
        with watched(tiny_bert) as watch:
            converse(Engine(tiny_bert, tokens_per_batch=budget), (ask(some(text.n, 24)), text, Mask()))
        calls.append(len(watch.calls))
    rows, length = calls[0], len(text.row.ids)
    assert rows > 15
    assert calls == [rows, -(-rows // (80 // length)), 1]


def test_what_one_conversation_asked_is_not_asked_for_another(tiny_bert: Classifier) -> None:
    (text,) = read(tiny_bert, CORPUS[0])
    keep = some(text.n, 12)
    engine = Engine(tiny_bert)
    with watched(tiny_bert) as watch:
        one, two, later = converse(
            engine,
            (ask(keep), text, Mask()),
            (ask(keep[::-1]), text, Mask()),
            (ask(some(text.n, 1, 99), keep), text, Mask()),
        )
    assert len(watch.rows) == len(set(watch.rows)) <= 13
    assert np.array_equal(one.result[0], two.result[0][::-1])
    assert np.array_equal(one.result[0], later.result[1])
    assert one.cost.forward_rows == two.cost.forward_rows == len(np.unique(keep, axis=0))


def test_masks_that_lead_to_the_same_ids_are_one_row(tiny_bert: Classifier) -> None:
    (text,) = read(tiny_bert, "good good good good")
    one_hidden = ~np.eye(4, dtype=np.bool_)
    with watched(tiny_bert) as watch:
        converse(Engine(tiny_bert), (ask(one_hidden), text, Delete()))
    assert len(watch.rows) == 1


def test_adaptive_conversations_share_batches_with_each_other_and_with_one_shot_ones(tiny_bert: Classifier) -> None:
    texts = read(tiny_bert, *[CORPUS[0]] * 8)

    def turns(text: Encoding, seed: int) -> Talk:
        return ask(*(some(text.n, 2, 100 * seed + turn) for turn in range(6)))

    with watched(tiny_bert) as apart:
        for seed, text in enumerate(texts):
            converse(Engine(tiny_bert), (turns(text, seed), text, Mask()))
        for seed, text in enumerate(texts):
            converse(Engine(tiny_bert), (ask(some(text.n, 12, seed)), text, Mask()))
    with watched(tiny_bert) as together:
        converse(
            Engine(tiny_bert),
            *((turns(text, seed), text, Mask()) for seed, text in enumerate(texts)),
            *((ask(some(text.n, 12, seed)), text, Mask()) for seed, text in enumerate(texts)),
        )
    assert len(apart.calls) == 8 * 6 + 8
    assert len(together.calls) <= 7
    assert len(together.rows) <= len(apart.rows)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 30, 100, 4096]))
@settings(deadline=None, max_examples=5)
def test_no_mixture_of_conversations_changes_an_answer(seed: int, budget: int) -> None:
    model, rng = tiny_classifier("bert"), random.Random(seed)
    texts = read(model, *CORPUS[:3])
    talks = []
    for _ in range(6):
        text = rng.choice(texts)
        rounds = [some(text.n, rng.randrange(0, 5), rng.randrange(9)) for _ in range(rng.randrange(1, 4))]
        talks.append((rounds, text, rng.choice([Mask(), Delete()])))
    outcomes = converse(Engine(model, tokens_per_batch=budget), *((ask(*r), t, p) for r, t, p in talks))
    for (rounds, text, perturbation), outcome in zip(talks, outcomes, strict=True):
        for keep, heard in zip(rounds, outcome.result, strict=True):
            assert heard.shape == (len(keep), 2)
            if len(keep):
                rows = perturbation.rows(text, keep, model.hidden_token[1])
                assert heard == pytest.approx(directly(model, rows), abs=1e-5)


def test_a_conversation_that_asks_nothing_still_ends(tiny_bert: Classifier) -> None:
    (text,) = read(tiny_bert, CORPUS[0])
    with watched(tiny_bert) as watch:
        silent, empty = converse(
            Engine(tiny_bert), (ask(), text, Mask()), (ask(np.empty((0, text.n), dtype=np.bool_)), text, Mask())
        )
    assert silent.result == []
    assert empty.result[0].shape == (0, 2)
    assert silent.cost.forward_rows == empty.cost.forward_rows == 0
    assert not watch.calls


def raising() -> Talk:
    raise RuntimeError("out of luck")
    yield


def raising_later(n: int) -> Talk:
    yield np.ones((1, n), dtype=np.bool_)
    raise Undefined("no idea")


class Stubborn:
    """Refuses to be closed."""

    def __next__(self) -> Any:
        return None

    def close(self) -> None:
        raise RuntimeError("never")


N = 9  # words of the text below
RUBBISH: dict[str, tuple[Any, str]] = {
    "too many features": (lambda: ask(np.ones((2, N + 1), dtype=np.bool_)), r"shape \(2, 10\)"),
    "one mask alone": (lambda: ask(np.ones(N, dtype=np.bool_)), r"shape \(9,\)"),
    "numbers": (lambda: ask(np.ones((2, N))), "float64"),
    "nothing": (lambda: ask(None), "object"),  # type: ignore[arg-type]
    "a ragged list": (lambda: ask([[True], [True, False]]), "no array"),  # type: ignore[arg-type]
    "a gradient": (lambda: ask(torch.ones(1, N, requires_grad=True)), "no array"),  # type: ignore[arg-type]
    "an exception at once": (raising, "out of luck"),
    "an exception later": (lambda: raising_later(N), "no idea"),
    "no generator": (lambda: np.ones(N), "not an iterator"),
    "what cannot be closed": (Stubborn, "object"),
}


@pytest.mark.parametrize("kind", RUBBISH)
def test_a_conversation_that_goes_wrong_fails_alone_and_says_why(tiny_bert: Classifier, kind: str) -> None:
    (text,) = read(tiny_bert, "a dull , lifeless script that never finds feet")
    assert text.n == N
    make, reason = RUBBISH[kind]
    keep = some(N, 4)
    bad, good = converse(Engine(tiny_bert), (make(), text, Mask()), (ask(keep), text, Mask()))
    assert bad.result is None
    assert bad.error is not None
    with pytest.raises(type(bad.error), match=reason):
        raise bad.error
    assert good.result[0] == pytest.approx(directly(tiny_bert, Mask().rows(text, keep, tiny_bert.hidden_token[1])))


def test_a_mask_that_is_changed_after_it_was_asked_is_remembered_as_asked(tiny_bert: Classifier) -> None:
    (text,) = read(tiny_bert, CORPUS[0])

    def reusing() -> Talk:
        keep = np.ones((1, text.n), dtype=np.bool_)
        heard = []
        for feature in range(text.n):
            keep[0, feature] = False
            heard.append((yield keep))
        return heard

    (outcome,) = converse(Engine(tiny_bert), (reusing(), text, Mask()))
    assert outcome.keep.sum(1).tolist() == list(range(text.n - 1, -1, -1))
    expected = directly(tiny_bert, Mask().rows(text, outcome.keep, tiny_bert.hidden_token[1]))
    assert np.concatenate(outcome.result) == pytest.approx(expected, abs=1e-5)


def test_one_conversation_cannot_change_what_another_hears(tiny_bert: Classifier) -> None:
    (text,) = read(tiny_bert, CORPUS[0])
    keep = some(text.n, 3)

    def vandal() -> Talk:
        answer = yield keep
        answer[:] = -1
        return None

    _, outcome = converse(Engine(tiny_bert), (vandal(), text, Mask()), (ask(keep), text, Mask()))
    assert (outcome.result[0] >= 0).all()
    assert np.isfinite(outcome.logits).all()


def test_a_text_of_which_nothing_is_left_has_no_answer(tiny_gpt2: Classifier) -> None:
    (text,) = read(tiny_gpt2, "a dull script")
    keep = np.array([[True, True, False], [False, False, False]])
    bad, good = converse(Engine(tiny_gpt2), (ask(keep), text, Delete()), (ask(keep[:1]), text, Delete()))
    assert isinstance(bad.error, Undefined)
    assert "nothing is left to read" in str(bad.error)
    assert good.result[0].sum() == pytest.approx(1, abs=1e-5)


def test_a_conversation_may_start_others_when_it_ends(tiny_bert: Classifier) -> None:
    (text,) = read(tiny_bert, CORPUS[0])
    engine, ends = Engine(tiny_bert), []

    def finish(outcome: Outcome) -> None:
        ends.append(outcome)
        if len(ends) < 4:
            engine.add(ask(some(text.n, 2, len(ends))), text, Mask(), finish)

    engine.add(ask(), text, Mask(), finish)
    engine.run()
    assert len(ends) == 4
    assert ends[-1].logits.shape == (2, 2)


@pytest.mark.parametrize("budget", [0, -5])
def test_a_budget_below_one_token_is_refused(tiny_bert: Classifier, budget: int) -> None:
    with pytest.raises(AssayError, match="tokens_per_batch must be at least 1"):
        Engine(tiny_bert, tokens_per_batch=budget)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_and_the_random_state_are_left_as_they_were(fails: bool) -> None:
    model = Classifier(*tiny_model("bert"))
    model.model.train()
    model.model.bert.encoder.layer[0].eval()  # a mixture, as users have
    model.model.bert.embeddings.requires_grad_(False)
    seen: list[Any] = []
    handle = model.model.register_forward_hook(lambda *_: seen.append(1))
    (text,) = read(model, CORPUS[0])
    before = state(model.model)
    engine = Engine(model)

    def fatal() -> Talk:
        yield np.ones((1, text.n), dtype=np.bool_)
        raise AssayError("stop everything")

    engine.add(fatal() if fails else ask(some(text.n, 5)), text, Mask(), lambda _: None)
    if fails:
        with pytest.raises(AssayError, match="stop everything"):
            engine.run()
    else:
        engine.run()
    assert changed(before, state(model.model)) == []
    assert seen
    handle.remove()


def test_dropout_is_off_while_it_asks() -> None:
    model = Classifier(*tiny_model("bert", hidden_dropout_prob=0.5))
    model.model.train()
    (text,) = read(model, CORPUS[0])
    first, second = (converse(Engine(model), (ask(some(text.n, 3)), text, Mask()))[0].result[0] for _ in range(2))
    assert np.array_equal(first, second)


def test_nothing_of_an_engine_outlives_it(tiny_bert: Classifier) -> None:
    (text,) = read(tiny_bert, CORPUS[0])
    engine = Engine(tiny_bert)
    converse(engine, (ask(some(text.n, 30)), text, Mask()))
    answers = weakref.ref(engine._answers.logits)
    gone = weakref.ref(engine)
    del engine
    gc.collect()
    assert gone() is None
    assert answers() is None


def test_rough_answers_are_kept_apart_and_are_no_stored_answers() -> None:
    model = tiny_classifier()
    (encoding,) = read(model, "a good film that is not bad")
    keep = some(encoding.n, 6)
    engine = Engine(model)

    def roughly() -> Generator[Question, Answer, Any]:
        rough = yield Rough(keep, "bfloat16")
        exact = yield keep
        return rough, exact

    (outcome, other) = converse(engine, (roughly(), encoding, Mask()), (ask(keep), encoding, Mask()))
    rough, exact = outcome.result
    np.testing.assert_array_equal(exact, other.result[0])
    assert 0 < np.abs(rough - exact).max() < 0.02
    np.testing.assert_array_equal(outcome.keep, keep)
    distinct = len(np.unique(keep, axis=0))
    assert outcome.cost.forward_rows == 2 * distinct
    assert engine.work.rows_answered == 2 * distinct
