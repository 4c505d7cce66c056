"""The table of precision@k on planted tasks, from the results of a run.

python benchmarks/planted.py RESULTS OUT.csv
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from assay import registry
from assay.benchmark.store import Store
from assay.benchmark.summary import COVERAGE

MEASURE = "ground_truth_precision"


def main(results: Path, out: Path) -> None:
    """Write a row for each explainer and a column for each task; what was not run is a dash."""
    found: dict[tuple[str, str], float] = {}
    for cell in Store(results).cells():
        scores = cell.scores
        values = scores.loc[scores["metric"] == MEASURE, "value"]
        # A mean over the short texts alone is not comparable with one over all.
        if len(values) and values.notna().mean() >= COVERAGE:
            found[cell.explainer, cell.meta["protocol"]["task"]["name"]] = float(values.mean())
    tasks = sorted({task for _, task in found})
    means = {
        name: sum(found.get((name, task), 0.0) for task in tasks)
        for name in registry.names("explainer")
        if any((name, task) in found for task in tasks)
    }
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["explainer", *(f"`{task}`" for task in tasks)])
        for name in sorted(means, key=lambda name: -means[name]):
            writer.writerow([name, *(f"{found[name, task]:.2f}" if (name, task) in found else "—" for task in tasks)])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
