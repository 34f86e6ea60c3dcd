"""The exact side: test rows with their log p, and posteriors to measure others by.

Where the grid does not do, posteriors are those of weighted draws. For each observation θ are
drawn once, of a law q that is wider than the exact posterior: a mixture of Student's t laws that
is fitted to draws of it (`physgen.posterior.smc`), the same two and four times as wide, and the
prior. Any log p of x is then evaluated at these θ, and weights p̂(x|θ) p(θ)/q(θ) give its mean
and width. The exact ones come from the same draws, so that what is common to both cancels. Where a
model's posterior lies elsewhere its weights collapse, which is told. Of the law of two widths,
whose narrow part no population finds in five dimensions, q is a mixture of normal laws around x.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp, softmax

from benchmarks.reals.laws import normal_log_density
from benchmarks.reals.tasks import Task
from physgen.posterior.grid import GRID, LogLikelihood, grid_posterior, of_exact
from physgen.posterior.smc import smc
from physgen.posterior.student import fitted_mixture
from physgen.posterior.unbounded import from_scores, scores_density, to_scores
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["COLLAPSED", "TEST", "Moments", "Truth"]

TEST_SEED = 2**20
"""Far from the seeds of the training sets."""
TEST = 2000
"""Test rows."""
FITTED = 1500
"""Draws of an exact posterior to which the mixture is fitted."""
WIDER, DRAWS, OF_PRIOR = (1.0, 2.0, 4.0), (4000, 2000, 2000), 1000
"""How wide the mixtures are, and draws of them and of the prior."""
SCALES, AROUND = (0.1, 0.25, 1.0, 2.5), 3000
"""Widths of the normal laws around x, and draws of each."""
OF_GRID = {1: 200, 2: 6000}
"""About how many points of a grid, by the number of parameters."""
COLLAPSED = 100
"""Effective draws below which a posterior is not told by its weights."""


class Moments(NamedTuple):
    """Of posteriors.

    Attributes:
        mean: (n, D).
        sd: (n, D).
        worth: draws that the weights are worth, (n,); NaN on a grid.
    """

    mean: Array
    sd: Array
    worth: Array


@dataclass(frozen=True)
class Population:
    """Draws θ of a law q for each observation.

    Attributes:
        theta: (n, K, D).
        log_q: log of q over the prior's density, (n, K), up to a constant of each observation.
        inside: whether each lies in the prior's support, (n, K).
    """

    theta: Array
    log_q: Array
    inside: Array

    def first(self, n: int) -> Population:
        """That of the first n observations."""
        return Population(self.theta[:n], self.log_q[:n], self.inside[:n])

    def moments(self, log_likelihood: LogLikelihood) -> Moments:
        """Those of the posteriors that a log p(x|θ) makes, up to a function of x."""
        with np.errstate(over="ignore"):
            log_l = np.nan_to_num(log_likelihood(self.theta), nan=-np.inf, posinf=np.inf)
        log_w = np.where(self.inside, log_l - self.log_q, -np.inf)
        w = softmax(log_w, axis=1)[..., None]
        mean = (w * self.theta).sum(1)
        var = (w * (self.theta - mean[:, None]) ** 2).sum(1)
        return Moments(mean, np.sqrt(var), 1 / (w**2).sum((1, 2)))


def fitted(prior: Prior, log_likelihood: LogLikelihood, n: int) -> Population:
    """Draws of what is fitted to the exact posteriors of n observations, of wider laws too."""
    known = smc(log_likelihood, prior, n).theta[:, :FITTED]
    log_l = log_likelihood(known)
    parts = [_fitted(prior, theta, values) for theta, values in zip(known, log_l, strict=True)]
    theta, log_q = (np.stack(each) for each in zip(*parts, strict=True))
    return Population(theta, log_q, np.isfinite(log_q))


def _fitted(prior: Prior, theta: Array, log_l: Array) -> tuple[Array, Array]:
    """Draws (K, D) near draws θ (m, D) of a posterior, and log of their density over the prior's.

    Args:
        prior: of θ.
        theta: (m, D).
        log_l: their log p(x|θ), (m,).
    """
    rng, z = np.random.default_rng(0), to_scores(prior, theta)
    q = fitted_mixture(z, np.ones(len(z)), log_l + scores_density(prior, z), rng)
    laws = [replace(q, roots=q.roots * width) for width in WIDER]
    of_prior = to_scores(prior, prior.sample(OF_PRIOR, rng))
    drawn = [law.sample(n, rng) for law, n in zip(laws, DRAWS, strict=True)]
    z = np.concatenate([*drawn, of_prior])
    over = [law.log_density(z) - scores_density(prior, z) for law in laws]
    share = np.array([*DRAWS, OF_PRIOR]) / len(z)
    log_q = logsumexp([*over, np.zeros(len(z))], axis=0, b=share[:, None])
    return from_scores(prior, z), log_q


def around(prior: Prior, x: Array) -> Population:
    """Draws of normal laws of several widths around each x (n, D)."""
    rng = np.random.default_rng(0)
    width = np.array(SCALES).repeat(AROUND)[:, None]
    theta = x[:, None] + width * rng.standard_normal((len(x), len(width), x.shape[1]))
    each = [normal_log_density(theta, x[:, None], s).sum(-1) for s in SCALES]
    return Population(theta, logsumexp(each, axis=0), prior.contains(theta))


@dataclass(frozen=True)
class Truth:
    """A law's test rows, and the exact answers.

    Attributes:
        task: which law.
        cache: file of the populations, which are dear; none if None.
    """

    task: Task
    cache: Path | None = None

    @cached_property
    def simulator(self) -> Any:
        """The law, with its exact log p."""
        return self.task.simulator()

    @cached_property
    def rows(self) -> tuple[Array, Array]:
        """Test θ (2000, D) of the prior and their x."""
        rng = np.random.default_rng(TEST_SEED)
        theta = self.simulator.prior.sample(TEST, rng)
        return theta, self.simulator.sample(theta, rng)

    @cached_property
    def log_p(self) -> Array:
        """Exact log p of the test rows, (2000,)."""
        return self.simulator.log_prob(*self.rows)

    @property
    def observed(self) -> Array:
        """x whose posteriors are compared, (n, *x_shape)."""
        return self.rows[1][: self.task.observations]

    def moments(self, observe: Callable[[Array], LogLikelihood], n: int | None = None) -> Moments:
        """Of the posteriors that x (n, *x_shape) → log p(x|θ) makes, of the first n observed."""
        x, prior = self.observed[:n], self.simulator.prior
        if self.task.posterior != "grid":
            return self.population.first(len(x)).moments(observe(x))
        found = grid_posterior(observe(x), prior, len(x), **GRID[len(prior)])
        return Moments(found.mean, found.sd, np.full(len(x), np.nan))

    @cached_property
    def exact(self) -> Moments:
        """Of the exact posteriors."""
        return self.moments(self._exactly)

    @property
    def points(self) -> int:
        """About how many log p the posterior of one observation takes."""
        if self.task.posterior == "grid":
            return OF_GRID[len(self.simulator.prior)]
        return {"around": len(SCALES) * AROUND, "fitted": sum(DRAWS) + OF_PRIOR}[
            self.task.posterior
        ]

    @cached_property
    def population(self) -> Population:
        """Draws to be weighted, from the cache where they lie there."""
        if self.task.posterior == "around":
            return around(self.simulator.prior, self.observed)
        if self.cache and self.cache.exists():
            with np.load(self.cache) as kept:
                if np.array_equal(kept["x"], self.observed):
                    return Population(kept["theta"], kept["log_q"], kept["inside"])
        x = self.observed
        made = fitted(self.simulator.prior, self._exactly(x), len(x))
        if self.cache:  # another process may look
            part = self.cache.with_suffix(f".{os.getpid()}.npz")
            np.savez(part, x=x, **vars(made))
            part.replace(self.cache)
        return made

    def _exactly(self, x: Array) -> LogLikelihood:
        return of_exact(self.simulator.log_prob, x)
