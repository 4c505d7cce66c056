"""Peak memory of a run, shard by shard, for few and for many examples: it must not grow beyond one shard.

The blocks that Python holds after each shard are counted too: they must stay the same. On a CPU, oneDNN keeps a
compiled kernel for each shape of a batch (1,024 of them by default); `--kernels` says how many it may keep here, so
that this does not hide what Assay itself holds.

    python benchmarks/memory.py [--rounds N]            # the evaluation of shards
    python benchmarks/memory.py --whole 500 10000       # the whole command, over so many examples
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
    parser.add_argument("--whole", nargs="+", type=int, metavar="EXAMPLES", help="peaks of `assay run` as a whole")
    arguments = parser.parse_args()
    if arguments.one:
        measure(*arguments.one)
        return
    if arguments.whole:
        whole(arguments.whole)
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


def whole(sizes: list[int]) -> None:
    """The peak of a command from its start to the finished cells, over so many examples, for each of some sizes."""
    import torch

    import assay
    from assay.base_models import TinyBert

    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        task = assay.load_task("planted_word", size=512)
        model, tokenizer = TinyBert(layers=1, width=32, intermediate=64).create(task)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        first = None
        for size in sizes:
            command = [Path(sys.executable).with_name("assay"), "run", f"model.path={folder}", "tracker=none"]
            command += ["task=planted_word", f"task.examples.validation={size}", f"results={folder}/{size}"]
            command += ["explainer=[leave_one_out,gradient,oracle]", "explainers.oracle.exact_up_to=2"]
            command += ["explainers.oracle.width=1", "explainers.oracle.candidates=2", "allow_low_accuracy=true"]
            command += ["metric=[comprehensiveness,sufficiency,deletion]"]
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            _, code, used = os.wait4(child.pid, 0)
            assert code == 0, command
            mebibytes = used.ru_maxrss * (1 if sys.platform == "darwin" else 2**10) / 2**20
            first = first or mebibytes
            print(f"{size:>8} examples: {mebibytes:.0f} MiB at most, {mebibytes / first:.2f} × first", flush=True)


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
