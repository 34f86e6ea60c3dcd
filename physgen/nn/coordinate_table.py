"""A prior's map of θ to its coordinates as arithmetic, for where scipy cannot go along.

What is uniform in θ is mapped as it is. The map of any other law is monotone in one parameter:
between `NODES` nodes, equally far apart in c, it is the cubic polynomial that has the values and
the slopes of the map at both (Hermite's), right to better than float32 tells.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from physgen.errors import UsageError
from physgen.nn.transforms import KNOWN
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["tabulated"]

NODES, TOLERANCE = 1024, 1e-5
"""Of a table, and by how much it may be off between them, in units of c: beside a bound other than
0 the map itself is a step in each digit of θ."""


def tabulated(prior: Prior) -> Callable[[Tensor], Tensor]:
    """The map of a prior: θ (B, D) float64 → c (B, D) float32, as `Rescale` has it.

    Raises:
        UsageError: a law whose map is too rough for a table.
    """
    columns = [table_of(prior, d) for d in range(len(prior))]

    def mapped(theta: Tensor) -> Tensor:
        return torch.stack([f(theta[:, d]) for d, f in enumerate(columns)], 1).float()

    return mapped


def table_of(prior: Prior, d: int) -> Callable[[Tensor], Tensor]:
    """The map of one parameter, (B,) → (B,), both float64."""
    if prior.affine[d]:
        low, high = float(prior.low[d]), float(prior.high[d])
        return lambda theta: (2 * ((theta - low) / (high - low)) - 1).clamp(-KNOWN, KNOWN)
    low, high = prior.ends[:, d].clip(-KNOWN, KNOWN)
    theta = np.unique(prior.column(d, np.linspace(low, high, NODES)))
    c = coordinate_of(prior, d, theta).clip(low, high)
    mapped = hermite(*map(torch.from_numpy, (theta, c, 1 / prior.column_slope(d, c))))
    between = prior.column(d, (c[:-1] + c[1:]) / 2)
    off = abs(mapped(torch.from_numpy(between)).numpy() - coordinate_of(prior, d, between)).max()
    if not off < TOLERANCE:
        raise UsageError(
            f"prior of {prior.names[d]}: {prior.parameters[d].text} has no smooth map to "
            f"coordinates: a table of it is off by {off:.1g}"
        )
    return mapped


def coordinate_of(prior: Prior, d: int, theta: Array) -> Array:
    """θ_d (m,) → c_d (m,)."""
    return prior.parameters[d].to_coordinate(theta, bool(prior.flat[d]))


def hermite(theta: Tensor, c: Tensor, slope: Tensor) -> Callable[[Tensor], Tensor]:
    """The interpolant of values c (m,) and slopes (m,) at nodes θ (m,); its ends beyond them."""
    inner = theta[1:-1]

    def mapped(value: Tensor) -> Tensor:
        value = value.clamp(float(theta[0]), float(theta[-1]))
        k = (value[:, None] >= inner).sum(1)
        start, width = theta[k], (theta[1:] - theta[:-1])[k]
        t, rise = (value - start) / width, (c[1:] - c[:-1])[k]
        left, right = slope[k] * width, slope[1:][k] * width
        curve = (1 - t) * (left - rise) + t * (rise - right)
        return c[k] + t * rise + t * (1 - t) * curve

    return mapped
