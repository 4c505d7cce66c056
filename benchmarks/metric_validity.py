"""A benchmark of the metrics themselves: they judge explanations whose quality is known.

    python benchmarks/metric_validity.py measure OUT.parquet TASK MODEL [--size N] [--perturbations A,B] [KEY=VALUE]
    python benchmarks/metric_validity.py report OUT.csv AGREEMENT.csv PLOT.png MEASURED.parquet ...

`measure` takes a task that knows the words that decide, makes explanations of them (the truth, the truth with noise at
several levels, chance, the truth reversed), and has every metric judge every one under every perturbation. KEY=VALUE is
a setting of the task. `report` turns what was measured into a table, one of agreement between metrics, and a plot.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from assay import registry
from assay.benchmark.evaluation import Evaluation, Settings
from assay.benchmark.intervals import mean_interval
from assay.benchmark.labels import match_labels
from assay.benchmark.preparation import prepare
from assay.classifier import Classifier
from assay.conversation import Attribution, generator
from assay.encoding import Encoding
from assay.metrics.base import Metric
from assay.tasks import load_task

# Standard deviation of the noise on scores that are 1 for the words that decide and 0 for the others.
NOISE = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
SEEDS = (0, 1)
# They compare with the truth, do not judge the attribution at all, or ask whether scores obey an axiom (256 rows for
# each explanation), which chance and its reverse may do as well as the truth.
NOT_JUDGED = ("cost", "ground_truth", "pointing_game", "plausibility", "hidden_confidence", "symmetry", "missingness")
# What these say hangs on their own random numbers; the others are the same whatever the seed.
RANDOM = (
    "faithfulness_correlation",
    "infidelity",
    "f_fidelity",
    "diagnosticity",
    "win_rate",
    "soft_comprehensiveness",
    "soft_sufficiency",
    "pi_soft_comprehensiveness",
    "pi_soft_sufficiency",
)
SHARD = 8
# Below this many explanations with a value a rank correlation says little.
FEWEST = 5


def explanations(encoding: Encoding, rationale: NDArray[np.bool_], seed: int) -> dict[str, NDArray[np.float64]]:
    """Scores of known quality for one example, by level."""
    truth = rationale.astype(np.float64)
    draw = {level: generator(seed, encoding.id, f"level {level}").normal(size=encoding.n) for level in (*NOISE, "rest")}
    # Equal scores would have their order drawn by the ranking; a little noise draws it here, once for all metrics.
    found = {f"noise {level:g}": truth + max(level, 1e-3) * draw[level] for level in NOISE}
    return {**found, "chance": draw["rest"], "reversed": -truth + 0.25 * draw["rest"]}


def measure(
    out: Path,
    task_name: str,
    model_path: str,
    size: int,
    perturbations: list[str],
    dtype: Any,
    without: list[str],
    settings: dict[str, Any],
) -> None:
    """Judge explanations of known quality by every metric that converses; a row for each value."""
    task = load_task(task_name, size=size, **settings)
    model = Classifier.from_pretrained(model_path, device="cpu", dtype=dtype)
    match = match_labels(task.labels, model.labels)
    examples = [example.relabelled(match.class_of_label) for example in task]
    metrics = {
        name: metric
        for name in registry.names("metric")
        if name not in (*NOT_JUDGED, *without) and isinstance(metric := registry.build("metric", name), Metric)
    }
    hiding = {name: registry.build("perturbation", name) for name in perturbations}
    train = load_task(task_name, split="train", size=500, **settings).examples
    prepare({}, hiding, model, lambda count: train[:count], seed=0)
    signs = {
        measure.name: 1.0 if measure.direction == "higher" else -1.0
        for metric in metrics.values()
        for measure in metric.measures
        if measure.headline and measure.direction != "none"
    }
    rows = []
    for first in range(0, len(examples), SHARD):
        for metric_seed in SEEDS:
            asked = {name: one for name, one in metrics.items() if metric_seed == SEEDS[0] or name in RANDOM}
            evaluation = Evaluation(
                model, examples[first : first + SHARD], asked, hiding, Settings(target="gold", seed=metric_seed)
            )
            known = {}
            for seed in SEEDS:
                made = []
                for example, encoding, target in zip(
                    evaluation.examples, evaluation.encodings, evaluation.targets, strict=True
                ):
                    rationale = encoding.rationale(example, target)
                    if rationale is None or rationale.all() or not rationale.any():
                        raise SystemExit(f"{example.id} has no usable rationale.")
                    scores = explanations(encoding, rationale, seed)
                    made.append(scores)
                    for level, values in scores.items():
                        known[example.id, level, seed] = float(roc_auc_score(rationale, values))
                for level in made[0]:
                    evaluation.add_attributions(
                        f"{level}|{seed}",
                        [
                            Attribution(encoding.features, scores[level], target)
                            for encoding, scores, target in zip(
                                evaluation.encodings, made, evaluation.targets, strict=True
                            )
                        ],
                    )
            for name, records in evaluation.run().items():
                level, seed_text = name.split("|")
                for row in records.scores:
                    if row["metric"] in signs:
                        rows.append(
                            {
                                "task": task.name,
                                "example": row["example"],
                                "level": level,
                                "seed": int(seed_text),
                                "metric_seed": metric_seed,
                                "perturbation": row["perturbation"],
                                "measure": row["metric"],
                                "goodness": signs[row["metric"]] * row["value"],
                                "quality": known[row["example"], level, int(seed_text)],
                            }
                        )
        print(f"{task.name}: {min(first + SHARD, len(examples))} of {len(examples)} examples", flush=True)
    pd.DataFrame(rows).to_parquet(out)


def correlation(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Spearman's correlation of what both have a value for; 0 where one of them tells nothing apart."""
    both = np.isfinite(one) & np.isfinite(two)
    if both.sum() < FEWEST:
        return float("nan")
    ranks = rankdata(one[both]), rankdata(two[both])
    if any(np.ptp(part) == 0 for part in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def same(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Spearman's correlation of a metric's values with those of other random numbers; 1 where they are equal."""
    return 1.0 if np.array_equal(one, two, equal_nan=True) else correlation(one, two)


def report(table: Path, agreement: Path, plot: Path, measured: list[Path]) -> None:
    """Write validity, discrimination and stability of every measure under every perturbation, and their agreement."""
    frame = pd.concat([pd.read_parquet(path) for path in measured])
    wide = frame.pivot_table(
        index=["task", "example", "perturbation", "metric_seed"],
        columns=["measure", "level", "seed"],
        values="goodness",
        dropna=False,
        observed=True,
    )
    wide = wide.loc[wide.notna().any(axis=1)]
    quality = frame.drop_duplicates(["task", "example", "level", "seed"]).pivot(
        index=["task", "example"], columns=["level", "seed"], values="quality"
    )
    first = wide.xs(SEEDS[0], level="metric_seed")
    other = wide.xs(SEEDS[1], level="metric_seed").reindex(first.index)
    judged = set(frame[["task", "measure"]].drop_duplicates().itertuples(index=False, name=None))
    rows = []
    for measure_name in dict.fromkeys(frame["measure"]):
        values, again = first[measure_name], other[measure_name]
        if not again.notna().any(axis=None):
            again = values
        truths = np.stack([quality.loc[(task, example)].reindex(values.columns) for task, example, _ in values.index])
        per_example = pd.DataFrame(
            {
                "validity": [correlation(*pair) for pair in zip(values.to_numpy(), truths, strict=True)],
                "stability": [same(*pair) for pair in zip(values.to_numpy(), again.to_numpy(), strict=True)],
                "discrimination": _preferred(values),
                "undefined": values.isna().mean(axis=1).to_numpy(),
            },
            index=values.index,
        )
        for (task, perturbation), group in per_example.groupby(["task", "perturbation"]):
            if (task, measure_name) not in judged:
                continue
            found = {name: mean_interval(group[name].to_numpy(np.float64)) for name in per_example.columns[:3]}
            rows.append(
                {
                    "measure": measure_name,
                    "task": task,
                    "perturbation": perturbation,
                    "examples": len(group),
                    "undefined": group["undefined"].mean(),
                    **{f"{name}{end}": value for name, one in found.items() for end, value in _ends(one)},
                }
            )
    result = pd.DataFrame(rows)
    result.to_csv(table, index=False, float_format="%.4f")
    matrix = _agreement(first)
    matrix.to_csv(agreement, float_format="%.3f")
    _draw(result, matrix, plot)
    print(_in_words(result))


def _in_words(result: pd.DataFrame) -> str:
    """A Markdown table: for each measure its means over tasks, all tasks counting alike, the most valid first.

    Perturbations that more than one task lacks are left out; columns of the others are means over tasks that have all.
    """
    tasks_of = result.groupby("perturbation")["task"].agg(set)
    kept = [name for name, tasks in tasks_of.items() if len(tasks) >= result["task"].nunique() - 1]
    common = set.intersection(*(tasks_of[name] for name in kept))
    result = result[result["perturbation"].isin(kept)]
    groups = {
        "planted": result["task"].str.startswith("planted"),
        "shortcut": result["task"].str.startswith("shortcut"),
        "hybrid": result["task"].str.startswith("hybrid"),
    }
    columns = {name: result[chosen].groupby("measure")["validity"].mean() for name, chosen in groups.items()}
    columns |= {
        f"`{name}`": result[(result["perturbation"] == name) & result["task"].isin(common)]
        .groupby("measure")["validity"]
        .mean()
        for name in kept
    }
    columns |= {
        "worst": result.groupby("measure")["validity"].min(),
        "truth > chance": result.groupby("measure")["discrimination"].mean(),
        "stability": result.groupby("measure")["stability"].mean(),
        "undefined": result.groupby("measure")["undefined"].mean(),
    }
    table = pd.DataFrame({"validity": result.groupby("measure")["validity"].mean(), **columns})
    table = table.sort_values("validity", ascending=False)
    lines = [f"| measure | {' | '.join(table.columns)} |", f"|---|{'---|' * len(table.columns)}"]
    for name, row in table.iterrows():
        cells = ["—" if np.isnan(value) else f"{value:.2f}" for value in row]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _ends(one: Any) -> list[tuple[str, float]]:
    return [("", one.mean), ("_low", one.low), ("_high", one.high)]


def _preferred(values: pd.DataFrame) -> NDArray[np.float64]:
    """How often the truth is judged better than chance, a tie counting half; [examples], NaN where undefined."""
    wins = []
    for seed in SEEDS:
        truth, chance = values[("noise 0", seed)].to_numpy(), values[("chance", seed)].to_numpy()
        win = (truth > chance) + 0.5 * (truth == chance)
        wins.append(np.where(np.isfinite(truth) & np.isfinite(chance), win, np.nan))
    with np.errstate(all="ignore"):
        found: NDArray[np.float64] = pd.DataFrame(np.array(wins).T).mean(axis=1).to_numpy()
    return found


def _agreement(values: pd.DataFrame) -> pd.DataFrame:
    """Mean rank correlation of each two measures over the explanations of an example."""
    names = list(dict.fromkeys(values.columns.get_level_values("measure")))
    by_measure = {name: values[name].to_numpy() for name in names}
    matrix = pd.DataFrame(np.eye(len(names)), index=names, columns=names)
    for place, one in enumerate(names):
        for two in names[place + 1 :]:
            found = [correlation(*pair) for pair in zip(by_measure[one], by_measure[two], strict=True)]
            mean = float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")
            matrix.loc[one, two] = matrix.loc[two, one] = mean
    return matrix


def _draw(result: pd.DataFrame, matrix: pd.DataFrame, plot: Path) -> None:
    """Validity of each measure by perturbation, a panel for each task, and the agreement between measures."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    order = result.groupby("measure")["validity"].mean().sort_values().index.tolist()
    tasks = list(dict.fromkeys(result["task"]))
    columns = 4
    lines = -(-len(tasks) // columns)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(16, 1.2 + 0.26 * len(order) * lines), sharey=True, sharex=True, squeeze=False
    )
    colours = dict(zip(dict.fromkeys(result["perturbation"]), pyplot.get_cmap("tab10").colors, strict=False))
    for panel, task in zip(axes.flat, tasks, strict=False):
        for number, (perturbation, colour) in enumerate(colours.items()):
            group = result[(result["task"] == task) & (result["perturbation"] == perturbation)].set_index("measure")
            group = group.reindex(order)
            heights = np.arange(len(order)) + 0.12 * (number - len(colours) / 2)
            panel.hlines(heights, group["validity_low"], group["validity_high"], color=colour, alpha=0.5, linewidth=1)
            panel.plot(group["validity"], heights, "o", color=colour, markersize=3.5, label=perturbation)
        panel.axvline(0, color="0.7", linewidth=0.8)
        panel.set_title(task, fontsize=11)
        panel.set_xlim(-1.05, 1.05)
        panel.grid(axis="x", color="0.92")
        panel.set_yticks(range(len(order)), order, fontsize=8)
    for panel in list(axes.flat)[len(tasks) :]:
        panel.axis("off")
    axes[0][0].legend(fontsize=8, loc="lower left")
    figure.supxlabel(
        "validity: rank correlation with the known quality (mean over examples, 95 % interval)", fontsize=10
    )
    figure.tight_layout()
    figure.savefig(plot, dpi=110)
    pyplot.close(figure)
    order = order[::-1]
    figure, axis = pyplot.subplots(figsize=(11, 10))
    image = axis.imshow(matrix.loc[order, order], cmap="RdBu", vmin=-1, vmax=1)
    axis.set_xticks(range(len(order)), order, rotation=90, fontsize=8)
    axis.set_yticks(range(len(order)), order, fontsize=8)
    figure.colorbar(image, label="mean rank correlation over the explanations of an example", shrink=0.8)
    figure.tight_layout()
    figure.savefig(plot.with_stem(f"{plot.stem}_agreement"), dpi=110)


def main(arguments: list[str]) -> None:
    """Run one of the two commands."""
    command, *rest = arguments
    if command == "report":
        report(Path(rest[0]), Path(rest[1]), Path(rest[2]), [Path(path) for path in rest[3:]])
        return
    options = {"--size": "40", "--perturbations": "mask,delete", "--dtype": "float32", "--without": ""}
    plain = []
    while rest:
        word = rest.pop(0)
        if word in options:
            options[word] = rest.pop(0)
        else:
            plain.append(word)
    settings = {key: yaml.safe_load(value) for key, value in (word.split("=", 1) for word in plain[3:])}
    names = options["--perturbations"].split(",")
    without = options["--without"].split(",")
    measure(Path(plain[0]), plain[1], plain[2], int(options["--size"]), names, options["--dtype"], without, settings)


if __name__ == "__main__":
    main(sys.argv[1:])
