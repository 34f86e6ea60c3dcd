"""The Ising model on a periodic lattice, as a simulator with the exact answer beside it.

Spins s = ±1 on a torus of `size` rows and `width` columns, with the energy

    H(s) = −J_x Σ s s' (along rows) − J_y Σ s s'' (along columns) − h Σ s,   p(s|θ) ∝ e^{−βH(s)}.

What θ is, is a choice: β, the temperature T = 1/β, (β, h), or the two couplings (βJ_x, βJ_y).
Every choice is a map from θ to the three couplings (K_x, K_y, H) = (βJ_x, βJ_y, βh), and p is an
exponential family in them:

    log p(s|θ) = K_x b_x(s) + K_y b_y(s) + H M(s) − log Z(K_x, K_y, H).

The bond sums b_x, b_y and the magnetisation M are all that the data say about θ, so with log Z
the posterior is exact as well. Without field log Z is known at every size (:mod:`.exact`); with
a field up to 64 sites by counting states (:mod:`.counting`) and up to 12 sites across by transfer
matrix (:mod:`.transfer`). Beyond, there is no exact answer, and :attr:`Ising.tractable` says so.

References: E. Ising, Z. Phys. 31, 253 (1925); L. Onsager, Phys. Rev. 65, 117 (1944).
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from math import ceil, log
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np

from simulators.base import Array, Observable, Responses, Symmetry, Verdict
from simulators.ising import ensemble, inference, observables
from simulators.prior import Box, Prior

if TYPE_CHECKING:
    from simulators.ising.clamped import ClampedIsing
    from simulators.measurement import LinearMap

__all__ = ["Ising"]

Theta = Literal["beta", "temperature", "beta-h", "beta-xy"]
Sampler = Literal["auto", "perfect", "swendsen-wang", "heat-bath", "checkerboard"]

PRIORS: dict[Theta, Box] = {
    "beta": Box(beta=(0.1, 0.7, "1/J", r"\beta")),
    "temperature": Box(temperature=(1.0, 4.0, "J/k_B", "T")),
    "beta-h": Box(beta=(0.1, 0.7, "1/J", r"\beta"), h=(-0.5, 0.5, "J", "h")),
    "beta-xy": Box(beta_x=(0.1, 0.7, "", r"\beta J_x"), beta_y=(0.1, 0.7, "", r"\beta J_y")),
}
CLUSTERS = ("perfect", "swendsen-wang")
LANES = 32  # lattices that the checkerboard updates at once
RELAXATIONS, SLOWEST = 8, 800
"""Relaxation times of single spins that are waited for, and sweeps that one takes at the critical
point on 64 sites a side: in which what is left of the cold start in energy and m² falls to 1/e."""
MOST_PERFECT = 32  # sites along the longer side up to which `auto` is perfect


@dataclass(frozen=True)
class Ising:
    """Ising model: spins ±1 on a periodic lattice, with exact log p, posterior and samples.

    Attributes:
        size: number of rows (2 to 4096).
        width: number of columns (2 to 4096); 0 takes as many as rows.
        theta: the parameters: beta = 1/(k_B T) in 1/J, temperature T in J/k_B, beta-h = beta and
            the field h in J, or beta-xy = the couplings beta J_x along rows and beta J_y along
            columns.
        sampler: perfect (exact draws), swendsen-wang (cluster sweeps), heat-bath (single spins,
            slow at low T), checkerboard (the same of 32 lattices at once, of even sides), or
            auto: perfect up to 32 sites a side, swendsen-wang above. With --device cuda
            swendsen-wang or checkerboard.
        sweeps: sweeps from a cold start (0 to 1000000); 0 takes as many as the critical point
            needs, 12 autocorrelation times of clusters and 8 relaxation times of single spins.
            Not for perfect.
    """

    size: int = 16
    width: int = 0
    theta: Theta = "beta"
    sampler: Sampler = "auto"
    sweeps: int = 0

    support: ClassVar[Literal["spins"]] = "spins"
    device: ClassVar[str] = "cpu"

    def __post_init__(self) -> None:
        """Refuse a configuration outside the documented ranges."""
        if not 2 <= self.size <= 4096:
            raise ValueError(f"size: expected 2 to 4096 rows, got {self.size}")
        if self.width != 0 and not 2 <= self.width <= 4096:
            raise ValueError(f"width: expected 2 to 4096 columns or 0 (square), got {self.width}")
        if self.theta not in PRIORS:
            raise ValueError(f"theta: expected one of {', '.join(PRIORS)}, got {self.theta!r}")
        if self.sampler not in get_args(Sampler):
            known = ", ".join(get_args(Sampler))
            raise ValueError(f"sampler: expected {known}, got {self.sampler!r}")
        if self.sampler == "checkerboard" and (self.size % 2 or self.width % 2):
            raise ValueError(
                f"sampler: checkerboard expects even sides, got {self.size} x "
                f"{self.width or self.size}; choose heat-bath or swendsen-wang"
            )
        if not 0 <= self.sweeps <= 1_000_000:
            raise ValueError(f"sweeps: expected 0 to 1000000, got {self.sweeps}")
        if self.sweeps and self.sampler_used == "perfect":
            raise ValueError(
                f"sweeps: expected 0 with perfect samples, got {self.sweeps}; choose sampler "
                "swendsen-wang, heat-bath or checkerboard, or leave sweeps out"
            )

    # --- what it is -------------------------------------------------------------------------

    @property
    def prior(self) -> Box:
        """Uniform: β or βJ on [0.1, 0.7], T on [1, 4], h on [−0.5, 0.5]."""
        return PRIORS[self.theta]

    @property
    def x_shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.size, self.width or self.size

    @property
    def sites(self) -> int:
        """N, the number of spins."""
        return self.x_shape[0] * self.x_shape[1]

    @property
    def has_field(self) -> bool:
        """Whether θ contains a field."""
        return self.theta == "beta-h"

    @property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """Shifts and reflections; transposition if square and isotropic; flip without field."""
        square = self.x_shape[0] == self.x_shape[1] and self.theta != "beta-xy"
        turn: tuple[Symmetry, ...] = ("transpose",) if square else ()
        flip: tuple[Symmetry, ...] = () if self.has_field else ("flip",)
        return ("shift", "reflect", *turn, *flip)

    @property
    def sampler_used(self) -> str:
        """The sampler behind `auto`, or the one asked for."""
        if self.sampler != "auto":
            return self.sampler
        return "perfect" if max(self.x_shape) <= MOST_PERFECT else "swendsen-wang"

    @property
    def sweeps_used(self) -> int:
        """Sweeps from the cold start; 0 for perfect samples."""
        if self.sweeps or self.sampler_used == "perfect":
            return self.sweeps
        side = max(self.x_shape)
        if self.sampler_used == "swendsen-wang":
            return ceil(12 * (0.14 + 1.16 * log(side)))
        return max(ceil(RELAXATIONS * SLOWEST * (side / 64) ** 2.17), 50)

    @property
    def shard_rows(self) -> int | None:
        """Rows that are made in one go: many groups of 32 for a checkerboard, to fill a GPU."""
        if self.sampler_used != "checkerboard":
            return None
        return max(LANES, min(4096, 2**26 // self.sites) // LANES * LANES)

    @property
    def provenance(self) -> dict[str, Any]:
        """How the samples are made, for the file."""
        return {"sampler": self.sampler_used, "sweeps": self.sweeps_used}

    # --- θ and sampling ---------------------------------------------------------------------

    def couplings(self, theta: Array) -> Array:
        """(K_x, K_y, H) = (βJ_x, βJ_y, βh) of each row of θ (n, D), (n, 3).

        Raises:
            ValueError: θ of another shape, not finite, or a temperature of 0.
        """
        theta = np.asarray(theta, dtype=float)
        d = len(self.prior)
        if theta.ndim != 2 or theta.shape[1] != d:
            raise ValueError(
                f"theta: expected shape (n, {d}) for {', '.join(self.prior.names)}, "
                f"got {theta.shape}"
            )
        if not np.all(np.isfinite(theta)) or (self.theta == "temperature" and not theta.all()):
            raise ValueError("theta: expected finite values and T ≠ 0, got NaN, infinity or T = 0")
        first, last = theta[:, 0], theta[:, -1]
        kx = 1 / first if self.theta == "temperature" else first
        ky = last if self.theta == "beta-xy" else kx
        return np.stack([kx, ky, first * last if self.has_field else 0 * kx], axis=1)

    def on(self, device: str) -> Ising:
        """The same, drawing on a device.

        Raises:
            ValueError: another device than cuda, none that is there, or a sampler for the CPU.
        """
        from simulators.ising import cuda

        if device != "cuda":
            raise ValueError(f"device: expected cpu or cuda, got {device!r}")
        if self.sampler_used not in cuda.SAMPLERS:
            raise ValueError(
                f"device cuda: sampler {self.sampler_used} is of the CPU; add --sampler "
                f"{' or '.join(cuda.SAMPLERS)}"
            )
        cuda.require_device()
        made = copy(self)
        object.__setattr__(made, "device", device)
        return made

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One lattice for each row of θ, (n, D) → (n, rows, columns) int8 of ±1.

        Lattice i depends on θ_i, on i and on one key drawn from rng, and on nothing else.

        Raises:
            ValueError: a negative coupling, for a cluster sampler.
        """
        from simulators.ising import sampling

        key = rng.integers(0, 1 << 64, size=2, dtype=np.uint64)
        k = self.couplings(theta)
        if self.sampler_used in CLUSTERS and np.any(k[:, :2] < 0):
            raise ValueError(
                f"theta: {self.sampler_used} expects couplings ≥ 0, got {k[:, :2].min():g}; "
                "choose sampler heat-bath"
            )
        draw = sampling.draw
        if self.device == "cuda":
            from simulators.ising import cuda

            draw = cuda.draw
        return draw(self.sampler_used, k, self.x_shape, self.sweeps_used, key)

    # --- the exact answer -------------------------------------------------------------------

    @property
    def tractable(self) -> bool:
        """Whether log p is exact: always without field, up to 12 sites across with one."""
        return not self.has_field or ensemble.is_solved(self.x_shape)

    def log_z(self, theta: Array) -> Array:
        """Log Z in nats, (n,).

        Raises:
            ValueError: no exact partition function at this size.
        """
        return ensemble.log_z(self.x_shape, self.couplings(theta))

    def log_prob(self, theta: Array, x: Array) -> Array:
        """Exact log p(x|θ) in nats a lattice, (n,).

        Raises:
            ValueError: no exact partition function at this size.
        """
        log_z = self.log_z(theta)
        return (self.couplings(theta) * observables.bonds(self.checked(x))).sum(1) - log_z

    def restoration(self, theta: Array, y: Array, linear: LinearMap, noise: float) -> ClampedIsing:
        """The exact p(s|θ, y) of spins that were seen, for one θ (D,) and y (rows, columns).

        Raises:
            ValueError: as for `ClampedIsing`.
        """
        from simulators.ising.clamped import ClampedIsing

        return ClampedIsing(self, np.asarray(theta, float), y, linear, noise)

    def entropy(self, theta: Array) -> Array:
        """Entropy −E[log p(x|θ)] in nats a lattice, (n,): no surrogate's mean NLL is lower.

        Raises:
            ValueError: no exact partition function at this size.
        """
        return ensemble.entropy(self.x_shape, self.couplings(theta))

    def log_evidence(self, x: Array, prior: Prior | None = None) -> Array:
        """Exact log p(x) in nats a lattice under the prior, (n,)."""
        return inference.log_evidence(self, self.checked(x), prior or self.prior)

    def log_posterior(self, theta: Array, x: Array, prior: Prior | None = None) -> Array:
        """Exact log p(θ|x) at every θ (k, D) for every x (n, rows, columns), (n, k)."""
        return inference.log_posterior(self, theta, self.checked(x), prior or self.prior)

    def mean_entropy(self, prior: Prior | None = None) -> float:
        """The floor of any surrogate's expected NLL, in nats a lattice: entropy over the prior."""
        return inference.mean_entropy(self, prior or self.prior)

    def mutual_information(self, prior: Prior | None = None) -> float:
        """I(θ; x) in nats: the most that any posterior gains over the prior, on average.

        Raises:
            ValueError: beta-xy, or more sites than the law of E is known for.
        """
        return inference.mutual_information(self, prior or self.prior)

    @property
    def observables(self) -> dict[str, Observable]:
        """Energy, magnetisation and correlation of a lattice, with ⟨·⟩ where it is known."""
        return observables.catalogue(self)

    @property
    def responses(self) -> Responses | None:
        """Magnetisation, susceptibility, specific heat and Binder's cumulant of many lattices."""
        from simulators.ising.responses import ising_responses

        return ising_responses(self)

    def verify(self, theta: Array, x: Array) -> list[Verdict]:
        """Whether x (n, rows, columns) follows p(x|θ), by exact moments and laws."""
        from simulators.ising import verification

        return verification.verify(self, theta, self.checked(x))

    def checked(self, x: Array) -> Array:
        """X as int8 of ±1, (n, rows, columns).

        Raises:
            ValueError: another shape, or values other than ±1.
        """
        x = np.asarray(x)
        if x.shape[1:] != self.x_shape:
            raise ValueError(
                f"x: expected shape (n, {self.size}, …) {self.x_shape}, got {x.shape}"
            )
        if not np.all(np.abs(x) == 1):
            raise ValueError("x: expected spins of −1 and +1, got other values")
        return x.astype(np.int8, copy=False)
