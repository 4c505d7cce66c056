"""How far Assay's engine is from the limit, and how much faster than a loop over examples.

The same scores of the default metrics, over several rankings of each example, are computed by
  engine    Assay, as `assay.score` does it, encoding and all;
  limit     nothing but forward passes over the same distinct rows, sorted by length, in full batches of one length;
  one token the same, the last layer working for the class token alone as the engine has it (assay/last_layer.py);
  batch 8   a loop over examples that asks for each metric's rows as they come, repeats included, 8 rows at a time;
  batch 1   the same, one row at a time.

At the end, what the host does for a row when the model answers at once.

Run it on one thread: OMP_NUM_THREADS=1 python benchmarks/engine.py [--quick] [--model PATH]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from measuring import Seconds, machine, show_times, timed

import assay
from assay import registry
from assay.base_models import TinyBert
from assay.benchmark.engine import Engine
from assay.benchmark.evaluation import Evaluation, Settings
from assay.classifier import Classifier, transform
from assay.conversation import Attribution, Case, generator
from assay.encoding import Row
from assay.example import Example
from assay.last_layer import first_token_only
from assay.rows import Stack

METRICS = ("comprehensiveness", "sufficiency", "deletion", "insertion", "tau_loo")
TOKENS_PER_BATCH = 4096


class Counting(Classifier):
    """A classifier that remembers the batches that it was given.

    Attributes:
        at_once: whether it answers without computing anything, so that only the host's work is left.
    """

    at_once = False

    def watch(self) -> None:
        """Forget what was asked so far."""
        self.given: list[Stack] = []

    def begin(self, rows: Stack, dtype: Any = None) -> Any:
        """Answer, and remember."""
        self.given.append(rows)
        if not self.at_once:
            return super().begin(rows, dtype)
        # Alike for rows that are alike, so that as much is asked as of a real model.
        logits = np.sin(rows.ids.sum(axis=1, keepdims=True) * np.arange(1, 1 + len(self.labels))).astype(np.float32)
        return lambda: logits


def main() -> None:
    arguments = parse()
    settings = {"layers": 6, "width": 384, "heads": 12, "intermediate": 1536, "spread": 0.05}
    texts = assay.load_task("planted_word", size=arguments.rounds * arguments.examples)
    if arguments.model:
        loaded = Classifier.from_pretrained(arguments.model, device="cpu")
        model = Counting(loaded.model, loaded.tokenizer, loaded.name)
    else:
        torch.manual_seed(0)
        transformer, tokenizer = TinyBert(**settings).create(texts)
        model = Counting(transformer.eval(), tokenizer)
    model.watch()
    print(machine())
    print(f"{arguments.rounds} rounds of {arguments.examples} examples × {arguments.rankings} rankings\n")
    times: dict[str, list[Seconds]] = {"engine": [], "limit": [], "one token": [], "batch 8": [], "batch 1": []}
    counts = []
    examples = list(texts)
    for number in range(arguments.rounds):
        part = examples[number * arguments.examples : (number + 1) * arguments.examples]
        found, count = one_round(model, part, arguments.rankings, number)
        counts.append(count)
        for name, seconds in found.items():
            times[name].append(seconds)
    show_times(times, "limit")
    print()
    show_times({name: times[name] for name in ("batch 8", "batch 1", "engine")}, "engine")
    asked, given, distinct_rows, padded, tokens, batches_given = np.sum(counts, axis=0)
    print(
        f"\nrows asked {asked:,}; given to the model {given:,}, of which distinct {distinct_rows:,}; "
        f"padding {padded / tokens:.2%} of {tokens:,} tokens; {batches_given} batches"
    )
    model.at_once = True
    host_work(model, examples, arguments.rankings)


def one_round(
    model: Counting, examples: list[Example], count: int, number: int
) -> tuple[dict[str, Seconds], tuple[int, ...]]:
    """The time of each competitor on some examples, and what was counted; each round begins with another one."""
    model.watch()
    _, asked = run_engine(model, examples, count)  # for its rows, and to warm up
    given = [stack.row(place) for stack in model.given for place in range(len(stack))]
    distinct = list({(row.key, len(row.ids)): row for row in given}.values())
    counts = (asked, len(given), len(distinct), *padding(given), len(model.given))
    batches = full_batches(distinct)
    scores = {}

    def engine() -> None:
        scores["engine"], _ = run_engine(model, examples, count)

    def loop(size: int) -> None:
        scores[f"batch {size}"] = run_loop(model, examples, count, size)

    works = [
        ("engine", engine),
        ("limit", lambda: run_limit(model, batches, nullcontext)),
        ("one token", lambda: run_limit(model, batches, first_token_only)),
        ("batch 8", lambda: loop(8)),
        ("batch 1", lambda: loop(1)),
    ]
    first = number % len(works)
    times = {name: timed(work) for name, work in works[first:] + works[:first]}
    for found in scores.values():
        np.testing.assert_allclose(found, scores["engine"], atol=1e-4)
    return times, counts


def host_work(model: Counting, examples: list[Example], rankings: int) -> None:
    """What is left when the model answers at once: the engine's own work, and all of it with metrics and records."""
    for hiding in ("mask", "delete"):
        times, asked, answered = [], 0, 0
        for repeat in range(4):
            model.watch()
            found = timed(lambda hiding=hiding: run_engine(model, examples, rankings, hiding))
            if repeat:  # the first is to warm up
                times.append(found.processor)
        answered = sum(map(len, model.given))
        _, asked = run_engine(model, examples, rankings, hiding)
        print(
            f"host work, {hiding}: {1e6 * statistics.median(times) / asked:.1f} µs a row asked, "
            f"{1e6 * statistics.median(times) / answered:.1f} a row answered; the engine's own for a row: "
            + ", ".join(
                f"{engine_alone(model, examples, hiding, rows):.1f} in questions of {rows}" for rows in (10, 500)
            )
        )


