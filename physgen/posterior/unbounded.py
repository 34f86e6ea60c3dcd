r"""The prior's coordinates without their ends: normal scores z ∈ ℝ^D of θ.

    z_d = Φ⁻¹((1 + c_d)/2)      of what the prior is uniform over,
    z_d = c_d                   of what it is normal over already,

so that the prior of z is a normal law with the prior's correlation, and what is fitted or moved
in z stays within the bounds of θ. Φ is taken from the nearer end.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr, ndtri

from simulators.base import Array
from simulators.prior import Prior

__all__ = ["from_scores", "scores_density", "to_scores"]

LEAST = 2.0**-54
"""What z tells apart from an end of c, in halves of its range."""
HALF_LOG_2PI = math.log(2 * math.pi) / 2


def to_scores(prior: Prior, c: Array) -> Array:
    """Coordinates c (…, D) of the prior → z (…, D)."""
    z = -ndtri(((1 - abs(c)) / 2).clip(LEAST, 1))
    return np.where(prior.flat, np.copysign(z, c), c)


def from_scores(prior: Prior, z: Array) -> Array:
    """z (…, D) → coordinates c (…, D) of the prior, within their ends."""
    c = np.copysign(1 - 2 * ndtr(-abs(z)), z)
    low, high = prior.ends
    return np.where(prior.flat, c, z).clip(low, high)


def scores_density(prior: Prior, z: Array) -> Array:
    """Log density of the prior over z (…, D), (…,); −∞ beyond the ends of c."""
    c = np.where(prior.flat, from_scores(prior, z), z)
    slope = np.where(prior.flat, math.log(2) - 0.5 * z**2 - HALF_LOG_2PI, 0.0)
    return prior.log_density(c) + slope.sum(-1)
