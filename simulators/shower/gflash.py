r"""GFlash: the shape of an electromagnetic shower in a homogeneous medium, with its fluctuations.

Depth t is in X₀, radius r in R_M, energy E in GeV, y = E/E_c. A shower is a Gamma distribution of
depth, of shape α and rate β = (α − 1)/T with its maximum at T, and

    (ln T, ln α) ~ N₂(μ(y), Σ(y)),   truncated to α > 1.1.

Its radial density at the reduced depth τ is w·f(r; R_C) + (1 − w)·f(r; R_T), with a core and a
tail of f(r; R) = 2rR²/(r² + R²)², the energy within r being r²/(r² + R²). R_C, R_T and w are
functions of τ, E and Z.

All formulas are those of G. Grindhammer & S. Peters, hep-ex/0001020, appendix A.1, with 0.0412 in
R_T as in the implementation in Geant4. Functions of scalars are compiled; they are used by the
sampler and by the likelihood alike.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from scipy.special import gammainc, ndtr, ndtri

from simulators.base import Array

__all__ = ["LOG_ALPHA_MIN", "LOG_Y_MIN", "draw", "fractions", "moments", "ring_shares"]

LOG_ALPHA_MIN = math.log(1.1)
"""Where ln α is cut off: at α = 1 the shower would have no maximum."""
LOG_Y_MIN = 2.0
"""Least ln y: below, the widths of the Gaussian no longer make sense."""
FAR = 1e100
"""Largest R_T, R_M: its square is finite."""
PHOTON_DEPTH = 9 / 7
"""Mean depth of a photon's conversion, X₀."""


@njit(cache=True)
def moments(log_y: Any, z: float) -> Any:
    """⟨ln T⟩, σ(ln T), ⟨ln α⟩, σ(ln α) and their correlation ρ."""
    return (
        np.log(log_y - 0.812),
        1 / (-1.4 + 1.26 * log_y),
        np.log(0.81 + (0.458 + 2.26 / z) * log_y),
        1 / (-0.58 + 0.86 * log_y),
        0.705 - 0.023 * log_y,
    )


@njit(cache=True)
def radial(tau: Any, log_energy: Any, z: float) -> Any:
    """Core radius R_C, tail radius R_T, in R_M, and the core's weight w < 1 at reduced depth τ."""
    core = 0.0251 + 0.00319 * log_energy + (0.1162 - 0.000381 * z) * tau
    d = tau - 0.645
    tail = (0.659 - 0.00309 * z) * (np.exp(-2.59 * d) + np.exp((0.3585 + 0.0412 * log_energy) * d))
    u = ((0.401 + 0.00187 * z) - tau) / (1.313 - 0.0686 * log_energy)
    weight = (2.632 - 0.00094 * z) * np.exp(u - np.exp(u))
    return core, np.minimum(tail, FAR), weight


@njit(cache=True)
def within(square: Any, core: Any, tail: Any, weight: Any) -> Any:
    """The part of a layer's energy within the radius √square, R_M, which may be infinite."""
    beyond = weight * core**2 / (square + core**2) + (1 - weight) * tail**2 / (square + tail**2)
    return 1 - beyond


def draw(log_y: Array, z: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """T in X₀ and α of one shower for each ln y (n,), (n,) each."""
    m_t, s_t, m_a, s_a, rho = moments(log_y, z)
    below = ndtr((LOG_ALPHA_MIN - m_a) / s_a)
    u = ndtri(below + (1 - below) * rng.random(len(log_y)))
    v = rho * u + np.sqrt(1 - rho**2) * rng.standard_normal(len(log_y))
    return np.exp(m_t + s_t * v), np.exp(m_a + s_a * u)


def fractions(t: Array, alpha: Array, edges: Array) -> Array:
    """F_l, the part of the energy between successive depths.

    Args:
        t: T, depth of the maximum, X₀, (n,).
        alpha: α, (n,).
        edges: depths from the shower's start, X₀, (n, L + 1); negative ones are before it.

    Returns:
        (n, L).
    """
    beta = (alpha - 1) / t
    return np.diff(gammainc(alpha[:, None], (beta[:, None] * edges).clip(0)), axis=1)


def ring_shares(
    t: Array, alpha: Array, log_energy: Array, log_y: Array, z: float, depth: Array, edges: Array
) -> Array:
    """G_lr, the part of a layer's energy that lies in a ring.

    Args:
        t: T, (n,).
        alpha: α, (n,).
        log_energy: ln E, (n,).
        log_y: ln y, (n,).
        z: charge number.
        depth: of the layers' centres from the shower's start, X₀, (n, L).
        edges: radii of the rings, R_M, (R + 1,).

    Returns:
        (n, L, R).
    """
    mean_alpha = np.exp(moments(log_y, z)[2])
    scale = (alpha - 1) / alpha * mean_alpha / (mean_alpha - 1) / t
    tau = depth.clip(0) * scale[:, None]
    core, tail, weight = (v[..., None] for v in radial(tau, log_energy[:, None], z))
    return np.diff(within(edges**2, core, tail, weight), axis=2)