def engine_alone(model: Counting, examples: list[Example], hiding: str, rows: int) -> float:
    """Microseconds on the processor for a row, of conversations that do nothing but ask for `rows` random rows once."""
    perturbation = registry.build("perturbation", hiding)
    encodings = [model.encode(example) for example in examples]

    def ask(keep: Any) -> Any:
        return (yield keep)

    found = []
    for _ in range(4):
        engine = Engine(model, tokens_per_batch=TOKENS_PER_BATCH)
        questions = [
            (encoding, generator(number, encoding.id).random((rows, encoding.n)) < 0.7)
            for encoding in encodings
            for number in range(1 + 1000 // rows)
        ]

        def work(engine: Engine = engine, questions: list[Any] = questions) -> None:
            for encoding, keep in questions:
                engine.add(ask(keep), encoding, perturbation, lambda _: None)
            engine.run()

        found.append(1e6 * timed(work).processor / (len(questions) * rows))
    return statistics.median(found[1:])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder of a classifier; by default 6 layers of width 384, random weights")
    parser.add_argument("--quick", action="store_true", help="about a minute")
    parser.add_argument("--examples", type=int, help="examples of a round")
    parser.add_argument("--rankings", type=int, help="rankings of an example")
    parser.add_argument("--rounds", type=int)
    arguments = parser.parse_args()
    for name, quick, full in (("examples", 2, 8), ("rankings", 4, 10), ("rounds", 3, 5)):
        if getattr(arguments, name) is None:
            setattr(arguments, name, quick if arguments.quick else full)
    return arguments


def rankings_of(example: Example, n: int, count: int) -> list[np.ndarray[Any, Any]]:
    """Scores that agree in part, as those of real methods do."""
    rng = generator(0, example.id)
    shared = rng.normal(size=n)
    return [shared + rng.normal(size=n) for _ in range(count)]


def run_engine(model: Counting, examples: list[Example], count: int, hiding: str = "mask") -> tuple[list[float], int]:
    """The scores by ranking, example and metric; and how many rows were asked for."""
    metrics = {name: registry.build("metric", name) for name in METRICS}
    perturbations = {hiding: registry.build("perturbation", hiding)}
    evaluation = Evaluation(model, examples, metrics, perturbations, Settings(), TOKENS_PER_BATCH)
    drawn = [rankings_of(one, encoding.n, count) for one, encoding in zip(examples, evaluation.encodings, strict=True)]
    for number in range(count):
        given = [
            Attribution(encoding.features, scores[number], evaluation.targets[index])
            for index, (encoding, scores) in enumerate(zip(evaluation.encodings, drawn, strict=True))
        ]
        evaluation.add_attributions(str(number), given)
    records = evaluation.run()
    scores = [row["value"] for number in range(count) for row in records[str(number)].scores]
    return scores, evaluation.engine.work.rows_asked


def padding(rows: Sequence[Row]) -> tuple[int, int]:
    """Tokens that are padding, and all tokens. The engine's rows have none: `answer` could not stack unequal ones."""
    return 0, sum(len(row.ids) for row in rows)


def full_batches(rows: Sequence[Row]) -> list[dict[str, torch.Tensor]]:
    """Rows as tensors, those of one length together, as many as the budget of tokens allows."""
    by_length: dict[int, list[Row]] = {}
    for row in rows:
        by_length.setdefault(len(row.ids), []).append(row)
    batches = []
    for length, same in sorted(by_length.items()):
        size = max(1, TOKENS_PER_BATCH // length)
        for start in range(0, len(same), size):
            part = same[start : start + size]
            batch = {"input_ids": torch.from_numpy(np.stack([row.ids for row in part]))}
            if part[0].segments is not None:
                segments = np.stack([row.segments for row in part if row.segments is not None])
                batch["token_type_ids"] = torch.from_numpy(segments)
            batches.append(batch)
    return batches


def run_limit(
    model: Counting,
    batches: list[dict[str, torch.Tensor]],
    changed: Callable[[Any], AbstractContextManager[None]],
) -> None:
    with torch.inference_mode(), changed(model.model):
        for batch in batches:
            model.model(**batch)


def run_loop(model: Counting, examples: list[Example], count: int, size: int) -> list[float]:
    """The same scores one example, one ranking and one metric at a time, with the tokenizer's padding and mask."""
    metrics = {name: registry.build("metric", name) for name in METRICS}
    perturbation = registry.build("perturbation", "mask")

    def forward(rows: list[Row]) -> np.ndarray[Any, Any]:
        answers = []
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            inputs = model.tokenizer.pad({"input_ids": [row.ids.tolist() for row in part]}, return_tensors="pt")
            with torch.inference_mode():
                answers.append(transform(model.model(**inputs).logits, "probability").numpy())
        return np.concatenate(answers)

    encodings = [model.encode(example) for example in examples]
    targets = [int(forward([encoding.row])[0].argmax()) for encoding in encodings]
    drawn = [rankings_of(one, encoding.n, count) for one, encoding in zip(examples, encodings, strict=True)]
    found: list[float] = []
    for number in range(count):
        for index, (example, encoding) in enumerate(zip(examples, encodings, strict=True)):
            attribution = Attribution(encoding.features, drawn[index][number], targets[index])
            ranking = attribution.ranking(generator(0, example.id, "ranking", 0))
            for name, metric in metrics.items():
                rng = generator(0, example.id, name, 0)
                case = Case(
                    example.id, encoding.features, targets[index], rng, attribution=attribution, ranking=ranking
                )
                conversation = metric.converse(case)
                try:
                    keep = next(conversation)
                    while True:
                        rows = perturbation.rows(encoding, keep, model.hidden_token[1])
                        keep = conversation.send(forward(rows))
                except StopIteration as end:
                    found += [end.value.values[measure.name] for measure in metric.measures]
    return found


if __name__ == "__main__":
    main()
