"""The exact posterior, the floor of any surrogate's loss, and what x can say about θ at all.

p(x|θ) is an exponential family, so the posterior of a prior π is

    p(θ|x) = π(θ) e^{K(θ)·b(x) − log Z(θ)} / p(x),   p(x) = ∫ π(θ) e^{K(θ)·b(x) − log Z(θ)} dθ,

with the evidence p(x) by Gauss–Legendre quadrature over the coordinates of π. The mean of
−log p(x|θ) over θ and x is the mean entropy: no surrogate has a lower expected loss. The mutual
information I(θ; x) is the largest expected gain of any posterior over the prior; given its levels
(E, M) x is uniform and says no more, so I(θ; x) = I(θ; E, M).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import xlogy

from simulators.base import Array
from simulators.ising import observables
from simulators.prior import Prior
from simulators.quadrature import log_integrals, prior_nodes

if TYPE_CHECKING:
    from simulators.ising.counting import Energies, JointLevels
    from simulators.ising.lattice import Ising

__all__ = ["log_evidence", "log_posterior", "mean_entropy", "mutual_information"]

ROWS = 512  # θ whose law is held at once


@lru_cache(maxsize=8)
def _nodes(ising: Ising, prior: Prior) -> tuple[Array, Array]:
    """θ (k, D) and weights (k,), which sum to 1, of the quadrature over the prior."""
    return prior_nodes(prior, 256 + 16 * max(ising.x_shape) if len(prior) == 1 else 128)


@lru_cache(maxsize=8)
def _log_z_nodes(ising: Ising, prior: Prior) -> Array:
    """Log Z at the nodes, (k,)."""
    return ising.log_z(_nodes(ising, prior)[0])


def log_evidence(ising: Ising, x: Array, prior: Prior) -> Array:
    """Log p(x) in nats a lattice, (n,): x (n, rows, columns) under the prior.

    Raises:
        ValueError: a posterior so much narrower than the prior that it falls between the nodes.
    """
    theta, weight = _nodes(ising, prior)
    offset = np.log(weight) - _log_z_nodes(ising, prior)
    k, b = ising.couplings(theta), observables.bonds(x)
    return log_integrals(lambda some: b[some] @ k.T + offset, len(b), len(theta), prior)


def log_posterior(ising: Ising, theta: Array, x: Array, prior: Prior) -> Array:
    """Log p(θ|x) at each θ (k, D) for each x (n, rows, columns), (n, k)."""
    joint = observables.bonds(x) @ ising.couplings(theta).T - ising.log_z(theta)
    return prior.log_prob(theta) + joint - log_evidence(ising, x, prior)[:, None]


def mean_entropy(ising: Ising, prior: Prior) -> float:
    """Entropy in nats a lattice, mean over the prior."""
    theta, weight = _nodes(ising, prior)
    return float(weight @ ising.entropy(theta))


def mutual_information(ising: Ising, prior: Prior) -> float:
    """I(θ; x) in nats.

    Raises:
        ValueError: unequal couplings, or a size at which the levels are not known.
    """
    from simulators.ising.counting import energy_levels, joint_levels

    if ising.theta == "beta-xy":
        raise ValueError("mutual information: not known for beta-xy; take theta = beta")
    counted = joint_levels if ising.has_field else energy_levels
    levels: Energies | JointLevels = counted(ising.x_shape)
    theta, weight = _nodes(ising, prior)
    k = ising.couplings(theta)
    marginal, conditional = np.zeros(1), 0.0
    for i in range(0, len(theta), ROWS):
        p = levels.law(k[i : i + ROWS, 0], k[i : i + ROWS, 2])
        marginal = marginal + weight[i : i + ROWS] @ p
        conditional += weight[i : i + ROWS] @ xlogy(p, p).sum(axis=1)
    return float(conditional - xlogy(marginal, marginal).sum())
