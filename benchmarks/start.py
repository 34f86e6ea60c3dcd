"""How long a command takes to start: ``python benchmarks/start.py [CHECKOUT …]``.

Of this checkout and of others, one after another in each round, so that all share the same load:
medians of seven runs, CPU seconds of user and system together (wall).
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
OLD = ROOT / "data" / "v0.1"
RUNS = 7
PHYSGEN = ["-m", "physgen"]
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "physgen --help": [*PHYSGEN, "--help"],
    "physgen simulate ising --help": [*PHYSGEN, "simulate", "ising", "--help"],
    "physgen inspect ising.h5": [*PHYSGEN, "inspect", OLD / "ising.h5"],
    "physgen infer cvae.pt ising.h5 --rows 0:1": [
        *PHYSGEN, "infer", OLD / "cvae.pt", OLD / "ising.h5", "--rows", "0:1", "-o", "p.h5",
        "--force",
    ],
}  # fmt: skip


def timed(words: list[object], checkout: Path, folder: str) -> tuple[float, float]:
    """CPU and wall seconds of a python with the package of a checkout."""
    env = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    call = [sys.executable, *map(str, words)]
    subprocess.run(call, cwd=folder, env=env, check=True, capture_output=True)
    after, ended = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, ended - begun


def main(checkouts: list[Path]) -> None:
    """Print the table."""
    print("| command |", " | ".join(["CPU s (wall)", *map(str, checkouts[1:])]), "|")
    print("|---|" + "---|" * len(checkouts))
    with tempfile.TemporaryDirectory() as folder:
        for name, words in COMMANDS.items():
            rounds = [[timed(words, path, folder) for path in checkouts] for _ in range(RUNS)]
            each = [
                map(statistics.median, zip(*runs, strict=True))
                for runs in zip(*rounds, strict=True)
            ]
            cells = [f"{cpu:.2f} ({wall:.2f})" for cpu, wall in each]
            print(f"| `{name}` |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main([ROOT, *map(Path, sys.argv[1:])])
