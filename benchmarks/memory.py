"""Peak memory of a run, shard by shard, for few and for many examples: it must not grow beyond one shard.

The blocks that Python holds after each shard are counted too: they must stay the same. On a CPU, oneDNN keeps a
compiled kernel for each shape of a batch (1,024 of them by default); `--kernels` says how many it may keep here, so
that this does not hide what Assay itself holds.

Run it with: python benchmarks/memory.py [--rounds N]
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

EXPLAINERS: dict[str, dict[str, int]] = {
    "random": {},
    "first": {},
    "leave_one_out": {},
    "gradient": {},
    "lime": {"samples": 100},
}
METRICS = ("comprehensiveness", "sufficiency", "deletion", "insertion", "tau_loo")
CASES = ((64, 64), (512, 64), (512, 512))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kernels", type=int, default=0)
    parser.add_argument("--one", nargs=2, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure(*arguments.one)
        return
    environment = {**os.environ, "ONEDNN_PRIMITIVE_CACHE_CAPACITY": str(arguments.kernels)}
    found: dict[tuple[int, int], list[float]] = {case: [] for case in CASES}
    growth: dict[tuple[int, int], list[int]] = {case: [] for case in CASES}
    for _ in range(arguments.rounds):
        for case in CASES:
            command = [sys.executable, __file__, "--one", *map(str, case)]
            result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            mebibytes, blocks = result.stdout.split()[-2:]
            found[case].append(float(mebibytes))
            growth[case].append(int(blocks))
    unit = statistics.median(found[CASES[0]])
    print(
        f"{'examples':>8}  {'a shard':>8}  {'MiB above the loaded model':>27}  {'× first':>8}  "
        f"{'more blocks at the end':>22}"
    )
    for (examples, shard), values in found.items():
        middle = statistics.median(values)
        spread = f"{middle:.0f} ({min(values):.0f} to {max(values):.0f})"
        print(f"{examples:>8}  {shard:>8}  {spread:>27}  {middle / unit:8.2f}  {max(growth[examples, shard]):>22,}")


def measure(size: int, shard: int) -> None:
    """Explain and judge `size` examples.

    Prints how far the peak rose above the loaded model, in MiB, and how many more blocks Python holds after the last
    shard than after the first.
    """
    import torch

    import assay
    from assay import registry
    from assay.base_models import TinyBert
    from assay.benchmark.evaluation import Evaluation, Settings
    from assay.benchmark.store import Store
    from assay.classifier import Classifier

    torch.manual_seed(0)
    task = assay.load_task("planted_word", size=512)
    model = Classifier(*TinyBert(layers=1, width=32, intermediate=64).create(task))
    examples = list(task)
    metrics = {name: registry.build("metric", name) for name in METRICS}
    perturbations = {"mask": registry.build("perturbation", "mask")}
    meta = {name: {"key": name} for name in EXPLAINERS}

    def run(first: int, last: int, store: Store) -> None:
        evaluation = Evaluation(model, examples[first:last], metrics, perturbations, Settings())
        for name, settings in EXPLAINERS.items():
            evaluation.add_explainer(name, registry.build("explainer", name, **settings))
        for name, records in evaluation.run().items():
            store.write_shard(meta[name], first, last, records)

    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        run(0, 4, store)  # what is imported and built once
        before = peak()
        held = []
        for first in range(0, size, shard):
            run(first, first + shard, store)
            gc.collect()
            held.append(sys.getallocatedblocks())
        print(peak() - before, held[-1] - held[0])


def peak() -> float:
    """The most memory that this process has had, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    main()
