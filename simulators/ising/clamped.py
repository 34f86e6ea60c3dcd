r"""The exact p(s|θ, y) of Ising spins of which some were seen, with or without noise.

y_i = s_i + σε_i says p(y|s) ∝ exp(Σ s_i y_i/σ²), a field at each site that is seen, so that spins
given y are an Ising model in a field of sites; without noise what is seen is clamped. Draws are
perfect: heat bath of one spin after another keeps the order of two states whose spins see the
same random numbers (couplings ≥ 0), so that chains from all spins down and from all up, coupled
from the past (Propp and Wilson 1996), have met in a draw of the law itself.

The mean is exact by enumeration of up to 2¹⁶ states. Beyond, it is that of tanh of each spin's
local field over perfect draws (Rao and Blackwell), with its standard error.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from simulators.base import Array
from simulators.ising import observables
from simulators.random import bits, keys

if TYPE_CHECKING:
    from simulators.ising.lattice import Ising
    from simulators.measurement import LinearMap

__all__ = ["ClampedIsing"]

U64 = np.uint64
MOST_SWEEPS = 1 << 16
"""Of a coupling from the past, before it is given up."""
ENUMERATED = 16
"""Free spins whose states are enumerated."""
DRAWS = 4000
"""Perfect draws behind a mean."""


@njit(nogil=True, cache=True)
def _sweep(
    s: Array, kx: float, ky: float, fields: Array, free: Array, a: U64, b: U64, time: int
) -> None:
    """One heat bath of the free sites of s (rows, columns) in their fields, in their order."""
    rows, columns = s.shape
    for k in range(len(free)):
        y, x = free[k] // columns, free[k] % columns
        along = s[y, x - 1] + s[y, (x + 1) % columns]
        across = s[y - 1, x] + s[(y + 1) % rows, x]
        field = kx * along + ky * across + fields[y, x]
        u = (bits(a, b, U64(time * len(free) + k)) >> U64(11)) * 2.0**-53
        s[y, x] = 1 if u < 1 / (1 + np.exp(-2 * field)) else -1


@njit(nogil=True, cache=True)
def _perfect(
    out: Array, seen: Array, kx: float, ky: float, fields: Array, free: Array, key: Array
) -> bool:
    """Fill `out` (n, rows, columns) with perfect draws; False if one was given up."""
    for i in range(len(out)):
        a, b = keys(key, i)
        window = 4
        while True:
            low, top = seen.copy(), seen.copy()
            low.ravel()[free], top.ravel()[free] = -1, 1
            for time in range(window, 0, -1):
                _sweep(low, kx, ky, fields, free, a, b, time)
                _sweep(top, kx, ky, fields, free, a, b, time)
            if (low == top).all():
                break
            window *= 2
            if window > MOST_SWEEPS:
                return False
        out[i] = low
    return True


class ClampedIsing:
    """p(s|θ, y) of spins some of which were seen: mean, widths and draws.

    Args:
        ising: what s is of.
        theta: its parameters, (D,).
        y: what was measured, (rows, columns); what is not seen does not count.
        linear: M, a mask alone.
        noise: σ ≥ 0.

    Raises:
        ValueError: blurred or averaged spins, negative couplings, or, without noise, y not ±1.
    """

    def __init__(
        self, ising: Ising, theta: Array, y: Array, linear: LinearMap, noise: float
    ) -> None:
        if not linear.only_masks:
            raise ValueError("ising: exact of spins that are seen, neither blurred nor averaged")
        self.kx, self.ky, field = (float(k) for k in ising.couplings(theta[None])[0])
        if min(self.kx, self.ky) < 0:
            raise ValueError("theta: perfect draws of clamped spins expect couplings ≥ 0")
        values = np.where(linear.seen, np.asarray(y, float), 0.0)
        if not noise and not np.isin(values[linear.seen], (-1, 1)).all():
            raise ValueError("y: expected spins of −1 and +1 without noise; give a noise > 0")
        self.fields = np.full(ising.x_shape, field)
        self.seen = np.zeros(ising.x_shape, np.int8)
        if noise:
            self.fields += values / noise**2
        else:
            self.seen[linear.seen] = values[linear.seen]
        self.free = np.flatnonzero(self.seen == 0)

    log_evidence = None
    """log p(y|θ) is not known."""

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Perfect draws of s given θ and y, (n, rows, columns) int8.

        Raises:
            ValueError: chains that do not meet.
        """
        out = np.empty((n, *self.seen.shape), np.int8)
        key = rng.integers(0, 1 << 64, size=2, dtype=np.uint64)
        if not _perfect(out, self.seen, self.kx, self.ky, self.fields, self.free, key):
            raise ValueError(
                f"ising: chains did not meet in {MOST_SWEEPS} sweeps; too few spins are seen at "
                "so low a temperature"
            )
        return out

    @cached_property
    def _found(self) -> tuple[Array, float]:
        """E[s|θ, y], (rows, columns), and the standard error of its worst site."""
        if len(self.free) <= ENUMERATED:
            states, weight = self._states()
            return np.tensordot(weight, states, 1), 0.0
        each = np.tanh(self._local(self.sample(DRAWS, np.random.default_rng(0))))
        mean = self.seen.astype(float)
        mean.flat[self.free] = each.mean(0)
        return mean, float(each.std(0).max() / np.sqrt(DRAWS))

    def _states(self) -> tuple[Array, Array]:
        """All states (2^f, rows, columns) that fit, and the probability of each."""
        count = len(self.free)
        states = np.tile(self.seen, (1 << count, 1, 1))
        up = np.arange(1 << count)[:, None] >> np.arange(count) & 1
        states.reshape(len(states), -1)[:, self.free] = 2 * up - 1
        along, across, _ = observables.bonds(states).T
        log_p = self.kx * along + self.ky * across + (states * self.fields).sum((1, 2))
        weight = np.exp(log_p - log_p.max())
        return states, weight / weight.sum()

    def _local(self, s: Array) -> Array:
        """The field that each free spin of s (n, rows, columns) feels, (n, free)."""
        along = np.roll(s, 1, 2).astype(int) + np.roll(s, -1, 2)
        across = np.roll(s, 1, 1).astype(int) + np.roll(s, -1, 1)
        field = self.kx * along + self.ky * across + self.fields
        return field.reshape(len(s), -1)[:, self.free]

    @property
    def moments(self) -> tuple[Array, Array]:
        """Mean and standard deviation of each spin given θ and y, (rows, columns) each."""
        mean, _ = self._found
        return mean, np.sqrt((1 - mean**2).clip(0))

    @property
    def error(self) -> float:
        """Standard error of the mean at its worst site; 0 where states are enumerated."""
        return self._found[1]
