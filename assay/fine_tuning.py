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
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from assay.errors import AssayError
from assay.tasks import Task
from assay.training_data import BatchesByLength, Rows, encode

WARM_UP = 0.1  # share of the steps in which the learning rate rises; after them it falls to 0, both linearly
WEIGHT_DECAY = 0.01


@contextlib.contextmanager
def untouched() -> Iterator[None]:
    """Give back what the trainer changes: random states, the environment, and how much transformers says."""
    environment = dict(os.environ)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
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
    short_first: bool,
    seed: int,
    cpu: bool,
) -> float:
    """Train `model` in place and return its accuracy on `held_out`, from 0 to 1; the model is left in eval mode.

    Args:
        model: the classifier.
        tokenizer: its tokenizer.
        train: what it learns from.
        held_out: what its accuracy is measured on.
        scratch: a folder for the trainer's own files.
        epochs: passes over the training examples.
        learning_rate: the highest of the schedule.
        batch_size: examples a step.
        max_length: longest input in tokens; longer ones are truncated as the tokenizer does it.
        masking: share of the training examples that get words hidden by the mask token in the second half of the steps:
            each of their words with a chance that is itself drawn from 0 to 1, anew in every pass. So masked inputs
            are not strange to the model, and it answers them as far as what it sees allows (Madsen, Reddy & Chandar
            2024). In the first half no word is hidden.
        short_first: whether the first pass goes twice over the shorter half of the examples instead of once over all
            (a curriculum: Bengio et al. 2009). A rule is found sooner where fewer other words surround it.
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
    steps = int(-(-len(rows) // batch_size) * epochs)
    examples = Rows(rows, tokenizer.mask_token_id, seed)
    trainer = _Trainer(
        BatchesByLength([len(row["input_ids"]) for row in rows], batch_size, short_first, seed),
        model=model,
        args=TrainingArguments(
            output_dir=str(scratch),
            num_train_epochs=epochs,
            learning_rate=learning_rate,
            weight_decay=WEIGHT_DECAY,
            warmup_steps=int(WARM_UP * steps),
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=4 * batch_size,
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
        train_dataset=examples,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[_MaskLater(examples, masking, steps // 2)],
    )
    trainer.remove_callback(PrinterCallback)  # it prints the running time even with tqdm off
    trainer.train()
    answers = trainer.predict(Rows(encode(tokenizer, held_out, longest), None, seed))
    model.eval()
    return float(np.mean(np.argmax(answers.predictions, axis=1) == answers.label_ids))


class _Trainer(Trainer):  # type: ignore[misc]
    """A trainer whose batches are `batches`."""

    def __init__(self, batches: BatchesByLength, **arguments: Any) -> None:
        self.batches = batches
        super().__init__(**arguments)

    def get_train_dataloader(self) -> torch.utils.data.DataLoader[Any]:
        return torch.utils.data.DataLoader(
            self.train_dataset, batch_sampler=self.batches, collate_fn=self.data_collator
        )


class _MaskLater(TrainerCallback):  # type: ignore[misc]
    """Begin to hide words after some steps."""

    def __init__(self, examples: Rows, masking: float, first_step: int) -> None:
        self.examples = examples
        self.masking = masking
        self.first_step = first_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= self.first_step:
            self.examples.masking = self.masking
