r"""Posteriors drawn from a trained network itself, and weighted where it is not of what was asked.

A network that draws, q(θ|x), gives k draws for little. They follow the posterior under the prior
of its training. Under another prior, or with a likelihood that is better than the network, each
draw gets the weight

    w = p(θ) / p_train(θ)    or    w = p(x|θ) p(θ) / q(θ|x),

of which as many are made as are worth k draws, within limits, and k of them are taken as the
weights say. What they are worth and how heavy their tail is are told
(:mod:`physgen.posterior.importance`); the mean weight is the normalisation, which of a likelihood
is the evidence. q leaves out what it draws outside of the prior's support, and is normalised by
the part that is left. Importance sampling with a network as proposal: Dax et al., Phys. Rev. Lett.
130 (2023) 171403, arXiv:2210.05686.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy  # its parts are imported where they are first used

from physgen.errors import DataError
from physgen.posterior.base import Draws
from physgen.posterior.grid import LogLikelihood, of_network
from physgen.posterior.importance import effective_sample, pareto_k, resampled, smoothed
from physgen.sbi.networks import Network
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["network_draws"]

MOST, LEAST = 10, 500
"""Weighted draws for each that is asked for at most, and at least in all: few do not tell what
they are worth, and a lone one has no weight at all."""


def network_draws(
    network: Network,
    x: Array,
    prior: Prior,
    k: int = 1000,
    *,
    log_likelihood: LogLikelihood | None = None,
    seed: int = 0,
    first: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> Draws:
    """Draws of the posterior of each observation by a network.

    Args:
        network: that draws: NPE, FMPE or NPSE.
        x: observations (n, *x_shape).
        prior: inside the network's own.
        k: draws of each.
        log_likelihood: log p(x|θ) of the same observations, which the weights make up for; the
            network's own if None.
        seed: seed of the draws.
        first: which of all observations the first is: the draws of each are its own.
        tell: is told often how far it is, and may raise.

    Raises:
        DataError: draws that all lie outside of the prior.
    """
    own, known = of_network(network, x), network.law.prior
    same = prior == known and log_likelihood is None
    least = k if same else max(k, LEAST)

    def weigh(theta: Array, i: int) -> Array:
        log_w = np.zeros(len(theta)) if same else prior.log_prob(theta) - known.log_prob(theta)
        if log_likelihood is not None:
            one, which = theta[None], np.array([i - first])
            log_w += log_likelihood(one, which)[0] - own(one, which)[0]
        return log_w

    rows = []
    for i, row in enumerate(x, first):
        tell(f"observation {i}")
        rows.append(_weighted(network, row[None], i, k, least, seed, weigh))
    every = enumerate(rows, first)
    theta = [row.resampled(k, np.random.default_rng([seed, i, 1])) for i, row in every]
    log_z = np.array([row.log_mean for row in rows])
    target = log_likelihood or own

    def log_density(theta: Array) -> Array:
        return target(theta) + prior.log_prob(theta) - log_z[:, None]

    told = {"leak": np.array([row.leak for row in rows]), "log_evidence": log_z}
    if not same:
        for name, of in (("effective_sample", effective_sample), ("pareto_k", pareto_k)):
            told[name] = np.array([of(row.log_weights) for row in rows])
    return Draws(np.stack(theta)[:, None], log_density, told)


class _Weighted(NamedTuple):
    """Draws for one x.

    Attributes:
        theta: (m, D).
        leak: what part of all lay outside of the support.
        log_weights: (m,).
    """

    theta: Array
    leak: float
    log_weights: Array

    def resampled(self, k: int, rng: np.random.Generator) -> Array:
        """k of them, as their weights say, (k, D)."""
        return resampled(self.theta, smoothed(self.log_weights), k, rng)

    @property
    def log_mean(self) -> float:
        """Log of the mean weight of all draws, those that lay outside included."""
        mean = scipy.special.logsumexp(self.log_weights) - math.log(len(self.log_weights))
        return float(mean + math.log1p(-self.leak))


def _weighted(
    network: Network,
    x: Array,
    i: int,
    k: int,
    first: int,
    seed: int,
    weigh: Callable[[Array, int], Array],
) -> _Weighted:
    """Draws for x (1, *x_shape), the i-th: `first`, and as many as are worth k, within limits."""

    def draw(m: int) -> tuple[Array, float]:
        c, leak = network.draw(x, m, seed, np.array([i]))
        return network.law.prior.from_coordinates(c[0]), float(leak[0])

    theta, leak = draw(first)
    log_w = weigh(theta, i)
    worth = float(effective_sample(log_w)) / first
    if (many := round(k / max(worth, 1 / MOST))) > first:
        theta, leak = draw(many)  # the first are the same
        log_w = np.concatenate([log_w, weigh(theta[first:], i)])
    if not np.isfinite(log_w.max()):
        raise DataError(
            f"observation {i}: of {len(theta)} draws of the network none has a weight; the prior "
            "or the likelihood has its mass elsewhere: leave out --direct or --refine"
        )
    return _Weighted(theta, leak, log_w)
