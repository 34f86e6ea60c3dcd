"""Integrals over a prior, by Gauss and Legendre's nodes in its coordinates."""

from __future__ import annotations

import numpy as np

from simulators.base import Array
from simulators.prior import Prior

__all__ = ["prior_nodes", "require_nodes"]

FEWEST = 2.5
"""Nodes an axis that a posterior must lie on: log p(x) is then right to 1e-4."""


def prior_nodes(prior: Prior, count: int) -> tuple[Array, Array]:
    """θ (k, D) and weights (k,), which sum to 1, of k = count^D nodes over the prior."""
    d = len(prior)
    t, w = np.polynomial.legendre.leggauss(count)
    grid = prior.ends[1] * np.stack(np.meshgrid(*[t] * d, indexing="ij"), axis=-1).reshape(-1, d)
    weight = np.prod(np.meshgrid(*[w] * d, indexing="ij"), axis=0).ravel()
    weight = weight * prior.ends[1].prod() * np.exp(prior.log_density(grid))
    return prior.from_coordinates(grid), weight / weight.sum()


def require_nodes(p: Array, prior: Prior) -> None:
    """Refuse posteriors so much narrower than the prior that they fall between the nodes.

    Args:
        p: (n, k) of posteriors at the nodes, each row adding up to 1.
        prior: whose nodes these are.

    Raises:
        ValueError: one lies on too few of them.
    """
    if (nodes := nodes_met(p, len(prior))) < FEWEST:
        raise ValueError(
            f"log p(x): a posterior lies on {nodes:.2g} nodes an axis of {prior}, too few for "
            "its integral: take a narrower prior"
        )


def nodes_met(p: Array, dims: int) -> float:
    """Nodes an axis, 1/Σp², that the narrowest of posteriors p (n, k) lies on."""
    p = p.reshape(len(p), *[round(p.shape[1] ** (1 / dims))] * dims)
    axes = range(1, dims + 1)
    least = (p**2).sum(tuple(axes)) ** (1 / dims)
    for d in axes:
        marginal = p.sum(tuple(e for e in axes if e != d))
        least = np.maximum(least, (marginal**2).sum(1))
    return float(1 / least.max(initial=0.0)) if len(p) else np.inf
