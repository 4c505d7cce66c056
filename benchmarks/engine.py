"""How far Assay's engine is from the limit, and how much faster than a loop over examples.

The same scores of the default metrics, over several rankings of each example, are computed by
  engine    Assay, as `assay.score` does it, encoding and all;
  limit     nothing but forward passes over the same distinct rows, sorted by length, in full batches of one length;
  batch 8   a loop over examples that asks for each metric's rows as they come, repeats included, 8 rows at a time;
  batch 1   the same, one row at a time.

Run it on one thread: OMP_NUM_THREADS=1 python benchmarks/engine.py [--quick] [--model PATH]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from measuring import Seconds, machine, show_times, timed

import assay
from assay import registry
from assay.base_models import TinyBert
from assay.benchmark.evaluation import Evaluation, Settings
from assay.classifier import Classifier, transform
from assay.conversation import Attribution, Case, generator
from assay.encoding import Row
from assay.example import Example

METRICS = ("comprehensiveness", "sufficiency", "deletion", "insertion", "tau_loo")
TOKENS_PER_BATCH = 4096


class Counting(Classifier):
    """A classifier that remembers the rows that it was asked."""

    def watch(self) -> None:
        """Forget what was asked so far."""
        self.rows: list[Row] = []
        self.batches = 0

    def answer(self, rows: Sequence[Row], dtype: Any = None) -> Any:
        """Answer, and remember."""
        self.rows += rows
        self.batches += 1
        return super().answer(rows, dtype)


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
    times: dict[str, list[Seconds]] = {"engine": [], "limit": [], "batch 8": [], "batch 1": []}
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


def one_round(
    model: Counting, examples: list[Example], count: int, number: int
) -> tuple[dict[str, Seconds], tuple[int, ...]]:
    """The time of each competitor on some examples, and what was counted; each round begins with another one."""
    model.watch()
    _, asked = run_engine(model, examples, count)  # for its rows, and to warm up
    given = model.rows
    distinct = list({(row.key, len(row.ids)): row for row in given}.values())
    counts = (asked, len(given), len(distinct), *padding(given), model.batches)
    batches = full_batches(distinct)
    scores = {}

    def engine() -> None:
        scores["engine"], _ = run_engine(model, examples, count)

    def loop(size: int) -> None:
        scores[f"batch {size}"] = run_loop(model, examples, count, size)

    works = [
        ("engine", engine),
        ("limit", lambda: run_limit(model, batches)),
        ("batch 8", lambda: loop(8)),
        ("batch 1", lambda: loop(1)),
    ]
    first = number % len(works)
    times = {name: timed(work) for name, work in works[first:] + works[:first]}
    for found in scores.values():
        np.testing.assert_allclose(found, scores["engine"], atol=1e-4)
    return times, counts


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


def run_engine(model: Counting, examples: list[Example], count: int) -> tuple[list[float], int]:
    """The scores by ranking, example and metric; and how many rows were asked for."""
    metrics = {name: registry.build("metric", name) for name in METRICS}
    perturbations = {"mask": registry.build("perturbation", "mask")}
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


def run_limit(model: Counting, batches: list[dict[str, torch.Tensor]]) -> None:
    with torch.inference_mode():
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
