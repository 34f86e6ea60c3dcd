r"""A mixture of Student's t laws, fitted to weighted points: a proposal with tails.

Each of K components has a place m_k, a matrix C_k = L_k L_kᵀ and ν = 8 degrees of freedom,

    t(z) ∝ |C|^−½ (1 + δ/ν)^−(ν + D)/2,      δ = |L⁻¹(z − m)|²,

which costs a tenth of the draws where the posterior is normal, and keeps weights bounded where
its tails are longer. EM (Peel & McLachlan, Stat. Comput. 10 (2000) 339) starts from k-means++
(Arthur & Vassilvitskii, SODA 2007); each C_k is drawn a little to the mean of all. The number of
components is doubled as long as points that were held out become likelier.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import gammaln, logsumexp, softmax

from simulators.base import Array

__all__ = ["StudentMixture", "fitted_mixture"]

FREEDOM = 8.0
MOST, STEPS, TOLERANCE, GAIN = 32, 40, 1e-3, 0.02
"""Components and steps of EM at most; nats a point by which a step, or twice the components, must
better it."""
MORE, MISSED = 8, 4.0
"""Components that are added at most where points are missed, and by how many nats they must be."""


@dataclass(frozen=True)
class StudentMixture:
    """Σ_k π_k t(z; m_k, L_k L_kᵀ).

    Attributes:
        log_weights: log π, (K,).
        means: m, (K, D).
        roots: L, lower triangular, (K, D, D).
    """

    log_weights: Array
    means: Array
    roots: Array

    def distances(self, z: Array) -> Array:
        """|L_k⁻¹(z − m_k)|² of z (N, D), (K, N)."""
        each = zip(self.means, self.roots, strict=True)
        white = [solve_triangular(root, (z - mean).T, lower=True) for mean, root in each]
        return np.square(white).sum(1)

    def log_components(self, distances: Array) -> Array:
        """Log π_k t_k at such distances (K, N), (K, N)."""
        dims = self.means.shape[1]
        half = (FREEDOM + dims) / 2
        constant = gammaln(half) - gammaln(FREEDOM / 2) - dims / 2 * math.log(FREEDOM * math.pi)
        log_det = np.log(np.diagonal(self.roots, axis1=1, axis2=2)).sum(1)
        return (
            (self.log_weights - log_det)[:, None] + constant - half * np.log1p(distances / FREEDOM)
        )

    def log_density(self, z: Array) -> Array:
        """Log density at z (N, D), (N,)."""
        return logsumexp(self.log_components(self.distances(z)), axis=0)

    def log_levelling(self, z: Array) -> Array:
        """Log of what lifts small components of a density like it, at z (N, D), (N,)."""
        each = self.log_components(self.distances(z))
        level = logsumexp(each - self.log_weights[:, None], axis=0) - math.log(len(each))
        return np.logaddexp(0, level - logsumexp(each, axis=0)) - math.log(2)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draws, (n, D)."""
        weights = np.exp(self.log_weights - logsumexp(self.log_weights))
        which = rng.choice(len(weights), n, p=weights)
        normal = rng.standard_normal((n, self.means.shape[1], 1))
        scale = np.sqrt(FREEDOM / rng.chisquare(FREEDOM, (n, 1)))
        return self.means[which] + scale * (self.roots[which] @ normal)[..., 0]


