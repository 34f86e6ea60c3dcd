r"""The law of a cell's energy: a Poisson number of exponential spots.

With N ~ Poisson(λ) spots of mean energy e, x = Σ spots has an atom and a density,

    P(x = 0) = e^{−λ},   p(x) = (λ/e) e^{−λ−y} S(λy),   y = x/e > 0,

    S(w) = Σ_k w^k / (k! (k+1)!) = I₁(2√w)/√w,

mean λe and variance 2λe². A shower of mean energy E has λ = E/e spots, so σ/E = √(2e/E), and a
stochastic term c, σ/E = c/√E, means e = c²/2. Independent cells add up to a cell of the sum of
their λ: layers, rings and voxels are one process. It is the Tweedie law of power 3/2 (Jørgensen,
J. R. Stat. Soc. B 49, 127 (1987)).

A readout threshold sets x ≤ thr to 0. Then the atom is P(x ≤ thr) = Σ_n Pois(n; λ) P(n, thr/e),
with P the regularised incomplete gamma function and P(0, ·) = 1. As P(n, t) is the probability
of at least n counts where t are expected,

    P(x ≤ thr) = e^{−λ−t} Σ_m (t^m/m!) Σ_{n ≤ m} λ^n/n!,   t = thr/e.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, vectorize

from simulators.base import Array

__all__ = ["gamma_p", "inlined", "kernel", "log_atom", "log_atom_of", "log_density", "series"]

FAST = {"contract", "reassoc", "nsz", "arcp"}
kernel = njit(cache=True, error_model="numpy", fastmath=FAST)
"""Compiles a function; sums may be taken in another order, NaN and ∞ keep their meaning."""
inlined = njit(cache=True, error_model="numpy", fastmath=FAST, inline="always")
"""The same, written into its caller: handing over many arrays costs as much as a short loop."""
FEW, MANY, ALL = 8, 20, 36
"""Terms of S that are enough for w < 0.2, 16 and 100."""
SERIES = np.array([1 / (math.factorial(k) * math.factorial(k + 1)) for k in range(ALL)])
SHORT, LONG = 8, 16
"""Terms of the asymptotic series, for w of at least 1600 and 100."""
ASYMPTOTIC = np.array(
    [
        (-1) ** k
        * math.prod(4 - (2 * j - 1) ** 2 for j in range(1, k + 1))
        / (math.factorial(k) * 8**k)
        for k in range(LONG)
    ]
)
"""Coefficients of √(2πν) e^{−ν} I₁(ν) in 1/ν (Abramowitz & Stegun 9.7.1)."""
EPSILON = 1e-17
HUGE = 1e100
LOG_HUGE = math.log(HUGE)


@kernel
def polynomial(coefficients: Array, terms: int, t: float) -> float:
    """Σ_k a_k t^k over the first terms, a multiple of four, in four chains at once."""
    square = t * t
    fourth = square * square
    k = terms - 4
    p, q = coefficients[k], coefficients[k + 1]
    r, s = coefficients[k + 2], coefficients[k + 3]
    while k > 0:
        k -= 4
        p = p * fourth + coefficients[k]
        q = q * fourth + coefficients[k + 1]
        r = r * fourth + coefficients[k + 2]
        s = s * fourth + coefficients[k + 3]
    return (p + q * t) + square * (r + s * t)


@kernel
def series(w: float) -> tuple[float, float]:
    """S(w) as (u, v): S = v e^u, so that neither overflows."""
    if w < 100.0:
        terms = FEW if w < 0.2 else MANY if w < 16.0 else ALL
        return 0.0, polynomial(SERIES, terms, w)
    root = math.sqrt(w)
    inverse = 1 / root
    shape = polynomial(ASYMPTOTIC, LONG if w < 1600.0 else SHORT, 0.5 * inverse)
    return 2 * root, shape * math.sqrt(inverse * inverse * inverse / (4 * math.pi))


@kernel
def gamma_p(a: float, z: float) -> float:
    """P(a, z), the regularised lower incomplete gamma function, by its series; for z < 700."""
    if z <= 0.0:
        return 0.0
    term = math.exp(a * math.log(z) - z - math.lgamma(a + 1))
    total = term
    while term > EPSILON * total:
        a += 1
        term *= z / a
        total += term
    return total


@kernel
def log_atom_of(rate: float, threshold: float) -> float:
    """log P(x ≤ thr) for λ = rate and thr/e = threshold."""
    if threshold == 0.0:
        return -rate
    m, scale = 0, -rate - threshold
    power, term = 1.0, 1.0  # t^m/m! and λ^m/m!
    counts, total = 1.0, 1.0  # Σ of the latter, and of the products
    while power * counts > EPSILON * total:
        m += 1
        power *= threshold / m
        term *= rate / m
        counts += term
        total += power * counts
        if counts > HUGE:
            term, counts, power = term / HUGE, counts / HUGE, power * HUGE
        if total > HUGE:
            power, total, scale = power / HUGE, total / HUGE, scale + LOG_HUGE
    return min(scale + math.log(total), 0.0)


@vectorize(cache=True)
def log_density(y: float, rate: float) -> float:
    """log of e·p(x): the density of y = x/e > 0 at λ = rate."""
    if rate <= 0.0:
        return -np.inf
    u, v = series(rate * y)
    return math.log(rate * v) + u - rate - y


@vectorize(cache=True)
def log_atom(rate: float, threshold: float) -> float:
    """log P(x ≤ thr), thr/e = threshold ≥ 0; its exponential is the distribution function."""
    return log_atom_of(rate, threshold)
