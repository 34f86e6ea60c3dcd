r"""Damped oscillator: a displacement seen at many times, six parameters, exact p(x|θ).

    x_i = c + A exp(−γ t_i) cos(ω t_i + φ) + σ ε_i,      ε_i ~ N(0, 1), i = 1 … size,

t_i equally spaced from 0 to `duration`. θ = (ω, γ, A, φ, σ, c), each with a prior of its own kind:
ω and σ log-uniform, γ of a gamma law, A and c normal, φ uniform over half a turn, for (A, φ) and
(−A, φ + π) are one wave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy import stats

from simulators.base import Array, Observable
from simulators.prior import Prior

__all__ = ["Oscillator"]


@dataclass(frozen=True)
class Oscillator:
    """Damped oscillator with Gaussian noise.

    Attributes:
        size: number of times at which it is seen, 8 to 4096.
        duration: the last of them, in seconds; the first is 0.
    """

    size: int = 200
    duration: float = 10.0

    support: ClassVar[Literal["reals"]] = "reals"

    def __post_init__(self) -> None:
        """Refuse a configuration outside the documented ranges."""
        if not 8 <= self.size <= 4096:
            raise ValueError(f"size: expected 8 to 4096, got {self.size}")
        if not self.duration > 0:
            raise ValueError(f"duration: expected a positive number, got {self.duration}")

    @property
    def prior(self) -> Prior:
        """Log-uniform ω and σ, gamma γ, normal A and c, uniform φ."""
        return Prior(
            omega=(stats.loguniform(1, 3), "rad/s", r"\omega"),
            gamma=(stats.gamma(2, scale=0.1), "1/s", r"\gamma"),
            amplitude=(stats.norm(2, 0.4), "m", "A"),
            phase=(-np.pi / 2, np.pi / 2, "rad", r"\phi"),
            noise=(stats.loguniform(0.5, 1.5), "m", r"\sigma"),
            offset=(stats.norm(0, 0.5), "m", "c"),
        )

    @property
    def x_shape(self) -> tuple[int]:
        """(size,)."""
        return (self.size,)

    @property
    def times(self) -> Array:
        """t in seconds, (size,)."""
        return np.linspace(0, self.duration, self.size)

    @property
    def observables(self) -> dict[str, Observable]:
        """Mean and largest displacement, and the spread of its second half."""
        late = self.size // 2
        return {
            "mean": Observable(
                lambda x: x.mean(-1), "m", r"\bar x", "mean displacement",
                exact=lambda theta: self.mean(theta).mean(-1),
            ),
            "largest": Observable(
                lambda x: abs(x).max(-1), "m", r"\max|x|", "largest displacement"
            ),
            "late": Observable(
                lambda x: x[..., late:].std(-1), "m", r"s_\mathrm{late}", "spread, second half"
            ),
        }  # fmt: skip

    def mean(self, theta: Array) -> Array:
        """E[x|θ] in m, (…, 6) → (…, size)."""
        omega, gamma, amplitude, phase, _, offset = np.moveaxis(theta[..., None, :], -1, 0)
        wave = np.exp(-gamma * self.times) * np.cos(omega * self.times + phase)
        return offset + amplitude * wave

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One x for each row of θ, (n, 6) → (n, size)."""
        noise = theta[:, 4, None]
        return self.mean(theta) + noise * rng.standard_normal((len(theta), self.size))

    def log_prob(self, theta: Array, x: Array) -> Array:
        """Exact log p(x|θ) in nats, θ (n, 6), x (n, size) → (n,)."""
        noise = theta[:, 4]
        r = (x - self.mean(theta)) / noise[:, None]
        return -0.5 * (r**2).sum(-1) - self.size * (np.log(noise) + 0.5 * np.log(2 * np.pi))
