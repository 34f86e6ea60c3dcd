"""What calibration judges: densities of θ given x, and where x to hold them against come from.

A *surrogate* is judged by its log p(x|θ), and draws x of its own, for which its posteriors are
right if its log p is the law that it draws from. A *network* of sbi is judged by its log density
of θ given x, known up to a function of x; x come from the simulator, where that is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from physgen.errors import UsageError
from physgen.law import Law
from physgen.posterior.amortised import network_draws
from physgen.posterior.base import Draws
from physgen.posterior.grid import (
    NODES,
    GridPosterior,
    LogLikelihood,
    grid_posterior,
    network_grid,
    of_network,
    of_surrogate,
)
from physgen.posterior.smc import smc
from physgen.sbi.networks import Network
from physgen.surrogates.base import Likelihood, Surrogate
from simulators.base import Array, Simulator
from simulators.prior import Prior

__all__ = ["Target", "target_of"]


@dataclass(frozen=True)
class Target:
    """A law of θ given x, and of x given θ.

    Attributes:
        name: what it is called.
        law: what its x follow.
        log_density: x (n, *x_shape), which rows they are (n,), seed → log p(x|θ), up to a
            function of x, as `grid_posterior` wants it; equal for equal x, row and seed.
        draw: θ (n, D) → one x for each; None where nothing can be drawn.
        is_own: whether x is drawn by the very law that log_density is of.
        likelihood: kind of the log p(x|θ); empty if it is a density of θ.
        draws: random draws of each log p(x|θ); None where there are none.
        grid: options of the grid that resolves its posteriors.
        network: what draws θ by itself, of more parameters than a grid is for; None where
            nothing does.
    """

    name: str
    law: Law
    log_density: Callable[[Array, Array, int], LogLikelihood]
    draw: Callable[[Array, np.random.Generator], Array] | None
    is_own: bool
    likelihood: str = ""
    draws: int | None = None
    grid: Mapping[str, Any] = field(default_factory=dict)
    network: Network | None = None

    @property
    def posteriors(self) -> str:
        """What its posteriors are made by: grid, network or smc."""
        return "grid" if len(self.law.prior) in NODES else "network" if self.network else "smc"

    def posterior(
        self, x: Array, index: Array, prior: Prior, k: int, seed: int
    ) -> GridPosterior | Draws:
        """Posteriors of observations under a prior, on the grid or as draws.

        Args:
            x: (n, *x_shape).
            index: which rows of all they are, (n,), one after the other.
            prior: of θ.
            k: draws of each, at least, where there are draws.
            seed: seed of all that is random.
        """
        log_density = self.log_density(x, index, seed)
        first = int(index[0])
        if self.posteriors == "grid":
            return grid_posterior(log_density, prior, len(x), first=first, **self.grid)
        if self.network:
            return network_draws(self.network, x, prior, k, seed=seed, first=first)
        return smc(log_density, prior, len(x), k, seed=seed, first=first)


def target_of(
    model: Surrogate | Network, simulator: Simulator | None = None, draws: int | None = None
) -> Target:
    """A surrogate or a network, as calibration sees it.

    Args:
        model: what gives posteriors.
        simulator: the law that a network's x follow, if that is known.
        draws: random draws of each log p(x|θ); the family's default for posteriors if None.

    Raises:
        UsageError: no likelihood.
    """
    if isinstance(model, Surrogate):
        return _of_surrogate(model, draws or model.posterior_draws)
    return _of_network(model, simulator)


def _of_surrogate(surrogate: Surrogate, draws: int) -> Target:
    if surrogate.likelihood is Likelihood.NONE:
        raise UsageError(f"calibrate: {surrogate.name} has no likelihood, so no posterior")

    def log_density(x: Array, index: Array, seed: int) -> LogLikelihood:
        return of_surrogate(surrogate, x, draws=draws, seed=seed, index=index)

    def draw(theta: Array, rng: np.random.Generator) -> Array:
        generator = torch.Generator(surrogate.device).manual_seed(int(rng.integers(2**62)))
        return surrogate.sample(torch.as_tensor(theta), generator).cpu().numpy()

    likelihood = str(surrogate.likelihood)
    return Target(surrogate.name, surrogate.law, log_density, draw, True, likelihood, draws)


def _of_network(network: Network, simulator: Simulator | None) -> Target:
    def log_density(x: Array, index: Array, seed: int) -> LogLikelihood:
        return of_network(network, x)

    draw = simulator.sample if simulator else None
    many = len(network.law.prior) not in NODES
    return Target(
        network.method, network.law, log_density, draw, False,
        grid=network_grid(network, len(network.law.prior)),
        network=network if many and network.draws else None,
    )  # fmt: skip
