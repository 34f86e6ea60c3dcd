r"""A Gaussian random field on a periodic map: Fourier modes are independent, p(x|θ) is exact.

    x̃_k ~ N(0, P(k)),      P(k) = A (|k|² + m²)^(−n/2),

with the unitary transform and the momentum of the lattice (:mod:`.modes`). n = 2 is the free
scalar field of mass m. The zero mode is one of them, for m > 0. With S_k = |x̃_k|²

    log p(x|θ) = −½ Σ_k [S_k/P(k) + log P(k) + log 2π]

over all L² modes: of a real map k and −k say the same, and are counted as half each. The Fisher
information is ½ Σ_k ∂_i log P ∂_j log P, L²/2 of log A alone; the entropy −E[log p(x|θ)] is
½ Σ_k [1 + log 2π P(k)].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from simulators.base import Array, Observable, Symmetry, Verdict
from simulators.field import inference, observables
from simulators.field.inference import LOG_2PI
from simulators.field.modes import Shells, coloured, shells
from simulators.prior import Box, Prior

if TYPE_CHECKING:
    from simulators.field.wiener import WienerFilter
    from simulators.measurement import LinearMap

__all__ = ["GaussianField"]

Theta = Literal["amplitude-slope", "amplitude-mass-slope"]
AMPLITUDE = (-1.0, 1.0, "", r"\ln A")
MASS = (float(np.log(0.1)), 0.0, "", r"\ln m")
SLOPE = (0.5, 3.5, "", "n")
PRIORS: dict[Theta, Box] = {
    "amplitude-slope": Box(log_amplitude=AMPLITUDE, slope=SLOPE),
    "amplitude-mass-slope": Box(log_amplitude=AMPLITUDE, log_mass=MASS, slope=SLOPE),
}


@dataclass(frozen=True)
class GaussianField:
    """Gaussian random field of spectrum A (k² + m²)^(−n/2) on a periodic square.

    Attributes:
        size: sites along each axis, 4 to 1024.
        theta: the parameters: amplitude-slope = (ln A, n), or amplitude-mass-slope =
            (ln A, ln m, n).
        mass: m, in units of one over the lattice spacing, where it is not in θ; positive.
    """

    size: int = 16
    theta: Theta = "amplitude-slope"
    mass: float = 0.25

    support: ClassVar[Literal["reals"]] = "reals"
    axes: ClassVar[tuple[str, ...]] = ("periodic", "periodic")
    symmetries: ClassVar[tuple[Symmetry, ...]] = ("shift", "reflect", "transpose", "flip")

    def __post_init__(self) -> None:
        """Refuse a configuration outside the documented ranges."""
        if not 4 <= self.size <= 1024:
            raise ValueError(f"size: expected 4 to 1024, got {self.size}")
        if self.theta not in PRIORS:
            raise ValueError(f"theta: expected one of {', '.join(PRIORS)}, got {self.theta!r}")
        if not 0 < self.mass < np.inf:
            raise ValueError(f"mass: expected a positive number, got {self.mass}")

    # --- what it is -------------------------------------------------------------------------

    @property
    def prior(self) -> Box:
        """Uniform: ln A on [−1, 1], n on [0.5, 3.5], m log-uniform on [0.1, 1]."""
        return PRIORS[self.theta]

    @property
    def x_shape(self) -> tuple[int, int]:
        """(size, size)."""
        return self.size, self.size

    @property
    def sites(self) -> int:
        """N, the number of sites."""
        return self.size**2

    @property
    def shells(self) -> Shells:
        """The modes by their momentum."""
        return shells(self.size)

    def log_power(self, theta: Array) -> Array:
        """Log P of each shell at each row of θ (n, D), (n, S).

        Raises:
            ValueError: θ of another shape, or not finite.
        """
        theta = np.asarray(theta, float)
        d = len(self.prior)
        if theta.ndim != 2 or theta.shape[1] != d or not np.isfinite(theta).all():
            names = ", ".join(self.prior.names)
            raise ValueError(
                f"theta: expected finite numbers of shape (n, {d}) for {names}, got {theta.shape}"
            )
        amplitude, slope = theta[:, :1], theta[:, -1:]
        log_mass = theta[:, 1:2] if d == 3 else np.log(self.mass)
        return amplitude - 0.5 * slope * np.log(self.shells.square + np.exp(2 * log_mass))

    def slopes(self, theta: Array) -> Array:
        """Derivatives of log P of each shell by θ (n, D), (n, S, D)."""
        slope, step = np.asarray(theta, float)[:, -1:], self.shells.square
        log_mass = theta[:, 1:2] if len(self.prior) == 3 else np.log(self.mass)
        mass = np.exp(2 * log_mass) + 0 * slope
        of_slope = -0.5 * np.log(step + mass)
        of_mass = [-slope * mass / (step + mass)] if len(self.prior) == 3 else []
        return np.stack([np.ones_like(of_slope), *of_mass, of_slope], -1)

    def variance(self, theta: Array) -> Array:
        """σ² of one site of the Gaussian field, (n,)."""
        return np.exp(self.log_power(theta)) @ self.shells.count / self.sites

    def covariance(self, theta: Array) -> Array:
        """E[x_i x_{i+r}] for every r, θ (n, D) → (n, size, size)."""
        power = np.exp(self.log_power(theta))[:, self.shells.shell]
        return np.fft.irfft2(power, s=self.x_shape)

    # --- a map is a Gaussian one, and here it is itself -------------------------------------

    def gaussian(self, x: Array) -> tuple[Array, Array]:
        """The Gaussian field behind maps x (n, L, L) up to a constant, and log|det| of x → it.

        Returns:
            Maps (n, L, L) and (n,).
        """
        return np.asarray(x, float), np.zeros(len(x))

    def shift(self, theta: Array) -> Array:
        """That constant, to be added at each θ (n, D), (n,)."""
        return np.zeros(len(theta))

    def observed(self, gaussian: Array, theta: Array) -> Array:
        """Maps x of Gaussian fields (n, L, L) at θ (n, D), (n, L, L)."""
        return gaussian

    def moments_of(self, mean: Array, variance: Array, theta: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of x where the Gaussian field has these, (L, L) each.

        Args:
            mean: of the Gaussian field at each site, (L, L).
            variance: the same.
            theta: (1, D).
        """
        return mean, np.sqrt(variance)

    # --- draws and the exact answer ---------------------------------------------------------

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One map for each row of θ, (n, D) → (n, size, size)."""
        scale = np.exp(0.5 * self.log_power(theta))[:, self.shells.shell]
        white = rng.standard_normal((len(theta), *self.x_shape))
        return self.observed(coloured(white, scale), theta)

    def log_prob(self, theta: Array, x: Array) -> Array:
        """Exact log p(x|θ) in nats a map, (n,)."""
        return inference.log_prob(self, theta, self.checked(x))

    def restoration(self, theta: Array, y: Array, linear: LinearMap, noise: float) -> WienerFilter:
        """The exact p(x|θ, y) of y = Mx + σε, for one θ (D,) and one y (*y_shape,).

        Raises:
            ValueError: as for `WienerFilter`.
        """
        from simulators.field.wiener import WienerFilter

        return WienerFilter(self, theta, y, linear, noise)

    def score(self, theta: Array, y: Array, noise: Array | float) -> Array:
        """Exact ∇ log p(y|θ) of y = x + τε, y (n, L, L): −ỹ_k/(P(k) + τ²), (n, L, L).

        Raises:
            ValueError: noise that is not the same at all sites.
        """
        if np.ptp(noise) > 1e-6 * np.max(noise):
            raise ValueError("noise: expected the same at all sites")
        power = np.exp(self.log_power(theta)) + np.mean(noise) ** 2
        return coloured(self.checked(y), -1 / power[:, self.shells.shell])

    def entropy(self, theta: Array) -> Array:
        """−E[log p(x|θ)] in nats a map, (n,): no surrogate's mean NLL is lower."""
        return 0.5 * (self.log_power(theta) @ self.shells.count + self.sites * (1 + LOG_2PI))

    def fisher(self, theta: Array) -> Array:
        """Fisher information of θ, (n, D, D)."""
        slopes = self.slopes(theta)
        return 0.5 * np.einsum("nsi,s,nsj->nij", slopes, self.shells.count, slopes)

    def log_evidence(self, x: Array, prior: Prior | None = None) -> Array:
        """Exact log p(x) in nats a map under the prior, (n,).

        Raises:
            ValueError: posteriors so narrow that they fall between the nodes of the integral.
        """
        return inference.log_evidence(self, self.checked(x), prior or self.prior)

    def log_posterior(self, theta: Array, x: Array, prior: Prior | None = None) -> Array:
        """Exact log p(θ|x) at every θ (k, D) for every x (n, size, size), (n, k)."""
        return inference.log_posterior(self, theta, self.checked(x), prior or self.prior)

    def mean_entropy(self, prior: Prior | None = None) -> float:
        """The floor of any surrogate's expected NLL, in nats a map: entropy over the prior."""
        return inference.mean_entropy(self, prior or self.prior)

    def mutual_information(self, prior: Prior | None = None) -> float:
        """I(θ; x) in nats, to about 0.01: the most that any posterior gains on average.

        Raises:
            ValueError: as for `log_evidence`.
        """
        return inference.mutual_information(self, prior or self.prior)

    @property
    def observables(self) -> dict[str, Observable]:
        """Moments, power spectrum, correlation, histogram and peaks of a map."""
        return observables.catalogue(self)

    def verify(self, theta: Array, x: Array) -> list[Verdict]:
        """Whether maps x (n, size, size) follow p(x|θ), by their white modes."""
        from simulators.field import verification

        return verification.verify(self, theta, self.checked(x))

    def checked(self, x: Array) -> Array:
        """X as maps (n, size, size), float64.

        Raises:
            ValueError: another shape, or numbers that are not finite.
        """
        x = np.asarray(x, float)
        if x.shape[1:] != self.x_shape or not np.isfinite(x).all():
            raise ValueError(f"x: expected finite numbers (n, *{self.x_shape}), got {x.shape}")
        return x
