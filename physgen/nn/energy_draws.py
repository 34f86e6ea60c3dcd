"""Few rows of a chain of energies, drawn by numba: a call of torch costs more than its arithmetic.

The law is that of :mod:`physgen.nn.energy_chain` and :mod:`physgen.nn.hurdle`; the random numbers
are others than torch's.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from physgen.nn.column_places import FARTHEST
from physgen.nn.hurdle import LEAST

__all__ = ["LARGEST", "PART", "SMALL", "ChainArrays", "drawn_energies"]

Numbers = NDArray[Any]
PART = 0.95
"""Of the range of log shapes, around its middle, where the start of a law may lie."""
LARGEST = 30.0
"""Root of an energy, in units of e^{μ/2}, that later energies see."""
SMALL = 0.3
"""Factor of logarithms, as the network sees them."""


class ChainArrays(NamedTuple):
    """The weights of a chain of L energies, matrices of layers as (outputs, inputs).

    Attributes:
        odds: (L, 2).
        shares: (L, 3, H).
        gain: (L, H).
        near: (H, 2).
        first: (blocks, H, H).
        first_bias: (blocks, H).
        second: (blocks, H, H).
        second_bias: (blocks, H).
        leave: (1 + 3K, H).
        last: (L, 1 + 3K).
        most: (1,) of log shapes.
    """

    odds: Numbers
    shares: Numbers
    gain: Numbers
    near: Numbers
    first: Numbers
    first_bias: Numbers
    second: Numbers
    second_bias: Numbers
    leave: Numbers
    last: Numbers
    most: Numbers


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def drawn_energies(
    seed: int, w: ChainArrays, m: Numbers, s: Numbers, t: Numbers, slopes: Numbers, told: Numbers
) -> Numbers:
    """One u for each row, (B, L).

    Args:
        seed: of the random numbers.
        w: the weights.
        m: (B, L) locations of roots.
        s: (B, L) log widths given θ.
        t: (B, L) what earlier energies add to them.
        slopes: (B, L, L).
        told: (B, L, H) by θ.
    """
    np.random.seed(seed)  # noqa: NPY002, TID251 - numba's own state
    layers, u = m.shape[1], np.empty_like(m)
    sums, h, g = np.empty_like(w.gain[0]), np.empty_like(w.gain[0]), np.empty_like(w.gain[0])
    raw, e = np.empty_like(w.last[0]), np.empty_like(m[0])
    for row in range(len(m)):
        sums[:] = 0
        for i in range(layers):
            scale, pull = s[row, i] + t[row, i], m[row, i] * 0
            for j in range(i):
                pull += slopes[row, i, j] * e[j]
            y = m[row, i] + math.exp(s[row, i]) * pull
            log_rho = math.asinh(0.5 * y * math.exp(-scale))
            mean, shape = 2 * (scale + log_rho), math.log(0.25 + 0.25 * math.exp(2 * log_rho))
            for j in range(len(h)):
                h[j] = told[row, i, j] + sums[j] * w.gain[i, j]
                h[j] += mean * w.near[j, 0] + SMALL * shape * w.near[j, 1]
            for block in range(len(w.first)):
                after_silu(h, w.first[block], w.first_bias[block], g)
                after_silu(g, w.second[block], w.second_bias[block], g)
                h += g
            after_silu(h, w.leave, w.last[i], raw)
            raw[0] += w.odds[i, 0] + w.odds[i, 1] * mean
            found = hurdle_draw(raw, mean, shape, w.most[0])
            u[row, i] = found
            hit = found > -np.inf
            root = min(math.exp(0.5 * found), LARGEST) if hit else 0.0
            e[i] = min(max((root - m[row, i]) * math.exp(-s[row, i]), -FARTHEST), FARTHEST)
            log = SMALL * found if hit else 0.0
            for j in range(len(sums)):
                sums[j] += e[i] * w.shares[i, 0, j] + hit * w.shares[i, 1, j]
                sums[j] += log * w.shares[i, 2, j]
    return u


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def after_silu(h: Numbers, weight: Numbers, bias: Numbers, out: Numbers) -> None:
    """A linear layer of silu(h), (H,) → (O,), written to `out`, which may be h.

    Args:
        h: (H,).
        weight: (O, H).
        bias: (O,).
        out: (O,).
    """
    bent = h / (1 + np.exp(-h))
    for i in range(len(out)):
        total = bias[i]
        for j in range(len(bent)):
            total += weight[i, j] * bent[j]
        out[i] = total


@njit(cache=True, nogil=True)
def hurdle_draw(raw: Numbers, mean: float, shape: float, most: float) -> float:
    """A draw of a hurdle of K Gamma laws around a start.

    Args:
        raw: (1 + 3K,) log odds, and what is added to the start.
        mean: of log E, at the start.
        shape: its logarithm, likewise.
        most: of log shapes.
    """
    if np.random.random() * (1 + math.exp(-raw[0])) >= 1:  # noqa: NPY002
        return -np.inf
    k = len(raw) // 3
    weight = np.exp(raw[1 : 1 + k] - raw[1 : 1 + k].max())
    left, which = np.random.random() * weight.sum(), 0  # noqa: NPY002
    while which < k - 1 and left > weight[which]:
        left -= weight[which]
        which += 1
    middle, half = (most + LEAST) / 2, (most - LEAST) / 2
    part = min(max((shape - middle) / half, -PART), PART)
    a = math.exp(middle + half * math.tanh(raw[1 + k + which] / half + math.atanh(part)))
    apart = ((which + 0.5) / k - 0.5) * math.exp(-0.5 * (middle + half * part))
    gamma = np.random.standard_gamma(a) / a  # noqa: NPY002
    return raw[1 + 2 * k + which] + mean + apart + math.log(gamma)
