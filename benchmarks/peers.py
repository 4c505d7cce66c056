"""How much faster Assay's explainers are than captum's and shap's own, at the same work on the same texts.

captum's methods are run as their defaults run them, one row a call; shap's partition explainer on a transformers
pipeline, as its documentation shows it. Each peer's rows are counted where the model is called, and Assay is asked for
the same number. *In full batches* is captum tuned by hand: as many rows a call as fit the token budget.

Run it on one thread: OMP_NUM_THREADS=1 python benchmarks/peers.py [--quick] [--model PATH]
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from captum.attr import FeatureAblation, KernelShap, Lime, Saliency
from measuring import Seconds, machine, show_times, timed

import assay
from assay import registry
from assay.base_models import TinyBert
from assay.benchmark.evaluation import Evaluation, Settings
from assay.classifier import Classifier
from assay.encoding import Encoding, make_batch
from assay.example import Example
from assay.explainers.base import Explainer
from assay.perturbation import Mask

SAMPLES = 50
ROWS_A_CALL = 64


class Peer:
    """A text as captum and shap see it: a function from masks of words to the target's probability."""

    def __init__(self, model: Classifier, encoding: Encoding, target: int) -> None:
        self.model, self.encoding, self.target = model, encoding, target
        self.rows = 0

    def __call__(self, masks: torch.Tensor) -> torch.Tensor:
        """The target's probability for each mask, [queries]."""
        keep = masks.detach().numpy() > 0.5
        rows = Mask().rows(self.encoding, keep, self.model.hidden_token[1])
        self.rows += len(rows)
        return torch.from_numpy(self.model.answer(rows)).softmax(-1)[:, self.target]


def main() -> None:
    arguments = parse()
    warnings.filterwarnings("ignore")
    settings = {"layers": 6, "width": 384, "heads": 12, "intermediate": 1536, "spread": 0.05}
    texts = assay.load_task("planted_word", size=arguments.rounds * arguments.examples)
    if arguments.model:
        model = Classifier.from_pretrained(arguments.model, device="cpu")
    else:
        torch.manual_seed(0)
        transformer, tokenizer = TinyBert(**settings).create(texts)
        model = Classifier(transformer.eval(), tokenizer)
    print(machine())
    print(f"{arguments.rounds} rounds of {arguments.examples} examples, {SAMPLES} samples\n")
    parts = [
        list(texts[number * arguments.examples : (number + 1) * arguments.examples])
        for number in range(arguments.rounds)
    ]
    for name, (ours, peers) in matches(model).items():
        times: dict[str, list[Seconds]] = {"assay": [], **{peer: [] for peer in peers}}
        rows = dict.fromkeys(times, 0)
        runs = {"assay": partial(explain, model, name, ours), **peers}
        for run in runs.values():
            # What is imported or compiled at first use is nobody's speed.
            run(parts[0][:1])
        for part in parts:
            for who, run in runs.items():
                before = model.cost.forward_rows
                with model.at_work():
                    times[who].append(timed(partial(run, part)))
                rows[who] += int(model.cost.forward_rows - before)
        show_times(times, "assay")
        print("rows: " + ", ".join(f"{peer} {count:,}" for peer, count in rows.items()) + "\n")


def matches(model: Classifier) -> dict[str, tuple[Explainer, dict[str, Callable[[Sequence[Example]], None]]]]:
    """For each of our explainers, the peers that do the same work."""

    def captum_masks(method: type[Any], **settings: Any) -> Callable[[Sequence[Example]], None]:
        def run(examples: Sequence[Example]) -> None:
            for example in examples:
                encoding = model.encode(example)
                masks = torch.ones(1, encoding.n)
                method(Peer(model, encoding, 1)).attribute(masks, baselines=torch.zeros_like(masks), **settings)

        return run

    def saliency(examples: Sequence[Example]) -> None:
        for example in examples:
            batch = make_batch([model.encode(example)])
            target = torch.tensor([1])

            def forward(embeddings: torch.Tensor, batch: Any = batch, target: Any = target) -> torch.Tensor:
                return model.output(batch, target, embeddings)

            Saliency(forward).attribute(model.embeddings(batch).requires_grad_())

    def partition(examples: Sequence[Example]) -> None:
        import shap
        from transformers import TextClassificationPipeline

        pipeline = TextClassificationPipeline(model=model.model, tokenizer=model.tokenizer, top_k=None)
        hook = model.model.register_forward_pre_hook(count, with_kwargs=True)
        try:
            shap.Explainer(pipeline)([" ".join(example.text) for example in examples], max_evals=500, silent=True)
        finally:
            hook.remove()

    def count(module: Any, inputs: Any, keywords: Any) -> None:
        model.cost.forward_rows += len(keywords["input_ids"])

    def build(name: str, **settings: Any) -> Explainer:
        built: Explainer = registry.build("explainer", name, **settings)
        return built

    return {
        "leave_one_out": (
            build("leave_one_out"),
            {
                "captum FeatureAblation": captum_masks(FeatureAblation),
                "the same, in full batches": captum_masks(FeatureAblation, perturbations_per_eval=ROWS_A_CALL),
            },
        ),
        "lime": (
            build("lime", samples=SAMPLES),
            {
                "captum Lime": captum_masks(Lime, n_samples=SAMPLES),
                "the same, in full batches": captum_masks(Lime, n_samples=SAMPLES, perturbations_per_eval=ROWS_A_CALL),
            },
        ),
        "kernel_shap": (
            build("kernel_shap", samples=SAMPLES),
            {
                "captum KernelShap": captum_masks(KernelShap, n_samples=SAMPLES),
                "the same, in full batches": captum_masks(
                    KernelShap, n_samples=SAMPLES, perturbations_per_eval=ROWS_A_CALL
                ),
            },
        ),
        "partition_shap": (build("partition_shap", samples=500), {"shap on a pipeline": partition}),
        "gradient": (build("gradient"), {"captum Saliency, text by text": saliency}),
    }


def explain(model: Classifier, name: str, explainer: Explainer, examples: Sequence[Example]) -> None:
    """As a run does it, without metrics."""
    evaluation = Evaluation(model, examples, {}, {"mask": Mask()}, Settings(target=1))
    evaluation.add_explainer(name, explainer)
    (records,) = evaluation.run().values()
    assert np.isfinite([row["scores"][0] for row in records.attributions]).all()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4, help="how often everything is timed")
    parser.add_argument("--examples", type=int, default=8, help="how many texts in a round")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 3 texts")
    parser.add_argument("--model", help="a sequence classification model in place of the random one")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.examples = 2, 3
    return arguments


if __name__ == "__main__":
    main()
