"""Training on several processes: losses and steps a second of one and of two.

    python benchmarks/ranks.py [--epochs 4]

Trains two families on the Ising model at L = 16 by ``torchrun --nproc-per-node 1`` and ``2``, with
one thread a process, in the same batches of 256 rows, and prints a table: steps a second of wall
time, CPU milliseconds a step of all processes together, and the last validation loss. Wall time
says something on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import physgen
from physgen.nn.tensors import load_tensors

ROWS, BATCH, HELD = 4000, 256, 0.1
FAMILIES = ("autoregressive", "cvae")


def trained(family: str, data: Path, out: Path, processes: int, epochs: int) -> dict[str, Any]:
    """What a file says of a training in some processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), "-m", "physgen", "fit", family, str(data)]
    command += ["-o", str(out), "--epochs", str(epochs), "--batch-size", str(BATCH), "--quiet"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, **quiet)
    return load_tensors(out)[1]


def row(family: str, processes: int, told: dict[str, Any]) -> str:
    """A line of the table."""
    last = told["history"][-1]
    steps = last["epoch"] * math.ceil(ROWS * (1 - HELD) / BATCH)
    speed, cost = steps / last["seconds"], 1000 * last["cpu_seconds"] / steps
    return f"| {family} | {processes} | {speed:.1f} | {cost:.0f} | {last['val']:.3f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    epochs = parser.parse_args().epochs
    print("| family | processes | steps/s | CPU ms a step | validation loss, nats a row |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "ising.h5"
        physgen.simulate("ising", size=16, n=ROWS, seed=0, out=data)
        for family in FAMILIES:
            for processes in (1, 2):
                out = Path(folder) / f"{family}{processes}.pt"
                print(row(family, processes, trained(family, data, out, processes, epochs)))


if __name__ == "__main__":
    main()
