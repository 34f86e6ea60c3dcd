"""What `calibrate` can see: how often each check catches its controls, and cries wolf.

The posteriors that are judged are the exact ones, so that every failure is a false alarm: one in a
thousand is meant. The controls are too narrow by 30 %, or shifted by 0.3 widths.

    python -m benchmarks.calibration [--rows 200 500 1000] [--times 20]
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from physgen.checks.calibration.run import calibration
from physgen.checks.calibration.uniformity import ALPHA
from physgen.law import Law
from simulators.base import Array

LAWS = {
    "ising, 8 × 8": Law.of("ising", {"size": 8}),
    "gaussian, two parameters": Law.of("gaussian", {"size": 5, "parameters": 2, "noise": 0.5}),
}


@dataclass(frozen=True)
class Exact:
    """A simulator's own log p, in the place of a network.

    Attributes:
        law: of the simulator.
        method: what it is called.
    """

    law: Law
    method: str = "exact"

    def log_density(self, theta: Array, x: Array, which: Array) -> Array:
        """Log p(x|θ) of the rows of x that are named, (N,), as a network would give it."""
        return self.law.build().log_prob(theta, x[which])


def judged(law: Law, n: int, seed: int) -> dict[str, Any]:
    """A calibration of the exact posterior on n rows."""
    simulator, rng = law.build(), np.random.default_rng([n, seed])
    theta = law.prior.sample(n, rng)
    return calibration(Exact(law), theta, simulator.sample(theta, rng), law.prior, seed=seed)


def main() -> None:
    """Print a table for each simulator."""
    os.environ["OMP_NUM_THREADS"] = "1"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[200, 500, 1000])
    parser.add_argument("--times", type=int, default=20, help="datasets of each size")
    options = parser.parse_args()
    for name, law in LAWS.items():
        caught, alarms = defaultdict(list), defaultdict(list)
        for n in options.rows:
            for seed in range(options.times):
                for check in judged(law, n, seed)["checks"]:
                    key = check["name"].removesuffix(" of theta1").removesuffix(" of theta2")
                    caught[key, n].append(check["caught"])
                    alarms[key].append(check["p_value"] < ALPHA)
        print(f"\n{name}: controls caught, % of {options.times} datasets\n")
        print("| check | " + " | ".join(f"n = {n}" for n in options.rows) + " | false alarms |")
        print("|" + "---|" * (len(options.rows) + 2))
        for key in alarms:
            part = [f"{100 * np.mean(caught[key, n]):.0f}" for n in options.rows]
            wrong = f"{sum(alarms[key])} of {len(alarms[key])}"
            print(f"| {key} | {' | '.join(part)} | {wrong} |", flush=True)


if __name__ == "__main__":
    main()
