r"""Exact log p, posterior and information of a field whose modes are independent.

A map says of θ what the power S of its shells says (:mod:`.modes`), so that log p of n maps at k
values of θ is a product of matrices. A constant μ(θ), as a log-normal field has it, moves the
zero mode alone: x̃_0 → x̃_0 + Lμ.

The mean of −log p(x|θ) over θ and x is the mean entropy: no surrogate has a lower expected loss.
The mutual information is I(θ; x) = E[log p(x|θ) − log p(x)], the integral over θ by quadrature
and that over x by draws with a fixed seed. What log p(x|θ) of the draws is above its expectation,
which is known, is taken off.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from simulators.base import Array
from simulators.prior import Prior
from simulators.quadrature import BLOCK, log_integrals, prior_nodes

if TYPE_CHECKING:
    from simulators.field.gaussian import GaussianField

__all__ = [
    "LOG_2PI",
    "log_evidence",
    "log_posterior",
    "log_prob",
    "mean_entropy",
    "mutual_information",
]

LOG_2PI = float(np.log(2 * np.pi))
DRAWS = 2000
"""Of θ and x, for the mutual information."""


def log_prob(field: GaussianField, theta: Array, x: Array) -> Array:
    """Log p(x|θ) of each row, θ (n, D), x (n, L, L), (n,)."""
    gaussian, log_det = field.gaussian(x)
    gaussian = gaussian + field.shift(theta)[:, None, None]
    log_power, power = field.log_power(theta), field.shells.power(gaussian)
    modes = power * np.exp(-log_power) + field.shells.count * (log_power + LOG_2PI)
    return log_det - 0.5 * modes.sum(1)


def log_prob_of_all(field: GaussianField, theta: Array, x: Array) -> Array:
    """Log p(x|θ) at each θ (k, D) of each x (n, L, L), (n, k)."""
    gaussian, log_det = field.gaussian(x)
    power, zero = field.shells.power(gaussian), gaussian.sum((1, 2)) / field.size

    def some(theta: Array) -> Array:
        log_power, mean = field.log_power(theta), field.size * field.shift(theta)
        weight = np.exp(-log_power)
        modes = power[:, 1:] @ weight[:, 1:].T + (zero[:, None] + mean) ** 2 * weight[:, 0]
        return modes + log_power @ field.shells.count

    step = max(BLOCK // power.shape[1], 1)
    found = [some(theta[i : i + step]) for i in range(0, len(theta), step)]
    return log_det[:, None] - 0.5 * (np.concatenate(found, 1) + field.sites * LOG_2PI)


@lru_cache(maxsize=8)
def _nodes(field: GaussianField, prior: Prior) -> tuple[Array, Array]:
    """θ (k, D) and weights (k,), which sum to 1, of the quadrature over the prior."""
    return prior_nodes(prior, 48 + 2 * field.size if len(prior) < 3 else 24 + field.size)


def log_evidence(field: GaussianField, x: Array, prior: Prior) -> Array:
    """Log p(x) in nats a map, (n,): x (n, L, L) under the prior.

    Raises:
        ValueError: a posterior so much narrower than the prior that it falls between the nodes.
    """
    theta, weight = _nodes(field, prior)

    def joint(some: slice) -> Array:
        return log_prob_of_all(field, theta, x[some]) + np.log(weight)

    return log_integrals(joint, len(x), len(theta), prior)


def log_posterior(field: GaussianField, theta: Array, x: Array, prior: Prior) -> Array:
    """Log p(θ|x) at each θ (k, D) for each x (n, L, L), (n, k)."""
    joint = prior.log_prob(theta) + log_prob_of_all(field, theta, x)
    return joint - log_evidence(field, x, prior)[:, None]


def mean_entropy(field: GaussianField, prior: Prior) -> float:
    """Entropy in nats a map, mean over the prior."""
    theta, weight = _nodes(field, prior)
    return float(weight @ field.entropy(theta))


def mutual_information(field: GaussianField, prior: Prior) -> float:
    """I(θ; x) in nats."""
    rng = np.random.default_rng(0)
    theta = prior.sample(DRAWS, rng)
    x = field.sample(theta, rng)
    above = log_prob(field, theta, x) + field.entropy(theta)
    gain = -field.entropy(theta) - log_evidence(field, x, prior)
    slope = np.cov(gain, above)[0, 1] / above.var()
    return float((gain - slope * above).mean())
