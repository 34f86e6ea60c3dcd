"""CPU ms a posterior of trained models of Ising lattices, beside the exact ones.

For each file: a surrogate's posteriors with the draws that it takes for them, or a network's. The
exact posterior on a fine uniform grid is what errors are held against; the control, the exact
likelihood on the grid that models get, reads 0.000 / 1.000 / 0.500. To compare commits run it in
turn in the checkout of each, on the same files.

    python -m benchmarks.posterior_speed cvae.pt diffusion.pt fmpe.pt [--n 100] [--repeat 5]
    python -m benchmarks.posterior_speed diffusion16.pt --size 16 --n 10
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import physgen
from physgen.checks.exact.agreement import agreement
from physgen.errors import DataError
from physgen.law import Law
from physgen.posterior.grid import (
    GridPosterior,
    grid_posterior,
    network_grid,
    of_exact,
    of_network,
    of_surrogate,
)
from physgen.runtime.device import threads
from physgen.sbi.networks import Network
from simulators.base import Array, Simulator

SEED = 2**20
HEAD = ("model", "CPU ms", "evaluations", "error, exact widths", "width ratio", "½ + TV/2")

Posteriors = Callable[[Array], GridPosterior]
"""x (n, *x_shape) → their posteriors."""


def ways(paths: list[Path], simulator: Simulator, draws: int | None) -> Iterator[Any]:
    """Name and `Posteriors` of the exact likelihood and of each file."""
    prior = simulator.prior
    yield "exact", lambda x: grid_posterior(of_exact(simulator.log_prob, x), prior, len(x))
    for path in paths:
        try:
            network = Network.load(path, torch.device("cpu"))
        except DataError:
            model = physgen.load(path, device="cpu")[0]
            density, grid = partial(of_surrogate, model, draws=draws), {}
        else:
            density, grid = partial(of_network, network), network_grid(network, len(prior))
        yield path.stem, partial(on_grid, density, grid, prior)


def on_grid(density: Any, grid: Any, prior: Any, x: Array) -> GridPosterior:
    """Posteriors of x (n, *x_shape) from a log density on a grid of these options."""
    return grid_posterior(density(x), prior, len(x), **grid)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--n", type=int, default=100, help="lattices")
    parser.add_argument("--size", type=int, default=8, help="sites along a side, L")
    parser.add_argument("--repeat", type=int, default=5, help="times, of which the median counts")
    parser.add_argument("--draws", type=int, help="of each log p; the family's own if left out")
    given = parser.parse_args()
    simulator = Law.of("ising", {"size": given.size}).build()
    rng = np.random.default_rng(SEED)
    x = simulator.sample(simulator.prior.sample(given.n, rng), rng)
    likelihood = of_exact(simulator.log_prob, x)
    exact = grid_posterior(likelihood, simulator.prior, given.n, nodes=401, rounds=1)
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    with threads(1):
        for name, posteriors in ways(given.models, simulator, given.draws):
            posteriors(x[:2])
            spent = []
            for _ in range(given.repeat):
                start = time.process_time()
                found = posteriors(x)
                spent.append(1e3 * (time.process_time() - start) / given.n)
            a = agreement(exact, found)
            figures = (abs(a.shift).mean(), a.ratio.mean(), a.c2st.mean())
            told = " | ".join(f"{value:.3f}" for value in figures)
            ms, asked = np.median(spent), found.evaluations.mean()
            print(f"| {name} | {ms:.2f} | {asked:.0f} | {told} |", flush=True)


if __name__ == "__main__":
    main()
