"""What the command line costs before it does anything, against an interpreter that does nothing.

Run it with: python benchmarks/start_up.py [--rounds N]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

from measuring import Seconds, machine, show_times

CALL = "import sys; from assay.command_line import main; sys.argv = {words!r}; main()"
COMMANDS = {
    "python -c pass": "pass",
    "assay --help": CALL.format(words=["assay", "--help"]),
    "assay list explainers": CALL.format(words=["assay", "list", "explainers"]),
    "assay run --help": CALL.format(words=["assay", "run", "--help"]),
}
HEAVY = ("torch", "transformers", "datasets", "wandb", "pandas", "pyarrow", "scipy", "sklearn", "plotly", "hydra")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    times: dict[str, list[Seconds]] = {name: [] for name in COMMANDS}
    for code in COMMANDS.values():
        start(code)  # compiled once, as after an installation
    for _ in range(rounds):
        for name, code in COMMANDS.items():
            times[name].append(start(code))
    show_times(times, "python -c pass")
    print()
    for name, code in COMMANDS.items():
        heavy = imported(code)
        print(f"{name}: {'imports ' + ', '.join(heavy) if heavy else 'nothing heavy is imported'}")
    print(f"\n{machine()}")


def start(code: str) -> Seconds:
    """One run in a process of its own."""
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Seconds(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def imported(code: str) -> list[str]:
    """The heavy packages that a command imports."""
    told = f"import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); {code}"
    result = subprocess.run([sys.executable, "-c", told], check=True, capture_output=True, text=True)
    return sorted(set(result.stderr.split()) & set(HEAVY))


if __name__ == "__main__":
    main()
