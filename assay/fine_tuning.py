"""One run of transformers' `Trainer` over a task, with masked words if wanted, leaving no trace outside its folder."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from assay.conversation import generator
from assay.errors import AssayError
from assay.example import word_spans
from assay.tasks import Task

WARM_UP = 0.1  # share of the steps in which the learning rate rises; after them it falls to 0, both linearly
WEIGHT_DECAY = 0.01


@contextlib.contextmanager
def untouched() -> Iterator[None]:
    """Give back Python's, numpy's and torch's random states, the environment and transformers' messages as they were."""
    environment = dict(os.environ)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    verbosity = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)
        os.environ.clear()
        os.environ.update(environment)


def fine_tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Task,
    held_out: Task,
    *,
    scratch: Path,
    epochs: float,
    learning_rate: float,
    batch_size: int,
    max_length: int,
    masking: float,
    seed: int,
    cpu: bool,
) -> float:
    """Train `model` in place and return its accuracy on `held_out`, from 0 to 1; the model is left in eval mode.

    Args:
        scratch: a folder for the trainer's own files.
        epochs: passes over the training examples.
        learning_rate: the highest of the schedule.
        batch_size: examples a step.
        max_length: longest input in tokens; longer ones are truncated as the tokenizer does it.
        masking: share of the training examples that get words hidden by the mask token, anew in every pass: each of their
            words with a chance that is itself drawn from 0 to 1. So masked inputs are not strange to the model and it
            answers them as far as what it sees allows (Madsen, Reddy & Chandar 2024).
        seed: of the order of the examples and of the masks.
        cpu: use the CPU even where there is another device.
    """
    if masking > 0 and (tokenizer.mask_token_id is None or not tokenizer.is_fast):
        raise AssayError(
            f"masking={masking} needs a fast tokenizer with a mask token, which this model has not. Use masking=0."
        )
    positions = getattr(model.config, "max_position_embeddings", None) or max_length
    longest = min(max_length, positions, tokenizer.model_max_length)
    rows = encode(tokenizer, train, longest)
    steps = -(-len(rows) // batch_size) * epochs
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(scratch),
            num_train_epochs=epochs,
            learning_rate=learning_rate,
            weight_decay=WEIGHT_DECAY,
            warmup_steps=int(WARM_UP * steps),
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=4 * batch_size,
            train_sampling_strategy="group_by_length",
            seed=seed,
            use_cpu=cpu,
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            save_strategy="no",
            eval_strategy="no",
            remove_unused_columns=False,
            dataloader_pin_memory=False,
        ),
        train_dataset=_Masked(rows, tokenizer.mask_token_id, masking, seed),
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    trainer.remove_callback(PrinterCallback)  # it prints the running time even with tqdm off
    trainer.train()
    # The order of the answers is the sampler's, so the labels are taken from the same place.
    answers = trainer.predict(_Masked(encode(tokenizer, held_out, longest), None, 0.0, seed))
    model.eval()
    return float(np.mean(np.argmax(answers.predictions, axis=1) == answers.label_ids))


def encode(tokenizer: PreTrainedTokenizerBase, task: Task, longest: int) -> list[dict[str, Any]]:
    """Each example as the model reads it, its label, and in `words` the word of each token, -1 for special tokens."""
    columns = list(zip(*(example.text for example in task), strict=True))
    encodings = tokenizer(
        *(list(column) for column in columns),
        truncation=True,
        max_length=longest,
        return_offsets_mapping=tokenizer.is_fast,
    )
    rows = []
    for index, example in enumerate(task):
        row = {name: encodings[name][index] for name in tokenizer.model_input_names if name in encodings}
        if tokenizer.is_fast:
            row["words"] = _words(example.text, encodings.sequence_ids(index), encodings["offset_mapping"][index])
        rows.append({**row, "label": example.label})
    return rows


def _words(texts: tuple[str, ...], sequences: list[int | None], offsets: list[tuple[int, int]]) -> NDArray[np.intp]:
    """The word that each token belongs to, counted through all texts, [tokens]; -1 for special tokens."""
    ends = [[end for _, end in word_spans(text)] for text in texts]
    words = np.full(len(sequences), -1)
    for token, (sequence, (_, end)) in enumerate(zip(sequences, offsets, strict=True)):
        if sequence is not None:
            before = len(ends[0]) if sequence == 1 else 0
            words[token] = before + np.searchsorted(ends[sequence], end)
    return words


class _Masked(torch.utils.data.Dataset[dict[str, Any]]):
    """Encoded rows; some words of some of them are hidden anew whenever they are read."""

    def __init__(self, rows: list[dict[str, Any]], mask: int | None, masking: float, seed: int) -> None:
        self.rows = rows
        self.mask = mask
        self.masking = masking
        self.rng = generator(seed, "masking")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = {name: value for name, value in self.rows[index].items() if name != "words"}
        if self.masking > 0 and self.rng.random() < self.masking:
            words = self.rows[index]["words"]
            hidden = self.rng.random(words.max(initial=0) + 1) < self.rng.random()
            row["input_ids"] = np.where((words >= 0) & hidden[words], self.mask, row["input_ids"]).tolist()
        return row
