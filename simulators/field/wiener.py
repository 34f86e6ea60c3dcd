r"""The exact p(x|θ, y) of a Gaussian field of which y = Mx + σε was measured: the Wiener filter.

With the covariance C of x, and S = M C Mᵀ + σ² of y,

    E[x|y] = C Mᵀ S⁻¹ y = (C⁻¹ + Mᵀ M/σ²)⁻¹ Mᵀ y/σ²,   cov[x|y] = C − C Mᵀ S⁻¹ M C,
    log p(y|θ) = −½ [yᵀ S⁻¹ y + log det 2πS],

where the form in S holds for σ = 0 as well, which is conditioning. A draw is a *constrained
realisation* (Hoffman & Ribak 1991, ApJ 380 L5): of a map x′ of the field and a measurement y′ of
it, x = x′ + C Mᵀ S⁻¹ (y − y′) follows p(x|θ, y). C is a product in Fourier space, S is factorised
(Cholesky), in as many dimensions as there are components seen.

A log-normal field whose sites are seen without noise is one of the Gaussian field behind it, site
by site; blurred, averaged or with noise it is not, and refused.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from simulators.base import Array
from simulators.field.inference import LOG_2PI
from simulators.field.modes import coloured

if TYPE_CHECKING:
    from simulators.field.gaussian import GaussianField
    from simulators.measurement import LinearMap

__all__ = ["WienerFilter"]

MOST_SEEN = 4096
"""Components of y that are factorised at once, at most: a matrix of 128 MiB."""
SINGULAR = 1e-6
"""Least pivot of a Cholesky factor over the largest, below which digits are lost."""


class WienerFilter:
    """p(x|θ, y) of a Gaussian field: its mean, widths, evidence and draws.

    Args:
        field: what x is of.
        theta: its parameters, (D,).
        y: what was measured, (*y_shape,); what is not seen does not count.
        linear: M.
        noise: σ ≥ 0.

    Raises:
        ValueError: more seen than can be factorised, a singular S, or a field of which this is
            not exact.
    """

    def __init__(
        self, field: GaussianField, theta: Array, y: Array, linear: LinearMap, noise: float
    ) -> None:
        theta, seen = np.asarray(theta, float)[None], linear.seen
        if (count := int(seen.sum())) > MOST_SEEN:
            raise ValueError(
                f"Wiener filter: {count} components are seen; it takes at most {MOST_SEEN}"
            )
        self.field, self.theta, self.linear, self.noise = field, theta, linear, noise
        self.power = np.exp(field.log_power(theta))[:, field.shells.shell]
        values = np.asarray(y, float)[seen]
        known, log_det = field.gaussian(values[None, None])
        self.log_det, self.shift = float(log_det[0]), float(field.shift(theta)[0])
        self.values = known[0, 0] + self.shift
        if not np.isfinite(self.values).all():
            raise ValueError("y: expected values that x can take, where it is seen")
        rows = np.zeros((count, *linear.y_shape))
        rows[:, seen] = np.eye(count)
        self.cross = coloured(linear.adjoint(rows), self.power)  # C Mᵀ, (count, L, L)
        self.factor = self._factorised(linear(self.cross)[:, seen] + noise**2 * np.eye(count))

    def _factorised(self, covariance: Array) -> Array:
        """The lower triangle of S, (count, count)."""
        try:
            factor = cholesky(covariance, lower=True)
            pivots = np.diag(factor)
            singular = pivots.min() < SINGULAR * pivots.max()
        except np.linalg.LinAlgError:
            singular = True
        if singular:
            raise ValueError("noise: without more of it y does not have a density; give a larger")
        return factor

    def _solved(self, values: Array) -> Array:
        """C Mᵀ S⁻¹ of values (n, count), (n, L, L)."""
        weights = cho_solve((self.factor, True), values.T).T
        return np.tensordot(weights, self.cross, 1)

    @cached_property
    def log_evidence(self) -> float:
        """log p(y|θ) in nats, of what is seen."""
        white = solve_triangular(self.factor, self.values, lower=True)
        log_det = 2 * np.log(np.diag(self.factor)).sum()
        return float(self.log_det - 0.5 * (white @ white + log_det + len(white) * LOG_2PI))

    @cached_property
    def gaussian_mean(self) -> Array:
        """E[g|θ, y] of the Gaussian field behind, (L, L)."""
        return self._solved(self.values[None])[0]

    @cached_property
    def gaussian_variance(self) -> Array:
        """Its variance at each site given y, (L, L)."""
        told = solve_triangular(self.factor, self.cross.reshape(len(self.cross), -1), lower=True)
        left = self.field.variance(self.theta)[0] - (told**2).sum(0)
        return left.clip(0).reshape(self.field.x_shape)

    @cached_property
    def moments(self) -> tuple[Array, Array]:
        """Mean and standard deviation of x at each site given θ and y, (L, L) each."""
        return self.field.moments_of(self.gaussian_mean, self.gaussian_variance, self.theta)

    error = 0.0
    """Standard error of `mean`: none."""

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draws of x given θ and y, (n, L, L)."""
        white = rng.standard_normal((n, *self.field.x_shape))
        free = coloured(white, np.sqrt(self.power))
        noise = self.noise * rng.standard_normal((n, len(self.values)))
        off = self.values - self.linear(free)[:, self.linear.seen] - noise
        return self.field.observed(free + self._solved(off), self.theta)
