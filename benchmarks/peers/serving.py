"""A peer's own process: loads the model once, and does and times the work that it is asked for, one line of JSON each.

It is imported in the environment of every peer, so it needs nothing but torch and transformers.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch

Request = dict[str, Any]
Works = Mapping[str, Callable[[Request], Any]]


class Count:
    """What a model has been given, counted where it is called.

    Attributes:
        rows: of all batches.
        tokens: of all rows, padding included.
        padding: how many of those tokens the attention mask hides.
    """

    def __init__(self, model: Any) -> None:
        """Count from now on."""
        self.rows = self.tokens = self.padding = 0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        inputs = named.get("input_ids") if named.get("input_ids") is not None else named.get("inputs_embeds")
        inputs = given[0] if inputs is None else inputs
        mask = named.get("attention_mask")
        self.rows += inputs.shape[0]
        self.tokens += inputs.shape[0] * inputs.shape[1]
        # A mask of [batch, tokens]; some tools broadcast one row's.
        if mask is not None:
            self.padding += int((mask == 0).sum()) * (inputs.shape[0] // mask.shape[0])

    @property
    def so_far(self) -> dict[str, int]:
        """The three counts."""
        return {"rows": self.rows, "tokens": self.tokens, "padding": self.padding}


def load(folder: str) -> tuple[Any, Any]:
    """The classifier in float32 and its tokenizer."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    # Transformers 4 calls it torch_dtype, and takes float32 where nothing is said; transformers 5 asks the folder.
    model = AutoModelForSequenceClassification.from_pretrained(folder).float().eval()
    return model, AutoTokenizer.from_pretrained(folder, clean_up_tokenization_spaces=False)


def serve(model: Any, works: Works) -> None:
    """Answer the requests on standard input until it ends.

    What libraries print goes to standard error, so that standard output holds nothing but answers.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.filterwarnings("ignore")
    count = Count(model)
    for line in sys.stdin:
        request = json.loads(line)
        before, wall, processor = count.so_far, time.perf_counter(), time.process_time()
        found = works[request["work"]](request)
        reply = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
        reply |= {name: value - before[name] for name, value in count.so_far.items()}
        answers.write(json.dumps({**reply, "threads": torch.get_num_threads(), "found": found}) + "\n")
        answers.flush()
