"""How long `assay leaderboard build` takes for many cells, what memory it needs, and what one new cell costs.

Results are made up (see synthetic_results.py) under a folder of your choice, about 4 GB for 10,000 cells, and stay
there until you delete them; a folder of results that is there already is not made again.

Run it with: python benchmarks/leaderboard.py FOLDER [--cells 1000 5000 10000] [--workers 2]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from measuring import machine
from synthetic_results import add_cell, make_results

EXPLAINERS = 200
EXAMPLES = 500
BUILD = """
import sys
from pathlib import Path
from assay.leaderboard.build import build
if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
"""


@dataclass(frozen=True)
class Measured:
    """One build: by the clock, on the processors, and the most memory that all its processes held at once."""

    wall: float
    processor: float
    gigabytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cells", type=int, nargs="+", default=[1000, 5000, 10_000])
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    print(machine())
    print(f"{'cells':>7}  {'seconds':>8}  {'processor':>9}  {'GB':>5}  {'ms a cell':>9}  {'one new cell, seconds':>22}")
    for cells in arguments.cells:
        results = arguments.folder / f"results_{cells}"
        if not results.is_dir():
            make_results(results, EXPLAINERS, cells // EXPLAINERS, EXAMPLES, arguments.workers)
        site = arguments.folder / f"site_{cells}"
        shutil.rmtree(site, ignore_errors=True)
        first = measure(results, site, arguments.workers)
        new = add_cell(results, 10_000)
        again = measure(results, site, arguments.workers)
        shutil.rmtree(new)
        print(
            f"{cells:>7,}  {first.wall:8.1f}  {first.processor:9.1f}  {first.gigabytes:5.2f}  "
            f"{1000 * first.processor / cells:9.1f}  {again.wall:14.1f} ({again.processor:.1f})",
            flush=True,
        )


def measure(results: Path, site: Path, workers: int) -> Measured:
    """Build once, in a process of its own."""
    before, start = os.times(), time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", BUILD, str(results), str(site), str(workers)])
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.2):
            peak = max(peak, resident(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    wall, after = time.perf_counter() - start, os.times()
    done.set()
    watcher.join()
    if status:
        raise SystemExit(f"The build of {results} failed.")
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return Measured(wall, spent, peak / 1e9)


def resident(root: int) -> int:
    """The bytes that a process and all below it hold; what they share is counted for each."""
    parents: dict[int, int] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    family = {root}
    while grown := {child for child, parent in parents.items() if parent in family} - family:
        family |= grown
    total = 0
    for member in family:
        try:
            total += int(Path(f"/proc/{member}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            continue
    return total


if __name__ == "__main__":
    main()
