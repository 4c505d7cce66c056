"""What it costs to see after each shard whether somebody has written to the model, beside computing the shard.

Run it with: OMP_NUM_THREADS=1 python benchmarks/model_state.py --model FOLDER [--examples 64]
"""

from __future__ import annotations

import argparse
from typing import Any

from measuring import machine, timed

import assay
from assay import registry
from assay.benchmark.evaluation import Evaluation, Settings
from assay.classifier import Classifier
from assay.model_state import ModelState

EXPLAINERS = ("leave_one_out", "integrated_gradients", "lime")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a classifier of two classes")
    parser.add_argument("--examples", type=int, default=64, help="of the shard")
    chosen = parser.parse_args()
    model = Classifier.from_pretrained(chosen.model)
    state = ModelState(model.model)
    metrics: dict[str, Any] = {"deletion": registry.build("metric", "deletion")}
    examples = list(assay.load_task("planted_word", size=chosen.examples))

    def shard() -> None:
        evaluation = Evaluation(model, examples, metrics, {"mask": registry.build("perturbation", "mask")}, Settings())
        for name in EXPLAINERS:
            evaluation.add_explainer(name, registry.build("explainer", name))
        evaluation.run()

    computing, looking = timed(shard), timed(state.changes)
    print(machine())
    print(
        f"a shard of {chosen.examples} texts: {computing.processor:.1f} s on the processor; looking at the model then: "
        f"{1000 * looking.processor:.0f} ms, {looking.processor / computing.processor:.2%}"
    )


if __name__ == "__main__":
    main()
