"""Integrals over a prior, by Gauss and Legendre's nodes in its coordinates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp

from simulators.base import Array
from simulators.prior import Prior

__all__ = ["BLOCK", "log_integrals", "prior_nodes"]

BLOCK = 1 << 22
"""Numbers held at once."""

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


def log_integrals(joint: Callable[[slice], Array], rows: int, nodes: int, prior: Prior) -> Array:
    """Log p(x) of each row of x, (rows,): log Σ exp of what `joint` has at the nodes.

    Args:
        joint: some rows → log p(x|θ) at each node and log of its weight, together, (n, nodes).
        rows: how many.
        nodes: how many.
        prior: whose nodes these are.

    Raises:
        ValueError: a posterior so much narrower than the prior that it falls between the nodes.
    """
    step, found = max(BLOCK // nodes, 1), [np.zeros(0)]
    for start in range(0, rows, step):
        values = joint(slice(start, start + step))
        found.append(logsumexp(values, axis=1))
        require_nodes(np.exp(values - found[-1][:, None]), prior)
    return np.concatenate(found)


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
