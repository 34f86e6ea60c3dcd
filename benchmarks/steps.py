"""Training steps a CPU second of each family at its defaults, beside another checkout of physgen.

    python benchmarks/steps.py [--before PATH] [--only cvae] [--turns 8]
    python benchmarks/steps.py --profile [--only cvae]

Each checkout trains in a process of its own, with one thread: the one that this file lies in and,
if it is given, the one of PATH (an earlier commit, as `git worktree add PATH COMMIT` makes it).
They take turns of a second, from the same weights on the same rows in the same order, validation
left out. Printed are medians over the turns after the first, their quotient, and the largest
difference between the losses of both in the first steps, nats a row.

`--profile` prints instead which operators of torch take how much of a step by themselves, and so a
gradient in closed form; what none does is Python, for the most part.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

import physgen
from physgen.dataset import Dataset
from physgen.registry import find
from physgen.surrogates.base import Objective
from physgen.training import InMemory, Trainer, Training

ROOT = Path(__file__).resolve().parents[1]
ISING8, ISING16 = ("ising", {"size": 8}), ("ising", {"size": 16})
SHOWER, CELLS = ("shower", {}), ("shower-voxel", {"layout": "mini"})
PHI4 = ("phi4", {"size": 16})
CASES: Mapping[str, tuple[str, Mapping[str, Any], tuple[str, Mapping[str, Any]]]] = {
    "autoregressive, L = 8": ("autoregressive", {}, ISING8),
    "autoregressive, L = 16": ("autoregressive", {}, ISING16),
    "masked diffusion, L = 8": ("diffusion", {}, ISING8),
    "masked diffusion, L = 16": ("diffusion", {}, ISING16),
    "cvae, L = 8": ("cvae", {}, ISING8),
    "cvae, L = 16": ("cvae", {}, ISING16),
    "Gaussian diffusion, L = 8": ("diffusion", {"kernel": "gaussian"}, ISING8),
    "gan, L = 8": ("gan", {}, ISING8),
    "autoregressive, shower": ("autoregressive", {}, SHOWER),
    "cvae, shower": ("cvae", {}, SHOWER),
    "diffusion, shower": ("diffusion", {}, SHOWER),
    "tree, cells": ("tree", {}, CELLS),
    "autoregressive, φ⁴": ("autoregressive", {}, PHI4),
    "cvae, φ⁴": ("cvae", {}, PHI4),
    "diffusion, φ⁴": ("diffusion", {}, PHI4),
    "flow, φ⁴ of 8 × 8": ("flow", {}, ("phi4", {"size": 8})),
}
"""Label → family, its options, and the simulator with its own."""
ROWS, COMPARED, OPERATORS = 10_000, 20, 14
Step = Iterator[float]


def steps(case: str, path: Path, named: bool = False) -> Step:
    """The loss of one training step after another, nats a row.

    Args:
        case: which of the cases.
        path: the rows.
        named: whether a profile shows a gradient in closed form by this name.
    """
    torch.set_num_threads(1)
    family, options, _ = CASES[case]
    cls, data = find("surrogates", family), Dataset(path)
    theta, x = torch.from_numpy(data.theta), torch.from_numpy(data.x)
    surrogate = cls.create(data.law, cls.Config(**options), 1)
    surrogate.fit_transform(x, theta)
    rows = InMemory(theta, x)
    trainer = Trainer(surrogate, rows, rows.spread(2), Training(epochs=1000))
    trainer.live.train()
    if named:
        trainer.parts = [(shown(objective), *rest) for objective, *rest in trainer.parts]
    for epoch in count():
        rng, generator = np.random.default_rng(epoch), torch.Generator().manual_seed(epoch)
        for batch in rows.batches(trainer.config.batch_size, rng):
            total = torch.zeros(())
            trainer._take_step(*batch, generator, total)
            yield float(total) / len(batch[0])


def shown(objective: Objective) -> Objective:
    """An objective whose gradient in closed form, if any, has a name in a profile."""
    if not objective.gradient:
        return objective
    name = torch.profiler.record_function("gradient in closed form")
    return objective._replace(gradient=name(objective.gradient))


def serve(case: str, path: Path) -> None:
    """Take a turn of so many seconds for each line of the input; print rate and losses."""
    going = steps(case, path)
    for line in sys.stdin:
        start, losses = time.process_time(), list[float]()
        while time.process_time() - start < float(line):
            losses.append(next(going))
        rate = len(losses) / (time.process_time() - start)
        print(json.dumps([rate, losses[:COMPARED]]), flush=True)


class Checkout:
    """Training steps of a checkout, in a process of its own."""

    def __init__(self, root: Path, case: str, path: Path) -> None:
        self.rates, self.losses = list[float](), list[float]()
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(path), "--only", case],
            env=os.environ | {"PYTHONPATH": str(root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def turn(self, seconds: float = 1.0) -> None:
        """Train for so many CPU seconds."""
        print(seconds, file=self.process.stdin, flush=True)
        rate, losses = json.loads(next(iter(self.process.stdout or ())))
        self.rates.append(rate)
        self.losses = self.losses or losses

    def end(self) -> float:
        """End the process; the median rate, steps a CPU second."""
        self.process.communicate()
        return statistics.median(self.rates[1:])


def beside(roots: list[Path], case: str, path: Path, turns: int) -> str:
    """A row of the table: rates of checkouts, their quotient, and how far losses are apart."""
    checkouts = [Checkout(root, case, path) for root in roots]
    for _ in range(1 + turns):
        for checkout in checkouts:
            checkout.turn()
    rates = [checkout.end() for checkout in checkouts]
    cells = [case, *(f"{rate:.1f}" for rate in rates)]
    if len(rates) > 1:
        pairs = zip(*(checkout.losses for checkout in checkouts), strict=False)
        cells += [f"{rates[1] / rates[0]:.2f}", f"{max(abs(a - b) for a, b in pairs):.1e}"]
    return f"| {' | '.join(cells)} |"


def profile(case: str, path: Path, seconds: float = 3.0) -> None:
    """Print what share of steps each operator takes by itself."""
    going, n = steps(case, path, named=True), 0
    for _ in range(20):
        next(going)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            next(going)
            n += 1
        took = 1e6 * (time.perf_counter() - start)  # the profiler's clock, too
    events = sorted(profiler.key_averages(), key=lambda e: -e.self_cpu_time_total)
    inside = sum(e.self_cpu_time_total for e in events)
    print(f"\n{case}: {took / n / 1e3:.2f} ms a step while profiled, {inside / took:.0%} in torch")
    print("| operator | calls a step | µs a step | share |\n|---|---|---|---|")
    for e in events[:OPERATORS]:
        spent = e.self_cpu_time_total
        print(f"| {e.key} | {e.count / n:.1f} | {spent / n:.0f} | {spent / took:.1%} |")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--before", type=Path, help="another checkout")
    parser.add_argument("--only", default="", help="cases whose label has this")
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.only, given.serve)
        return
    roots = [ROOT] if given.before is None else [given.before, ROOT]
    if not given.profile:
        columns = ["steps a CPU s"] if len(roots) == 1 else ["before", "now", "quotient", "losses"]
        print(f"| design | {' | '.join(columns)} |\n|{'---|' * (1 + len(columns))}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for case, (_, _, (simulator, options)) in CASES.items():
            if given.only not in case:
                continue
            path = Path(folder) / f"{simulator}{'-'.join(map(str, options.values()))}.h5"
            if not path.exists():
                physgen.simulate(simulator, out=path, n=ROWS, seed=1, **options)
            if given.profile:
                profile(case, path)
            else:
                print(beside(roots, case, path, given.turns), flush=True)


if __name__ == "__main__":
    main()
