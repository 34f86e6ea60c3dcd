r"""θ that do not follow the prior: those of a table, or of the draws of a posterior.

The latter are for another round of simulations, or for predictive x. Simulations are wanted where
the posterior is. A *proposal* are its draws, to which normal noise of their own covariance Σ is
added, √(w² − 1) times as wide: so the covariance is w² Σ, the mean stays, and two modes stay where
they are, which a stretching about the mean would push apart. What falls outside of the prior is
drawn again. A likelihood p(x|θ) is learnt alike from any θ
(Papamakarios, Sterratt & Murray, AISTATS 2019, arXiv:1805.07226); what is learnt of p(θ|x) is not,
and wants the *truncated prior*, the prior itself within a box that holds all of the posterior
(Deistler, Goncalves & Macke, NeurIPS 2022, arXiv:2210.04815).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from physgen.errors import UsageError
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["GivenTheta", "HeldTheta", "Proposal", "ThetaSource"]

ATTEMPTS = 1000
"""Of drawing what lies outside of the prior again."""


class ThetaSource(Protocol):
    """Where θ are taken from, if not from the prior."""

    def at(self, rows: Array, rng: np.random.Generator) -> Array:
        """θ of the rows of these numbers, (n,) → (n, D)."""
        ...


@dataclass(frozen=True)
class GivenTheta:
    """θ of a table: those of its rows, one after the other, and from its start again.

    Attributes:
        theta: (m, D).
    """

    theta: Array

    def at(self, rows: Array, rng: np.random.Generator) -> Array:
        """θ of the rows of these numbers, (n,) → (n, D)."""
        return self.theta[rows % len(self.theta)]


@dataclass(frozen=True)
class HeldTheta:
    """θ some of whose components have one value in all rows.

    Attributes:
        prior: that the others follow, if nothing else is said of them.
        values: of the components that are held.
        others: what the others follow.
    """

    prior: Prior
    values: Mapping[str, float]
    others: ThetaSource | None = None

    def at(self, rows: Array, rng: np.random.Generator) -> Array:
        """θ of the rows of these numbers, (n,) → (n, D)."""
        theta = self.others.at(rows, rng) if self.others else self.prior.sample(len(rows), rng)
        held = theta.copy()
        for name, value in self.values.items():
            held[:, self.prior.names.index(name)] = value
        return held


@dataclass(frozen=True)
class Proposal:
    """Draws of the posteriors of n observations, in equal parts: a law of θ that is no prior.

    Attributes:
        prior: inside which θ is kept.
        draws: of θ, (n, k, D).
        widen: how many times as wide as the posterior, at least 1.

    Raises:
        UsageError: draws that are not inside the prior, or less than 1.
    """

    prior: Prior
    draws: Array
    widen: float = 1.0

    def __post_init__(self) -> None:
        """Refuse draws outside, and narrower proposals, whose tails no round would make good."""
        if not self.widen >= 1:
            raise UsageError(f"widen: expected at least 1, got {self.widen}")
        if not (inside := self.prior.contains(self.draws)).all():
            raise UsageError(
                f"theta_from: {1 - inside.mean():.2g} of the posterior's draws lie outside of "
                f"{self.prior}; give the prior that it was inferred under"
            )

    @cached_property
    def coordinates(self) -> Array:
        """The draws as the prior's coordinates, (n, k, D)."""
        return self.prior.to_coordinates(self.draws)

    @cached_property
    def roots(self) -> Array:
        """Matrices R with RᵀR = Σ of each observation, (n, min(k, D), D)."""
        off = self.coordinates - self.coordinates.mean(1, keepdims=True)
        _, s, v = np.linalg.svd(off, full_matrices=False)
        return s[..., None] * v / np.sqrt(off.shape[1])

    def at(self, rows: Array, rng: np.random.Generator) -> Array:
        """θ of the rows of these numbers, (n,) → (n, D): of each a draw."""
        return self.sample(len(rows), rng)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """N draws of θ, (n, D).

        Raises:
            UsageError: hardly any of them lies inside the prior.
        """
        theta, left = np.empty((n, len(self.prior))), np.arange(n)
        for _ in range(ATTEMPTS):
            theta[left], inside = self._drawn(len(left), rng)
            left = left[~inside]
            if not len(left):
                return theta
        raise UsageError(
            f"widen: fewer than one in {ATTEMPTS} draws, {self.widen:g} times as wide as the "
            "posterior, lie inside the prior; widen it less"
        )

    def _drawn(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """θ (n, D), and whether the prior holds them, (n,)."""
        which = rng.integers(len(self.draws), size=n)
        pick = rng.integers(self.draws.shape[1], size=n)
        if self.widen == 1:
            return self.draws[which, pick], np.ones(n, dtype=bool)
        noise = rng.standard_normal((n, self.roots.shape[1]))
        spread = np.sqrt(self.widen**2 - 1) * np.einsum("nr,nrd->nd", noise, self.roots[which])
        c = self.coordinates[which, pick] + spread
        return self.prior.from_coordinates(c.clip(*self.prior.ends)), self.prior.reaches(c)

    @property
    def box(self) -> Array:
        """Between what values of θ all draws lie, stretched about their mean, (2, D)."""
        c = self.coordinates.reshape(-1, len(self.prior))
        far = np.stack([c.min(0), c.max(0)])
        ends = c.mean(0) + self.widen * (far - c.mean(0))
        return self.prior.from_coordinates(ends.clip(*self.prior.ends))
