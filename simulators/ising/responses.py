"""Figures of many lattices at one temperature: |m|, χ, C and Binder's cumulant, and what is exact.

A lattice of N = L² sites has the quantities e = E/N, e², |m| = |M|/N, m² and m⁴. All figures are
functions of their means at one β (in units of J = k_B = 1):

    ⟨|m|⟩,   χ = β N (⟨m²⟩ − ⟨|m|⟩²),   C = β² N (⟨e²⟩ − ⟨e⟩²),   U = 1 − ⟨m⁴⟩/(3⟨m²⟩²).

C is −β² d⟨e⟩/dβ and χ, in the ordered phase, the derivative of ⟨m⟩ by a field (fluctuation and
dissipation). Up to 64 sites all means and their covariances are exact, by counted states; up to
1,024 sites those of e; beyond, the means of e and e² alone (Kaufman 1949).

Of an infinite lattice ⟨|m|⟩ = (1 − sinh⁻⁴ 2β)^{1/8} below T_c (Yang 1952), and C is Onsager's
(1944). Near T_c, with t = (T − T_c)/T_c, ⟨|m|⟩ L^{1/8} and χ L^{−7/4} are functions of t L alone,
and curves U_L(T) of several L cross at T_c = 2/log(1 + √2) (Binder, Z. Phys. B 43, 119 (1981)).

References: L. Onsager, Phys. Rev. 65, 117 (1944); B. Kaufman, Phys. Rev. 76, 1232 (1949);
C. N. Yang, Phys. Rev. 85, 808 (1952).
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ellipe, ellipk

from simulators.base import Array, Response, Responses
from simulators.ising import ensemble
from simulators.ising.exact import CRITICAL_BETA
from simulators.ising.observables import energy, magnetisation

if TYPE_CHECKING:
    from simulators.ising.lattice import Ising

__all__ = ["ising_responses"]

MOST_LEVELS = 1024
"""Sites up to which the law of E is counted for this: 0.7 s."""
POWERS = ((1, 0), (2, 0), (0, 1), (0, 2), (0, 4))
"""Powers of e and of |m| of each quantity."""


def quantities(x: Array) -> Array:
    """e, e², |m|, m² and m⁴ of lattices x (n, rows, columns), (n, 5)."""
    e, m = energy(x), np.abs(magnetisation(x))
    return np.stack([e**a * m**b for a, b in POWERS], axis=1)


def ising_responses(ising: Ising) -> Responses | None:
    """The figures of many lattices at one temperature; None where θ is not that alone."""
    if ising.theta not in ("beta", "temperature"):
        return None
    n = ising.sites

    def beta(theta: Array) -> Array:
        return ising.couplings(theta)[:, 0]

    def susceptibility(theta: Array, means: Array) -> Array:
        return beta(theta) * n * (means[:, 3] - means[:, 2] ** 2)

    def specific_heat(theta: Array, means: Array) -> Array:
        return beta(theta) ** 2 * n * (means[:, 1] - means[:, 0] ** 2)

    def binder(theta: Array, means: Array) -> Array:
        return 1 - means[:, 4] / (3 * means[:, 3] ** 2)

    return Responses(
        quantities,
        {
            "magnetisation": Response(
                lambda theta, means: means[:, 2], "", r"\langle |m| \rangle", "magnetisation",
                1 / 8, lambda theta: infinite_magnetisation(beta(theta)),
            ),
            "susceptibility": Response(
                susceptibility, "1/J", r"\chi", "susceptibility", -7 / 4
            ),
            "specific_heat": Response(
                specific_heat, "k_B", "C", "specific heat", None,
                lambda theta: infinite_specific_heat(beta(theta)),
            ),
            "binder": Response(binder, "", "U", "Binder's cumulant", 0.0),
        },
        size=n**0.5,
        coordinate=lambda theta: 1 / beta(theta),
        latex="T",
        unit="J/k_B",
        critical=1 / CRITICAL_BETA,
        crossing="binder",
        moments=lambda theta: moments(ising, theta),
    )  # fmt: skip


def moments(ising: Ising, theta: Array) -> tuple[Array, Array]:
    """Exact means (n, 5) and covariances (n, 5, 5) of the quantities; NaN where not known."""
    k = ising.couplings(theta)
    pairs = list(combinations_with_replacement(range(len(POWERS)), 2))
    powers = [*POWERS, *(tuple(np.add(POWERS[i], POWERS[j])) for i, j in pairs)]
    found = _powers(ising, k, powers)
    means = found[:, : len(POWERS)]
    covariance = np.full((len(k), len(POWERS), len(POWERS)), np.nan)
    for (i, j), product in zip(pairs, found[:, len(POWERS) :].T, strict=True):
        covariance[:, i, j] = covariance[:, j, i] = product - means[:, i] * means[:, j]
    return means, covariance


def _powers(ising: Ising, k: Array, powers: list[tuple[int, int]]) -> Array:
    """⟨eᵃ|m|ᵇ⟩ at couplings k (n, 3) for each (a, b), (n, powers); NaN where not known."""
    from simulators.ising.counting import energy_levels, joint_levels

    shape, n = ising.x_shape, ising.sites
    if ensemble.is_counted(shape):
        levels = joint_levels(shape)
        e, m = levels.energy / n, np.abs(levels.magnetisation) / n
        return levels.moments(k[:, 0], k[:, 2], *((e**a, m**b) for a, b in powers))[1]
    found = np.full((len(k), len(powers)), np.nan)
    if n <= MOST_LEVELS:
        energies = energy_levels(shape)
        p, e = energies.law(k[:, 0], k[:, 2]), energies.energy / n
        for column, (a, b) in enumerate(powers):
            if b == 0:
                found[:, column] = p @ e**a
    else:
        jet = ensemble.cumulants(shape, k, np.array([1, 1, 0]))
        known = {(1, 0): -jet.d / n, (2, 0): (jet.dd + jet.d**2) / n**2}
        for column, power in enumerate(powers[: len(POWERS)]):
            found[:, column] = known.get(power, np.nan)
    return found


def infinite_magnetisation(beta: Array) -> Array:
    """⟨|m|⟩ of the infinite lattice at β (n,), by Yang."""
    ordered = np.maximum(beta, CRITICAL_BETA)
    return np.maximum(1 - np.sinh(2 * ordered) ** -4.0, 0) ** (1 / 8)


def infinite_specific_heat(beta: Array) -> Array:
    """C a site in k_B of the infinite lattice at β (n,), by Onsager; it diverges at T_c."""
    k, t = 2 * np.sinh(2 * beta) / np.cosh(2 * beta) ** 2, np.tanh(2 * beta) ** 2
    first, second = ellipk(k**2), ellipe(k**2)
    terms = first - second - (1 - t) * (np.pi / 2 + (2 * t - 1) * first)
    return 4 / np.pi * (beta / np.tanh(2 * beta)) ** 2 * terms
