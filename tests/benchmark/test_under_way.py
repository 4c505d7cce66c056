"""Several batches under way at once: a made-up device that answers late must change no number and lose nothing."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from assay import registry
from assay.benchmark.engine import Engine
from assay.benchmark.evaluation import Evaluation, Settings
from assay.benchmark.talk import Outcome
from assay.classifier import Classifier
from assay.conversation import Keep
from assay.encoding import Encoding
from assay.errors import AssayError
from assay.example import Example
from assay.explainers.base import WhiteBoxExplainer
from assay.perturbation import Delete, Mask
from assay.rows import Stack
from tests.benchmark.test_engine import Talk, ask, converse, read, some
from tests.tiny_models import CORPUS, tiny_model

OUT_OF_MEMORY = "CUDA out of memory."


class Late(Classifier):
    """Computes only when the answers are read, as a device does that works on its own."""

    def __init__(self, room: int = 10**9) -> None:
        super().__init__(*tiny_model("bert"))
        self.room = room
        self.events: list[tuple[str, int]] = []
        self.begun: list[Stack] = []

    def begin(self, rows: Stack, dtype: Any = None) -> Callable[[], NDArray[np.float32]]:
        number = len(self.begun)
        self.begun.append(rows)
        self.events.append(("begin", number))

        def read() -> NDArray[np.float32]:
            self.events.append(("read", number))
            if rows.ids.size > self.room:
                raise torch.OutOfMemoryError(OUT_OF_MEMORY)
            return super(Late, self).begin(rows, dtype)()

        return read


def turns(text: Encoding, seed: int, count: int = 6) -> Talk:
    return ask(*(some(text.n, 2, 100 * seed + turn) for turn in range(count)))


def outcomes(model: Classifier, under_way: int, budget: int = 60) -> tuple[list[Outcome], Engine]:
    """One-shot and adaptive conversations about texts of several lengths."""
    engine = Engine(model, tokens_per_batch=budget, under_way=under_way)
    talks: list[Any] = []
    for seed, text in enumerate(read(model, *CORPUS[:4])):
        for hiding in (Mask(), Delete()):
            talks += [(ask(some(text.n, 12, seed)), text, hiding), (turns(text, seed), text, hiding)]
    return converse(engine, *talks), engine


@pytest.mark.parametrize("under_way", [2, 3])
def test_what_is_read_late_is_the_same(under_way: int) -> None:
    model = Late()
    expected, one = outcomes(model, 1)
    assert [kind for kind, _ in model.events] == ["begin", "read"] * len(model.begun)
    model.events.clear()
    model.begun.clear()
    found, several = outcomes(model, under_way)
    for mine, other in zip(found, expected, strict=True):
        assert mine.error is None
        for heard, known in zip(mine.result, other.result, strict=True):
            np.testing.assert_allclose(heard, known, atol=1e-5)
        assert (mine.cost.forward_rows, mine.cost.forward_tokens) == (
            other.cost.forward_rows,
            other.cost.forward_tokens,
        )
    assert several.work.rows_answered == one.work.rows_answered
    unread = np.cumsum([1 if kind == "begin" else -1 for kind, _ in model.events])
    assert unread.max() == under_way
    assert [number for kind, number in model.events if kind == "read"] == list(range(len(model.begun)))


def test_the_next_batch_is_given_before_the_last_is_read() -> None:
    model = Late()
    (text,) = read(model, CORPUS[0])
    keep = some(text.n, 40)
    converse(Engine(model, tokens_per_batch=5 * len(text.row.ids), under_way=2), (ask(keep), text, Mask()))
    assert model.events[:5] == [("begin", 0), ("begin", 1), ("read", 0), ("begin", 2), ("read", 1)]


def test_rows_that_answers_may_add_to_are_not_given_in_small_batches() -> None:
    """Adaptive conversations about texts of one length make as many batches as they take turns, as without overlap."""
    model = Late()
    texts = read(model, *[CORPUS[0]] * 8)
    engine = Engine(model, under_way=2)
    converse(engine, *((turns(text, seed), text, Mask()) for seed, text in enumerate(texts)))
    assert len(model.begun) == 6


def test_an_adaptive_conversation_goes_on_while_others_fill_the_batches() -> None:
    model = Late()
    one, other = read(model, CORPUS[0], CORPUS[1])
    ends: list[str] = []
    engine = Engine(model, tokens_per_batch=4 * len(one.row.ids), under_way=2)
    engine.add(turns(one, 0, count=3), one, Mask(), lambda _: ends.append("adaptive"))
    for seed in range(30):
        engine.add(ask(some(one.n, 4, 50 + seed)), one, Mask(), lambda _: ends.append("one shot"))
        engine.add(ask(some(other.n, 4, 50 + seed)), other, Mask(), lambda _: ends.append("one shot"))
    engine.run()
    assert len(ends) == 61
    assert "adaptive" in ends


@pytest.mark.parametrize("under_way", [1, 2])
def test_memory_that_ends_late_halves_the_budget_and_loses_nothing(
    under_way: int, capsys: pytest.CaptureFixture[str]
) -> None:
    expected, _ = outcomes(Late(), 1, budget=200)
    found, engine = outcomes(Late(room=60), under_way, budget=200)
    # Batches that were under way when the first did not fit halve nothing twice.
    assert 25 <= engine.tokens_per_batch <= 60
    assert "going on with at most" in capsys.readouterr().out
    for mine, other in zip(found, expected, strict=True):
        for heard, known in zip(mine.result, other.result, strict=True):
            np.testing.assert_allclose(heard, known, atol=1e-5)


@pytest.mark.parametrize("under_way", [1, 2])
def test_one_row_without_room_is_said_so(under_way: int) -> None:
    with pytest.raises(AssayError, match="no room for a single row"):
        outcomes(Late(room=5), under_way)


def test_a_row_without_room_beside_another_waits_until_that_is_read() -> None:
    class Narrow(Late):
        """Has room for one row of the longest text, and for what is under way to hold its own meanwhile."""

        def begin(self, rows: Stack, dtype: Any = None) -> Callable[[], NDArray[np.float32]]:
            kinds = [kind for kind, _ in self.events]
            if kinds.count("begin") > kinds.count("read"):
                raise torch.OutOfMemoryError(OUT_OF_MEMORY)
            return super().begin(rows, dtype)

    expected, _ = outcomes(Late(), 1, budget=1)
    found, engine = outcomes(Narrow(), 2, budget=1)
    assert engine.tokens_per_batch == 1
    for mine, other in zip(found, expected, strict=True):
        for heard, known in zip(mine.result, other.result, strict=True):
            np.testing.assert_allclose(heard, known, atol=1e-5)


def test_another_error_is_not_taken_for_it() -> None:
    class Broken(Late):
        def begin(self, rows: Stack, dtype: Any = None) -> Callable[[], NDArray[np.float32]]:
            def read() -> NDArray[np.float32]:
                raise RuntimeError("device-side assert")

            return read

    with pytest.raises(RuntimeError, match="device-side assert"):
        outcomes(Broken(), 2)


class Held:
    """Stands for a tensor of a batch: gone, or still held by someone."""


def failing(held: list[weakref.ref[Held]]) -> None:
    tensor = Held()
    held.append(weakref.ref(tensor))
    raise torch.OutOfMemoryError(OUT_OF_MEMORY)


def test_what_a_batch_held_is_let_go_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[Held]] = []

    class Small(Classifier):
        def begin(self, rows: Stack, dtype: Any = None) -> Callable[[], NDArray[np.float32]]:
            assert all(one() is None for one in held)
            if rows.ids.size > 60:
                failing(held)
            return super().begin(rows, dtype)

    outcomes(Small(*tiny_model("bert")), 2, budget=400)
    assert held


def test_what_a_look_inside_held_is_let_go_before_the_next() -> None:
    held: list[weakref.ref[Held]] = []

    class Greedy(WhiteBoxExplainer):
        signed = True

        def attribute(self, model: Any, batch: Any, target: Any) -> Any:
            assert all(one() is None for one in held)
            if batch.input_ids.numel() > 30:
                failing(held)
            return torch.zeros(batch.input_ids.shape)

    model = Classifier(*tiny_model("bert"))
    examples = [Example(str(place), (CORPUS[0],)) for place in range(6)]
    evaluation = Evaluation(
        model,
        examples,
        {"deletion": registry.build("metric", "deletion")},
        {"mask": registry.build("perturbation", "mask")},
        Settings(),
    )
    evaluation.add_explainer("greedy", Greedy())
    records = evaluation.run()["greedy"]
    assert held
    assert all(row["scores"] is not None for row in records.attributions)


def test_seconds_of_batches_that_overlap_are_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    model = Late()
    started = time.perf_counter()
    _, engine = outcomes(model, 3)
    assert engine.work.model_seconds <= time.perf_counter() - started


def test_many_open_rows_hold_conversations_back_and_change_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.benchmark import engine as module

    model = Late()
    expected, _ = outcomes(model, 2)
    most = 2_000
    monkeypatch.setattr(module, "_MOST_BYTES", most)
    engine = Engine(model, tokens_per_batch=60, under_way=2)
    begun: list[int] = []

    def counted(keep: Keep, number: int) -> Talk:
        begun.append(number)
        assert engine._waiting.memory + engine._bytes_asked <= most
        return (yield keep)

    text, *_ = read(model, CORPUS[0])
    ends: list[Outcome] = []
    for number in range(40):
        engine.add(counted(some(text.n, 6, number), number), text, Mask(), ends.append)
    assert 0 < len(begun) < 40
    engine.run()
    assert begun == list(range(40))
    assert len(ends) == 40
    found, _ = outcomes(model, 2)
    for mine, other in zip(found, expected, strict=True):
        for heard, known in zip(mine.result, other.result, strict=True):
            np.testing.assert_allclose(heard, known, atol=1e-5)
