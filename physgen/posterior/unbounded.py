r"""Normal scores z ∈ ℝ^D of θ, z_d = Φ⁻¹(F_d(θ_d)): coordinates without ends.

The prior of z is a normal law with the prior's correlation, and what is fitted or moved in z stays
within the bounds of θ. They are the prior's own coordinates but for what it is uniform over.
"""

from __future__ import annotations

import math

import numpy as np

from simulators.base import Array
from simulators.parameter import HALF_LOG_2PI
from simulators.prior import REACH, Prior

__all__ = ["from_scores", "scores_density", "to_scores"]


def to_scores(prior: Prior, theta: Array) -> Array:
    """θ (…, D) → z (…, D), within ±8."""
    theta = np.asarray(theta, dtype=np.float64)
    columns = zip(prior.parameters, np.moveaxis(theta, -1, 0), strict=True)
    return np.stack([p.to_coordinate(t, flat=False) for p, t in columns], -1).clip(-REACH, REACH)


def from_scores(prior: Prior, z: Array) -> Array:
    """z (…, D) → θ (…, D), within the bounds."""
    columns = zip(prior.parameters, np.moveaxis(z.clip(-REACH, REACH), -1, 0), strict=True)
    return np.stack([p.from_coordinate(c, flat=False) for p, c in columns], -1)


def scores_density(prior: Prior, z: Array) -> Array:
    """Log density of the prior over z (…, D), (…,); −∞ beyond ±8 of what it is normal over."""
    slope = np.where(prior.flat, math.log(2) - 0.5 * z**2 - HALF_LOG_2PI, 0.0)
    return prior.log_density(np.where(prior.flat, 0.0, z)) + slope.sum(-1)
