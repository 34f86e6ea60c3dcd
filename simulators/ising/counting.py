"""How many states have energy E, or energy E and magnetisation M: exact laws at every θ at once.

**g(E)** without field (:func:`energy_levels`). Z(β + iφ) is a trigonometric polynomial in φ with
coefficients g(E) e^{−βE}, and Kaufman's formula holds at complex β. A discrete Fourier transform
of Z(β + iφ)/Z(β) is P(E|β), with an error of about 1e-13 of its peak. A ladder of β, two
steps to a width, moves the peak over all energies; each g(E) is read where P(E|β) is largest, to
a relative 1e-12 or so, on 32 × 32 as on 4 × 4. (Beale, Phys. Rev. Lett. 76, 78 (1996), expands the
product in exact integers instead.)

**g(E, M)** up to 64 sites and 8 columns (:func:`joint_levels`). A sweep site by site: the state is
a row of spins, and for each row the count of configurations behind it by (unsatisfied bonds,
spins up). A new spin b on top of an old one b' shifts the count by [b ≠ b'] + [b ≠ left] bonds and
b spins. One sweep for each first row, up to rotations and reflections, which count with their
multiplicity. Counts are exact integers below 2⁶⁴.

Either gives the law of E (and M) at any coupling: :class:`Levels`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from simulators.base import Array
from simulators.ising.exact import log_z_complex, thermal
from simulators.ising.transfer import count_states

__all__ = ["Levels", "energy_levels", "joint_levels"]

MOST_SITES = 4096  # of energy_levels: 13 s at 64 × 64
NOISE = 1e-9  # a probability below this at its best rung is no state
BLOCK = 1 << 20  # numbers held at once


@dataclass(frozen=True, eq=False)
class Levels:
    """Levels of the lattice: their bond energy, magnetisation and number of states.

    Attributes:
        energy: E = −Σ s s' of each level, (k,), in J.
        magnetisation: M = Σ s of each level, (k,); zeros where only E is resolved.
        log_count: log of the number of states, (k,).
    """

    energy: Array
    magnetisation: Array
    log_count: Array

    def _weights(self, k: Array, h: Array) -> Array:
        """Log of count × e^{−KE + HM}, (n, levels)."""
        field = h[:, None] * self.magnetisation if np.any(h) else 0.0
        return self.log_count - k[:, None] * self.energy + field

    def log_z(self, k: Array, h: Array) -> Array:
        """Log Z at couplings K = βJ and H = βh, (n,)."""
        return self.moments(k, h, np.empty((len(self.energy), 0)))[0]

    def law(self, k: Array, h: Array) -> Array:
        """Probability of each level at K = βJ and H = βh, (n, levels)."""
        w = self._weights(k, h)
        p = np.exp(w - w.max(axis=1, keepdims=True))
        return p / p.sum(axis=1, keepdims=True)

    def moments(self, k: Array, h: Array, value: Array) -> tuple[Array, Array]:
        """Log Z (n,) and ⟨value⟩ (n, c) at each (K, H), value being (levels, c)."""
        parts = []
        for b in self._blocks(k, h):
            w = self._weights(*b)
            top = w.max(axis=1)
            w = np.exp(w - top[:, None])
            z = w.sum(axis=1)
            parts.append((top + np.log(z), w @ value / z[:, None]))
        log_z, means = zip(*parts, strict=True)
        return np.concatenate(log_z), np.concatenate(means)

    def pit(self, k: Array, h: Array, value: Array, level: Array, u: Array) -> Array:
        """P(value < level) + u P(value = level) at each (K, H), (n,): uniform if the law holds."""
        parts = []
        for b in self._blocks(k, h, level, u):
            p, v = self.law(b[0], b[1]), b[2][:, None]
            parts.append((p * ((value < v) + b[3][:, None] * (value == v))).sum(axis=1))
        return np.concatenate(parts)

    def _blocks(self, *columns: Array) -> list[tuple[Array, ...]]:
        """The rows of the columns, as many at a time as fit."""
        step = max(BLOCK // len(self.energy), 1)
        starts = range(0, max(len(columns[0]), 1), step)
        return [tuple(c[i : i + step] for c in columns) for i in starts]


def _rung(shape: tuple[int, int], beta: float, step: int) -> tuple[Array, float]:
    """P(E|β) on E = −2N, −2N + step, …, 2N, and log Z(β)."""
    n = shape[0] * shape[1]
    size = 4 * n // step + 1
    phi = 2 * np.pi * np.arange(size // 2 + 1) / (step * size)
    z = log_z_complex(shape, beta + 1j * phi)
    turned = np.exp(z - z[0] - 2j * n * phi)
    return np.fft.irfft(turned, n=size), float(z[0].real)


def _ladder(shape: tuple[int, int]) -> list[float]:
    """β from 0 on, half a width of E apart, to where E stands still."""
    rungs, beta = [], 1e-3
    while beta < 4:
        rungs.append(beta)
        variance = thermal(shape, np.array([beta])).variance[0]
        beta += 0.5 / np.sqrt(max(variance, shape[0] * shape[1] / 256))
    return rungs


@lru_cache(maxsize=8)
def energy_levels(shape: tuple[int, int]) -> Levels:
    """Number of states g(E) of the torus of `shape`, isotropic, without field.

    0.7 s at 32 × 32; the result is kept. With two even sides g(−E) = g(E); with an odd one the
    levels above E = 0 end where P(E|β = 0) falls below 1e-9.

    Raises:
        ValueError: more than 4096 sites.
    """
    m, n = shape
    if m * n > MOST_SITES:
        raise ValueError(f"g(E): expected at most {MOST_SITES} sites, got {m} × {n}")
    step = 2 if m % 2 or n % 2 else 4
    energy = np.arange(-2 * m * n, 2 * m * n + 1, step)
    best, log_count = np.full(len(energy), NOISE), np.full(len(energy), -np.inf)
    for beta in _ladder(shape):
        p, log_z = _rung(shape, beta, step)
        better = p > best
        best[better] = p[better]
        log_count[better] = np.log(p[better]) + beta * energy[better] + log_z
    if step == 4:
        log_count = np.where(energy > 0, log_count[::-1], log_count)
    some = np.isfinite(log_count)
    return Levels(energy[some], 0 * energy[some], log_count[some])


@lru_cache(maxsize=4)
def joint_levels(shape: tuple[int, int]) -> Levels:
    """Number of states g(E, M) of the torus of `shape`, isotropic; the result is kept.

    Raises:
        ValueError: more than 64 sites, or more than 8 on the shorter side.
    """
    m, n = max(shape), min(shape)
    if n > 8 or m * n > 64:
        raise ValueError(f"g(E, M): expected at most 64 sites, 8 across, got {m} × {n}")
    count = count_states(m, n)
    broken, up = np.nonzero(count)
    return Levels(2 * broken - 2 * m * n, 2 * up - m * n, np.log(count[broken, up]))
