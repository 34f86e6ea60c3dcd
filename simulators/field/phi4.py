r"""φ⁴ on a periodic lattice: one real number a site, whose law is known up to its normalisation.

    p(φ|θ) = e^{−S(φ)}/Z(θ),      S = Σ_x [½ Σ_μ (φ_{x+μ} − φ_x)² + ½ m² φ_x² + λ φ_x⁴],

θ = (m², λ). m² may be negative: there is an ordered phase. At λ = 0 and m² > 0 it is the free
field; for large λ and −m² the signs are an Ising model. The critical line, of whose class it is,
was measured by Schaich & Loinaz (2009, arXiv:0902.0045; their λ is four times this one). At
λ = 0.25 and m² = −1.27 ⟨|M|⟩/N falls as L^(−1/8) from L = 8 to 32, as it does there.

Z is not known, but ∇ log p = −∂S/∂φ is (`score`), and so are expectations of the form (Schwinger
and Dyson) ⟨F ∂S/∂φ_x⟩ = ⟨∂F/∂φ_x⟩, by which maps are verified. log Z(θ) lies between the means of
two annealed importance samplings (Neal 2001), from the free field to θ and back (`log_z_bounds`).

Maps are drawn by hybrid Monte Carlo with clusters (:mod:`.hmc`), each by a chain of its own from
the minimum of the action.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
from scipy.special import logsumexp

from simulators.base import Array, Observable, Symmetry, Verdict
from simulators.field import observables
from simulators.field.inference import LOG_2PI
from simulators.field.modes import coloured, momentum, shells
from simulators.prior import Box

__all__ = ["Phi4"]

TRAJECTORIES = 5
"""Of a chain, for each site along an axis: five times what |M| takes at the critical point."""
STEP = 0.4
"""Of the leapfrog rule at one site along an axis; √L times smaller at L."""
FEWEST = 0.5
"""Of trajectories that must be accepted, for chains to have come from their start to the law."""
FREELY = 16
"""Of them, at most, at the start, which are accepted whatever they are."""
FREE = 1.0
"""m² of the free field from which log Z is annealed."""


@dataclass(frozen=True)
class Phi4:
    """φ⁴ lattice field on a periodic square.

    Attributes:
        size: sites along each axis, 4 to 256.
        trajectories: of each map's chain; 0 takes 5 for each site along an axis.
        step: of the leapfrog rule, in units of time of which a trajectory takes 1 on average; 0
            takes 0.4 over the root of the sites along an axis.
    """

    size: int = 16
    trajectories: int = 0
    step: float = 0.0

    support: ClassVar[Literal["reals"]] = "reals"
    axes: ClassVar[tuple[str, ...]] = ("periodic", "periodic")
    symmetries: ClassVar[tuple[Symmetry, ...]] = ("shift", "reflect", "transpose", "flip")

    def __post_init__(self) -> None:
        """Refuse a configuration outside the documented ranges."""
        if not 4 <= self.size <= 256:
            raise ValueError(f"size: expected 4 to 256, got {self.size}")
        if not 0 <= self.trajectories <= 1_000_000:
            raise ValueError(f"trajectories: expected 0 to 1000000, got {self.trajectories}")
        if not 0 <= self.step < np.inf:
            raise ValueError(f"step: expected 0 or a positive number, got {self.step}")

    @property
    def prior(self) -> Box:
        """Uniform: m² on [−2, 0], λ on [0.1, 0.5]."""
        return Box(mass_squared=(-2.0, 0.0, "", "m^2"), coupling=(0.1, 0.5, "", r"\lambda"))

    @property
    def x_shape(self) -> tuple[int, int]:
        """(size, size)."""
        return self.size, self.size

    @property
    def sites(self) -> int:
        """N, the number of sites."""
        return self.size**2

    @property
    def trajectories_used(self) -> int:
        """Of each map's chain."""
        return self.trajectories or TRAJECTORIES * self.size

    @property
    def step_used(self) -> float:
        """Of the leapfrog rule."""
        return self.step or STEP / self.size**0.5

    @property
    def provenance(self) -> dict[str, Any]:
        """How the maps are drawn, for the file."""
        return {
            "sampler": "hybrid Monte Carlo and clusters",
            "trajectories": self.trajectories_used,
            "step": self.step_used,
        }

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One map for each row of θ, (n, 2) → (n, size, size).

        Raises:
            ValueError: λ < 0, or m² ≤ 0 without λ; or a step so long that chains do not move.
        """
        theta = self.checked_theta(theta)
        mass, coupling = theta.T
        least = np.sqrt(np.maximum(-mass, 0) / np.where(coupling > 0, 4 * coupling, 1))
        x = np.broadcast_to(least[:, None, None], (len(theta), *self.x_shape)).copy()
        free = min(FREELY, self.trajectories_used // 4)
        accepted = self.evolve(x, theta, rng, self.trajectories_used, free)
        asked = len(x) * (self.trajectories_used - free)
        if asked and accepted + 1.5 / asked**0.5 < FEWEST:
            raise ValueError(
                f"step: expected one with which half of the trajectories are accepted, got "
                f"{self.step_used:g} with {accepted:.0%}, so that maps stay near their start; "
                "take a shorter one, or more trajectories"
            )
        return x * rng.choice([-1.0, 1.0], len(x))[:, None, None]

    def evolve(
        self, x: Array, theta: Array, rng: np.random.Generator, trajectories: int, free: int = 0
    ) -> float:
        """Move maps x (n, size, size) at θ (n, 2) in place; the part of trajectories accepted.

        Of these the first `free` are not asked, and not counted.
        """
        from simulators.field import hmc

        key = rng.integers(0, 1 << 64, size=2, dtype=np.uint64)
        steps = max(1, round(1 / self.step_used))
        return hmc.evolve(x, theta, key, trajectories, steps, self.step_used, free)

    def checked_theta(self, theta: Array) -> Array:
        """θ (n, 2) as float64.

        Raises:
            ValueError: another shape, λ < 0, or m² ≤ 0 without λ.
        """
        theta = np.asarray(theta, float)
        if theta.ndim != 2 or theta.shape[1] != 2 or not np.isfinite(theta).all():
            raise ValueError(f"theta: expected finite numbers of shape (n, 2), got {theta.shape}")
        bounded = (theta[:, 1] > 0) | ((theta[:, 1] == 0) & (theta[:, 0] > 0))
        if not bounded.all():
            raise ValueError(
                f"theta: expected λ > 0, or λ = 0 and m² > 0, got {theta[~bounded][0].tolist()}"
            )
        return theta

    # --- what is known of the law -----------------------------------------------------------

    def action(self, theta: Array, x: Array) -> Array:
        """S of maps x (n, size, size) at θ (n, 2), (n,): −log p(x|θ) up to log Z."""
        mass, coupling = np.asarray(theta, float).T[..., None, None]
        x = np.asarray(x, float)
        steps = sum((np.roll(x, 1, axis) - x) ** 2 for axis in (1, 2))
        return (0.5 * steps + 0.5 * mass * x**2 + coupling * x**4).sum((1, 2))

    def score(self, theta: Array, x: Array, noise: Array | float = 0.0) -> Array:
        """∇ log p(x|θ) = −∂S/∂φ of maps x (n, size, size) at θ (n, 2), of x's shape.

        Raises:
            ValueError: maps with noise, of which it is not known.
        """
        if np.any(noise):
            raise ValueError("phi4: the score of maps with noise is not known")
        mass, coupling = np.asarray(theta, float).T[..., None, None]
        x = np.asarray(x, float)
        near = sum(np.roll(x, step, axis) for step in (-1, 1) for axis in (1, 2))
        return near - (4 + mass + 4 * coupling * x**2) * x

    def log_z_bounds(
        self, theta: Array, rng: np.random.Generator, *, chains: int = 64, temperatures: int = 200
    ) -> tuple[float, float]:
        """What log Z of one θ (2,) lies between, on average over draws.

        Args:
            theta: m² and λ, (2,).
            rng: of the draws.
            chains: whose weights are averaged.
            temperatures: on the way from the free field.

        Returns:
            A stochastic lower bound, and an upper one as far as chains at θ have come there.
        """
        end = self.checked_theta(np.asarray(theta, float)[None])[0]
        start, part = np.array([FREE, 0.0]), np.linspace(0, 1, temperatures + 1)[:, None]
        path = start + part * (end - start)
        x = self.free_maps(chains, rng)
        up = self.annealed(x, path, rng)
        down = self.annealed(self.sample(np.tile(end, (chains, 1)), rng), path[::-1], rng)
        zero, many = self.free_log_z(FREE), np.log(chains)
        return zero + float(logsumexp(up) - many), zero - float(logsumexp(down) - many)

    def annealed(self, x: Array, path: Array, rng: np.random.Generator) -> Array:
        """Log weights (n,) of maps x (n, size, size) that follow a path of θ (k, 2), in place."""
        total = np.zeros(len(x))
        for here, there in pairwise(path):
            now, then = (np.tile(t, (len(x), 1)) for t in (here, there))
            total += self.action(now, x) - self.action(then, x)
            self.evolve(x, then, rng, 1)
        return total

    def free_maps(self, n: int, rng: np.random.Generator) -> Array:
        """Maps of the free field of m² = 1, (n, size, size)."""
        scale = (momentum(self.size) + FREE) ** -0.5
        return coloured(rng.standard_normal((n, *self.x_shape)), scale)

    def free_log_z(self, mass_squared: float) -> float:
        """Log Z of the free field, λ = 0."""
        modes = shells(self.size)
        return 0.5 * float(modes.count @ (LOG_2PI - np.log(modes.square + mass_squared)))

    @property
    def observables(self) -> dict[str, Observable]:
        """Magnetisation, moments, power spectrum, correlation and histogram of a map."""
        return observables.of_phi4()

    def verify(self, theta: Array, x: Array) -> list[Verdict]:
        """Whether maps x (n, size, size) follow p(x|θ), by identities of Schwinger and Dyson."""
        from simulators.field import verification

        return verification.verify_phi4(self, self.checked_theta(theta), np.asarray(x, float))
