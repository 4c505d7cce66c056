"""The engine: runs thousands of conversations with one classifier at once.

It collects what all of them ask, drops what was asked before of the same example (by the token ids that the model would
see), packs rows of equal length into full batches, and hands each conversation its answers. Rows of equal length need
neither padding nor an attention mask, and an adaptive conversation still fills batches, because others are in flight
beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay.benchmark.progress import say
from assay.benchmark.work import Work
from assay.classifier import Classifier, Dtype, is_out_of_memory, transform
from assay.conversation import Answer, Conversation, Cost, Keep, Question, Rough, Soften
from assay.encoding import Encoding, Output, Row
from assay.errors import AssayError, Undefined
from assay.perturbation import Perturbation, soften

CPU_TOKENS_PER_BATCH = 4096
ACCELERATOR_TOKENS_PER_BATCH = 65536


# What a batch holds alike: the length and kind of its rows (`Row.kind`), and the precision of the arithmetic.
_Kind = tuple[tuple[int, bool, int], Dtype | None]


@dataclass(eq=False, slots=True, weakref_slot=True)
class _Question:
    """One distinct row of one example: asked once, answered to everyone who wants it.

    There are hundreds of thousands of them in a shard, so a row is let go as soon as it is answered.
    """

    row: Row | None
    tokens: int
    dtype: Dtype | None
    waiting: list[_Talk] = field(default_factory=list)
    logits: NDArray[np.float32] | None = None
    seconds: float = 0.0


@dataclass(eq=False)
class _Talk:
    """A conversation under way."""

    conversation: Conversation[Any]
    encoding: Encoding
    perturbation: Perturbation
    finish: Callable[[Outcome], None]
    foil: int | None = None
    history: list[tuple[Question, list[_Question]]] = field(default_factory=list)
    unanswered: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How a conversation ended.

    Attributes:
        result: what it returned; None if it raised.
        error: what it raised.
        keep: [queries, n], the keep-masks that it asked, in order.
        logits: [queries, classes], the model's answers to them.
        cost: the distinct rows and tokens that it would have cost on its own; seconds are its share of the batches that
            its rows were in, and its own computing.
    """

    result: Any
    error: Exception | None
    keep: Keep
    logits: NDArray[np.float32]
    cost: Cost


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
    ) -> None:
        """Set up an engine without any conversation.

        Args:
            model: the classifier that answers.
            output: what the conversations receive: probabilities, logits or log-probabilities.
            tokens_per_batch: the most tokens in a batch; by default chosen by the device.
            dtype: the precision of the arithmetic; by default the classifier's.
        """
        if tokens_per_batch is None:
            on_cpu = model.device.type == "cpu"
            tokens_per_batch = CPU_TOKENS_PER_BATCH if on_cpu else ACCELERATOR_TOKENS_PER_BATCH
        if tokens_per_batch < 1:
            raise AssayError(f"tokens_per_batch must be at least 1, not {tokens_per_batch}.")
        self.model = model
        self.output: Output = output
        self.tokens_per_batch = tokens_per_batch
        self.dtype = dtype
        self.work = Work()
        # Which answers a conversation gets must not hang on what others ask, so each precision has its own.
        self._questions: dict[tuple[str, bytes, Dtype | None], _Question] = {}
        self._open: dict[_Kind, list[_Question]] = {}

    def add(
        self,
        conversation: Conversation[Any],
        encoding: Encoding,
        perturbation: Perturbation,
        finish: Callable[[Outcome], None],
        foil: int | None = None,
    ) -> None:
        """Start a conversation about one example.

        Args:
            conversation: the generator; it must not have been started.
            encoding: the example.
            perturbation: how hidden features leave the input.
            finish: called with the outcome; it may add further conversations.
            foil: a class whose output is taken off that of every class, so that the conversation is about the target
                rather than the foil.
        """
        self._resume(_Talk(conversation, encoding, perturbation, finish, foil), None)

    def remember(self, encoding: Encoding, perturbation: Perturbation, keep: Keep, logits: NDArray[np.float32]) -> None:
        """Take in what the model has answered before, so that it is not asked again.

        Args:
            encoding: the example.
            perturbation: how hidden features left the input; of a single draw.
            keep: [queries, n].
            logits: [queries, classes].
        """
        for row, answer in zip(
            perturbation.rows(encoding, keep, perturbation.hidden_id(self.model)), logits, strict=True
        ):
            self._questions[encoding.id, row.key, self.dtype] = _Question(None, len(row.ids), self.dtype, logits=answer)

    def run(self) -> None:
        """Ask and answer until every conversation has ended."""
        with self.model.at_work():
            while self._open:
                fullest = max(self._open, key=lambda kind: kind[0][0] * len(self._open[kind]))
                self._answer_batch(fullest)

    def _answer_batch(self, kind: _Kind) -> None:
        bucket, ((length, _, _), dtype) = self._open[kind], kind
        size = max(1, self.tokens_per_batch // length)
        batch, rest = bucket[:size], bucket[size:]
        if rest:
            self._open[kind] = rest
        else:
            del self._open[kind]
        started = time.perf_counter()
        try:
            logits = self.model.answer([question.row for question in batch if question.row is not None], dtype)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self._open[kind] = bucket
            self.halve_budget(len(batch) * length, one_row=len(batch) == 1)
            return
        elapsed = time.perf_counter() - started
        seconds = elapsed / len(batch)
        self.work.add(Work(rows_answered=len(batch), tokens=len(batch) * length, batches=1, model_seconds=elapsed))
        ready: list[_Talk] = []
        for question, answer in zip(batch, logits, strict=True):
            question.logits = answer
            question.row = None
            question.seconds = seconds
            for talk in question.waiting:
                talk.unanswered -= 1
                if talk.unanswered == 0:
                    ready.append(talk)
            question.waiting.clear()
        for talk in ready:
            self._resume(talk, self._answer_of(talk))

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
        self.tokens_per_batch = max(1, tokens // 2)
        say(f"Out of memory with {tokens} tokens in a batch; going on with at most {self.tokens_per_batch}.")

    def _resume(self, talk: _Talk, answer: Answer | None) -> None:
        """Hand a conversation its answer, if it waits for one, and let it go on until it has to wait for the next."""
        while True:
            started = time.perf_counter()
            try:
                keep = next(talk.conversation) if answer is None else talk.conversation.send(answer)
            except StopIteration as end:
                talk.seconds += time.perf_counter() - started
                talk.finish(_outcome(talk, end.value, None, len(self.model.labels), self.output))
                return
            except AssayError:
                raise
            except Exception as error:
                talk.seconds += time.perf_counter() - started
                talk.finish(_outcome(talk, None, error, len(self.model.labels), self.output))
                return
            talk.seconds += time.perf_counter() - started
            try:
                self._ask(talk, _checked(keep, talk.encoding))
            except (ValueError, Undefined) as error:
                _close(talk.conversation)
                talk.finish(_outcome(talk, None, error, len(self.model.labels), self.output))
                return
            if talk.unanswered:
                return
            answer = self._answer_of(talk)

    def _ask(self, talk: _Talk, asked: Question) -> None:
        questions: list[_Question] = []
        dtype = asked.dtype if isinstance(asked, Rough) else self.dtype
        started = time.perf_counter()
        if isinstance(asked, Soften):
            rows = soften(talk.encoding, asked, self.model.embedding_width)
        else:
            keep = asked.keep if isinstance(asked, Rough) else asked
            rows = talk.perturbation.rows(talk.encoding, keep, talk.perturbation.hidden_id(self.model))
        self.work.rows_asked += len(rows)
        talk.seconds += time.perf_counter() - started
        if any(len(row.ids) == 0 or (row.attended is not None and not row.attended.any()) for row in rows):
            raise Undefined(
                f"nothing is left to read: {self.model.name} puts no special tokens around a text, "
                "and every feature of this one is gone"
            )
        for row in rows:
            key = (talk.encoding.id, row.key, dtype)
            question = self._questions.get(key)
            if question is None:
                question = self._questions[key] = _Question(row, len(row.ids), dtype)
                self._open.setdefault((row.kind, dtype), []).append(question)
            if question.logits is None:
                question.waiting.append(talk)
                talk.unanswered += 1
            questions.append(question)
        talk.history.append((asked, questions))

    def _answer_of(self, talk: _Talk) -> Answer:
        asked, questions = talk.history[-1]
        draws = asked.draws if isinstance(asked, Soften) else talk.perturbation.draws
        logits = _logits(questions, len(self.model.labels), draws, self.output)
        outputs = transform(torch.from_numpy(logits).double(), self.output)
        if talk.foil is not None:
            outputs = outputs - outputs[:, [talk.foil]]
        answers: Answer = outputs.float().numpy()
        return answers


def _checked(keep: Any, encoding: Encoding) -> Question:
    """A private copy of what was asked.

    Raises:
        ValueError: it is no question.
    """
    if isinstance(keep, Soften):
        retention = np.array(keep.retention, dtype=np.float64)
        if retention.ndim != 2 or retention.shape[1] != encoding.n or not np.all((retention >= 0) & (retention <= 1)):
            raise ValueError(
                f"asked with retentions of shape {retention.shape}; they are chances from 0 to 1 of shape "
                f"[queries, {encoding.n}]"
            )
        return Soften(retention, keep.draws, keep.seed)
    if isinstance(keep, Rough):
        return Rough(_checked_mask(keep.keep, encoding), keep.dtype)
    return _checked_mask(keep, encoding)


def _checked_mask(keep: Any, encoding: Encoding) -> Keep:
    try:
        keep = np.asarray(keep).copy()
    except Exception as error:
        raise ValueError(f"asked with something that is no array: {type(error).__name__}: {error}") from error
    if keep.dtype != np.bool_ or keep.ndim != 2 or keep.shape[1] != encoding.n:
        raise ValueError(
            f"asked with an array of {keep.dtype} and shape {keep.shape}; "
            f"a keep-mask is boolean with shape [queries, {encoding.n}]"
        )
    mask: Keep = keep
    return mask


def _close(conversation: Conversation[Any]) -> None:
    """End a conversation that has failed; what it raises while it ends adds nothing."""
    with suppress(Exception):
        conversation.close()


def _logits(questions: list[_Question], classes: int, draws: int, output: Output) -> NDArray[np.float32]:
    """Logits for each keep-mask, [queries, classes]; over several draws, those of the mean output."""
    if not questions:
        return np.empty((0, classes), dtype=np.float32)
    logits = np.stack([question.logits for question in questions if question.logits is not None])
    if draws == 1:
        return logits
    drawn = logits.reshape(-1, draws, classes)
    mean: NDArray[np.float32] = drawn.mean(axis=1)
    if output != "logit":
        mean = torch.from_numpy(drawn).double().softmax(-1).mean(1).log().float().numpy()
    return mean


def _outcome(talk: _Talk, result: Any, error: Exception | None, classes: int, output: Output) -> Outcome:
    answered = [(what, qs) for what, qs in talk.history if all(question.logits is not None for question in qs)]
    masks = [(what, questions) for what, questions in answered if not isinstance(what, Soften | Rough)]
    asked = [question for _, questions in answered for question in questions]
    distinct = {id(question): question for question in asked}.values()
    cost = Cost(
        forward_rows=len(distinct),
        forward_tokens=sum(question.tokens for question in distinct),
        seconds=talk.seconds + sum(question.seconds for question in distinct),
    )
    keeps = [keep for keep, _ in masks] or [np.empty((0, talk.encoding.n), dtype=np.bool_)]
    under_masks = [question for _, questions in masks for question in questions]
    logits = _logits(under_masks, classes, talk.perturbation.draws, output)
    return Outcome(result, error, np.concatenate(keeps), logits, cost)
