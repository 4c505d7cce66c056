"""How the examples of a job spread over workers, against what the cores of this machine allow.

Every round starts 1, 2 and 4 workers of one thread each, under joblib and under Ray, on the same job, and as many plain
processes that only run a model over a batch, which is the most that the cores allow. Workers wait for each other when
they are ready, so that start-up is not part of the rates; it is shown beside them.

    efficiency of N workers = (examples a second of N / of 1) / (batches a second of N plain processes / of 1)

Run it with: python benchmarks/scaling.py [--model PATH] [--examples N] [--rounds N] [--out scaling.png]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from joblib import Parallel, delayed
from measuring import machine
from omegaconf import DictConfig

from assay import load_task
from assay.base_models import TinyBert
from assay.benchmark import launch
from assay.classifier import Classifier

WORKERS = (1, 2, 4)
LAUNCHERS = ("joblib", "ray")
RAW_SECONDS = 8.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder of a classifier; by default 2 layers of width 128, random weights")
    parser.add_argument("--examples", type=int, default=192)
    parser.add_argument("--shard-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", help="a figure to draw")
    arguments = parser.parse_args()
    rates: dict[tuple[str, int], list[float]] = defaultdict(list)
    start_ups: dict[tuple[str, int], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        model = arguments.model or save_model(here)
        for number in range(arguments.rounds):
            for workers in WORKERS:
                rates["processes alone", workers].append(raw(model, workers))
                for launcher in LAUNCHERS:
                    results = here / f"{launcher}-{workers}-{number}"
                    rate, start_up = run(launcher, workers, model, results, arguments)
                    rates[launcher, workers].append(rate)
                    start_ups[launcher, workers].append(start_up)
            print(f"{number + 1} of {arguments.rounds} rounds, load {os.getloadavg()[0]:.1f}")
            show(rates, start_ups)
    print(f"\n{arguments.examples} examples in shards of {arguments.shard_size}, model {Path(model).name}; {machine()}")
    if arguments.out:
        draw(rates, Path(arguments.out))


def save_model(folder: Path) -> str:
    torch.manual_seed(0)
    settings = {"layers": 2, "width": 128, "heads": 4, "intermediate": 512, "spread": 0.05}
    network, tokenizer = TinyBert(**settings).create(load_task("planted_word", size=500))
    network.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return str(folder / "model")


def raw(model: str, processes: int) -> float:
    """Batches a second of plain processes that do nothing but run the model, all together."""
    barrier = Path(tempfile.mkdtemp())
    return sum(Parallel(n_jobs=processes)(delayed(forward_loop)(model, barrier, processes) for _ in range(processes)))


def forward_loop(model: str, barrier: Path, processes: int) -> float:
    torch.set_num_threads(1)
    network = Classifier.from_pretrained(model, device="cpu").model
    ids = torch.randint(5, 20, (128, 20))
    with torch.inference_mode():
        network(input_ids=ids)
        meet(barrier, processes)
        started, batches = time.time(), 0
        while time.time() - started < RAW_SECONDS:
            network(input_ids=ids)
            batches += 1
        return batches / (time.time() - started)


def meet(barrier: Path, count: int) -> None:
    """Wait until as many processes have come here."""
    (barrier / f"{os.getpid()}").touch()
    while len(list(barrier.iterdir())) < count:
        time.sleep(0.01)


def run(launcher: str, workers: int, model: str, results: Path, arguments: argparse.Namespace) -> tuple[float, float]:
    """Examples a second between the moment when all workers are ready and the end of the last; and what came before."""
    barrier, spans = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())

    def job(config: DictConfig) -> list[str]:
        # LIME imports it when it fits its first surrogate: a second of start-up for every worker.
        import sklearn.linear_model  # noqa: F401

        from assay.benchmark import run as module

        original = module.compute_shards

        def compute(*given: Any) -> float:
            meet(barrier, workers)
            begun = time.time()
            patience = original(*given)
            (spans / str(os.getpid())).write_text(f"{begun} {time.time()}")
            return patience

        module.compute_shards = compute
        try:
            return [str(cell.path) for cell in module.run(config)]
        finally:
            module.compute_shards = original

    started = time.time()
    with contextlib.redirect_stdout(io.StringIO()):
        launch.launch(
            "run",
            job,
            [
                *("task=planted_word", f"task.size={arguments.examples}", f"model.path={model}", f"results={results}"),
                *("explainer=[leave_one_out,lime]", "explainers.lime.samples=200", "tracker=none"),
                *("metric=[comprehensiveness,sufficiency]", "allow_low_accuracy=true", "model.device=cpu"),
                *(f"shard_size={arguments.shard_size}", f"workers={workers}", f"hydra/launcher={launcher}"),
                *((f"hydra.launcher.ray.init.num_cpus={max(WORKERS)}",) if launcher == "ray" else ()),
            ],
            sweep=False,
            spread=True,
        )
    found = [[float(word) for word in file.read_text().split()] for file in spans.iterdir()]
    begun, ended = max(first for first, _ in found), max(last for _, last in found)
    return arguments.examples / (ended - begun), begun - started


def efficiencies(rates: dict[tuple[str, int], list[float]], who: str, workers: int) -> list[float]:
    """Of each round: the gain of N workers over one, as a share of what plain processes gain."""
    gains = [
        [many / one for many, one in zip(rates[name, workers], rates[name, 1], strict=True)]
        for name in (who, "processes alone")
    ]
    return [gain / allowed for gain, allowed in zip(*gains, strict=True)]


def show(rates: dict[tuple[str, int], list[float]], start_ups: dict[tuple[str, int], list[float]]) -> None:
    print(f"{'':<16} {'workers':>7}  {'a second':>9}  {'gain':>5}  {'efficiency (lowest to highest)':<32}  start-up, s")
    for who, workers in rates:
        middle = statistics.median(rates[who, workers])
        gain = statistics.median(a / b for a, b in zip(rates[who, workers], rates[who, 1], strict=True))
        found = efficiencies(rates, who, workers)
        share = f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})" if who in LAUNCHERS else ""
        start_up = f"{statistics.median(start_ups[who, workers]):.1f}" if who in LAUNCHERS else ""
        print(f"{who:<16} {workers:>7}  {middle:>9.2f}  {gain:>5.2f}  {share:<32}  {start_up}")


def draw(rates: dict[tuple[str, int], list[float]], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5.5, 3.6), layout="constrained")
    styles = {"processes alone": ("0.5", "--", "s"), "joblib": ("#0072b2", "-", "o"), "ray": ("#d55e00", "-", "^")}
    for who, (color, line, marker) in styles.items():
        gains = [
            [many / one for many, one in zip(rates[who, workers], rates[who, 1], strict=True)] for workers in WORKERS
        ]
        axes.plot(
            WORKERS,
            [statistics.median(gain) for gain in gains],
            color=color,
            linestyle=line,
            marker=marker,
            label={"processes alone": "what the cores allow", "joblib": "joblib", "ray": "Ray"}[who],
        )
        axes.fill_between(
            WORKERS, [min(gain) for gain in gains], [max(gain) for gain in gains], color=color, alpha=0.12
        )
    axes.set_xticks(WORKERS)
    axes.set_xlabel(f"workers of one thread ({os.cpu_count()} cores)")
    axes.set_ylabel("throughput, of one worker's")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    main()
