"""What the store and the launcher take: resuming over finished cells, and many small cells computed one by one.

    python benchmarks/store.py resume --cells 10000     # every cell of a sweep is there: how long to see that
    python benchmarks/store.py small --cells 1000       # wall-clock time a cell beside that inside of evaluation

The cells of `resume` are one real cell under the names that the sweep's own jobs ask for; each is a folder of its own,
with its own checksums. Everything runs on a model of random weights, in one process, on one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import io
import json
import os
import pstats
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

from assay import command_line
from assay.benchmark import launch, progress, whole_folder
from assay.benchmark.cell import Cell
from assay.benchmark.loaded_job import load_job
from assay.benchmark.store import Store
from benchmarks.measuring import Seconds, machine, timed
from tests.benchmark.cli import save_model, save_task
from tests.tiny_models import CORPUS

EXAMPLES = 100
A_JOB = 40
"""Cells of a job, the two controls included."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["resume", "small"])
    parser.add_argument("--cells", type=int, default=1_000)
    parser.add_argument("--profile", action="store_true", help="print what took the time")
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    chosen = parser.parse_args()
    print(machine())
    with contextlib.ExitStack() as stack:
        folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        {"resume": resume, "small": small}[chosen.what](folder, chosen.cells, chosen.profile)


def resume(folder: Path, cells: int, profile: bool) -> None:
    """How long a command takes whose cells are all there."""
    sweep = [*_sweep(folder, explainers=A_JOB, jobs=max(1, cells // A_JOB)), f"results={folder / 'results'}"]
    if not (folder / "results").exists():
        _plant(folder, sweep)
    found = sum(1 for _ in (folder / "results").glob("[!.]*/*/*/cell.json"))
    size = sum(path.stat().st_size for path in (folder / "results").glob("[!.]*/*/*/*"))
    store, looking = Store(folder / "results"), time.process_time()
    for path in (folder / "results").glob("[!.]*/*/*"):
        store.find(Cell.read(path).meta)
    looking = time.process_time() - looking
    seconds, said = _timed(["run", "-m", *sweep], profile)
    assert said.count("were finished before") == max(1, cells // A_JOB), said[-2000:]
    print(f"{found:,} finished cells ({size / 1e6:,.0f} MB, {EXAMPLES} examples each)")
    print(f"whole command: {seconds.wall:.1f} s by the clock, {seconds.processor:.1f} s on the processor")
    print(f"of it to find them and compare every file with its SHA-256: {looking:.1f} s on the processor")


def small(folder: Path, cells: int, profile: bool) -> None:
    """What a small cell takes beside its evaluation."""
    from assay.benchmark import shard

    inside: list[Seconds] = []
    compute = shard.compute_shard

    def timed_shard(*arguments: Any, **named: Any) -> Any:
        found = []
        inside.append(timed(lambda: found.append(compute(*arguments, **named))))
        return found[0]

    sweep = [*_sweep(folder, explainers=10, jobs=max(1, cells // 10), examples=2), f"results={folder / 'small'}"]
    with patch("assay.benchmark.shards.compute_shard", timed_shard):
        seconds, _ = _timed(["run", "-m", *sweep], profile)
    found = len(Store(folder / "small").cells())
    for kind in ("wall", "processor"):
        whole, evaluation = getattr(seconds, kind), sum(getattr(one, kind) for one in inside)
        print(
            f"{found:,} small cells, {kind}: {whole:.1f} s, of which {evaluation:.1f} s in evaluation; "
            f"{1000 * (whole - evaluation) / found:.1f} ms a cell of launcher and store"
        )


def _sweep(folder: Path, explainers: int, jobs: int, examples: int = EXAMPLES) -> list[str]:
    """A sweep over seeds, with as many cells in a job: the two controls, and one method under many names."""
    texts = tuple(f"{CORPUS[number % len(CORPUS)]} {number}" for number in range(examples))
    save_task(folder / "data", texts)
    if not (folder / "model").exists():
        save_model(folder / "model")
    names = [f"loo_{number}" for number in range(explainers - 3)]
    return [
        f"model={folder / 'model'}",
        f"task.path={folder / 'data'}",
        "task=sst2",
        "tracker=none",
        "explainer=leave_one_out",
        *(f"+explainer@explainers.{name}=leave_one_out" for name in names),
        "allow_low_accuracy=true",
        "metric=default",
        f"seed={','.join(str(seed) for seed in range(jobs))}" if jobs > 1 else "seed=0",
    ]


def _plant(folder: Path, sweep: list[str]) -> None:
    """One real job, and copies of one of its cells under every other name that the sweep asks for."""
    first = [argument if not argument.startswith("seed=") else "seed=0" for argument in sweep[:5]]
    _timed(["run", *first, "allow_low_accuracy=true", f"results={folder / 'real'}"], False)
    real = next(cell for cell in Store(folder / "real").cells() if cell.explainer == "leave_one_out")

    def plant(config: Any) -> list[str]:
        job = load_job(config)
        for meta in job.metas.values():
            _copy(real.path, job.job.store.cell_path(meta), {**real.meta, **meta})
        return []

    launch.launch("run", plant, sweep, sweep=True)


def _copy(source: Path, target: Path, meta: Mapping[str, Any]) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("checksums.json"))
    whole_folder.write_json(target / "cell.json", meta)
    sums = json.loads((source / "checksums.json").read_text("utf-8"))
    whole_folder.write_json(
        target / "checksums.json", {**sums, "cell.json": whole_folder.checksum(target / "cell.json")}
    )


def _timed(arguments: list[str], profile: bool) -> tuple[Seconds, str]:
    """Run a command in this process; the seconds it took, and what it said."""
    profiler = cProfile.Profile() if profile else contextlib.nullcontext()
    out = io.StringIO()

    def command() -> None:
        try:
            command_line.main()
        except SystemExit as end:
            if end.code:
                raise RuntimeError(out.getvalue()[-2000:]) from end

    progress.console.file = out
    with patch.object(sys, "argv", ["assay", *arguments]), contextlib.redirect_stdout(out), profiler:
        seconds = timed(command)
    if isinstance(profiler, cProfile.Profile):
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(60)
    return seconds, out.getvalue()


if __name__ == "__main__":
    main()
