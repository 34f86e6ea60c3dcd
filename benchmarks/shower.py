"""Showers on one core: `python benchmarks/shower.py`.

Prints two Markdown tables: showers drawn a second at three energies, and what the exact
likelihood costs, a row and a posterior of one event (medians over repeats, and the mean and
quantiles over events drawn from the prior). CPU time stands beside wall time, since the machine
may be shared. Compilation is not counted.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from statistics import median

import numpy as np

from physgen.posterior.grid import grid_posterior, of_exact
from simulators.shower import Shower, ShowerEnergy, ShowerVoxel

ENERGIES = (1.0, 10.0, 100.0)
START = 1.0  # X₀ of dead material
Timing = tuple[float, float]


def timed(run: Callable[[], object], repeats: int) -> Timing:
    """Median wall and CPU seconds of `run`, after one call that is not counted."""
    run()
    times = [once(run) for _ in range(repeats)]
    return median(wall for wall, _ in times), median(cpu for _, cpu in times)


def once(run: Callable[[], object]) -> Timing:
    """Wall and CPU seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def draws(simulator: Shower | ShowerEnergy | ShowerVoxel, n: int, repeats: int) -> list[str]:
    """Showers a second, CPU (wall), at each energy."""
    cells = []
    for energy in ENERGIES:
        theta = np.tile([math.log(energy), START][: len(simulator.prior)], (n, 1))
        wall, cpu = timed(lambda t=theta: draw(simulator, t), repeats)
        cells.append(f"{n / cpu:,.0f} ({n / wall:,.0f})")
    return cells


def draw(simulator: Shower | ShowerEnergy | ShowerVoxel, theta: np.ndarray) -> np.ndarray:
    """The same showers at every call."""
    return simulator.sample(theta, np.random.default_rng(0))


def row(simulator: Shower | ShowerEnergy | ShowerVoxel, n: int, repeats: int) -> str:
    """Microseconds that one log p takes, at θ from the prior that x was drawn at."""
    theta = simulator.prior.sample(n, np.random.default_rng(1))
    x = draw(simulator, theta)
    wall, cpu = timed(lambda: simulator.log_prob(theta, x), repeats)
    return f"{cpu * 1e6 / n:.0f} ({wall * 1e6 / n:.0f})"


def posteriors(simulator: Shower | ShowerEnergy | ShowerVoxel, n: int) -> str:
    """Seconds that the exact posterior of one event takes: mean, then quantiles of CPU time."""
    theta = simulator.prior.sample(n, np.random.default_rng(2))
    x = draw(simulator, theta)

    def solve(i: int) -> object:
        return grid_posterior(of_exact(simulator.log_prob, x[i : i + 1]), simulator.prior, 1)

    solve(0)
    wall, cpu = np.array([once(lambda i=i: solve(i)) for i in range(n)]).T
    low, middle, high = np.quantile(cpu, [0.1, 0.5, 0.9])
    return f"{cpu.mean():.3f} ({wall.mean():.3f}) | {low:.3f} / {middle:.3f} / {high:.3f}"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repeats and events")
    quick = parser.parse_args().quick
    repeats, events = (3, 10) if quick else (7, 40)

    print("Showers drawn a second, behind 1 X₀: CPU (wall)\n")
    print("| simulator | 1 GeV | 10 GeV | 100 GeV |\n|---|---|---|---|")
    for name, simulator, n in (
        ("shower", Shower(), 20_000),
        ("shower-energy", ShowerEnergy(), 20_000),
        ("shower-voxel, mini", ShowerVoxel(), 2000),
        ("shower-voxel, calochallenge", ShowerVoxel(layout="calochallenge"), 1000),
    ):
        print(f"| {name} | {' | '.join(draws(simulator, n, repeats))} |")

    print("\nExact likelihood: μs a row, s an event's posterior, CPU (wall); quantiles of CPU\n")
    print("| simulator | log p, μs | posterior, s | 10 % below / median / 90 % below |")
    print("|---|---|---|---|")
    print(f"| shower | {row(Shower(), 1000, repeats)} | {posteriors(Shower(), events)} |")
    energy = ShowerEnergy()
    print(f"| shower-energy | {row(energy, 1000, repeats)} | {posteriors(energy, events)} |")
    print(f"| shower-voxel, mini | {row(ShowerVoxel(), 100, 3)} | | |")
    print(f"| shower, photon | {row(Shower(particle='photon'), 40, 3)} | | |")


if __name__ == "__main__":
    main()
