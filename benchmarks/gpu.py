"""How near the engine comes to an accelerator's limit, and how far a loop over examples stays behind.

A BERT of the size of BERT-base with random weights, in bfloat16, on texts as long as those of SST-2. The same rows are
answered by
  engine    Assay's engine: planning, telling rows apart, batching, moving and handing out answers, all of it;
  limit     nothing but forward passes over the same distinct rows, in full batches of one length that are built and on
            the device before the clock starts;
  compiled  the same under torch.compile, with --compile (its compilation is not timed);
  ferret    a loop in ferret's manner: batches of 8, each row decoded to a text, tokenised again, padded and masked.
The goals are an engine at 85 % of the limit or more, and 50 times the loop.

Run it with: python benchmarks/gpu.py [--device cuda] [--examples N] [--compile]
Without an accelerator, `--quick` sees on a CPU that it works; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from measuring import machine

from assay.base_models import TinyBert
from assay.benchmark import calibration
from assay.benchmark.engine import Engine
from assay.benchmark.talk import Outcome
from assay.classifier import Classifier
from assay.conversation import Conversation, generator
from assay.encoding import Encoding
from assay.example import Example
from assay.model_loading import find_device
from assay.perturbation import Mask
from assay.rows import Rows, Stack
from assay.tasks.base import Task

# Examples, and the masks that are asked for each.
Asked = Sequence[tuple[Encoding, Sequence[Any]]]

QUESTIONS = 12  # of an example
ROWS = 24  # of a question


def main() -> None:
    arguments = parse()
    device = torch.device(find_device(arguments.device))
    texts = sentences(arguments.examples)
    size = {"layers": 2, "width": 64, "heads": 2, "intermediate": 128}
    if not arguments.quick:
        size = {"layers": 12, "width": 768, "heads": 12, "intermediate": 3072}
    torch.manual_seed(0)
    network, tokenizer = TinyBert(**size, spread=0.05).create(Task("made_up", ("no", "yes"), "train", tuple(texts)))
    model = Classifier(network.eval().to(device), tokenizer, dtype="float32" if arguments.quick else "bfloat16")
    asked = [(encoding, questions(encoding)) for encoding in map(model.encode, texts)]
    budget = calibration.tokens_per_batch(model)
    print(machine(), f"on {torch.cuda.get_device_name(device) if device.type == 'cuda' else device.type}")
    print(f"{len(texts)} texts, {QUESTIONS} questions of {ROWS} rows each; batches of {budget:,} tokens")
    batches = full_batches(model, asked, budget)
    rows = sum(len(batch["input_ids"]) for batch in batches)
    waiting = [0.0]
    works: dict[str, Callable[[], int]] = {
        "engine": lambda: run_engine(model, asked, waiting),
        "limit": lambda: run_limit(model, model.model, batches),
    }
    if arguments.compile:
        compiled = torch.compile(model.model, dynamic=True)
        works["compiled"] = lambda: run_limit(model, compiled, batches)
    loop_rows = min(rows, 16 if arguments.quick else 2048)
    works["ferret"] = lambda: run_loop(model, asked, loop_rows)
    speeds: dict[str, list[float]] = {name: [] for name in works}
    shares = []
    for number in range(arguments.rounds + 1):
        for name, work in works.items():
            waiting[0] = 0.0
            settle(device)
            started = time.perf_counter()
            answered = work()
            settle(device)
            seconds = time.perf_counter() - started
            if number:  # the first is to warm up
                speeds[name].append(answered / seconds)
                if name == "engine":
                    shares.append(waiting[0] / seconds)
    for name, found in speeds.items():
        of_limit = [one / other for one, other in zip(found, speeds["limit"], strict=True)]
        print(
            f"{name:<9}{statistics.median(found):>12,.0f} rows a second, {statistics.median(of_limit):8.2%} of the "
            f"limit ({min(of_limit):.2%} to {max(of_limit):.2%})"
        )
    ratios = [one / other for one, other in zip(speeds["engine"], speeds["ferret"], strict=True)]
    print(f"engine against the loop: {statistics.median(ratios):.1f} × ({min(ratios):.1f} to {max(ratios):.1f})")
    print(
        f"the host waited for the device for {statistics.median(shares):.1%} of the engine's time; the rest is its own"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "mps", "cpu"))
    parser.add_argument("--examples", type=int, help="in flight at once, as shard_size (512; with --quick 6)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="also a loop over the compiled model")
    parser.add_argument("--quick", action="store_true", help="a tiny model in float32 on few texts")
    arguments = parser.parse_args()
    if arguments.examples is None:
        arguments.examples = 6 if arguments.quick else 512
    return arguments


def settle(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def sentences(count: int) -> list[Example]:
    """Made-up texts; their lengths are spread as those of SST-2's: 2 to 48 words, 19 on average."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.normal(19, 9, count).round().astype(int), 2, 48)
    return [
        Example(str(place), (" ".join(f"word{word}" for word in rng.integers(2000, size=length)),), int(place % 2))
        for place, length in enumerate(lengths)
    ]


