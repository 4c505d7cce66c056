"""How far the gradient methods are from raw passes over their rows, and how many steps integrated gradients need.

The first table gives the time of each method as a multiple of
  limit     a forward and a backward pass over as many rows of the same length, in full batches.
A method that asks for outputs besides, such as those at both ends of a path, is held against its backward rows alone.

The second table gives the mean number of steps that bring the completeness error of an example to 1 % of the difference
that is split: with a fixed number of steps for all, and with `adaptive_steps`.

Run it on one thread: OMP_NUM_THREADS=1 python benchmarks/gradients.py [--quick] [--model PATH]
"""

from __future__ import annotations

import argparse
import statistics

import torch
from measuring import Seconds, machine, show_times, timed

import assay
from assay import registry
from assay.base_models import TinyBert
from assay.classifier import Classifier
from assay.encoding import Batch, make_batch
from assay.explainers.base import WhiteBoxExplainer

TOKENS_PER_PASS = 4096
METHODS = {
    "gradient": {},
    "gradient_x_input": {},
    "smoothgrad": {"samples": 20},
    "integrated_gradients": {"steps": 20},
    "expected_gradients": {"samples": 20},
    "sequential_ig": {"steps": 20},
    "discretized_ig": {"steps": 18},
    "deeplift": {},
    "gim": {},
}


def main() -> None:
    arguments = parse()
    settings = {"layers": 6, "width": 384, "heads": 12, "intermediate": 1536, "spread": 0.05}
    texts = assay.load_task("planted_word", size=200)
    if arguments.model:
        model = Classifier.from_pretrained(arguments.model, device="cpu")
    else:
        torch.manual_seed(0)
        transformer, tokenizer = TinyBert(**settings).create(texts)
        model = Classifier(transformer.eval(), tokenizer)
    encodings = sorted((model.encode(text) for text in texts), key=lambda encoding: len(encoding.row.ids))
    middle = len(encodings[len(encodings) // 2].row.ids)
    same = [encoding for encoding in encodings if len(encoding.row.ids) == middle][: arguments.examples]
    print(machine())
    print(f"{len(same)} examples of {middle} tokens, {arguments.rounds} rounds\n")
    batch = make_batch(same, model.tokenizer.pad_token_id, tokens_per_pass=TOKENS_PER_PASS)
    target = torch.zeros(len(same), dtype=torch.long)
    with model.at_work():
        for name, method in METHODS.items():
            against_limit(
                name, registry.build("explainer", name, **method), model, batch, target, texts, arguments.rounds
            )
        print()
        steps_needed(model, batch, target)


def against_limit(
    name: str,
    explainer: WhiteBoxExplainer,
    model: Classifier,
    batch: Batch,
    target: torch.Tensor,
    texts: assay.Task,
    rounds: int,
) -> None:
    """The time of a method and of raw passes over as many rows."""
    explainer.prepare(model, list(texts)[: explainer.background])
    batch.memo.clear()
    before = model.cost.copy()
    explainer.attribute(model, batch, target)
    rows = round(model.cost.since(before).backward_rows)
    times: dict[str, list[Seconds]] = {name: [], "limit": []}
    for _ in range(rounds):
        batch.memo.clear()
        times[name].append(timed(lambda: explainer.attribute(model, batch, target)))
        times["limit"].append(timed(lambda: raw_passes(model, batch, rows)))
    print(f"{rows} rows of {name}")
    show_times(times, "limit")


def raw_passes(model: Classifier, batch: Batch, rows: int) -> None:
    """Forward and backward passes over rows, in full batches."""
    size = max(1, TOKENS_PER_PASS // batch.input_ids.shape[1])
    for start in range(0, rows, size):
        count = min(size, rows - start)
        ids = batch.input_ids.repeat(-(-count // len(batch.input_ids)), 1)[:count]
        leaf = model.model.get_input_embeddings()(ids).detach().requires_grad_()
        torch.autograd.grad(model.model(inputs_embeds=leaf).logits[:, 0].sum(), leaf)


def steps_needed(model: Classifier, batch: Batch, target: torch.Tensor) -> None:
    """Steps and completeness errors, fixed and adaptive."""
    exact = registry.build("explainer", "integrated_gradients", steps=200).attribute(model, batch, target)
    difference = exact.scores.sum(1).abs().clamp_min(0.01)
    print(f"{'integrated gradients':<32}{'mean steps':>12}{'most':>6}{'mean error':>12}{'within 1 %':>12}")
    for settings in (
        {"steps": 10},
        {"steps": 20},
        {"steps": 30},
        {"steps": 50},
        {"adaptive_steps": 0.05},
        {"adaptive_steps": 0.01},
    ):
        found = registry.build("explainer", "integrated_gradients", **settings).attribute(model, batch, target)
        steps = found.report["steps"].tolist()
        error = found.report["completeness_error"] / difference
        print(
            f"{', '.join(f'{key} = {value}' for key, value in settings.items()):<32}{statistics.mean(steps):>12.1f}"
            f"{max(steps):>6.0f}{error.mean():>12.2%}{(error <= 0.01).float().mean():>12.0%}"
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder of a classifier; by default 6 layers of width 384, random weights")
    parser.add_argument("--quick", action="store_true", help="about a minute")
    parser.add_argument("--examples", type=int, help="examples of a batch")
    parser.add_argument("--rounds", type=int)
    arguments = parser.parse_args()
    for name, quick, full in (("examples", 8, 32), ("rounds", 1, 5)):
        if getattr(arguments, name) is None:
            setattr(arguments, name, quick if arguments.quick else full)
    return arguments


if __name__ == "__main__":
    main()
