r"""Controls: posteriors that are wrong on purpose, as affine images of right ones.

Told in widths of a posterior from its mean, z = (c − mean)/sd, a control maps the draws of the
posterior by z ↦ M z + s, so that it is wrong by a known amount, whatever the posterior:

``narrow``
    M = 0.7: 30 % too narrow in all directions.
``shifted``
    s = 0.3 widths in all parameters.
``thin``
    M = 1 − 0.3 v vᵀ, v = (1, …, 1)/√D: 30 % too narrow in one direction, which is no parameter's
    own, so that the ranks of single parameters hardly see it.
``correlated``
    of each pair of neighbours, (θ₁, θ₂), (θ₃, θ₄), …, the correlation r is moved away from 0 by a
    fixed step of Fisher's z = artanh r (Biometrika 10 (1915) 507), which means the same for all r.
    With L and L′ the Cholesky factors of the pair's correlations before and after, M = L′L⁻¹:
    means, widths and all marginals of the first of each pair stay as they are.

The density of the image at θ is that of the posterior at M⁻¹(z − s), but for a constant. The last
two are of two or more parameters.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulators.base import Array

__all__ = ["NARROW", "SHIFT", "Affine", "controls_of"]

NARROW, SHIFT = 0.7, 0.3
"""Width of a control that is too narrow, and shift of another, in widths of the posterior."""
FISHER_STEP, CLOSE = 0.5, 1 - 1e-9
"""By how much a correlation is moved, and what is the largest before."""


class Affine(NamedTuple):
    """z ↦ M z + s for each of n posteriors.

    Attributes:
        matrix: M, (n, D, D).
        shift: s.
    """

    matrix: Array
    shift: float

    def image(self, z: Array) -> Array:
        """Of points z (n, k, D), (n, k, D)."""
        return z @ np.swapaxes(self.matrix, -1, -2) + self.shift

    def preimage(self, z: Array) -> Array:
        """Of points z (n, k, D), (n, k, D)."""
        back = np.linalg.solve(self.matrix, np.swapaxes(z - self.shift, -1, -2))
        return np.swapaxes(back, -1, -2)


def controls_of(correlation: Array) -> dict[str, Affine]:
    """The controls of n posteriors.

    Args:
        correlation: of their parameters, (n, D, D).
    """
    dims = correlation.shape[-1]
    same = np.broadcast_to(np.eye(dims), correlation.shape)
    found = {"narrow": Affine(NARROW * same, 0.0), "shifted": Affine(same, SHIFT)}
    if dims == 1:
        return found
    thin = np.eye(dims) - (1 - NARROW) * np.full((dims, dims), 1 / dims)
    return found | {
        "thin": Affine(np.broadcast_to(thin, correlation.shape), 0.0),
        "correlated": Affine(_correlating(correlation), 0.0),
    }


def _correlating(correlation: Array) -> Array:
    """M = L′L⁻¹ of each pair of neighbours, (n, D, D)."""
    matrix = np.tile(np.eye(correlation.shape[-1]), (len(correlation), 1, 1))
    for d in range(0, correlation.shape[-1] - 1, 2):
        r = correlation[:, d, d + 1].clip(-CLOSE, CLOSE)
        new = np.tanh(np.arctanh(r) + np.copysign(FISHER_STEP, r))
        ratio = np.sqrt((1 - new**2) / (1 - r**2))
        matrix[:, d + 1, d], matrix[:, d + 1, d + 1] = new - ratio * r, ratio
    return matrix
