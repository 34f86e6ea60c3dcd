r"""A log-normal field: the exponential of a Gaussian one, with a mean of 0 and an exact p(y|θ).

    y = exp(s g − s²σ²/2) − 1,      σ² = var g = L⁻² Σ_k P(k),

site by site, g a Gaussian field (:mod:`.gaussian`). It is the first model of the density contrast
of matter (Coles & Jones 1991, MNRAS 248, 1): y > −1, skewed, and Gaussian for small s. The map is
invertible, so log p(y|θ) = log p(g|θ) − Σ log s(1 + y), and E[y_i y_j] = exp(s² E[g_i g_j]) − 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from simulators.base import Array, Observable, Symmetry
from simulators.field.gaussian import GaussianField

if TYPE_CHECKING:
    from simulators.field.wiener import WienerFilter
    from simulators.measurement import LinearMap

__all__ = ["LognormalField"]


@dataclass(frozen=True)
class LognormalField(GaussianField):
    """exp(s g − s²σ²/2) − 1 of a Gaussian field g: density contrasts, above −1.

    Attributes:
        size: sites along each axis, 4 to 1024.
        theta: the parameters of g: amplitude-slope = (ln A, n), or amplitude-mass-slope =
            (ln A, ln m, n).
        mass: m, in units of one over the lattice spacing, where it is not in θ; positive.
        strength: s, how far from Gaussian; positive.
    """

    strength: float = 0.5

    symmetries: ClassVar[tuple[Symmetry, ...]] = ("shift", "reflect", "transpose")

    def __post_init__(self) -> None:
        """Refuse a configuration outside the documented ranges."""
        super().__post_init__()
        if not 0 < self.strength < np.inf:
            raise ValueError(f"strength: expected a positive number, got {self.strength}")

    def covariance(self, theta: Array) -> Array:
        """E[y_i y_{i+r}] for every r, θ (n, D) → (n, size, size)."""
        return np.expm1(self.strength**2 * super().covariance(theta))

    def gaussian(self, x: Array) -> tuple[Array, Array]:
        """The Gaussian field behind maps y (n, L, L) up to a constant, and log|det| of y → it.

        Returns:
            Maps (n, L, L) and (n,).
        """
        with np.errstate(divide="ignore"):
            log = np.log1p(np.maximum(x, -1.0))
        return log / self.strength, -(log + np.log(self.strength)).sum((1, 2))

    def shift(self, theta: Array) -> Array:
        """That constant, sσ²/2, at each θ (n, D), (n,)."""
        return 0.5 * self.strength * self.variance(theta)

    def observed(self, gaussian: Array, theta: Array) -> Array:
        """Maps y of Gaussian fields (n, L, L) at θ (n, D), (n, L, L)."""
        return np.expm1(self.strength * (gaussian - self.shift(theta)[:, None, None]))

    def moments_of(self, mean: Array, variance: Array, theta: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of y where the Gaussian field has these, (L, L) each."""
        spread = self.strength**2 * variance
        middle = np.exp(self.strength * (mean - self.shift(theta)) + 0.5 * spread)
        return middle - 1, middle * np.sqrt(np.expm1(spread))

    def restoration(self, theta: Array, y: Array, linear: LinearMap, noise: float) -> WienerFilter:
        """The exact p(x|θ, y) where sites are seen without noise; arguments as of a Gaussian one.

        Raises:
            ValueError: blurred, averaged or with noise, or as for `WienerFilter`.
        """
        if noise or not linear.only_masks:
            raise ValueError(
                "lognormal-field: exact of sites that are seen without noise, blur or average"
            )
        return super().restoration(theta, y, linear, noise)

    def score(self, theta: Array, y: Array, noise: Array | float) -> Array:
        """Not known of maps y (n, L, L) with noise.

        Raises:
            ValueError: always.
        """
        raise ValueError("lognormal-field: the score of maps with noise is not known")

    def entropy(self, theta: Array) -> Array:
        """−E[log p(y|θ)] in nats a map, (n,)."""
        volume = np.log(self.strength) - self.strength * self.shift(theta)
        return super().entropy(theta) + self.sites * volume

    @property
    def observables(self) -> dict[str, Observable]:
        """Those of a Gaussian field; what one says of another is not known."""
        return {name: replace(o, given={}) for name, o in super().observables.items()}

    def checked(self, x: Array) -> Array:
        """Y as maps (n, size, size), float64.

        Raises:
            ValueError: another shape, or numbers that are not finite or not above −1.
        """
        x = super().checked(x)
        if not (x > -1).all():
            raise ValueError(f"x: expected density contrasts above -1, got {x.min():g}")
        return x
