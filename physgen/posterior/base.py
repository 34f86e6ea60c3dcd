"""What a posterior is, and one that is known by its draws.

A posterior is p(θ|x) of n observations at once: draws, a log density, moments and intervals, with
the observations first in every array. :class:`~physgen.posterior.density.GridPosterior` knows its
density and is normalised; :class:`Draws` is what a Markov chain, a rejection or a fitted
distribution leaves behind.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from physgen.nn.convergence import effective_size, split_r_hat
from simulators.base import Array

__all__ = ["APART", "Draws", "Posterior", "ahead", "rms"]

APART = 2**40
"""Random numbers that no observation takes as many of."""


def rms(values: Array, axis: int) -> Array:
    """Root of the mean square of values (…) along an axis, whatever their size."""
    unit = abs(values).max(axis, keepdims=True)
    scaled = values / np.where(unit > 0, unit, 1)
    return unit.squeeze(axis) * np.sqrt((scaled**2).mean(axis))


def ahead(rng: np.random.Generator, numbers: int) -> np.random.Generator:
    """The same random numbers, from so many on."""
    later = copy.deepcopy(rng)
    bits: Any = later.bit_generator
    bits.advance(numbers)
    return later


class Posterior(Protocol):
    """p(θ|x) of n observations."""

    def __len__(self) -> int:
        """Number of observations."""
        ...

    @property
    def mean(self) -> Array:
        """E[θ|x], (n, D)."""
        ...

    @property
    def sd(self) -> Array:
        """Standard deviation of each parameter, (n, D)."""
        ...

    @property
    def diagnostics(self) -> Mapping[str, Array]:
        """What the method says of its own work, one row an observation, (n, …) each."""
        ...

    def interval(self, level: float) -> Array:
        """Central credible interval of each marginal, (n, 2, D)."""
        ...

    def log_prob(self, theta: Array) -> Array:
        """log p(θ|x) of k points for each observation, (n, k, D) → (n, k)."""
        ...

    def sample(self, k: int, rng: np.random.Generator) -> Array:
        """Draws of θ, k for each observation: (n, k, D)."""
        ...

    def chains_in(self, k: int) -> int:
        """In how many chains, one after another, k draws come; 1 where they are independent."""
        ...


@dataclass(frozen=True)
class Draws:
    """p(θ|x) of n observations as draws, in C chains of m each.

    Attributes:
        chains: (n, C, m, D); independent draws are one chain.
        log_density: θ (n, k, D) → log p(θ|x) but for a constant of each observation, (n, k).
        diagnostics: what the method says of its own work, (n, …) each.
    """

    chains: Array
    log_density: Callable[[Array], Array]
    diagnostics: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.chains)

    @cached_property
    def theta(self) -> Array:
        """All draws, chain after chain, (n, C·m, D)."""
        return self.chains.reshape(len(self), -1, self.chains.shape[-1])

    @property
    def mean(self) -> Array:
        """E[θ|x], (n, D)."""
        return self.theta.mean(1)

    @property
    def sd(self) -> Array:
        """Standard deviation of each parameter, (n, D)."""
        k = self.theta.shape[1]
        return rms(self.theta - self.mean[:, None], 1) * math.sqrt(
            k / (k - 1) if k > 1 else np.nan
        )

    @property
    def r_hat(self) -> Array:
        """How much wider all chains are than one, (n, D); 1 where they agree."""
        return split_r_hat(self.chains)

    @property
    def ess(self) -> Array:
        """Independent draws that would tell the means as well, (n, D)."""
        return effective_size(self.chains)

    def interval(self, level: float) -> Array:
        """Central credible interval of each marginal, (n, 2, D)."""
        q = [0.5 - level / 2, 0.5 + level / 2]
        return np.moveaxis(np.quantile(self.theta, q, axis=1), 0, 1)

    def log_prob(self, theta: Array) -> Array:
        """log p(θ|x) but for a constant of each observation, (n, k, D) → (n, k)."""
        return self.log_density(theta)

    def sample(self, k: int, rng: np.random.Generator) -> Array:
        """Draws of θ, (n, k, D): all of them in their order, some, or some of them twice."""
        have = self.theta.shape[1]
        if k == have:
            return self.theta
        rows = [rng.choice(have, k, replace=k > have) for _ in range(len(self))]
        return np.take_along_axis(self.theta, np.stack(rows)[..., None], 1)

    def chains_in(self, k: int) -> int:
        """In how many chains, one after another, k draws come: all of them as they were made."""
        return self.chains.shape[1] if k == self.theta.shape[1] else 1
