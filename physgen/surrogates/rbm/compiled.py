r"""Gibbs sweeps and the contrastive gradient of a written-out W, in numba: one call a step.

With a = d + g W·v the free energy F = −b·v − Σ log 2cosh a has ∂F/∂g = −tanh(a) W·v, ∂F/∂d =
−tanh a, ∂F/∂b = −v and ∂F/∂W = −g tanh(a) vᵀ; contrastive divergence (Hinton 2002) is the mean of
these over the data less that over the chains. Random numbers come from outside.

Shapes: B rows, N spins, H hidden units (of tied filters C · N); all is float32, v and noise in C
order. What vanishes is of no rows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["contrast", "fast_tanh", "swept"]

Numbers = NDArray[Any]
FAST = {"reassoc", "contract", "nsz", "arcp"}
UNIT = np.float32(2.0**-31)
"""int32 to [−1, 1)."""
BLOCK = 64
"""Factors in [½, 1] of a product that float32 holds."""


@njit(cache=True, nogil=True, inline="always", error_model="numpy")
def fast_tanh(a: np.float32) -> np.float32:
    """tanh a to 4e-7, by the ratio of polynomials that Eigen has; LLVM makes vectors of it."""
    x = min(max(a, np.float32(-7.9)), np.float32(7.9))
    y = x * x
    p = np.float32(-2.76076847742355e-16) * y + np.float32(2.00018790482477e-13)
    p = p * y + np.float32(-8.60467152213735e-11)
    p = p * y + np.float32(5.12229709037114e-08)
    p = p * y + np.float32(1.48572235717979e-05)
    p = p * y + np.float32(6.37261928875436e-04)
    p = p * y + np.float32(4.89352455891786e-03)
    q = np.float32(1.19825839466702e-06) * y + np.float32(1.18534705686654e-04)
    q = q * y + np.float32(2.26843463243900e-03)
    q = q * y + np.float32(4.89352518554385e-03)
    return x * p / q


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def means(u: Numbers, g: Numbers, d: Numbers) -> tuple[Numbers, Numbers]:
    """Means tanh a of hidden units (B, H) from u = W·v, and Σ log 2cosh a (B,)."""
    t, total = np.empty_like(u), np.empty(len(u), np.float32)
    a = np.empty(u.shape[1], np.float32)
    for row in range(len(u)):
        own, log, size = t[row], 0.0, np.float32(0)
        for j in range(len(a)):
            a[j] = g[row, j] * u[row, j]
            if len(d):
                a[j] += d[row, j]
        for j in range(len(a)):
            own[j] = fast_tanh(a[j])
            size += abs(a[j])
        for start in range(0, len(a), BLOCK):
            product = np.float32(1)  # log 2cosh a = |a| − log (1 + tanh |a|)/2
            for j in range(start, min(start + BLOCK, len(a))):
                product *= np.float32(0.5) + np.float32(0.5) * abs(own[j])
            log += math.log(product)
        total[row] = size - log
    return t, total


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def swept(
    v: Numbers, w: Numbers, g: Numbers, d: Numbers, b: Numbers, noise: Numbers
) -> tuple[Numbers, Numbers]:
    """Sweeps of block Gibbs sampling, all hidden units and then all spins.

    Args:
        v: where to start, (B, N) of ±1.
        w: W, (H, N).
        g: gains, (B, H).
        d: shifts of hidden units, (B, H) or (0, 0).
        b: biases of spins, (B, N) or (0, 0).
        noise: int32 of any value, (sweeps, B · (H + N)).

    Returns:
        spins (B, N) at the end, and −Σ log 2cosh a − b·v before each sweep, (sweeps, B).
    """
    series = np.empty((len(noise), len(v)), np.float32)
    for k in range(len(noise)):
        t, total = means(v @ w.T, g, d)
        series[k] = -total
        if len(b):
            series[k] -= (b * v).sum(1)
        v = moved(t, w, g, b, noise[k])
    return v, series


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def moved(t: Numbers, w: Numbers, g: Numbers, b: Numbers, noise: Numbers) -> Numbers:
    """Spins (B, N) of one sweep from means t (B, H) of hidden units, by noise (B · (H + N),)."""
    rows, units = t.shape
    first = noise[: t.size].reshape(rows, units)
    last = noise[t.size : t.size + rows * w.shape[1]].reshape(rows, w.shape[1])
    h = np.empty_like(t)
    for row in range(rows):
        for j in range(units):
            h[row, j] = g[row, j] if t[row, j] > UNIT * first[row, j] else -g[row, j]
    a = h @ w
    for row in range(rows):
        for i in range(a.shape[1]):
            field = a[row, i]
            if len(b):
                field += b[row, i]
            up = fast_tanh(field) > UNIT * last[row, i]
            a[row, i] = np.float32(1) if up else np.float32(-1)
    return a


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def contrast(
    v: Numbers, model: Numbers, w: Numbers, g: Numbers, noise: Numbers
) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Spins of the chains, F(data) − F(chains) and its derivatives, without d and b.

    Args:
        v: data, (B, N).
        model: spins of the chains (B, N), or (0, 0) for chains that start from the data.
        w: as in `swept`.
        g: likewise.
        noise: of the sweeps from the data, as in `swept`.

    Returns:
        spins (B, N), the difference (B,), its derivatives by g (B, H) and, summed over rows, by
        W (H, N).
    """
    none, u = np.empty((0, 0), np.float32), v @ w.T
    t, value = means(u, g, none)
    s = model
    if not len(model):
        s = moved(t, w, g, none, noise[0])
        if len(noise) > 1:
            s, _ = swept(s, w, g, none, none, noise[1:])
    u_s = s @ w.T
    t_s, value_s = means(u_s, g, none)
    dg = np.empty_like(t)
    for row in range(len(t)):
        for j in range(t.shape[1]):
            dg[row, j] = t_s[row, j] * u_s[row, j] - t[row, j] * u[row, j]
            t[row, j] *= g[row, j]
            t_s[row, j] *= g[row, j]
    return s, value_s - value, dg, t_s.T @ s - t.T @ v
