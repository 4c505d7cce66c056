"""Explainers that do what no explainer should; a run names them by their path, so that a child process finds them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from assay.classifier import Classifier
from assay.conversation import Case, Conversation, Soften, Vector
from assay.encoding import Batch
from assay.explainers.base import BlackBoxExplainer, WhiteBoxExplainer


class Misbehaving(BlackBoxExplainer):
    """Scores by position; where a text holds the word `trigger`, it first does what its subclass does."""

    def __init__(self, trigger: str = "dull") -> None:
        self.trigger = trigger

    def converse(self, case: Case) -> Conversation[Vector]:
        yield np.ones((1, len(case.features)), dtype=np.bool_)
        if self.trigger in [feature.text for feature in case.features]:
            self.misbehave()
        return np.arange(len(case.features), dtype=np.float64)

    def misbehave(self) -> None:
        raise NotImplementedError


class Segfault(Misbehaving):
    def misbehave(self) -> None:
        ctypes.string_at(0)


class Leaves(Misbehaving):
    def misbehave(self) -> None:
        os._exit(3)


class Killed(Misbehaving):
    def misbehave(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class EndsTheProgram(Misbehaving):
    def misbehave(self) -> None:
        sys.exit("enough")


class Hangs(Misbehaving):
    def misbehave(self) -> None:
        time.sleep(1000)


class HangsInForeignCode(Misbehaving):
    """Holds the interpreter's lock, so that no other thread of it gets a turn."""

    def misbehave(self) -> None:
        ctypes.PyDLL(None).sleep(1000)


class OutOfMemory(Misbehaving):
    def misbehave(self) -> None:
        raise MemoryError("no room for 8 TiB")


class Leaks(Misbehaving):
    """Keeps 64 MiB of each text."""

    kept: ClassVar[list[Any]] = []

    def converse(self, case: Case) -> Conversation[Vector]:
        self.kept.append(np.ones(8 * 2**20))
        return (yield from super().converse(case))

    def misbehave(self) -> None:
        pass


class Writes(WhiteBoxExplainer):
    """Writes to the model in one way whenever it is asked, and scores by position."""

    def __init__(self, way: str = "weights") -> None:
        super().__init__()
        self.way = way

    def attribute(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        write(model.model, self.way)
        return torch.arange(batch.input_ids.shape[1]).expand(batch.input_ids.shape).float()


class WritesUnasked(Misbehaving):
    """Keeps the model that it is shown while it prepares, and writes to it while others are at work."""

    def __init__(self, way: str = "weights", trigger: str = "dull") -> None:
        super().__init__(trigger)
        self.way = way

    def prepare(self, model: Classifier, background: Any) -> None:
        self.network = model.model

    def misbehave(self) -> None:
        write(self.network, self.way)


class SwitchesDropoutOn(WritesUnasked):
    """Asks what nobody has asked after it has, in the same work, at whose end the mode is put back."""

    def converse(self, case: Case) -> Conversation[Vector]:
        scores = yield from super().converse(case)
        yield Soften(np.full((1, len(case.features)), 0.5))
        return scores


class WritesWhilePreparing(Misbehaving):
    def prepare(self, model: Classifier, background: Any) -> None:
        write(model.model, "weights")


def write(network: Any, way: str) -> None:
    """Change a model in one way."""
    weight = network.classifier.weight
    with torch.no_grad():
        if way == "weights":
            weight.add_(1.0)
        elif way == "one_bit":
            weight.view(torch.int32)[0, 0] += 1
        elif way == "swap":
            weight[0], weight[1] = weight[1].clone(), weight[0].clone()
        elif way == "signs":
            weight[0, 1::2] *= -1
        elif way == "data":
            weight.data = torch.zeros_like(weight)
        elif way == "half":
            network.half().float()
        elif way == "buffer":
            network.bert.embeddings.position_ids.add_(1)
    if way == "hook":
        network.classifier.register_forward_hook(lambda module, given, found: found * 0)
    elif way == "mode":
        network.bert.train()
    elif way == "dropout":
        network.dropout.train()
    elif way == "requires_grad":
        network.classifier.weight.requires_grad_(not network.classifier.weight.requires_grad)
    elif way == "config":
        network.config.output_hidden_states = True
    elif way == "forward":
        network.classifier.forward = lambda given: torch.zeros(len(given), 2)
    elif way == "layer":
        network.classifier = torch.nn.Linear(network.classifier.in_features, 2)
    elif way == "weight_of_another":
        network.classifier.weight = torch.nn.Parameter(torch.zeros_like(weight))
