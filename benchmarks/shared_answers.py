"""What cells of a sweep save by sharing the model's answers on disk, and what keeping them costs.

One explainer after the other explains and is judged by the default metrics over the same shard, as the jobs of a sweep
do, once with a shared folder and once without; then all of them again under other metrics. Scores are compared.

Run it on one thread: OMP_NUM_THREADS=1 python benchmarks/shared_answers.py [--model PATH --task sst2] [--examples 16]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine, timed

import assay
from assay import registry
from assay.benchmark.evaluation import Evaluation, Settings
from assay.benchmark.shared_answers import SharedAnswers
from assay.classifier import Classifier
from assay.example import Example
from assay.perturbation import Mask

EXPLAINERS = ("random", "oracle", "leave_one_out", "lime", "partition_shap", "gradient", "integrated_gradients")
METRICS = {
    "the default metrics": ("comprehensiveness", "sufficiency", "deletion", "insertion", "tau_loo", "srg"),
    "then other metrics": ("monotonicity", "decision_flip_fraction", "morf_lerf", "log_odds"),
}


class Timed(SharedAnswers):
    """Shared answers that know how long reading and writing them took, on the processor."""

    seconds = 0.0

    def recall(self, *given: Any) -> Any:
        """Read."""
        return self._timed(super().recall, *given)

    def keep(self, *given: Any) -> Any:
        """Write."""
        return self._timed(super().keep, *given)

    def _timed(self, work: Any, *given: Any) -> Any:
        started = time.process_time()
        found = work(*given)
        self.seconds += time.process_time() - started
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a classifier")
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--examples", type=int, default=16)
    parser.add_argument("--explainers", nargs="+", default=EXPLAINERS)
    arguments = parser.parse_args()
    model = Classifier.from_pretrained(arguments.model, device="cpu")
    examples = list(assay.load_task(arguments.task, size=arguments.examples))
    print(f"{machine()}; {len(examples)} examples of {arguments.task}")
    with tempfile.TemporaryDirectory() as folder:
        shared = Timed(Path(folder), model)
        for said, metrics in METRICS.items():
            print(f"\n{said}: {', '.join(metrics)}")
            print(f"{'explainer':<22}{'rows':>8}{'asked':>8}{'processor':>11}{'× apart':>9}{'keeping':>9}{'KiB':>8}")
            sums = np.zeros(4)
            for name in arguments.explainers:
                sums += one(model, examples, name, metrics, shared, Path(folder))
            rows, asked, apart, together = sums
            print(f"{'all':<22}{rows:>8.0f}{asked:>8.0f}{together:>11.2f}{together / apart:>9.2f}")


def one(
    model: Classifier, examples: Sequence[Example], name: str, metrics: Sequence[str], shared: Timed, folder: Path
) -> Any:
    """A line for one explainer: rows without and with sharing, and seconds without and with."""
    found: dict[str, tuple[Evaluation, Any]] = {}

    def run(kind: str) -> None:
        built = {metric: registry.build("metric", metric) for metric in metrics}
        sharing = shared if kind == "together" else None
        evaluation = Evaluation(model, examples, built, {"mask": Mask()}, Settings(), shared=sharing)
        evaluation.add_explainer(name, registry.build("explainer", name))
        (records,) = evaluation.run().values()
        evaluation.share()
        found[kind] = evaluation, records

    shared.seconds = 0.0
    seconds = {kind: timed(lambda kind=kind: run(kind)).processor for kind in ("apart", "together")}
    scores = [[row["value"] for row in records.scores] for _, records in found.values()]
    np.testing.assert_allclose(*scores, atol=1e-5)
    rows, asked = (found[kind][0].engine.work.rows_answered for kind in ("apart", "together"))
    disk = sum(path.stat().st_size for path in folder.rglob("*.answers")) / 1024
    print(
        f"{name:<22}{rows:>8.0f}{asked:>8.0f}{seconds['together']:>11.2f}{seconds['together'] / seconds['apart']:>9.2f}"
        f"{shared.seconds / seconds['together']:>9.2%}{disk:>8.0f}"
    )
    return np.array([rows, asked, seconds["apart"], seconds["together"]])


if __name__ == "__main__":
    main()
