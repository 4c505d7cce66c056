"""What metrics cost: rows of a suite beside its dearest member, time inside the model, and scoring again.

python benchmarks/metrics.py MODEL TASK [SIZE]   (such as models/my_sst2 sst2 50; ASSAY_DATA may name local files)
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from measuring import Seconds, timed

from assay import registry
from assay.benchmark import launch
from assay.benchmark.evaluation import Evaluation, Settings
from assay.benchmark.rescoring import rescore
from assay.benchmark.run import load_model, run
from assay.classifier import Classifier
from assay.conversation import Attribution, generator
from assay.example import Example
from assay.tasks import load_task

DEFAULT = ("comprehensiveness", "sufficiency", "deletion", "insertion", "srg", "tau_loo")
SEVEN = (*DEFAULT, "log_odds")
EXPLAINERS = 20


def judged(
    model: Classifier, examples: Sequence[Example], metrics: Sequence[str], perturbations: Sequence[str], rankings: int
) -> Evaluation:
    """An evaluation with so many random attributions of each example, ready to run."""
    built = {name: registry.build("metric", name) for name in metrics}
    hiding = {name: registry.build("perturbation", name) for name in perturbations}
    evaluation = Evaluation(model, examples, built, hiding, Settings())
    for number in range(rankings):
        evaluation.add_attributions(
            str(number),
            [
                Attribution(one.features, generator(number, one.id).normal(size=one.n), target)
                for one, target in zip(evaluation.encodings, evaluation.targets, strict=True)
            ],
        )
    return evaluation


def rows(model: Classifier, examples: Sequence[Example]) -> None:
    """The distinct rows of the default suite, as a multiple of those of its dearest member."""
    print("rows of the default suite, × its dearest member (random rankings share fewer rows than real ones)")
    for rankings in (1, 2, 5, 10):
        counts = {}
        for metrics in (*((name,) for name in DEFAULT), DEFAULT):
            evaluation = judged(model, examples, metrics, ("mask",), rankings)
            evaluation.run()
            counts[metrics] = evaluation.engine.work.rows_answered
        dearest = max(count for metrics, count in counts.items() if len(metrics) == 1)
        print(f"  {rankings:2} rankings of an example: {counts[DEFAULT] / dearest:.2f}  ({counts[DEFAULT]:,} rows)")


def inside(model: Classifier, examples: Sequence[Example]) -> None:
    """The share of the time that is spent inside the model."""
    spent = [0.0]
    answer = Classifier.answer

    def timed_answer(self: Classifier, *arguments: Any) -> Any:
        started = time.perf_counter()
        try:
            return answer(self, *arguments)
        finally:
            spent[0] += time.perf_counter() - started

    def work() -> None:
        for first in range(0, len(examples), 64):
            judged(model, examples[first : first + 64], SEVEN, ("mask", "delete"), EXPLAINERS).run()

    with patch.object(Classifier, "answer", timed_answer):
        whole = timed(work)
    print(
        f"{len(SEVEN)} metrics × 2 perturbations × {EXPLAINERS} attributions × {len(examples)} examples: "
        f"{whole.wall:.1f} s, {spent[0] / whole.wall:.1%} of it inside the model"
    )


def again(model: str, task: str, size: int) -> None:
    """How long it takes to score stored attributions again, as a share of the run that stored them."""
    folder = Path(tempfile.mkdtemp())
    common = ["metric=[comprehensiveness,sufficiency,deletion,insertion,srg,tau_loo,cost]", "tracker=none"]
    first: Mapping[str, Sequence[str]] = {
        "run": [
            f"task={task}",
            f"task.size={size}",
            f"model={model}",
            "explainer=[leave_one_out,lime,kernel_shap,integrated_gradients,gradient,attention]",
            "allow_low_accuracy=true",
            *common,
        ],
        "score": ["overwrite=always", *common],
    }

    def work(name: str) -> Seconds:
        arguments = [f"results='{folder}'", *first[name]]
        job = (lambda config: [str(cell.path) for cell in run(config)]) if name == "run" else _rescore
        return timed(lambda: launch.launch(name, job, arguments, sweep=False))

    try:
        found = {name: work(name) for name in first}
    finally:
        shutil.rmtree(folder)
    ratio = found["score"].wall / found["run"].wall
    print(f"scoring again from stored answers: {found['score'].wall:.2f} s of {found['run'].wall:.1f} s, {ratio:.1%}")


def _rescore(config: Any) -> list[str]:
    return [str(cell.path) for cell in rescore(config, load_model)]


def main() -> None:
    """Measure all three."""
    path, task, size = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 20
    model = Classifier.from_pretrained(path, device="cpu")
    examples = load_task(task, size=size).examples
    rows(model, examples[: max(2, size // 4)])
    inside(model, examples)
    again(path, task, size)


if __name__ == "__main__":
    main()