def fitted_mixture(
    z: Array, weights: Array, log_target: Array, rng: np.random.Generator
) -> StudentMixture:
    """A mixture fitted to weighted points, with as many components as they ask for.

    Args:
        z: (N, D).
        weights: (N,), not negative.
        log_target: log density that the weighted points follow, up to a constant, (N,).
        rng: random numbers.
    """
    z, first, rows = np.unique(z, axis=0, return_index=True, return_inverse=True)
    weights, log_target = np.bincount(rows.reshape(-1), weights), log_target[first]
    held_out = rng.random(len(z)) < 0.25
    known, theirs = z[~held_out], weights[held_out] / weights[held_out].sum()
    count, best = 1, -math.inf
    while count <= MOST:
        parts = _clusters(known, weights[~held_out], count, rng)
        tried = _em(known, weights[~held_out], parts)
        value = float(theirs @ tried.log_density(z[held_out]))
        if value < best + GAIN:
            break
        best, count = value, 2 * count
    found = _em(z, weights, _clusters(z, weights, count // 2, rng))
    return _completed(found, z, weights, log_target)


def _completed(q: StudentMixture, z: Array, weights: Array, log_target: Array) -> StudentMixture:
    """The mixture with a component more where points (N, D) lie that it does not cover.

    These are where the target is far higher over q than in the median (Raftery & Bao, Biometrics
    66 (2010) 1162).
    """
    scale = z.std(0) + 1e-300
    for _ in range(MORE):
        each = q.log_components(q.distances(z))
        missed = log_target - logsumexp(each, axis=0)
        missed = missed - np.median(missed)
        worst = missed.argmax()
        if missed[worst] < MISSED:
            break
        distance = (((z - z[worst]) / scale) ** 2).sum(1)
        distance[missed < MISSED / 2] = math.inf
        alike = distance.argsort()[: max(2 * z.shape[1], (missed > MISSED / 2).sum() // 2)]
        parts = np.vstack([softmax(each, axis=0), np.zeros(len(z))])
        parts[:, alike] = np.arange(len(parts))[:, None] == len(each)
        q = _em(z, weights, parts)
    return q


def _em(z: Array, weights: Array, parts: Array) -> StudentMixture:
    """A mixture fitted to points z (N, D) of weights (N,), that begins with its parts (K, N)."""
    weights = weights / weights.sum()
    size, best = 1 / float((weights**2).sum()), -math.inf
    found = _maximised(z, weights * parts, weights * parts, size)
    for _ in range(STEPS):
        distances = found.distances(z)
        each = found.log_components(distances)
        total = logsumexp(each, axis=0)
        value = float(weights @ total)
        if value < best + TOLERANCE:
            break
        best, parts = value, weights * np.exp(each - total)
        tails = (FREEDOM + z.shape[1]) / (FREEDOM + distances)
        found = _maximised(z, parts, parts * tails, size)
    return found


def _maximised(z: Array, parts: Array, pulls: Array, size: float) -> StudentMixture:
    """The mixture of points z (N, D) of which each component has parts and pulls (K, N)."""
    mass = parts.sum(1) + 1e-12
    means = pulls @ z / (pulls.sum(1)[:, None] + 1e-300)
    off = z - means[:, None]
    scatter = np.swapaxes(off * pulls[..., None], 1, 2) @ off
    dims = z.shape[1]
    own, shared = size * mass[:, None, None], scatter.sum(0)
    matrices = (size * scatter + dims * shared) / (own + dims)
    tiny = 1e-10 * np.trace(shared) / dims + 1e-300
    roots = np.linalg.cholesky(matrices + tiny * np.eye(dims))
    return StudentMixture(np.log(mass / mass.sum()), means, roots)


def _clusters(z: Array, weights: Array, count: int, rng: np.random.Generator) -> Array:
    """To which of `count` clusters each of z (N, D) belongs, 0 or 1, (count, N)."""
    weights = weights / weights.sum()
    mean = weights @ z
    y = (z - mean) / (np.sqrt(weights @ (z - mean) ** 2) + 1e-300)
    centres = y[rng.choice(len(y), 1, p=weights)]
    nearest = ((y - centres) ** 2).sum(1)
    for _ in range(1, count):
        odds = weights * nearest + 1e-300
        tries = y[rng.choice(len(y), 4, p=odds / odds.sum())]
        nearer = np.minimum(nearest, ((y - tries[:, None]) ** 2).sum(-1))
        best = (nearer @ weights).argmin()
        centres, nearest = np.vstack([centres, tries[best]]), nearer[best]
    for _ in range(3):
        which = ((y - centres[:, None]) ** 2).sum(-1).argmin(0)
        belongs = (which == np.arange(count)[:, None]).astype(float)
        centres = (belongs * weights) @ y / ((belongs @ weights)[:, None] + 1e-300)
    return belongs
