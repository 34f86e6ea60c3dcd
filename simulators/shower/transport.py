"""Electrons, positrons and photons on their way through matter, one shower at a time.

Rossi's approximation B with angles. Lengths are in radiation lengths X₀, energies in GeV. An
electron above the cut goes from step to step; in a step of length s it loses

    ΔT = (E_c + soft bremsstrahlung) s

evenly to the layers it crosses, turns once at a uniformly distributed place (the random hinge of
PENELOPE), and may radiate a photon at the end. The distance to that photon is drawn at the rate
where the step begins; the rate falls with T, so the photon is kept with the ratio of the rates,
which is exact (Woodcock). A photon flies straight to where it makes a pair or scatters. All of
matter is symmetric about the axis, so that a direction is its cosine μ = dz/ds, and azimuths are
drawn afresh. What happens at each point is in :mod:`.interactions`.

Below T = 1 MeV an electron, and below 0.4 MeV a photon, leaves its energy on the spot; a positron
then annihilates into two photons of m, back to back. A particle that leaves through either face
does not come back. No energy is lost on the way: what a layer does not get, the two ends do.

Left out: photoelectric absorption, δ rays, annihilation in flight, the suppression of
bremsstrahlung at low energy and by the medium, photonuclear reactions. Against steps of a tenth
the length, the mean energies of the layers around the maximum agree within 0.5 %, and what comes
back out of the front face within 2 %.

References: B. Rossi, High-Energy Particles (1952); J. Baró, J. Sempau, J. M. Fernández-Varea and
F. Salvat, Nucl. Instrum. Methods B 100, 31 (1995).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from simulators.base import Array
from simulators.shower.interactions import (
    M,
    hard_rate,
    klein_nishina,
    pair_rate,
    radiated,
    scattered,
    shared,
    soft_loss,
    square_angle,
    stream_of,
    swerve,
    turned,
    uniform,
)

__all__ = ["ELECTRON_CUT", "PHOTON_CUT", "charged", "showers", "spots"]

ELECTRON_CUT = 1e-3  # kinetic energy, GeV
PHOTON_CUT = 0.4e-3  # GeV
WIDEST = 1.0  # mean square angle of a step
SHORTEST = 0.1  # length of a step that only the angle limits, X₀
DEEPEST = 64  # the lesser of two is followed first: a shower needs log₂(E/cut) rows
SPOTS = 1 << 62  # where the counter of the readout's spots begins

Particle = tuple[float, float, float, float]


# --- where the energy goes ------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _layer(row: Array, x: float) -> int:
    """The layer at depth x, in layers from the front face: −1 before the first, L behind."""
    return math.floor(min(max(x, -1.0), len(row) - 2.0))


@njit(nogil=True, cache=True)
def _lay(
    row: Array, energy: float, start: float, end: float, front: float, thickness: float
) -> None:
    """Spread energy evenly between two depths over `row`, (L + 2,)."""
    low = (min(start, end) - front) / thickness
    high = (max(start, end) - front) / thickness
    first, last = _layer(row, low), _layer(row, high)
    if first == last:
        row[first + 1] += energy
        return
    density = energy / (high - low)
    row[first + 1] += density * (first + 1 - low)
    row[last + 1] += density * (high - last)
    for i in range(first + 1, last):
        row[i + 1] += density


# --- the three particles: (charge, energy, depth, cosine) -----------------------------------


@njit(nogil=True, cache=True)
def _put(row: Array, particle: Particle) -> None:
    """Write one particle into its row of the stack."""
    row[0], row[1], row[2], row[3] = particle


@njit(nogil=True, cache=True)
def _split(stack: Array, top: int, one: Particle, other: Particle) -> int:
    """Put two particles in the place of the top one, the lesser above the greater."""
    greater = one[1] >= other[1]
    _put(stack[top + 1 - greater], one)
    _put(stack[top + greater], other)
    return top + 1


@njit(nogil=True, cache=True)
def _photon(stack: Array, top: int, stream: Array, electrons: float, back: float) -> int:
    """Follow the photon on top to its end, in matter or at a face."""
    _, k, z, mu = stack[top]
    pairs = pair_rate(k)
    rate = pairs + electrons * klein_nishina(k)
    z -= mu * math.log(uniform(stream)) / rate
    stack[top, 2] = z
    if not 0 <= z <= back:
        return top
    if uniform(stream) * rate >= pairs:
        return _compton(stack, top, stream)
    free, u = k - 2 * M, shared(stream)
    return _split(stack, top, (-1.0, free * (1 - u), z, mu), (1.0, free * u, z, mu))


@njit(nogil=True, cache=True)
def _compton(stack: Array, top: int, stream: Array) -> int:
    """Scatter the photon on top, where it is, on an electron at rest."""
    _, k, z, mu = stack[top]
    e = scattered(k, stream)
    versine = min((1 - e) * M / (k * e), 2.0)
    along = (1 + k / M) ** 2 * versine
    recoil = math.sqrt(along / (along + 2 - versine))
    azimuth = 2 * math.pi * uniform(stream)
    photon = (0.0, k * e, z, turned(mu, 1 - versine, azimuth))
    electron = (-1.0, k - k * e, z, turned(mu, recoil, azimuth + math.pi))
    return _split(stack, top, photon, electron)


@njit(nogil=True, cache=True, error_model="numpy")
def charged(
    row: Array, stack: Array, top: int, stream: Array, ec: float, front: float, thickness: float
) -> int:
    """One step of the electron or positron on top: to the cut, or to a deflection or a photon."""
    charge, t, z, mu = stack[top]
    loss, rate = ec + soft_loss(t), hard_rate(t)
    reach = (t - ELECTRON_CUT) / loss
    turn = max(WIDEST / square_angle(t, t, 1.0), SHORTEST)
    flight = -math.log(uniform(stream)) / rate
    s = min(reach, turn, flight)
    left = ELECTRON_CUT if s == reach else t - loss * s
    cosine = swerve(square_angle(t, left, s), stream)
    away = turned(mu, cosine, 2 * math.pi * uniform(stream))
    hinge = uniform(stream)
    bend = z + mu * s * hinge
    end = bend + away * s * (1 - hinge)
    _lay(row, (t - left) * hinge, z, bend, front, thickness)
    _lay(row, (t - left) * (1 - hinge), bend, end, front, thickness)
    _put(stack[top], (charge, left, end, away))
    if s < flight or uniform(stream) * rate >= hard_rate(left):
        return top
    k = left * radiated(left, stream)
    return _split(stack, top, (charge, left - k, end, away), (0.0, k, end, away))


@njit(nogil=True, cache=True)
def _annihilated(stack: Array, top: int, stream: Array) -> int:
    """Put two photons of m in the place of the positron on top."""
    z, mu = stack[top, 2], 2 * uniform(stream) - 1
    return _split(stack, top, (0.0, M, z, mu), (0.0, M, z, -mu))


@njit(nogil=True, cache=True)
def _shower(
    row: Array, stack: Array, stream: Array,
    electrons: float, ec: float, front: float, thickness: float,
) -> None:  # fmt: skip
    """Follow the particle in the first row of the stack, and all that come of it."""
    back, top = front + (len(row) - 2) * thickness, 0
    while top >= 0:
        charge, energy, z, _ = stack[top]
        if not 0 <= z <= back:
            _lay(row, energy + (2 * M if charge > 0 else 0.0), z, z, front, thickness)
            top -= 1
        elif charge == 0 and energy > PHOTON_CUT:
            top = _photon(stack, top, stream, electrons, back)
        elif charge != 0 and energy > ELECTRON_CUT:
            top = charged(row, stack, top, stream, ec, front, thickness)
        else:
            _lay(row, energy, z, z, front, thickness)
            top = _annihilated(stack, top, stream) if charge > 0 else top - 1


# --- many showers ---------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def showers(
    out: Array, theta: Array, key: Array, first: int,
    charge: float, electrons: float, ec: float, thickness: float,
) -> None:  # fmt: skip
    """Fill `out` (n, L + 2) with the energy before, in and behind the L layers, GeV.

    Args:
        out: where to; overwritten.
        theta: energy in GeV and depth of the front face in X₀ of each shower, (n, 2).
        key: two uint64; shower i is a function of key, first + i and theta[i].
        first: index of the first shower.
        charge: of the primary particle, in units of the positron's; 0 is a photon.
        electrons: r_e² times the electrons per area in one X₀.
        ec: critical energy, GeV.
        thickness: of a layer, X₀.
    """
    stack = np.empty((DEEPEST, 4))
    for i in range(len(out)):
        out[i] = 0
        _put(stack[0], (charge, theta[i, 0], 0.0, 1.0))
        stream = stream_of(key, first + i, 0)
        _shower(out[i], stack, stream, electrons, ec, theta[i, 1], thickness)


@njit(nogil=True, cache=True)
def spots(x: Array, key: Array, first: int, mean: float) -> None:
    """Draw each x anew, in place, as a Poisson number of exponential spots of this mean energy."""
    for i in range(len(x)):
        stream = stream_of(key, first + i, SPOTS)
        for j in range(x.shape[1]):
            expected, energy = x[i, j] / mean, 0.0
            arrival = -math.log(uniform(stream))
            while arrival < expected:
                energy -= mean * math.log(uniform(stream))
                arrival -= math.log(uniform(stream))
            x[i, j] = energy
