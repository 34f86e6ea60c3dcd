"""Linear-Gaussian toy: x = A θ + b + σ ε with everything in closed form.

The fruit fly of the tests. A is a fixed matrix with a smooth, asymmetric pattern, so that no two
axes can be confused. p(x|θ) is Gaussian; with the uniform prior on a box the posterior is the
Gaussian of mean (AᵀA)⁻¹Aᵀ(x − b) and covariance σ² (AᵀA)⁻¹, truncated to the box.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from simulators.base import Array, Observable
from simulators.prior import Box


@dataclass(frozen=True)
class LinearGaussian:
    """x = A θ + b + σ ε, ε standard normal: the test problem with a closed-form answer.

    Attributes:
        size: number of components of x (at least 1).
        parameters: number of parameters θ1, θ2, … (1 to 10).
        noise: standard deviation σ of each component of x (positive).
    """

    size: int = 5
    parameters: int = 2
    noise: float = 0.5

    support: ClassVar[Literal["reals"]] = "reals"

    def __post_init__(self) -> None:
        """Refuse a configuration outside the documented ranges."""
        if self.size < 1:
            raise ValueError(f"size: expected at least 1, got {self.size}")
        if not 1 <= self.parameters <= 10:
            raise ValueError(f"parameters: expected 1 to 10, got {self.parameters}")
        if not self.noise > 0:
            raise ValueError(f"noise: expected a positive number, got {self.noise}")

    @property
    def prior(self) -> Box:
        """Uniform on [−2, 2] for each parameter."""
        return Box(
            **{f"theta{d}": (-2.0, 2.0, "", rf"\theta_{d}") for d in range(1, self.parameters + 1)}
        )

    @property
    def x_shape(self) -> tuple[int]:
        """(size,)."""
        return (self.size,)

    @property
    def matrix(self) -> Array:
        """A, (size, parameters)."""
        i, d = np.arange(1, self.size + 1)[:, None], np.arange(1, self.parameters + 1)
        return np.cos(i * d) + (d == 1)

    @property
    def offset(self) -> Array:
        """b, (size,)."""
        return np.linspace(-1.0, 2.0, self.size)

    @property
    def observables(self) -> dict[str, Observable]:
        """The mean component and the norm of x."""
        return {
            "mean": Observable(
                lambda x: x.mean(-1),
                latex=r"\bar x",
                title="mean component",
                exact=lambda theta: self.mean(theta).mean(-1),
            ),
            "norm": Observable(lambda x: np.linalg.norm(x, axis=-1), latex="|x|", title="norm"),
        }

    def mean(self, theta: Array) -> Array:
        """E[x|θ], (n, D) → (n, size)."""
        return theta @ self.matrix.T + self.offset

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One x for each row of θ, (n, D) → (n, size)."""
        return self.mean(theta) + self.noise * rng.standard_normal((len(theta), self.size))

    def log_prob(self, theta: Array, x: Array) -> Array:
        """Exact log p(x|θ) in nats, of what of x is not missing, (n,)."""
        seen = ~np.isnan(x)
        r = np.where(seen, x - self.mean(theta), 0.0) / self.noise
        return -0.5 * (r**2).sum(-1) - seen.sum(-1) * np.log(self.noise * np.sqrt(2 * np.pi))

    def score(self, theta: Array, y: Array, noise: Array | float) -> Array:
        """Exact ∇ log p(y|θ) of y = x + τε, (n, size); τ a number or one for each component."""
        return (self.mean(theta) - y) / (self.noise**2 + np.square(noise))

    def posterior(self, x: Array) -> tuple[Array, Array]:
        """Mean (n, D) and covariance (D, D) of p(θ|x) before truncation to the prior's box."""
        a = self.matrix
        precision = a.T @ a
        mean = (x - self.offset) @ np.linalg.solve(precision, a.T).T
        return mean, self.noise**2 * np.linalg.inv(precision)
