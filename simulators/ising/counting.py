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

The first is used as it is (:class:`Energies`), the second as a matrix G of energies by
magnetisations (:class:`JointLevels`): Z(K, H) = aᵀGb with a = e^{−KE} and b = e^{HM}, one
exponential for each energy and each magnetisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from simulators.base import Array
from simulators.ising.exact import log_z_complex, thermal
from simulators.ising.transfer import count_states

__all__ = ["Energies", "JointLevels", "energy_levels", "joint_levels"]

MOST_SITES = 4096  # of energy_levels: 13 s at 64 × 64
NOISE = 1e-9  # a probability below this at its best rung is no state


@dataclass(frozen=True, eq=False)
class Energies:
    """The energies E = −Σ s s' that occur, and how often.

    Attributes:
        energy: E, (k,), in J, ascending.
        log_count: log g(E), (k,).
    """

    energy: Array
    log_count: Array

    def law(self, k: Array, h: Array) -> Array:
        """P(E) at couplings K = βJ (n,), (n, k); H = βh has to be 0."""
        if np.any(h):
            raise ValueError("P(E): expected no field; take joint_levels")
        w = self.log_count - k[:, None] * self.energy
        p = np.exp(w - w.max(axis=1, keepdims=True))
        return p / p.sum(axis=1, keepdims=True)


@dataclass(frozen=True, eq=False)
class JointLevels:
    """The energies E = −Σ s s' and magnetisations M = Σ s that occur, and how often.

    Attributes:
        energy: E, (k,), in J, ascending.
        magnetisation: M, (l,), ascending.
        count: g(E, M), (k, l), as float.
    """

    energy: Array
    magnetisation: Array
    count: Array

    def _factors(self, k: Array, h: Array) -> tuple[Array, Array, Array]:
        """e^{−KE} and e^{HM} divided by their largest, (n, k) and (n, l); log of the divisors."""
        a, b = -k[:, None] * self.energy, h[:, None] * self.magnetisation
        top_a, top_b = a.max(axis=1), b.max(axis=1)
        return np.exp(a - top_a[:, None]), np.exp(b - top_b[:, None]), top_a + top_b

    def moments(self, k: Array, h: Array, *values: tuple[Array, Array]) -> tuple[Array, Array]:
        """Log Z (n,) and means (n, values) at couplings K = βJ and H = βh.

        Each value is a product of a function of E, (k,), and one of M, (l,), by their values.
        """
        a, b, top = self._factors(k, h)
        z = ((a @ self.count) * b).sum(axis=1)
        sums = [((a * f @ self.count) * (b * g)).sum(axis=1) / z for f, g in values]
        return top + np.log(z), np.array(sums).reshape(-1, len(k)).T

    def marginals(self, k: Array, h: Array) -> tuple[Array, Array]:
        """P(E) and P(M) at K = βJ and H = βh, (n, k) and (n, l)."""
        a, b, _ = self._factors(k, h)
        p, q = a * (b @ self.count.T), b * (a @ self.count)
        return p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)

    def law(self, k: Array, h: Array) -> Array:
        """P(E, M) at K = βJ and H = βh, (n, k·l)."""
        a, b, _ = self._factors(k, h)
        p = (a[:, :, None] * self.count * b[:, None, :]).reshape(len(k), -1)
        return p / p.sum(axis=1, keepdims=True)

    def given(
        self, k: Array, h: Array, of: Array, known: Array, values: Array
    ) -> tuple[Array, Array]:
        """Mean and standard deviation of a function of (E, M) where another has some values.

        Args:
            k: K = βJ, (n,).
            h: H = βh, (n,).
            of: the function at each E and M, (k, l).
            known: the other function, (k, l).
            values: what that is, (n,).

        Returns:
            (n,) each; NaN where it cannot be.
        """
        mean, sd = np.full((2, len(k)), np.nan)
        for i, value in enumerate(values):
            a, b, _ = self._factors(k[i : i + 1], h[i : i + 1])
            p = a.T * self.count * b * np.isclose(known, value, atol=1e-9)
            if p.any():
                mean[i] = (p * of).sum() / p.sum()
                sd[i] = np.sqrt((p * (of - mean[i]) ** 2).sum() / p.sum())
        return mean, sd


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
def energy_levels(shape: tuple[int, int]) -> Energies:
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
    return Energies(energy[some], log_count[some])


@lru_cache(maxsize=4)
def joint_levels(shape: tuple[int, int]) -> JointLevels:
    """Number of states g(E, M) of the torus of `shape`, isotropic; the result is kept.

    Raises:
        ValueError: more than 64 sites, or more than 8 on the shorter side.
    """
    m, n = max(shape), min(shape)
    if n > 8 or m * n > 64:
        raise ValueError(f"g(E, M): expected at most 64 sites, 8 across, got {m} × {n}")
    count = count_states(m, n)
    some = np.flatnonzero(count.any(axis=1))
    up = np.arange(m * n + 1)
    return JointLevels(2 * some - 2 * m * n, 2 * up - m * n, count[some].astype(float))
