"""The engine: runs thousands of conversations with one classifier at once.

It collects what all of them ask, drops what was asked before of the same example (by the token ids that the model would
see), packs rows of equal length into full batches, and hands each conversation its answers. Rows of equal length need
neither padding nor an attention mask, and an adaptive conversation still fills batches, because others are in flight
beside it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import Module

from assay.benchmark import calibration, questions
from assay.benchmark.answers import Answers, Numbers
from assay.benchmark.progress import say
from assay.benchmark.talk import Outcome, Talk
from assay.benchmark.waiting_rows import BatchKind, Block, Part, RowBatch, WaitingRows
from assay.benchmark.work import Work
from assay.classifier import Classifier
from assay.conversation import Answer, Conversation, Keep, Rough, Soften
from assay.device import is_out_of_memory
from assay.encoding import Encoding, Output
from assay.errors import AssayError, Undefined
from assay.model_loading import Dtype
from assay.model_state import ModelWritten
from assay.perturbation import Perturbation, soften
from assay.rows import Rows, Stack

# Batches that a device is given before the first of them is read: it computes one while the next is prepared.
CUDA_BATCHES_UNDER_WAY = 2

# Questions about one example are planned together, up to so many rows and the last one's.
_ROWS_PLANNED_TOGETHER = 512

# Rows that wait, and masks that have been asked, hold at most about so much memory before more is begun; one question
# can be larger. The rows of a shard of sentences never are.
_MOST_BYTES = 2**27


@dataclass(eq=False)
class _Flight:
    """A batch that the model has been given, whose answers are still to be read."""

    batch: RowBatch[Talk]
    read: Callable[[], NDArray[np.float32]]
    started: float


class Engine:
    """Runs conversations with one classifier.

    Answers are kept for as long as the engine lives, so use one engine for a shard of examples and then drop it.

    Attributes:
        work: what it has done so far.
    """

    def __init__(
        self,
        model: Classifier,
        output: Output = "probability",
        tokens_per_batch: int | None = None,
        dtype: Dtype | None = None,
        under_way: int | None = None,
        answers: Answers | None = None,
    ) -> None:
        """Set up an engine without any conversation.

        Args:
            model: the classifier that answers.
            output: what the conversations receive: probabilities, logits or log-probabilities.
            tokens_per_batch: the most tokens in a batch; by default found once for each device and model
                (`assay.benchmark.calibration`).
            dtype: the precision of the arithmetic; by default the classifier's.
            under_way: how many batches the model is given before the first of them is read; by default 2 on CUDA,
                which computes while the next is prepared, and 1 elsewhere.
            answers: what is known already, and where what is found out goes; by default nothing.
        """
        if tokens_per_batch is None:
            tokens_per_batch = calibration.tokens_per_batch(model, dtype)
        if tokens_per_batch < 1:
            raise AssayError(f"tokens_per_batch must be at least 1, not {tokens_per_batch}.")
        self.model = model
        self.output: Output = output
        self.tokens_per_batch = tokens_per_batch
        self.dtype = dtype
        self.work = Work()
        self._most_under_way = under_way or (CUDA_BATCHES_UNDER_WAY if model.device.type == "cuda" else 1)
        self._answers = Answers(len(model.labels), output) if answers is None else answers
        self._held_back: deque[Talk] = deque()
        self._asking: dict[tuple[int, int, Dtype | None], deque[Talk]] = {}
        self._bytes_asked = 0
        self._waiting = WaitingRows[Talk]()
        self._blocks: dict[int, Block[Talk]] = {}
        self._last_block = 0
        self._last_read = 0.0
        self._modules: dict[str, Module] = {}

    def add(
        self,
        conversation: Conversation[Any],
        encoding: Encoding,
        perturbation: Perturbation,
        finish: Callable[[Outcome], None],
        foil: int | None = None,
    ) -> None:
        """Start a conversation about one example, at once or as soon as there is room for what it asks.

        Args:
            conversation: the generator; it must not have been started.
            encoding: the example.
            perturbation: how hidden features leave the input.
            finish: called with the outcome; it may add further conversations.
            foil: a class whose output is taken off that of every class, so that the conversation is about the target
                rather than the foil.
        """
        talk = Talk(conversation, encoding, perturbation, finish, foil)
        if self._held_back or self._is_full:
            self._held_back.append(talk)
        else:
            self._resume(talk, None)

    def remember(self, encoding: Encoding, perturbation: Perturbation, keep: Keep, logits: NDArray[np.float32]) -> None:
        """Take in what the model has answered before, so that it is not asked again.

        Args:
            encoding: the example.
            perturbation: how hidden features left the input; of a single draw.
            keep: [queries, n].
            logits: [queries, classes].
        """
        rows = Rows.of(perturbation.rows(encoding, keep, perturbation.hidden_id(self.model)))
        for places, stack in rows.parts:
            numbers, _ = self._answers.number(encoding.id, stack, self.dtype)
            self._answers.take(numbers, logits[places], seconds=0.0)
            self._answers.store(numbers)

    def run(self) -> None:
        """Ask and answer until every conversation has ended.

        Raises:
            ModelWritten: a conversation has switched a module to train mode.
        """
        under_way: deque[_Flight] = deque()
        with self.model.at_work():
            self._modules = dict(self.model.model.named_modules())
            while True:
                self._plan()
                while self._held_back and not self._is_full:
                    self._resume(self._held_back.popleft(), None)
                    self._plan()
                kind = self._waiting.fullest(self.tokens_per_batch, [flight.batch.kind for flight in under_way])
                if kind is not None:
                    self._launch(kind, under_way)
                if under_way and (kind is None or len(under_way) >= self._most_under_way):
                    self._land(under_way.popleft())
                elif kind is None:
                    return

    def _launch(self, kind: BatchKind, under_way: deque[_Flight]) -> None:
        """Give the model its next batch."""
        # Dropout would make every answer wrong, and at the end of the work the mode is put back.
        if any(module.training for module in self._modules.values()):
            switched = next(name for name, module in self._modules.items() if module.training)
            raise ModelWritten(f"the mode of {switched or 'the model'}")
        batch = self._waiting.batch(kind, self.tokens_per_batch)
        started = time.perf_counter()
        try:
            under_way.append(_Flight(batch, self.model.begin(batch.stack, batch.kind[1]), started))
            return
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        self._waiting.put_back(batch)
        # What is under way holds memory too: a single row is tried again when that has been read.
        tried_again = len(batch) == 1 and len(under_way) > 0
        while under_way:
            self._land(under_way.popleft())
        if tried_again:
            self._most_under_way = 1
        else:
            self.halve_budget(batch.tokens, one_row=len(batch) == 1)

    def _land(self, flight: _Flight) -> None:
        """Read the answers to a batch and hand them to who waits for them."""
        batch = flight.batch
        try:
            logits = flight.read()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            logits = None
        if logits is None:
            self._waiting.put_back(batch)
            self.halve_budget(batch.tokens, one_row=len(batch) == 1)
            return
        # Of batches that overlap, each is charged from when the one before it was read.
        now = time.perf_counter()
        elapsed, self._last_read = now - max(flight.started, self._last_read), now
        self.work.add(Work(rows_answered=len(batch), tokens=batch.tokens, batches=1, model_seconds=elapsed))
        self._answers.take(batch.numbers, logits, elapsed / len(batch))
        for block in batch.finished():
            del self._blocks[block.number]
            for talk in block.waiting:
                talk.unanswered -= 1
                if not talk.unanswered:
                    self._resume(talk, talk.heard(self._answers))

    def halve_budget(self, tokens: int, one_row: bool) -> None:
        """Go on with smaller batches after one of `tokens` tokens did not fit into memory.

        Raises:
            AssayError: it was a single row, so that no smaller batch can be made.
        """
        if one_row:
            raise AssayError(
                f"Out of memory: {self.model.device} has no room for a single row of {tokens} tokens. "
                "Choose a smaller model, another device or shorter texts."
            )
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        self.tokens_per_batch = max(1, min(self.tokens_per_batch, tokens // 2))
        say(f"Out of memory with {tokens} tokens in a batch; going on with at most {self.tokens_per_batch}.")

    def _resume(self, talk: Talk, answer: Answer | None) -> None:
        """Let a conversation go on to its next question or its end, with the answer to the last, if it asked one."""
        started = time.perf_counter()
        try:
            asked = next(talk.conversation) if answer is None else talk.conversation.send(answer)
        except StopIteration as end:
            talk.seconds += time.perf_counter() - started
            talk.end(self._answers, end.value, None)
            return
        except AssayError:
            raise
        except Exception as error:
            talk.seconds += time.perf_counter() - started
            talk.end(self._answers, None, error)
            return
        talk.seconds += time.perf_counter() - started
        try:
            talk.asked = questions.checked(asked, talk.encoding)
        except ValueError as error:
            self._fail(talk, error)
            return
        dtype = talk.asked.dtype if isinstance(talk.asked, Rough) else self.dtype
        self._asking.setdefault((id(talk.encoding), id(talk.perturbation), dtype), deque()).append(talk)
        self._bytes_asked += questions.memory(talk.asked)

    @property
    def _is_full(self) -> bool:
        """Whether what is open takes so much memory that nothing more should be begun."""
        return self._waiting.memory + self._bytes_asked > _MOST_BYTES

    def _plan(self) -> None:
        """Find the rows of what has been asked; conversations whose answers are known already go on at once."""
        while self._asking and self._waiting.memory <= _MOST_BYTES:
            key = next(iter(self._asking))
            talks = self._asking[key]
            together, rows = [talks.popleft()], 0
            if together[0].can_join:
                rows = len(questions.masks(together[0].asked))
                while talks and rows < _ROWS_PLANNED_TOGETHER and talks[0].can_join:
                    together.append(talks.popleft())
                    rows += len(questions.masks(together[-1].asked))
            if not talks:
                del self._asking[key]
            self._bytes_asked -= sum(questions.memory(talk.asked) for talk in together)
            self._plan_together(together, key[2])

    def _plan_together(self, talks: list[Talk], dtype: Dtype | None) -> None:
        """Find the rows of questions about one example under one perturbation, and who has to wait for them."""
        started = time.perf_counter()
        try:
            rows, of_talk = self._rows(talks)
            unreadable = _unreadable(rows)
            if len(unreadable):
                raise Undefined(
                    f"nothing is left to read: {self.model.name} puts no special tokens around a text, "
                    "and every feature of this one is gone"
                )
        except (ValueError, Undefined) as error:
            # One question must not take the others down with it.
            if len(talks) == 1:
                self._fail(talks[0], error)
            else:
                for talk in talks:
                    self._plan_together([talk], dtype)
            return
        self.work.rows_asked += len(rows)
        numbers = np.empty(len(rows), dtype=np.intp)
        for places, stack in rows.parts:
            numbers[places], fresh = self._answers.number(talks[0].encoding.id, stack, dtype)
            if len(fresh):
                self._wait(stack if len(fresh) == len(stack) else stack[fresh], int(numbers[places[fresh[0]]]), dtype)
        self.work.rows_known += self._answers.meet(numbers)
        self._let_wait(talks, of_talk, numbers)
        seconds = (time.perf_counter() - started) / len(talks)
        for talk, own in zip(talks, np.split(numbers, np.cumsum(of_talk)[:-1]), strict=True):
            assert talk.asked is not None
            talk.history.append((talk.asked, own))
            talk.seconds += seconds
        for talk in talks:
            if not talk.unanswered:
                self._resume(talk, talk.heard(self._answers))

    def _rows(self, talks: list[Talk]) -> tuple[Rows, list[int]]:
        """The rows that some questions ask for, and how many are each one's."""
        first = talks[0]
        if isinstance(first.asked, Soften):
            rows = soften(first.encoding, first.asked, self.model.embedding_width)
            return rows, [len(rows)]
        keeps = [questions.masks(talk.asked) for talk in talks]
        keep = keeps[0] if len(keeps) == 1 else np.concatenate(keeps)
        hidden_id = first.perturbation.hidden_id(self.model)
        rows = Rows.of(first.perturbation.rows(first.encoding, keep, hidden_id))
        return rows, [len(one) * first.perturbation.draws for one in keeps]

    def _wait(self, stack: Stack, first: int, dtype: Dtype | None) -> None:
        """Put new rows, numbered from `first` on, where they wait to be answered."""
        self._last_block += 1
        block = self._blocks[self._last_block] = Block(self._last_block, len(stack))
        self._answers.block[first : first + len(stack)] = self._last_block
        self._waiting.add(Part(block, stack, first), dtype)

    def _let_wait(self, talks: list[Talk], of_talk: list[int], numbers: Numbers) -> None:
        """Have conversations wait for the blocks that the rows are in which they asked for.

        Args:
            talks: the conversations.
            of_talk: how many rows are each one's.
            numbers: of all these rows, in order.
        """
        blocks = self._answers.block[numbers]
        (unanswered,) = np.nonzero(blocks)
        if not len(unanswered):
            return
        asker = np.repeat(np.arange(len(talks)), of_talk)[unanswered]
        beyond = self._last_block + 1
        for pair in np.unique(asker * beyond + blocks[unanswered]).tolist():
            place, block = divmod(pair, beyond)
            talks[place].unanswered += 1
            self._blocks[block].waiting.append(talks[place])

    def _fail(self, talk: Talk, error: Exception) -> None:
        """End a conversation that asked what cannot be answered."""
        with suppress(Exception):  # what it raises while it ends adds nothing
            talk.conversation.close()
        talk.end(self._answers, None, error)


def _unreadable(rows: Rows) -> NDArray[np.intp]:
    """The places of rows in which nothing is left to read."""
    return np.concatenate([np.empty(0, dtype=np.intp), *(places[~stack.readable] for places, stack in rows.parts)])
