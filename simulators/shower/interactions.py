"""What electrons and photons do in matter: rates per radiation length, and draws of the outcome.

Lengths are in radiation lengths X₀, energies in GeV; T is the kinetic energy of an electron, k the
energy of a photon, m the electron's mass.

**Bremsstrahlung**, complete screening (Rossi 1952): photons of k = vT at the rate

    φ(v) = (4/3 − 4v/3 + v²)/v,   ∫ v φ(v) dv = 1,

the last of which defines X₀. Photons below v_c = k_c/T are a continuous loss of
T (4v_c/3 − 2v_c²/3 + v_c³/3); those above are drawn one by one, from 1/v and rejection.

**Scattering** of electrons has Rossi's mean square angle θ² = ∫ (E_s/pβ)² ds, E_s = 21.2 MeV. A
step's deflection is drawn from p(cos ψ) ∝ e^{κ cos ψ} with mean e^{−θ²/2}, as diffusion on the
sphere has it. Its mean coth κ − 1/κ = g is inverted by κ ≈ g (3 − g²)/(1 − g²), which is exact for
g → 0 and g → 1.

**Pairs** at the rate (7/9) f(k), with shares u and 1 − u of the energy from 1 − 4u(1 − u)/3. The
suppression at low energy,

    f(k) = (1 − 2m/k)^{3/2} / (1 + (k₀/k)^{3/4}),   k₀ = 22.5 MeV,

follows the fit of Geant4's Bethe–Heitler model to the tables of Hubbell, Gimm and Øverbø (1980)
within 0.03 for Fe, W and Pb.

**Compton scattering** as Klein and Nishina have it, ε = k′/k by the mixture of Butcher and Messel.

References: B. Rossi, High-Energy Particles (1952); O. Klein and Y. Nishina, Z. Phys. 52, 853
(1929); J. C. Butcher and H. Messel, Nucl. Phys. 20, 15 (1960); J. H. Hubbell, H. A. Gimm and
I. Øverbø, J. Phys. Chem. Ref. Data 9, 1023 (1980); R. A. Fisher, Proc. R. Soc. A 217, 295 (1953).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from simulators.base import Array
from simulators.random import bits, keys

__all__ = [
    "M",
    "hard_rate",
    "klein_nishina",
    "momentum",
    "pair_rate",
    "radiated",
    "scattered",
    "shared",
    "soft_loss",
    "square_angle",
    "stream_of",
    "swerve",
    "turned",
    "uniform",
]

U64 = np.uint64
M = 0.51099895e-3  # of the electron, GeV
SOFT = 1e-3  # k_c, below which bremsstrahlung is continuous, GeV
SCATTERING = 21.2e-3  # E_s, GeV
SUPPRESSION = 22.5e-3  # k₀, GeV


# --- random numbers -------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def stream_of(key: Array, index: int, start: int) -> Array:
    """The random numbers of shower `index`: its two keys and a counter that begins at `start`."""
    stream = np.empty(3, U64)
    stream[0], stream[1] = keys(key, index)
    stream[2] = U64(start)
    return stream


@njit(nogil=True, cache=True)
def uniform(stream: Array) -> float:
    """Uniform on (0, 1), both ends excluded."""
    stream[2] += U64(1)
    u = bits(stream[0], stream[1], stream[2])
    return (np.float64(u >> U64(12)) + 0.5) * 2.0**-52


# --- cross sections, per X₀ -----------------------------------------------------------------


@njit(nogil=True, cache=True)
def soft_loss(t: float) -> float:
    """Loss of an electron of T to photons below k_c, GeV."""
    v = min(SOFT / t, 1.0)
    return t * v * (4 / 3 - v * (2 / 3 - v / 3))


@njit(nogil=True, cache=True)
def hard_rate(t: float) -> float:
    """Number of photons above k_c that an electron of T radiates: ∫ φ(v) dv from v_c to 1."""
    v = min(SOFT / t, 1.0)
    return -4 / 3 * (math.log(v) + 1 - v) + (1 - v * v) / 2


@njit(nogil=True, cache=True)
def radiated(t: float, stream: Array) -> float:
    """Share v of T in one photon above k_c."""
    low = math.log(SOFT / t)
    while True:
        v = math.exp(low * uniform(stream))
        if uniform(stream) < 1 - v * (1 - 0.75 * v):
            return v


@njit(nogil=True, cache=True)
def pair_rate(k: float) -> float:
    """Pairs of a photon of k."""
    if k <= 2 * M:
        return 0.0
    threshold, r = 1 - 2 * M / k, SUPPRESSION / k
    return 7 / 9 * threshold * math.sqrt(threshold) / (1 + math.sqrt(r * math.sqrt(r)))


@njit(nogil=True, cache=True)
def shared(stream: Array) -> float:
    """Share u of a pair's energy that the positron gets."""
    while True:
        u = uniform(stream)
        if uniform(stream) < 1 - 4 / 3 * u * (1 - u):
            return u


@njit(nogil=True, cache=True)
def klein_nishina(k: float) -> float:
    """Cross section of an electron for a photon of k, in units of the square of its radius r_e."""
    x = k / M
    y, log = 1 + 2 * x, math.log(1 + 2 * x)
    first = (1 + x) / (x * x) * (2 * (1 + x) / y - log / x)
    return 2 * math.pi * (first + log / (2 * x) - (1 + 3 * x) / (y * y))


@njit(nogil=True, cache=True)
def scattered(k: float, stream: Array) -> float:
    """Share ε = k′/k that is left to a photon scattered on an electron."""
    x = k / M
    least = 1 / (1 + 2 * x)
    steep, flat = -math.log(least), (1 - least * least) / 2
    while True:
        u = uniform(stream)
        if uniform(stream) * (steep + flat) < steep:
            e = math.exp(-steep * u)
        else:
            e = math.sqrt(least * least + 2 * flat * u)
        versine = (1 - e) / (x * e)
        if uniform(stream) < 1 - e * versine * (2 - versine) / (1 + e * e):
            return e


# --- directions -----------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def momentum(t: float) -> float:
    """Momentum times velocity of an electron of T, pβ, GeV."""
    return t * (t + 2 * M) / (t + M)


@njit(nogil=True, cache=True)
def square_angle(t: float, left: float, s: float) -> float:
    """Mean square angle θ² of an electron that goes from T to `left` evenly on a path s."""
    return SCATTERING**2 * s / (momentum(t) * momentum(left))


@njit(nogil=True, cache=True)
def swerve(square: float, stream: Array) -> float:
    """Cosine of the deflection whose mean is e^{−θ²/2}, `square` being θ²."""
    g = math.exp(-square / 2)
    kappa = g * (3 - g * g) / (-math.expm1(-square))
    u = uniform(stream)
    return max(1 + math.log(u + (1 - u) * math.exp(-2 * kappa)) / kappa, -1.0)


@njit(nogil=True, cache=True)
def turned(mu: float, cosine: float, azimuth: float) -> float:
    """Cosine with the axis of a direction turned away from one of cosine `mu`."""
    square = max((1 - mu * mu) * (1 - cosine * cosine), 0.0)
    return min(max(mu * cosine + math.sqrt(square) * math.cos(azimuth), -1.0), 1.0)
