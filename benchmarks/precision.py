"""What bfloat16 changes: predicted classes, scores, the order of the explainers, and the time it takes.

The target is always the class that float32 predicts. Three things are compared, each in turn, round by round:
  judging    the same attributions judged by the default metrics in float32 and in bfloat16;
  all        explained and judged in float32, and both in bfloat16;
  searching  the oracle's search in float32 and in bfloat16; what it finds is scored in float32 by both, and what is
             reported of the second is compared with the scores of the same rankings, asked anew.

Run it on one thread: OMP_NUM_THREADS=1 python benchmarks/precision.py --model FOLDER --task sst2 [--quick]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from measuring import Seconds, machine, show_times, timed
from scipy.stats import spearmanr

import assay
from assay import registry
from assay.benchmark.evaluation import Evaluation, Settings
from assay.benchmark.low_precision import Change
from assay.benchmark.whole_inputs import low_logits
from assay.classifier import Classifier
from assay.conversation import Attribution
from assay.example import Example
from assay.perturbation import Mask

EXPLAINERS = ("random", "first", "length", "leave_one_out", "lime", "gradient", "gradient_x_input")
METRICS = ("comprehensiveness", "sufficiency", "deletion", "insertion", "tau_loo")
LOW = "bfloat16"

Values = dict[tuple[str, str], list[float]]


def main() -> None:
    arguments = parse()
    model = Classifier.from_pretrained(arguments.model, device="cpu")
    examples = list(assay.load_task(arguments.task, size=arguments.rounds * arguments.examples))
    parts = [examples[at : at + arguments.examples] for at in range(0, len(examples), arguments.examples)]
    print(f"{machine()}; {len(parts)} rounds of {arguments.examples} examples of {arguments.task}; {model.name}\n")
    print(f"{what_changes(model, examples)}.\n")
    works = ("judging", "judging in bfloat16", "all", "all in bfloat16", "searching", "searching in bfloat16")
    times: dict[str, list[Seconds]] = {work: [] for work in works}
    found: dict[str, Values] = {work: {} for work in works}
    run_all(model, parts[0][:1], "float32")
    for part in parts:
        attributions: dict[str, list[Attribution]] = {}
        for work in works:
            dtype = LOW if work.endswith(LOW) else "float32"
            values: Values = {}

            def run(work: str = work, dtype: str = dtype, part: Any = part, values: Values = values) -> None:
                if work.startswith("searching"):
                    values.update(search(model, part, "model" if dtype == "float32" else LOW))
                elif work.startswith("all"):
                    values.update(run_all(model, part, dtype))
                else:
                    values.update(judge(model, part, attributions, dtype))  # noqa: B023

            if work == "judging":
                attributions.update(explain(model, part))
            times[work].append(timed(run))
            for key, one in values.items():
                found[work].setdefault(key, []).extend(one)
    for work in works[::2]:
        low = f"{work} in {LOW}"
        show_times({work: times[work], low: times[low]}, work)
        compare(found[work], found[low])
        print()


def what_changes(model: Classifier, examples: Sequence[Example]) -> Change:
    """What bfloat16 changes in the answers to whole inputs."""
    evaluation = Evaluation(model, examples, {}, {"mask": Mask()}, Settings())
    model.dtype = "bfloat16"
    low = low_logits(model, evaluation.encodings, Mask())
    model.dtype = "float32"
    assert low is not None
    return Change.between(LOW, evaluation.logits, low)


def started(model: Classifier, part: Sequence[Example], dtype: Any, metrics: Sequence[str] = METRICS) -> Evaluation:
    model.dtype = dtype
    built = {name: registry.build("metric", name) for name in metrics}
    return Evaluation(model, part, built, {"mask": Mask()}, Settings())


def finished(evaluation: Evaluation) -> Values:
    """The scores by explainer and measure, in the order of the examples."""
    values: Values = {}
    for name, records in evaluation.run().items():
        for row in records.scores:
            values.setdefault((name, row["metric"]), []).append(row["value"])
    evaluation.model.dtype = "float32"
    return values


def explain(model: Classifier, part: Sequence[Example]) -> dict[str, list[Attribution]]:
    """The attributions of all explainers in float32."""
    evaluation = Evaluation(model, part, {}, {"mask": Mask()}, Settings())
    for name in EXPLAINERS:
        evaluation.add_explainer(name, registry.build("explainer", name))
    attributions = {}
    for name, records in evaluation.run().items():
        first_draws = [row["scores"] for row in records.attributions if row["draw"] == 0]
        attributions[name] = [
            Attribution(encoding.features, np.array(scores), target)
            for scores, encoding, target in zip(first_draws, evaluation.encodings, evaluation.targets, strict=True)
        ]
    return attributions


def judge(
    model: Classifier, part: Sequence[Example], attributions: Mapping[str, Sequence[Attribution]], dtype: str
) -> Values:
    evaluation = started(model, part, dtype)
    for name, given in attributions.items():
        evaluation.add_attributions(name, given)
    return finished(evaluation)


def run_all(model: Classifier, part: Sequence[Example], dtype: str) -> Values:
    evaluation = started(model, part, dtype)
    for name in EXPLAINERS:
        evaluation.add_explainer(name, registry.build("explainer", name))
    return finished(evaluation)


def search(model: Classifier, part: Sequence[Example], precision: str) -> Values:
    """The oracle's scores; each of its rankings is scored again, which has to give the same."""
    metrics = ("comprehensiveness", "sufficiency")
    evaluation = started(model, part, "float32", metrics)
    evaluation.add_explainer("oracle", registry.build("explainer", "oracle", exact_up_to=0, precision=precision))
    (records,) = evaluation.run().values()
    again = started(model, part, "float32", metrics)
    for draw, metric in enumerate(metrics):
        rankings = [np.array(row["scores"]) for row in records.attributions if row["draw"] == draw]
        given = [
            Attribution(encoding.features, scores, target)
            for encoding, scores, target in zip(again.encodings, rankings, again.targets, strict=True)
        ]
        again.add_attributions(metric, given)
    anew = again.run()
    values: Values = {}
    for metric in metrics:
        reported, asked = (
            [row["value"] for row in rows if row["metric"] == metric] for rows in (records.scores, anew[metric].scores)
        )
        np.testing.assert_allclose(reported, asked, atol=1e-5)
        values["oracle", metric] = reported
    return values


def compare(full: Values, low: Values) -> None:
    """Print how far scores, means and the order of explainers are apart."""
    measures = sorted({measure for _, measure in full})
    for measure in measures:
        names = sorted(name for name, found in full if found == measure)
        pairs = [(np.array(full[name, measure]), np.array(low[name, measure])) for name in names]
        known = [np.isfinite(one) & np.isfinite(two) for one, two in pairs]
        means = np.array([[one[ok].mean(), two[ok].mean()] for (one, two), ok in zip(pairs, known, strict=True)])
        one, two = (np.concatenate([pair[side][ok] for pair, ok in zip(pairs, known, strict=True)]) for side in (0, 1))
        order = f", of the {len(names)} explainers {spearmanr(*means.T).statistic:.3f}" if len(names) > 2 else ""
        print(
            f"  {measure:<20} means apart by at most {np.abs(means[:, 0] - means[:, 1]).max():.4f}; "
            f"rank correlation of {len(one)} scores {spearmanr(one, two).statistic:.4f}{order}"
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a classifier")
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--examples", type=int, default=16, help="of a round")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 4 examples")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.examples = 2, 4
    return arguments


if __name__ == "__main__":
    main()