def questions(encoding: Encoding) -> list[Any]:
    """The masks that are asked for an example."""
    rng = generator(0, encoding.id)
    return [rng.random((ROWS, encoding.n)) < 0.7 for _ in range(QUESTIONS)]


def full_batches(model: Classifier, asked: Asked, budget: int) -> list[dict[str, torch.Tensor]]:
    """The distinct rows of all questions on the device, those of one length together."""
    by_length: dict[int, list[Stack]] = {}
    for encoding, keeps in asked:
        rows = Rows.of(Mask().rows(encoding, np.concatenate(keeps), model.hidden_token[1]))
        for _, stack in rows.parts:
            _, first = np.unique(stack.ids, axis=0, return_index=True)
            by_length.setdefault(stack.ids.shape[1], []).append(stack[first])
    batches = []
    for length, stacks in sorted(by_length.items()):
        stack, size = Stack.join(stacks), max(1, budget // length)
        for start in range(0, len(stack), size):
            part = stack[start : start + size]
            batch = {"input_ids": torch.from_numpy(part.ids.astype(np.int64)).to(model.device)}
            if part.segments is not None:
                batch["token_type_ids"] = torch.from_numpy(part.segments.astype(np.int64)).to(model.device)
            batches.append(batch)
    return batches


def run_engine(model: Classifier, asked: Asked, waiting: list[float]) -> int:
    """Have the engine answer all questions; how many rows the model was given, and how long the host waited."""
    engine = Engine(Watched(model, waiting))

    def ask(keep: Any) -> Conversation[Any]:
        return (yield keep)

    def finish(outcome: Outcome) -> None:
        if outcome.error is not None:
            raise outcome.error

    perturbation = Mask()
    for encoding, keeps in asked:
        for keep in keeps:
            engine.add(ask(keep), encoding, perturbation, finish)
    engine.run()
    return int(engine.work.rows_answered)


class Watched(Classifier):
    """A classifier that adds up how long its answers were waited for; on a CPU also how long they took."""

    def __init__(self, model: Classifier, waiting: list[float]) -> None:
        vars(self).update(vars(model))
        self.waiting = waiting

    def begin(self, rows: Stack, dtype: Any = None) -> Any:
        """Answer, and look at the clock."""
        started = time.perf_counter()
        read = super().begin(rows, dtype)
        if self.device.type != "cuda":
            self.waiting[0] += time.perf_counter() - started

        def timed() -> Any:
            started = time.perf_counter()
            answers = read()
            self.waiting[0] += time.perf_counter() - started
            return answers

        return timed


def run_limit(model: Classifier, network: Any, batches: Sequence[dict[str, torch.Tensor]]) -> int:
    """Forward passes over batches that lie ready."""
    autocast = torch.autocast(model.device.type, torch.bfloat16, enabled=model.dtype == "bfloat16")
    with torch.inference_mode(), autocast:
        for batch in batches:
            network(**batch)
    return sum(len(batch["input_ids"]) for batch in batches)


def run_loop(model: Classifier, asked: Asked, most: int) -> int:
    """Rows of one example after another, 8 at a time, as texts; at most so many."""
    autocast = torch.autocast(model.device.type, torch.bfloat16, enabled=model.dtype == "bfloat16")
    answered = 0
    for encoding, keeps in asked:
        for keep in keeps:
            rows = Mask().rows(encoding, keep, model.hidden_token[1])
            for start in range(0, len(rows), 8):
                texts = [model.tokenizer.decode(row.ids[1:-1]) for row in rows[start : start + 8]]
                inputs = model.tokenizer(texts, padding=True, return_tensors="pt").to(model.device)
                with torch.inference_mode(), autocast:
                    model.model(**inputs).logits.float().softmax(-1).cpu()
                answered += len(texts)
                if answered >= most:
                    return answered
    return answered


if __name__ == "__main__":
    main()
